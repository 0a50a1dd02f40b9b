"""The cache: the results by which later calls of the same task, with the same inputs, are answered."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, delete, get
from litestar.params import QueryParameter

from flyte import wire
from flyte.wire import DEFAULT_DOMAIN, DEFAULT_PROJECT
from tarmac.api.parameters import Domain, Limit, Project
from tarmac.api.plane import Control

Task = Annotated[str | None, QueryParameter(description="Only results of this task (full name).")]
Key = Annotated[
    str | None, QueryParameter(description="Only the results whose key begins with this.", pattern="^[0-9a-f]{8,64}$")
]


@get("/cache", summary="List cached results")
async def list_cache(
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    task: Task = None,
    limit: Limit = 100,
) -> list[wire.CachedResult]:
    """The results in the cache of a project, newest first."""
    return await control.cache.list(project, domain, task, limit)


@delete("/cache", status_code=200, summary="Delete cached results")
async def delete_cache(
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    task: Task = None,
    key: Key = None,
) -> list[wire.CachedResult]:
    """Deletes the results of a project from the cache, or some of them; answers which. Their runs keep them."""
    return await control.cache.delete(project, domain, task, key)


ROUTES = Router("/v1", route_handlers=[list_cache, delete_cache], tags=["cache"])
