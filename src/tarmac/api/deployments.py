"""Deployments: they register tasks and apps with the platform."""

from __future__ import annotations

from litestar import Router, get, post
from litestar.params import JSONBody
from litestar.response import Stream

from flyte import wire
from tarmac.api import streams
from tarmac.api.parameters import After, LastEventId, Name
from tarmac.api.plane import By, Control


@post("/deployments", status_code=202, summary="Deploy")
async def deploy(data: JSONBody[wire.DeployRequest], control: Control, by: By) -> wire.Deployment:
    """Accepts a deployment; its environments become ready level by level, which its events report."""
    return await control.deployments.start(data, by)


@get("/deployments/{id:str}", summary="Look at a deployment")
async def get_deployment(id: Name, control: Control) -> wire.Deployment:
    """The deployment with the phase of each environment."""
    return await control.deployments.get(id)


@get("/deployments/{id:str}/events", summary="Watch a deployment", media_type="text/event-stream")
async def watch_deployment(
    id: Name, control: Control, after: After = None, last_event_id: LastEventId = None
) -> Stream:
    """Server-sent events: a snapshot (unless `after` is given), then every later event, until it is over."""
    await control.deployments.get(id)
    return streams.events(control.watching.deployment(id, last_event_id if last_event_id is not None else after))


ROUTES = Router("/v1", route_handlers=[deploy, get_deployment, watch_deployment], tags=["deployments"])
