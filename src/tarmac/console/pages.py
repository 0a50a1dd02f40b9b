"""The console's routes, the frame of all pages, and the error page."""

from __future__ import annotations

import time
from typing import Annotated, Any

from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Redirect

from flyte.wire import ErrorInfo
from tarmac.api.plane import ControlPlane
from tarmac.console.places import Place
from tarmac.console.rendering import render, static_file

AnyRequest = Request[Any, Any, Any]

Fragment = Annotated[bool, QueryParameter(name="fragment")]
"""Whether to answer with the page's changing parts only."""

SCOPE = "/v2/domain/{domain:str}/project/{project:str}"

STATIC = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "reference.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""The console's own files → their media types."""


async def page(control: ControlPlane, place: Place, template: str, fragment: bool, **context: Any) -> Response[str]:
    """A page of the console, or only its changing parts."""
    shared: dict[str, Any] = {"events": None, "every": None, "status": 200, "now": time.time()}
    projects = [] if fragment else await control.projects.list()
    shared |= {"place": place, "fragment": fragment, "projects": projects, **context}
    return Response(render(template, **shared), status_code=shared["status"], media_type="text/html")


def error_page(request: AnyRequest, status: int, info: ErrorInfo) -> str:
    """The page that people get in place of an ErrorBody."""
    return render("error.html", status=status, error=info, signed_in=request.scope.get("user") is not None)


@get(["/", "/v2"], include_in_schema=False, sync_to_thread=False)
def first_page() -> Redirect:
    return Redirect(Place().page("runs"), status_code=303)


@get(SCOPE, include_in_schema=False, sync_to_thread=False)
def first_page_of(project: FromPath[str], domain: FromPath[str]) -> Redirect:
    return Redirect(Place(project, domain).page("runs"), status_code=303)


@get("/static/{name:str}", opt={"public": True}, include_in_schema=False, sync_to_thread=False)
def static(name: FromPath[str], v: FromQuery[str | None] = None) -> Response[bytes]:
    """A file of the console's own; with its version in the address it never changes."""
    if name not in STATIC:
        raise NotFoundException
    caching = "public, max-age=31536000, immutable" if v else "no-cache"
    return Response(static_file(name), media_type=STATIC[name], headers={"Cache-Control": caching})


def routes() -> list[Any]:
    """Every route of the console."""
    from tarmac.console import app_pages, image_pages, reference, run_pages, session, task_pages

    pages = [*run_pages.PAGES, *task_pages.PAGES, *app_pages.PAGES, *image_pages.PAGES]
    return [
        first_page,
        first_page_of,
        static,
        session.login_page,
        session.login,
        session.logout,
        reference.reference,
        Router(SCOPE, route_handlers=pages, include_in_schema=False),
    ]
