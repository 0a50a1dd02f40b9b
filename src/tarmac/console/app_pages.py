"""The pages of apps: the list, and one app with its replicas, log and last requests."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect
from msgspec import Struct, convert

from flyte.wire import App, AppId, AppStatus, Scope
from tarmac.api.apps import last_requests
from tarmac.api.plane import By, Control
from tarmac.console.pages import Fragment, page
from tarmac.console.places import Place
from tarmac.console.submitted import LARGEST_FORM

REQUESTS_SHOWN = 30


class Request(Struct, frozen=True):
    """A line of the access log, as the page shows it."""

    time: float = 0
    method: str = ""
    path: str = ""
    status: int = 0
    total_ms: float = 0
    caller: str = ""


_WEB = ("http://", "https://", "/")


@get("/apps")
async def apps_page(
    control: Control, project: FromPath[str], domain: FromPath[str], fragment: Fragment = False
) -> Response[str]:
    """The apps of a project."""
    place = Place(project, domain)
    return await page(
        control,
        place,
        "apps.html",
        fragment,
        apps=await control.apps.list(Scope(project, domain), 1000),
        links=links_of,
        every=2,
    )


@get("/apps/{app:str}")
async def app_page(
    control: Control,
    project: FromPath[str],
    domain: FromPath[str],
    app: FromPath[str],
    replica: FromQuery[str | None] = None,
    fragment: Fragment = False,
) -> Response[str]:
    """One app."""
    place = Place(project, domain)
    id = AppId(project, domain, app)
    record = await control.apps.get(id)
    access_log = await control.apps.access_log(id)
    return await page(
        control,
        place,
        "app.html",
        fragment,
        app=record,
        links=links_of(record),
        replica=replica,
        stoppable=record.status not in (AppStatus.STOPPED,),
        requests=[convert(entry, Request) for entry in last_requests(access_log, REQUESTS_SHOWN)],
        log=place.api("apps", app, "logs", tail=2000, replica=replica, follow=1, partial=1),
        events=place.api("apps", app, "events", after=record.seq),
        every=4,
    )


def links_of(app: App) -> list[tuple[str, str]]:
    """(title, address) of the app itself and of its links."""
    own = [(app.url, app.url)] if app.url.startswith(_WEB) else []
    if app.host:
        by_name = app.host if app.host.startswith(_WEB) else f"http://{app.host}"
        own.append((app.host.removeprefix("http://").removeprefix("https://"), by_name))
    declared = [
        (link.title, app.url.rstrip("/") + "/" + link.path.lstrip("/") if link.is_relative else link.path)
        for link in app.links
    ]
    return [(title, address) for title, address in own + declared if address.startswith(_WEB)]


@post("/apps/{app:str}/activate", dto=None, request_max_body_size=LARGEST_FORM)
async def activate(
    control: Control, by: By, project: FromPath[str], domain: FromPath[str], app: FromPath[str]
) -> Redirect:
    await control.apps.activate(AppId(project, domain, app), None, by)
    return _back(project, domain, app)


@post("/apps/{app:str}/deactivate", dto=None, request_max_body_size=LARGEST_FORM)
async def deactivate(
    control: Control, by: By, project: FromPath[str], domain: FromPath[str], app: FromPath[str]
) -> Redirect:
    await control.apps.deactivate(AppId(project, domain, app), None, by)
    return _back(project, domain, app)


def _back(project: str, domain: str, app: str) -> Redirect:
    return Redirect(Place(project, domain).page("apps", app), status_code=303)


PAGES: list[Any] = [apps_page, app_page, activate, deactivate]
