"""`flyte get task` and `flyte get cache`: deployed tasks, and their results in the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from flyte.cli import render
from flyte.cli.get.projects import known
from flyte.cli.options import connect, examples, formatted, invocation, refuse_filters, scoped
from flyte.cli.render import clock, one_line
from flyte.cli.tables import Column
from flyte.moments import ago
from flyte.wire import CachedResult, Task

TASKS: Sequence[Column[Task]] = (
    Column("name", lambda task: task.name),
    Column("version", lambda task: task.version, leaves=2),
    Column("deployed", lambda task: ago(task.created), leaves=3),
    Column("inputs", lambda task: one_line(_signature(task), 80), leaves=1, least=12),
)


def _signature(task: Task) -> str:
    specs = task.spec.interface.inputs if task.spec else []
    return ", ".join(f"{spec.name}: {spec.type}{'' if spec.required else ' = …'}" for spec in specs)


@click.command(
    "task", epilog=examples("flyte get task", "flyte get task add_one_task", "flyte get task add_one_task v1")
)
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@scoped
@formatted
def get_task(
    name: str | None, version: str | None, limit: int, project: str | None, domain: str | None, output: str | None
) -> None:
    """List the deployed tasks at the version deployed last; with NAME, show that one at this or the given VERSION."""
    form = invocation().format(output)
    refuse_filters(name)
    client = connect(project, domain)
    if name is None:
        tasks = asyncio.run(known(client, client.list_tasks(limit=limit)))
        render.listing(tasks, TASKS, form, "no tasks; `flyte deploy FILE` deploys those of a file")
        return
    task = asyncio.run(client.get_task(name, version))
    outputs = task.spec.interface.outputs if task.spec else []
    facts = [
        ("task", task.name),
        ("version", task.version),
        ("current", task.current if task.current != task.version else ""),
        ("versions", ", ".join(task.versions)),
        ("deployed", f"{clock(task.created)} ({ago(task.created)})"),
        ("inputs", _signature(task)),
        ("outputs", ", ".join(spec.type for spec in outputs)),
        ("source", task.spec.source if task.spec else ""),
        ("image", f"{task.image}: {', '.join(task.image.packages)}" if task.image else ""),
        ("docs", task.spec.docs if task.spec else ""),
        ("url", task.url),
    ]
    render.details(task, facts, form)


CACHE: Sequence[Column[CachedResult]] = (
    Column("key", lambda result: result.key[:12]),
    Column("task", lambda result: result.task, least=12),
    Column("cache version", lambda result: result.version[:12], leaves=3),
    Column("from", lambda result: f"{result.run}/{result.action}", leaves=1),
    Column("created", lambda result: ago(result.created), leaves=2),
    Column("saves", lambda result: f"{result.seconds:.1f} s"),
)


@click.command("cache", epilog=examples("flyte get cache", "flyte get cache etl.load", "flyte delete cache KEY"))
@click.argument("task", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many, newest first.")
@scoped
@formatted
def get_cache(task: str | None, limit: int, project: str | None, domain: str | None, output: str | None) -> None:
    """List the results in the cache, newest first; with TASK (its full name), those of that task."""
    form = invocation().format(output)
    client = connect(project, domain)
    found = asyncio.run(known(client, client.list_cache(task, limit)))
    render.listing(found, CACHE, form, 'nothing is cached; a task with `cache="auto"` keeps its results')
