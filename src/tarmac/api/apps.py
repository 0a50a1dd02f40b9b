"""Apps: list, look, start and stop them, read their logs and their requests."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from litestar import Router, delete, get, post
from litestar.params import QueryParameter
from litestar.response import Stream

from flyte import wire
from flyte.errors import InvalidInputError, NotFoundError
from flyte.wire import DEFAULT_DOMAIN, DEFAULT_PROJECT, AppId, LogLine, Scope
from tarmac import logs
from tarmac.api import streams
from tarmac.api.parameters import (
    After,
    Domain,
    Follow,
    LastEventId,
    Limit,
    LogAfter,
    Name,
    Partial,
    Project,
    Tail,
    Wait,
)
from tarmac.api.plane import AccessEntry, By, Control


@get("/apps", summary="List apps")
async def list_apps(
    control: Control, project: Project = DEFAULT_PROJECT, domain: Domain = DEFAULT_DOMAIN, limit: Limit = 100
) -> list[wire.App]:
    """The apps of a project, newest first."""
    return await control.apps.list(Scope(project, domain), limit)


@get("/apps/{app:str}", summary="Look at an app")
async def get_app(
    app: Name, control: Control, project: Project = DEFAULT_PROJECT, domain: Domain = DEFAULT_DOMAIN
) -> wire.App:
    """The app's address, its status and its replicas."""
    return await control.apps.get(AppId(project, domain, app))


@post("/apps/{app:str}/activate", status_code=200, summary="Activate an app")
async def activate_app(
    app: Name,
    control: Control,
    by: By,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    wait: Wait = 0,
) -> wire.App:
    """Starts the app; with `wait`, answers when it serves or the time is up."""
    return await control.apps.activate(AppId(project, domain, app), wait or None, by)


@post("/apps/{app:str}/deactivate", status_code=200, summary="Deactivate an app")
async def deactivate_app(
    app: Name,
    control: Control,
    by: By,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    wait: Wait = 0,
) -> wire.App:
    """Stops the app, so that no request starts it again; with `wait`, answers when it has stopped or the time is up."""
    return await control.apps.deactivate(AppId(project, domain, app), wait or None, by)


@delete("/apps/{app:str}", status_code=204, summary="Delete an app")
async def delete_app(
    app: Name, control: Control, by: By, project: Project = DEFAULT_PROJECT, domain: Domain = DEFAULT_DOMAIN
) -> None:
    """Stops the app and removes it with all of its versions."""
    await control.apps.delete(AppId(project, domain, app), by)


@get("/apps/{app:str}/events", summary="Watch an app", media_type="text/event-stream")
async def watch_app(
    app: Name,
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Stream:
    """Server-sent events: a snapshot (unless `after` is given), then every later event, for as long as you listen."""
    await control.apps.get(AppId(project, domain, app))
    seen = last_event_id if last_event_id is not None else after
    return streams.events(control.watching.app(AppId(project, domain, app), seen))


@get("/apps/{app:str}/logs", summary="Read an app's log", media_type="application/x-ndjson")
async def read_app_log(
    app: Name,
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    replica: Annotated[str | None, QueryParameter(description="All of them when absent; `source` says which.")] = None,
    tail: Tail = None,
    after: LogAfter = None,
    follow: Follow = False,
    partial: Partial = False,
) -> Stream:
    """A LogLine on each line. With `follow` the answer goes on, also with replicas that are started meanwhile."""
    found = await control.apps.logs(AppId(project, domain, app), replica)
    if replica is not None and not found:
        raise NotFoundError(f"{app} has no log of a replica {replica!r}; its replicas stand in /v1/apps/{app}")
    if after is not None and replica is None and len(found) > 1:
        raise InvalidInputError(f"after={after} is an offset into one log, and {app} has {len(found)}: name a replica")
    if not follow:
        return streams.lines(_written(found, after, tail))
    if replica is not None:
        ((name, path, is_over),) = found
        return streams.lines(_named(logs.batches(path, after, is_over, tail, partial), name))
    replicas = functools.partial(control.apps.logs, AppId(project, domain, app), None)
    return streams.lines(logs.together(replicas, after, tail, partial))


async def _written(found: Sequence[logs.Source], after: int | None, tail: int | None) -> AsyncIterator[list[LogLine]]:
    """The present content of the logs, one after the other."""
    for name, path, _ in found:
        async for batch in _named(logs.batches(path, after, lambda: True, tail), name):
            yield batch


async def _named(batches: AsyncIterator[list[LogLine]], name: str) -> AsyncIterator[list[LogLine]]:
    async for batch in batches:
        yield logs.named(batch, name)


@get("/apps/{app:str}/requests", summary="Read an app's access log")
async def list_requests(
    app: Name,
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    limit: Limit = 100,
) -> list[AccessEntry]:
    """The newest requests that the gateway passed on or refused, newest first."""
    return last_requests(await control.apps.access_log(AppId(project, domain, app)), limit)


def last_requests(path: Path, limit: int) -> list[AccessEntry]:
    """The last entries of an access log, newest first; an incomplete last line is left out."""
    entries: list[AccessEntry] = []
    for line in reversed(logs.read(path, tail=limit)):
        with suppress(msgspec.DecodeError):
            entries.append(msgspec.json.decode(line.text, type=AccessEntry))
    return entries


ROUTES = Router(
    "/v1",
    route_handlers=[
        list_apps,
        get_app,
        activate_app,
        deactivate_app,
        delete_app,
        watch_app,
        read_app_log,
        list_requests,
    ],
    tags=["apps"],
)
