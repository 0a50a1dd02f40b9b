"""`flyte get …` and `flyte whoami`: list and show records."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flyte import rules
from flyte.cli import render
from flyte.cli.logs import get_logs
from flyte.cli.options import connect, examples, formatted, invocation, pairs, refuse_filters, scoped
from flyte.cli.render import clock, lasted, one_line, words
from flyte.cli.tables import Column
from flyte.cli.verbs import Verbs
from flyte.errors import readable
from flyte.moments import ago
from flyte.wire import (
    ROOT_ACTION,
    Action,
    ActionPhase,
    App,
    CachedResult,
    ErrorInfo,
    KeyInfo,
    Project,
    Run,
    RunFilter,
    SecretInfo,
    Task,
)

if TYPE_CHECKING:
    from flyte._client.client import Client

R = TypeVar("R")


def _complete_phases(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    return [phase.value for phase in ActionPhase if phase.value.startswith(begun)]


@click.group(
    cls=Verbs,
    epilog=examples(
        "flyte get run --in-phase failed", "flyte get run -o json | jq -r '.[].name'", "flyte get app -o url my-app"
    ),
)
def get() -> None:
    """Look at runs, actions, tasks, apps, logs, inputs and outputs, secrets, projects and the config.

    Lists are tables on a terminal and plain columns in a pipe; `-o json` is for programs, `-o name` and `-o url` for
    scripts.
    """


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


@get.command(
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
        labels=pairs(labels, "--with-label"),
        created_after=_time(created_after),
        created_before=_time(created_before),
    )
    runs, empty = asyncio.run(_list(client, chosen))
    render.listing(runs, RUNS, form, empty)


PARTS = {"timed-out": "timed_out", "waiting": "waiting_for_resources"}
"""Other spellings of phases."""


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
    await _known_project(client)
    return [], "no runs; `flyte run FILE TASK` starts one"


async def _known(client: Client, listed: Awaitable[list[R]]) -> list[R]:
    """A list of an existing project. Raises UsageError if there is no project with that name."""
    found = await listed
    if not found:
        await _known_project(client)
    return found


async def _known_project(client: Client) -> None:
    """Raises UsageError if a list is empty because its project does not exist."""
    there = [project.id for project in await client.list_projects(limit=1000)]
    if client.project not in there:
        made = f"`flyte create project {client.project}` makes it"
        raise click.UsageError(f"There is no project {client.project!r}; there are: {', '.join(there)}. {made}.")


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
        render.listing(await client.list_actions(name, limit=50), ACTIONS, form)
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


@get.command(
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
        actions = client.list_actions(run, phase=_phases(phases), limit=limit)
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
        ("message", _beyond(action.message, action.error)),
        ("error", readable(action.error.traceback) or action.error.message if action.error else ""),
    ]
    render.details(found, facts, form)


TASKS: Sequence[Column[Task]] = (
    Column("name", lambda task: task.name),
    Column("version", lambda task: task.version, leaves=2),
    Column("deployed", lambda task: ago(task.created), leaves=3),
    Column("inputs", lambda task: one_line(_signature(task), 80), leaves=1, least=12),
)


def _signature(task: Task) -> str:
    specs = task.spec.interface.inputs if task.spec else []
    return ", ".join(f"{spec.name}: {spec.type}{'' if spec.required else ' = …'}" for spec in specs)


@get.command("task", epilog=examples("flyte get task", "flyte get task add_one_task", "flyte get task add_one_task v1"))
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
        tasks = asyncio.run(_known(client, client.list_tasks(limit=limit)))
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


@get.command("cache", epilog=examples("flyte get cache", "flyte get cache etl.load", "flyte delete cache KEY"))
@click.argument("task", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many, newest first.")
@scoped
@formatted
def get_cache(task: str | None, limit: int, project: str | None, domain: str | None, output: str | None) -> None:
    """List the results in the cache, newest first; with TASK (its full name), those of that task."""
    form = invocation().format(output)
    client = connect(project, domain)
    found = asyncio.run(_known(client, client.list_cache(task, limit)))
    render.listing(found, CACHE, form, 'nothing is cached; a task with `cache="auto"` keeps its results')


APPS: Sequence[Column[App]] = (
    Column("name", lambda app: app.name),
    Column("status", lambda app: app.status.value),
    Column("url", lambda app: app.url),
    Column("replicas", lambda app: str(sum(replica.phase == "ready" for replica in app.replicas)), leaves=2),
    Column("version", lambda app: app.version, leaves=4),
    Column("updated", lambda app: ago(app.updated or app.created), leaves=3),
    Column("message", lambda app: one_line(app.message, 80), leaves=1, least=12),
)


@get.command("app", epilog=examples("flyte get app", "flyte get app my-app", "curl $(flyte get app my-app -o url)"))
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
        apps = asyncio.run(_known(client, client.list_apps(limit)))
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


get.add_command(get_logs)


@get.command("io", epilog=examples("flyte get io RUN", "flyte get io RUN --outputs-only -o json-raw"))
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


SECRETS: Sequence[Column[SecretInfo]] = (
    Column("name", lambda secret: secret.name),
    Column("project", lambda secret: secret.project, leaves=2),
    Column("domain", lambda secret: secret.domain, leaves=1),
    Column("updated", lambda secret: ago(secret.updated or secret.created), leaves=3),
)


@get.command("secret", epilog=examples("flyte get secret"))
@click.argument("name", required=False)
@scoped
@formatted
def get_secret(name: str | None, project: str | None, domain: str | None, output: str | None) -> None:
    """List the secrets' names; their values cannot be read back."""
    form = invocation().format(output)
    client = connect(project, domain)
    secrets = [asyncio.run(client.get_secret(name))] if name else asyncio.run(_known(client, client.list_secrets()))
    render.listing(secrets, SECRETS, form, "no secrets; `flyte create secret NAME` makes one")


