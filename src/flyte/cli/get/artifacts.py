"""`flyte get artifact`: versions of files, folders and data frames, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from flyte.cli import render
from flyte.cli.get.projects import known
from flyte.cli.options import connect, examples, formatted, invocation, scoped
from flyte.cli.render import clock, one_line
from flyte.cli.tables import Column
from flyte.moments import ago
from flyte.wire import Artifact

ARTIFACTS: Sequence[Column[Artifact]] = (
    Column("name", lambda artifact: artifact.name),
    Column("version", lambda artifact: artifact.version),
    Column("kind", lambda artifact: artifact.kind, leaves=4),
    Column("made", lambda artifact: ago(artifact.created), leaves=2),
    Column("by", lambda artifact: _maker(artifact), leaves=3),
    Column("description", lambda artifact: one_line(artifact.description, 80), leaves=1, least=12),
)


def _maker(artifact: Artifact) -> str:
    """The action that made it, or what it was made from, or who made it."""
    if artifact.run is not None:
        return f"{artifact.run}/{artifact.action}"
    return artifact.external_ref or artifact.created_by


@click.command(
    "artifact",
    epilog=examples("flyte get artifact", "flyte get artifact my-model", "flyte get artifact my-model 1.0 -o json"),
)
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("--run", metavar="RUN", help="Only artifacts that this run made.")
@click.option("--kind", type=click.Choice(["model", "data", "generic"]), help="Only artifacts of this kind.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many, newest first.")
@scoped
@formatted
def get_artifact(
    name: str | None,
    version: str | None,
    run: str | None,
    kind: str | None,
    limit: int,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> None:
    """List artifacts, each at the version that was made last; with NAME, its versions; with VERSION, show that one.

    VERSION may be `latest`.
    """
    form = invocation().format(output)
    client = connect(project, domain)
    if name is None or version is None:
        listed = client.list_artifacts(name, run, None, kind, latest=name is None and run is None, limit=limit)
        nothing = "no artifacts; a task with produces_artifacts=True makes them"
        render.listing(asyncio.run(known(client, listed)), ARTIFACTS, form, nothing)
        return
    found = asyncio.run(client.get_artifact(name, None if version == "latest" else version))
    facts = [
        ("artifact", f"{found.name}@{found.version}"),
        ("kind", found.kind),
        ("description", found.description),
        ("value", bytes(found.value).decode()),
        ("attrs", "\n".join(f"{key}: {value}" for key, value in found.attrs.items())),
        ("card", found.card.uri if found.card else ""),
        ("made", f"{clock(found.created)} ({ago(found.created)})"),
        ("by", _maker(found)),
    ]
    render.details(found, facts, form)
