"""`flyte update app | trigger`: start or stop it."""

from __future__ import annotations

import asyncio

import click

from flyte.cli.options import connect, examples, say, scoped
from flyte.cli.triggers import update_trigger
from flyte.cli.verbs import Verbs

WAIT = 120.0
"""Seconds that --wait waits at most."""


@click.group(cls=Verbs, epilog=examples("flyte update app my-app --deactivate"))
def update() -> None:
    """Start or stop an app, activate or pause a trigger."""


update.add_command(update_trigger)


@update.command(
    "app",
    epilog=examples("flyte update app my-app --deactivate", "flyte update app my-app --activate --wait"),
)
@click.argument("name")
@click.option("--activate/--deactivate", "active", default=None, help="Start it, or stop it and answer nobody.")
@click.option("--wait", is_flag=True, help="Return when it has happened.")
@scoped
def update_app(name: str, active: bool | None, wait: bool, project: str | None, domain: str | None) -> None:
    """Start an app, or stop it: a stopped one keeps its address and versions, and no request wakes it."""
    if active is None:
        raise click.UsageError("Say what to do: --activate or --deactivate.")
    client = connect(project, domain)
    switch = client.activate_app if active else client.deactivate_app
    app = asyncio.run(switch(name, WAIT if wait else None))
    if wait and app.status.value not in (("active", "sleeping") if active else ("stopped",)):
        raise click.ClickException(f"The app {name} is {app.status}: {app.message or f'see `flyte get logs {name}`'}")
    say(f"app {name} is {app.status}" + (f" at {app.url}" if active else ""))
