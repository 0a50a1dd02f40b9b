"""`flyte abort run | action`: stop what runs."""

from __future__ import annotations

import asyncio

import click

from flyte.cli.options import connect, examples, say, scoped
from flyte.cli.verbs import Verbs


@click.group(cls=Verbs, epilog=examples("flyte abort run RUN --reason 'wrong input'", "flyte abort action RUN ACTION"))
def abort() -> None:
    """Stop a run or an action, and all that it started."""


@abort.command("run", epilog=examples("flyte abort run RUN --reason 'wrong input'"))
@click.argument("name")
@click.option("--reason", default="", help="Kept with the run.")
@scoped
def abort_run(name: str, reason: str, project: str | None, domain: str | None) -> None:
    """Stop a run. One that has ended stays as it is."""
    client = connect(project, domain)
    before = asyncio.run(client.get_run(name))
    if before.phase.is_terminal:
        say(f"run {name} had ended already: {before.phase}")
        return
    run = asyncio.run(client.abort_run(name, reason))
    say(f"run {name}: {run.phase if run.phase.is_terminal else 'is being stopped'}")


@abort.command("action", epilog=examples("flyte abort action RUN ACTION"))
@click.argument("run")
@click.argument("name")
@click.option("--reason", default="", help="Kept with the action.")
@scoped
def abort_action(run: str, name: str, reason: str, project: str | None, domain: str | None) -> None:
    """Stop an action and all that it started; the action that called it gets an ActionAbortedError."""
    client = connect(project, domain)
    asyncio.run(client.abort_action(run, name, reason))
    say(f"action {name} of {run} is being stopped")
