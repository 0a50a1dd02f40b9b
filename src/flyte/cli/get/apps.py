"""`flyte get app`: apps, where they answer, and their replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from flyte.cli import render
from flyte.cli.get.projects import known
from flyte.cli.options import connect, examples, formatted, invocation, refuse_filters, scoped
from flyte.cli.render import one_line
from flyte.cli.tables import Column
from flyte.moments import ago
from flyte.wire import App

APPS: Sequence[Column[App]] = (
    Column("name", lambda app: app.name),
    Column("status", lambda app: app.status.value),
    Column("url", lambda app: app.url),
    Column("replicas", lambda app: str(sum(replica.phase == "ready" for replica in app.replicas)), leaves=2),
    Column("version", lambda app: app.version, leaves=4),
    Column("updated", lambda app: ago(app.updated or app.created), leaves=3),
    Column("message", lambda app: one_line(app.message, 80), leaves=1, least=12),
)


@click.command("app", epilog=examples("flyte get app", "flyte get app my-app", "curl $(flyte get app my-app -o url)"))
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@scoped
@formatted
def get_app(name: str | None, limit: int, project: str | None, domain: str | None, output: str | None) -> None:
    """List the apps and where they answer; with NAME, show that one."""
    form = invocation().format(output)
    refuse_filters(name)
    client = connect(project, domain)
    if name is None:
        apps = asyncio.run(known(client, client.list_apps(limit)))
        render.listing(apps, APPS, form, "no apps; `flyte serve FILE APP` deploys one")
        return
    app = asyncio.run(client.get_app(name))
    replicas = (
        f"{replica.name}  {replica.phase}  version {replica.version}"
        + (f"  {replica.message}" if replica.message else "")
        for replica in app.replicas
    )
    facts = [
        ("app", app.name),
        ("status", app.status.value),
        ("url", app.url),
        ("host", app.host),
        ("needs a key", "yes" if app.requires_auth else "no"),
        ("version", app.version),
        ("replicas", "\n".join(replicas)),
        ("links", "\n".join(f"{link.title}: {app.url if link.is_relative else ''}{link.path}" for link in app.links)),
        ("description", app.description),
        ("message", app.message),
        ("console", app.console),
    ]
    render.details(app, facts, form)
