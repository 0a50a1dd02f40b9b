"""Triggers: when tasks are started by themselves."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, delete, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from flyte import wire
from flyte.wire import DEFAULT_DOMAIN, DEFAULT_PROJECT
from tarmac.api.parameters import Domain, Limit, Name, Project
from tarmac.api.plane import By, Control

OfTask = Annotated[str | None, QueryParameter(description="Only triggers of this task (full name).")]
Task = Annotated[str, PathParameter(description="The full name of the task that it starts.")]


@get("/triggers", summary="List triggers")
async def list_triggers(
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    task: OfTask = None,
    limit: Limit = 100,
) -> list[wire.Trigger]:
    """When the tasks of a project are started by themselves, by task and name."""
    return await control.triggers.list(project, domain, task, limit)


@post("/triggers", status_code=201, summary="Create a trigger")
async def create_trigger(data: JSONBody[wire.TriggerRequest], control: Control, by: By) -> wire.Trigger:
    """Makes a trigger of a deployed task, or replaces one that was made so under the same name."""
    return await control.triggers.create(data, by)


@get("/triggers/{task:str}/{name:str}", summary="Look at a trigger")
async def get_trigger(
    task: Task, name: Name, control: Control, project: Project = DEFAULT_PROJECT, domain: Domain = DEFAULT_DOMAIN
) -> wire.Trigger:
    """Whether it is active, when it is due next, and what it started last."""
    return await control.triggers.get(project, domain, task, name)


@post("/triggers/{task:str}/{name:str}/activate", status_code=200, summary="Activate a trigger")
async def activate_trigger(
    task: Task,
    name: Name,
    control: Control,
    by: By,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
) -> wire.Trigger:
    """From now on it starts runs; what was due while it was paused is not made up for."""
    return await control.triggers.switch(project, domain, task, name, True, by)


@post("/triggers/{task:str}/{name:str}/deactivate", status_code=200, summary="Pause a trigger")
async def deactivate_trigger(
    task: Task,
    name: Name,
    control: Control,
    by: By,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
) -> wire.Trigger:
    """It starts nothing until it is activated, or until a new version of its task is deployed."""
    return await control.triggers.switch(project, domain, task, name, False, by)


@delete("/triggers/{task:str}/{name:str}", status_code=204, summary="Delete a trigger")
async def delete_trigger(
    task: Task,
    name: Name,
    control: Control,
    by: By,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
) -> None:
    """Only one that was made without a deployment; others stand in the code of their task."""
    await control.triggers.delete(project, domain, task, name, by)


ROUTES = Router(
    "/v1",
    route_handlers=[list_triggers, create_trigger, get_trigger, activate_trigger, deactivate_trigger, delete_trigger],
    tags=["triggers"],
)
