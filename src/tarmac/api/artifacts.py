"""Artifacts: files, folders and data frames that are known by a name and a version."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, delete, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from flyte import wire
from flyte.wire import DEFAULT_DOMAIN, DEFAULT_PROJECT
from tarmac.api.parameters import Domain, Limit, Name, Offset, Project
from tarmac.api.plane import By, Control

Only = Annotated[str | None, QueryParameter(description="Only artifacts of this name.")]
OfRun = Annotated[str | None, QueryParameter(description="Only artifacts that this run made.")]
OfAction = Annotated[str | None, QueryParameter(description="Only artifacts that this action made, of the run named.")]
Kind = Annotated[str | None, QueryParameter(name="of_kind", description="Only models, data or generic ones.")]
Latest = Annotated[bool, QueryParameter(description="Of each name, only the version that was made last.")]
VersionPart = Annotated[str, PathParameter(description="The version, as the list shows it.")]
Version = Annotated[str | None, QueryParameter(description="The version; without one, that which was made last.")]


@get("/artifacts", summary="List artifacts")
async def list_artifacts(
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    name: Only = None,
    run: OfRun = None,
    action: OfAction = None,
    kind: Kind = None,
    latest: Latest = False,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[wire.Artifact]:
    """The artifacts of a project, newest first."""
    return await control.artifacts.list(project, domain, name, run, action, kind, latest, limit, offset)


@post("/artifacts", summary="Create an artifact")
async def create_artifact(data: JSONBody[wire.ArtifactRequest], control: Control, by: By) -> wire.Artifact:
    """Makes a version of an artifact of a file, a folder or a data frame that was sent before.

    A version that is there already is replaced.
    """
    return await control.artifacts.create(data, by)


@get("/artifacts/{name:str}", summary="Look at an artifact")
async def get_artifact(
    control: Control,
    name: Name,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    version: Version = None,
) -> wire.Artifact:
    """A version of an artifact, with its value and what made it."""
    return await control.artifacts.get(project, domain, name, version)


@delete("/artifacts/{name:str}/{version:str}", summary="Delete a version of an artifact")
async def delete_artifact(
    control: Control,
    by: By,
    name: Name,
    version: VersionPart,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
) -> None:
    """Forgets the version. Its file stays, and so do the runs that made or used it."""
    await control.artifacts.delete(project, domain, name, version, by)


ROUTES = Router(
    "/v1", route_handlers=[list_artifacts, create_artifact, get_artifact, delete_artifact], tags=["artifacts"]
)