KEYS: Sequence[Column[KeyInfo]] = (
    Column("id", lambda key: key.id),
    Column("name", lambda key: key.name),
    Column("created", lambda key: ago(key.created), leaves=2),
    Column("last used", lambda key: ago(key.last_used), leaves=1),
)


@get.command("api-key", epilog=examples("flyte get api-key"))
@formatted
def get_api_key(output: str | None) -> None:
    """List the API keys, without the keys themselves."""
    keys = asyncio.run(connect().list_keys())
    render.listing(keys, KEYS, invocation().format(output), "no keys; `flyte create api-key NAME` makes one")


PROJECTS: Sequence[Column[Project]] = (
    Column("id", lambda project: project.id),
    Column("name", lambda project: project.name),
    Column("description", lambda project: one_line(project.description, 80), leaves=1, least=12),
)


@get.command("project", epilog=examples("flyte get project"))
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


@get.command("config", epilog=examples("flyte get config"))
@formatted
def get_config(output: str | None) -> None:
    """Show which config file is used and what it, together with the environment, says."""
    from flyte._session import config as _config
    from flyte._session import find as _platform

    config = _config.load(invocation().config)
    facts = {
        "file": str(config.source) if config.source else "none found",
        "endpoint": config.endpoint or "not set: the platform of this machine is used",
        "api key": "set" if config.api_key else "not set",
        "project": config.project or "flytesnacks (default)",
        "domain": config.domain or "development (default)",
        "platform's folder": str(_platform.home()),
    }
    form = invocation().format(output)
    if form.startswith("json"):
        render.show_json({name.replace(" ", "_").replace("'", ""): value for name, value in facts.items()}, form)
    else:
        render.details(config, facts.items(), "table")


@click.command(epilog=examples("flyte whoami"))
@formatted
def whoami(output: str | None) -> None:
    """Say where the platform is, and as whom it knows you."""
    client = connect()
    me = asyncio.run(client.me())
    facts = [("subject", me.subject), ("kind", me.kind), ("platform", client.endpoint)]
    facts += [("project", client.project), ("domain", client.domain)]
    form = invocation().format(output)
    if form.startswith("json"):
        render.show_json(dict(facts), form)
    else:
        render.details(me, facts, "table")
    sys.stdout.flush()
