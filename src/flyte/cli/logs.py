"""`flyte get logs`: the output of a run, of one of its actions, or of an app."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import click

from flyte.cli import render
from flyte.cli.options import connect, examples, invocation, say, scoped
from flyte.wire import ROOT_ACTION, ActionFilter, LogLine

if TYPE_CHECKING:
    from flyte._client.client import Client

Form = Literal["text", "times", "json"]
"""How lines are printed: as they were written, with their times, or as JSON objects."""

APP_LINES = 30
"""Lines of an app's log that are shown without --tail."""

PAGE = 1000


@click.command(
    "logs",
    epilog=examples(
        "flyte get logs RUN -f",
        "flyte get logs RUN ACTION --attempt 1",
        "flyte get logs RUN -t",
        "flyte get logs my-app -f",
        "flyte get logs RUN -o json | jq -r .text",
    ),
)
@click.argument("name")
@click.argument("action", required=False)
@click.option(
    "-l", "--lines", type=click.IntRange(1), default=None, help="Only the last N lines.  [default: all; 30 of an app]"
)
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended, or Ctrl-C.")
@click.option(
    "-a",
    "--attempt",
    type=click.IntRange(1),
    help="Only this attempt of an action.  [default: the latest; with -f, all]",
)
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time at which it was written.")
@click.option("--replica", help="Of an app: only this replica's.")
@click.option("-o", "--output", type=click.Choice(("table", "json")), metavar="FORMAT", help="json: an object a line.")
@scoped
def get_logs(
    name: str,
    action: str | None,
    lines: int | None,
    follow: bool,
    attempt: int | None,
    timestamps: bool,
    replica: str | None,
    output: str | None,
    project: str | None,
    domain: str | None,
) -> None:
    """Print what a run, one of its actions, or an app wrote.

    The log of a run is that of all its actions, in the order in which the lines were written. Lines of its children
    begin with the task and its number, as in `fetch[17] | `: the actions of a task are numbered in the order of their
    creation.
    """
    client = connect(project, domain)
    form: Form = "json" if invocation().format(output).startswith("json") else "times" if timestamps else "text"
    asyncio.run(_print(client, name, action, lines, follow, attempt, replica, form))


async def _print(
    client: Client,
    name: str,
    action: str | None,
    tail: int | None,
    follow: bool,
    attempt: int | None,
    replica: str | None,
    form: Form,
) -> None:
    if replica is not None or (action is None and await _is_app(client, name)):
        if attempt is not None or action is not None:
            raise click.UsageError("ACTION and --attempt are of a run; an app has replicas: --replica.")
        await print_app_logs(client, name, replica, tail or APP_LINES, follow, form)
    elif action is not None or attempt is not None:
        which = action or ROOT_ACTION
        stream = client.run_logs(name, which, attempt=attempt, tail=tail, follow=follow, partial=form != "json")
        if not await show(stream, form):
            say(await _silence(client, name, which))
    else:
        labels = Labels(client, name)
        stream = client.whole_run_logs(name, tail=tail, follow=follow, partial=form != "json")
        if not await show(stream, form, labels):
            say(await _silence(client, name, None))


async def print_app_logs(
    client: Client,
    name: str,
    replica: str | None = None,
    tail: int = APP_LINES,
    follow: bool = False,
    form: Form = "text",
) -> None:
    stream = client.app_logs(name, replica=replica, tail=tail, follow=follow, partial=form != "json")
    if not await show(stream, form):
        say(f"the app {name} has written nothing{f' as {replica}' if replica else ''}")


async def _silence(client: Client, run: str, action: str | None) -> str:
    """A sentence that names the owner of an empty log."""
    if action is not None:
        record = (await client.get_action(run, action)).action
        more = f"; `flyte get logs {run}` shows all of the run" if record.children or record.parent else ""
        return f"the action {action} of {run} ({record.short_name or record.task}) has written nothing{more}"
    count = (await client.get_run(run)).actions
    return f"the run {run} has written nothing" + (f", and neither has any of its {count} actions" if count > 1 else "")


async def show(stream: AsyncIterator[LogLine], form: Form, labels: Labels | None = None) -> bool:
    """Print the lines on stdout as they come; returns whether there were any."""
    page = Page()
    any_line = False
    async for line in stream:
        any_line = True
        if form == "json":
            render.show_json(render.as_data(line), "json-raw")
            continue
        label = await labels.of(line.source) if labels else ""
        page.show(line, _time_of(line) + label if form == "times" else label)
    page.end()
    return any_line


def _time_of(line: LogLine) -> str:
    """The beginning of the line that has its time, of the same width where none is known."""
    written = "" if line.time is None else datetime.fromtimestamp(line.time).isoformat(" ", "milliseconds")
    return f"{written:23}  "


class Labels:
    """The prefix of each action's lines in a run's log: `fetch[17] | `; the root action's lines have none."""

    def __init__(self, client: Client, run: str) -> None:
        self._client, self._run = client, run
        self._known: dict[str, str] = {ROOT_ACTION: ""}
        self._counts: Counter[str] = Counter()
        self._read = 0

    async def of(self, action: str) -> str:
        while action not in self._known:
            page = await self._client.list_actions(self._run, ActionFilter(limit=PAGE, offset=self._read))
            for record in page:
                name = record.short_name or record.task
                if record.name != ROOT_ACTION:
                    self._known[record.name] = f"{name}[{self._counts[name]}] | "
                    self._counts[name] += 1
            self._read += len(page)
            if not page:  # an action that the list does not have yet
                self._known.setdefault(action, f"{action} | ")
        return self._known[action]


class Page:
    """The state of the printed output: a line may come in pieces, and lines of several actions may alternate."""

    def __init__(self) -> None:
        self._unended: str | None = None
        """The source whose last line has no newline yet."""

    def show(self, line: LogLine, label: str) -> None:
        source = f"{line.source}/{line.attempt}"
        if self._unended not in (None, source):
            self.end()
        text = _on_terminal(line.text, label, self._unended is None) if sys.stdout.isatty() else line.text
        sys.stdout.write((label if self._unended is None else "") + text)
        self._unended = source if line.open else None
        if not line.open:
            sys.stdout.write("\n")
        sys.stdout.flush()

    def end(self) -> None:
        """End an incomplete last line."""
        if self._unended is not None:
            sys.stdout.write("\n")
            sys.stdout.flush()
        self._unended = None


def _on_terminal(text: str, label: str, begins: bool) -> str:
    """The text without control characters; after a carriage return, as in a progress bar, the line begins again."""
    _, returned, last = text.rstrip("\r").rpartition("\r")
    anew = "" if begins or not returned else f"\r\x1b[K{render.printable(label)}"
    return anew + render.printable(last, colors=True)


async def _is_app(client: Client, name: str) -> bool:
    """Whether the name is that of an app; a run with that name takes precedence."""
    from flyte.errors import AppNotFoundError, NotFoundError, RunNotFoundError

    try:
        await client.get_run(name)
    except NotFoundError:
        try:
            await client.get_app(name)
        except AppNotFoundError:
            raise RunNotFoundError(
                f"there is no run and no app {name!r} in {client.project}/{client.domain}; "
                "`flyte get run` and `flyte get app` list them"
            ) from None
        return True
    return False
