"""`flyte get run`, `flyte get action` and `flyte get io`: runs, their actions, their inputs and outputs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from flyte import rules
from flyte.cli import render
from flyte.cli.get.projects import known_project
from flyte.cli.options import connect, examples, formatted, invocation, pairs, refuse_filters, scoped
from flyte.cli.render import clock, lasted, one_line, words
from flyte.cli.tables import Column
from flyte.moments import ago
from flyte.tracebacks import readable
from flyte.wire import ROOT_ACTION, Action, ActionFilter, ActionPhase, ErrorInfo, Run, RunFilter

if TYPE_CHECKING:
    from flyte._client.client import Client


def _complete_phases(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    return [phase.value for phase in ActionPhase if phase.value.startswith(begun)]


def _news(record: Run | Action) -> str:
    """The reason behind the phase: why the run failed, for what it waits, or that its result was in the cache."""
    if record.error:
        return one_line(f"{record.error.code}: {record.error.message}", 80)
    if record.cache is not None and record.cache.status == "hit":
        return record.cache.message()
    return "" if record.phase is ActionPhase.SUCCEEDED else one_line(record.message, 80)


def _beyond(message: str, error: ErrorInfo | None) -> str:
    """The message, if it says more than the error, which is shown as well."""
    return "" if error and message in f"{error.code}: {error.message}" else message


RUNS: Sequence[Column[Run]] = (
    Column("name", lambda run: run.name),
    Column("task", lambda run: run.task, least=12),
    Column("phase", lambda run: run.phase.value),
    Column("started", lambda run: ago(run.created), leaves=2),
    Column("took", lambda run: lasted(run.started, run.ended), leaves=3),
    Column("actions", lambda run: str(run.actions), leaves=4),
    Column("message", lambda run: _news(run), leaves=1, least=12),
)


@click.command(
    "run",
    epilog=examples(
        "flyte get run",
        "flyte get run RUN",
        "flyte get run --in-phase failed,timed_out --created-after 1h",
    ),
)
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many, newest first.")
@click.option(
    "--in-phase",
    "phases",
    metavar="PHASE",
    multiple=True,
    shell_complete=_complete_phases,
    help="Only runs in this phase; may be repeated, or joined by commas.",
)
@click.option("--task-name", metavar="TEXT", help="Only runs of tasks whose name has this in it.")
@click.option("--task-version", help="Only runs of this version.")
@click.option("--with-label", "labels", multiple=True, metavar="KEY=VALUE", help="Only runs with this label.")
@click.option("--created-after", metavar="TIME", help="Only runs created since then: 1h, 2d, today, 2026-01-31T12:00.")
@click.option("--created-before", metavar="TIME", help="Only runs created before then.")
@scoped
@formatted
def get_run(
    name: str | None,
    limit: int,
    phases: tuple[str, ...],
    task_name: str | None,
    task_version: str | None,
    labels: tuple[str, ...],
    created_after: str | None,
    created_before: str | None,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> None:
    """List the runs, newest first; with NAME, show that run and its actions."""
    form = invocation().format(output)
    refuse_filters(name)
    client = connect(project, domain)
    if name is not None:
        asyncio.run(_show_run(client, name, form))
        return
    chosen = RunFilter(
        limit=limit,
        phases=tuple(_phases(phases)),
        task_contains=task_name,
        version=task_version,
        labels=_labels(labels),
        created_after=_time(created_after),
        created_before=_time(created_before),
    )
    runs, empty = asyncio.run(_list(client, chosen))
    render.listing(runs, RUNS, form, empty)


PARTS = {"timed-out": "timed_out", "waiting": "waiting_for_resources"}
"""Other spellings of phases."""


def _labels(words: tuple[str, ...]) -> dict[str, str]:
    """The labels of `--with-label`. Raises UsageError for one that no run can have."""
    labels = pairs(words, "--with-label")
    try:
        rules.check_labels(labels, "--with-label")
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    return labels


def _phases(words: Sequence[str]) -> list[ActionPhase]:
    """Phases, each given by itself or several joined by commas."""
    given = [word.strip().replace(" ", "_") for text in words for word in text.split(",") if word.strip()]
    named = [PARTS.get(word, word) for word in given]
    there = [phase.value for phase in ActionPhase]
    for word in named:
        if word not in there:
            raise click.UsageError(f"{word!r} is not a phase; the phases are {', '.join(there)}.")
    return [ActionPhase(word) for word in named]


def _time(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return rules.moment(text, time.time())
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None


async def _list(client: Client, chosen: RunFilter) -> tuple[list[Run], str]:
    """The matching runs, and the sentence to print if there are none."""
    found = await client.list_runs(chosen)
    if found:
        return found, ""
    is_filtered = chosen != RunFilter(limit=chosen.limit)
    if is_filtered and (count := len(await client.list_runs(RunFilter(limit=1000)))):
        return [], f"no run fits; without the filters there are {count if count < 1000 else '1,000 or more'}"
    await known_project(client)
    return [], "no runs; `flyte run FILE TASK` starts one"


async def _show_run(client: Any, name: str, form: str) -> None:
    run = await client.get_run(name)
    render.details(
        run,
        [
            ("run", run.name),
            ("task", f"{run.task} at {run.version}"),
            ("phase", words(run.phase)),
            ("created", f"{clock(run.created)} ({ago(run.created)})"),
            ("took", lasted(run.started, run.ended)),
            ("cache", str(run.cache or "")),
            ("message", _beyond(run.message, run.error)),
            ("error", run.error.message if run.error else ""),
            ("labels", ", ".join(f"{key}={value}" for key, value in run.labels.items())),
            ("url", run.url),
        ],
        form,
    )
    if form == "table":
        click.echo()
        render.listing(await client.list_actions(name, ActionFilter(limit=50)), ACTIONS, form)
        if run.actions > 50:
            click.echo(f"… and {run.actions - 50} more; `flyte get action {name}` lists them all", err=True)


ACTIONS: Sequence[Column[Action]] = (
    Column("name", lambda action: action.name),
    Column("task", lambda action: action.short_name or action.task, least=12),
    Column("phase", lambda action: action.phase.value),
    Column("took", lambda action: lasted(action.started, action.ended), leaves=2),
    Column("attempt", lambda action: str(action.attempt), leaves=3),
    Column("parent", lambda action: action.parent or "", leaves=4),
    Column("message", lambda action: _news(action), leaves=1, least=12),
)


@click.command(
    "action",
    epilog=examples("flyte get action RUN", "flyte get action RUN a0", "flyte get action RUN --in-phase failed"),
)
@click.argument("run")
@click.argument("name", required=False)
@click.option(
    "--in-phase",
    "phases",
    metavar="PHASE",
    multiple=True,
    shell_complete=_complete_phases,
    help="Only actions in this phase; may be repeated, or joined by commas.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True)
@scoped
@formatted
def get_action(
    run: str,
    name: str | None,
    phases: tuple[str, ...],
    limit: int,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> None:
    """List the actions of a run; with NAME, show that action and its attempts."""
    form = invocation().format(output)
    refuse_filters(name)
    client = connect(project, domain)
    if name is None:
        actions = client.list_actions(run, ActionFilter(phases=tuple(_phases(phases)), limit=limit))
        render.listing(asyncio.run(actions), ACTIONS, form, "no actions in that phase")
        return
    found = asyncio.run(client.get_action(run, name))
    action = found.action
    attempts = (
        f"{attempt.number}: {words(attempt.phase)} {lasted(attempt.started, attempt.ended)}"
        + (f"  {one_line(attempt.error.message, 100)}" if attempt.error else "")
        for attempt in found.attempts
    )
    facts = [
        ("action", f"{action.name} of {action.run}"),
        ("task", action.task),
        ("phase", words(action.phase)),
        ("took", lasted(action.started, action.ended)),
        ("cache", str(action.cache or "")),
        ("attempts", "\n".join(attempts)),
        ("group", action.group or ""),
        ("links", "\n".join(f"{link.name}  {link.uri}" for link in found.links)),
        ("message", _beyond(action.message, action.error)),
        ("error", readable(action.error.traceback) or action.error.message if action.error else ""),
    ]
    render.details(found, facts, form)


@click.command("io", epilog=examples("flyte get io RUN", "flyte get io RUN --outputs-only -o json-raw"))
@click.argument("run")
@click.argument("action", default=ROOT_ACTION)
@click.option("-i", "--inputs-only", is_flag=True)
@click.option("--outputs-only", is_flag=True)
@scoped
@formatted
def get_io(
    run: str,
    action: str,
    inputs_only: bool,
    outputs_only: bool,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> None:
    """Print the inputs and outputs of a run, or of one of its actions, as JSON."""
    if inputs_only and outputs_only:
        raise click.UsageError("--inputs-only and --outputs-only exclude each other.")
    client = connect(project, domain)
    inputs, outputs = asyncio.run(_io(client, run, action))
    form = invocation().format(output)
    shown = inputs if inputs_only else outputs if outputs_only else {"inputs": inputs, "outputs": outputs}
    render.show_json(shown, form if form == "json-raw" else "json")


async def _io(client: Any, run: str, action: str) -> tuple[Any, Any]:
    import msgspec

    found = await client.get_action(run, action)
    values = []
    for inline, blob in ((found.inputs, found.inputs_blob), (found.outputs, found.outputs_blob)):
        text = await client.get_blob(blob) if blob else inline
        values.append(None if text is None else msgspec.json.decode(text))
    return values[0], values[1]
