"""The console's routes: its pages, its own files, and the first page."""

from __future__ import annotations

from typing import Any

from litestar import Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from tarmac.console import (
    app_pages,
    artifact_pages,
    image_pages,
    reference,
    run_pages,
    session,
    task_pages,
    trigger_pages,
)
from tarmac.console.places import Place
from tarmac.console.rendering import static_file

SCOPE = "/v2/domain/{domain:str}/project/{project:str}"


STATIC = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "reference.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""The console's own files → their media types."""


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
    pages = [
        *run_pages.PAGES,
        *task_pages.PAGES,
        *trigger_pages.PAGES,
        *app_pages.PAGES,
        *artifact_pages.PAGES,
        *image_pages.PAGES,
    ]
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
