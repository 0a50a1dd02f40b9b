"""Tasks: list and look."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get
from litestar.params import QueryParameter

from flyte import wire
from flyte.wire import DEFAULT_DOMAIN, DEFAULT_PROJECT
from tarmac.api.parameters import Domain, Limit, Name, Project
from tarmac.api.plane import Control


@get("/tasks", summary="List tasks")
async def list_tasks(
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    name: Annotated[str | None, QueryParameter(description="Only tasks of this full or bare name.")] = None,
    env: Annotated[str | None, QueryParameter(description="Only tasks of this environment.")] = None,
    limit: Limit = 100,
) -> list[wire.Task]:
    """The latest version of each task, newest first."""
    return await control.tasks.list(project, domain, name, env, limit)


@get("/tasks/{name:str}", summary="Look at a task")
async def get_task(
    name: Name,
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    version: Annotated[str | None, QueryParameter(description="The latest when absent.")] = None,
) -> wire.Task:
    """One version of a task, with its interface; a bare function name is enough if only one task has it."""
    return await control.tasks.get(project, domain, name, version)


ROUTES = Router("/v1", route_handlers=[list_tasks, get_task], tags=["tasks"])
