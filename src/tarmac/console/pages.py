"""The frame of all pages of the console, and the error page."""

from __future__ import annotations

import time
from typing import Annotated, Any

from litestar import Request, Response
from litestar.params import QueryParameter

from flyte.wire import ErrorInfo
from tarmac.api.plane import ControlPlane
from tarmac.console.places import Place
from tarmac.console.rendering import render

AnyRequest = Request[Any, Any, Any]

Fragment = Annotated[bool, QueryParameter(name="fragment")]
"""Whether to answer with the page's changing parts only."""


async def page(control: ControlPlane, place: Place, template: str, fragment: bool, **context: Any) -> Response[str]:
    """A page of the console, or only its changing parts."""
    shared: dict[str, Any] = {"events": None, "every": None, "status": 200, "now": time.time()}
    projects = [] if fragment else await control.projects.list()
    shared |= {"place": place, "fragment": fragment, "projects": projects, **context}
    return Response(render(template, **shared), status_code=shared["status"], media_type="text/html")


def error_page(request: AnyRequest, status: int, info: ErrorInfo) -> str:
    """The page that people get in place of an ErrorBody."""
    return render("error.html", status=status, error=info, signed_in=request.scope.get("user") is not None)
