"""`flyte get project`; an empty list of a project that does not exist is an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from flyte.cli import render
from flyte.cli.options import connect, examples, formatted, invocation
from flyte.cli.render import one_line
from flyte.cli.tables import Column
from flyte.wire import Project

if TYPE_CHECKING:
    from flyte._client.client import Client


R = TypeVar("R")


async def known(client: Client, listed: Awaitable[list[R]]) -> list[R]:
    """The list, if its project exists. Raises UsageError if there is no project with that name."""
    found = await listed
    if not found:
        await known_project(client)
    return found


async def known_project(client: Client) -> None:
    """Raises UsageError if a list is empty because its project does not exist."""
    there = [project.id for project in await client.list_projects(limit=1000)]
    if client.project not in there:
        made = f"`flyte create project {client.project}` makes it"
        raise click.UsageError(f"There is no project {client.project!r}; there are: {', '.join(there)}. {made}.")


PROJECTS: Sequence[Column[Project]] = (
    Column("id", lambda project: project.id),
    Column("name", lambda project: project.name),
    Column("description", lambda project: one_line(project.description, 80), leaves=1, least=12),
)


@click.command("project", epilog=examples("flyte get project"))
@click.argument("name", required=False)
@formatted
def get_project(name: str | None, output: str | None) -> None:
    """List the projects; with NAME, only that one."""
    projects = asyncio.run(connect().list_projects())
    if name is not None:
        there = ", ".join(project.id for project in projects)
        projects = [project for project in projects if project.id == name]
        if not projects:
            raise click.UsageError(f"There is no project {name!r}; there are: {there}.")
    render.listing(projects, PROJECTS, invocation().format(output))
