"""Why a run failed, without searching: the action that failed first, its inputs, its traceback, the end of its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from flyte.cli.logs import Labels
from flyte.cli.options import say
from flyte.cli.render import one_line
from flyte.errors import BaseRuntimeError, NotFoundError
from flyte.tracebacks import readable
from flyte.wire import ROOT_ACTION, ActionDetails, ActionPhase, ErrorInfo, Run

if TYPE_CHECKING:
    from flyte._client.client import Client
    from flyte.remote._io import Runs

ENDED = {ActionPhase.ABORTED: "was aborted", ActionPhase.TIMED_OUT: "timed out"}
"""Phase → the end of the sentence "The run …"; the names of other phases fit as they are."""

LAST_LINES = 10
"""Lines of the log of the action that failed first."""


async def say_failure(runs: Runs, run: Run) -> None:
    """Print the failure on stderr. Each sentence is printed once: a traceback ends with the error's message."""
    first = await _first_failure(runs, run)
    told = first.action.error if first else None
    head = click.style(f"The run {ENDED.get(run.phase, run.phase)}", fg="red", bold=True)
    is_same = told is not None and run.error is not None and told.message == run.error.message
    say(head if is_same else f"{head}  {_sentence(run)}".rstrip())
    if not is_same and run.error and run.error.traceback:
        say(readable(run.error.traceback).rstrip())
    if first is not None:
        await _say_first(runs, run, first)
    if not run.url.startswith("local:"):
        name = "" if first is None or first.action.name == ROOT_ACTION else first.action.name
        say(f"Its log: flyte get logs {run.name} {name}".rstrip() + f"   Its page: {_page(run, name)}")


def _sentence(run: Run) -> str:
    """The run's own error; empty if the traceback that is printed below ends with it."""
    if run.error is None:
        return run.message if run.phase is not ActionPhase.FAILED else ""
    return "" if run.error.traceback else _told(run.error)


def _told(error: ErrorInfo) -> str:
    return error.message if error.code in error.message else f"{error.code}: {error.message}"


async def _first_failure(runs: Runs, run: Run) -> ActionDetails | None:
    """The action that failed first; None if none did, or if the platform does not answer any more."""
    from flyte import remote

    try:
        found = await remote.Run(run, runs).first_failure.aio()
    except BaseRuntimeError:  # the run's own error is known, and is shown all the same
        return None
    return None if found is None else await runs.get_action(run.name, found.name)


async def _say_first(runs: Runs, run: Run, first: ActionDetails) -> None:
    action, is_root = first.action, first.action.name == ROOT_ACTION
    is_local = run.url.startswith("local:")
    if not is_root:
        label = action.short_name or action.task if is_local else await _label(cast("Client", runs), run, action.name)
        given = f" with {one_line(bytes(first.inputs).decode(), 300)}" if first.inputs else ""
        again = f", attempt {action.attempt}" if action.attempt > 1 else ""
        say(f"\n{label} ({action.name}{again}) failed first{given}")
    if action.error:
        say(readable(action.error.traceback).rstrip() if action.error.traceback else _told(action.error))
    if not is_root and not is_local:
        await _say_last_lines(cast("Client", runs), run.name, action.name)


async def _label(runs: Client, run: Run, action: str) -> str:
    return (await Labels(runs, run.name).of(action)).removesuffix(" | ")


async def _say_last_lines(client: Client, run: str, action: str) -> None:
    try:
        lines = [line.text async for line in client.run_logs(run, action, tail=LAST_LINES)]
    except NotFoundError:
        return
    if lines:
        say("The end of its log:")
    for line in lines:
        say(f"  | {line}")


def _page(run: Run, action: str) -> str:
    return f"{run.url}?action={action}" if action else run.url
