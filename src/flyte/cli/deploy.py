"""`flyte deploy FILE [ENVIRONMENT]`: register the tasks and start the apps that a file declares."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flyte.cli import render
from flyte.cli.execute import badly_declared
from flyte.cli.options import connect, formatted, invocation, say, scoped, shipped, warn
from flyte.cli.program import Program, import_root, load, python_files, source_folders
from flyte.cli.progress import watching
from flyte.cli.tables import Column
from flyte.wire import DeployedEnvironment, Deployment

if TYPE_CHECKING:
    from flyte._client.client import Client
    from flyte._declare.environment import Environment
    from flyte._ship.deploy import Plan

EXAMPLES = """\b
Examples:
  flyte deploy hello.py                 everything that the file declares
  flyte deploy hello.py env             one environment, and what it depends on
  flyte deploy hello.py --version v1
  flyte deploy -r services/             all files of a folder
  flyte deploy hello.py --dry-run       say what would be deployed
"""


@click.command(epilog=EXAMPLES)
@click.argument("file", metavar="FILE")
@click.argument("environment", required=False)
@click.option(
    "--all", "every", is_flag=True, help="All environments of the file; that is the default without ENVIRONMENT."
)
@click.option("-r", "--recursive", is_flag=True, help="FILE is a folder: deploy what its Python files declare.")
@click.option("-i", "--ignore-load-errors", is_flag=True, help="With -r: leave out files that cannot be imported.")
@click.option("--dry-run", "--dryrun", is_flag=True, help="Check, and say what would be deployed; start nothing.")
@shipped
@scoped
@formatted
def deploy(
    file: str,
    environment: str | None,
    every: bool,
    recursive: bool,
    ignore_load_errors: bool,
    dry_run: bool,
    version: str | None,
    copy_style: Any,
    root_dir: str | None,
    strict: bool,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> None:
    """Deploy the environments that FILE declares, or one of them with what it depends on.

    They go up level by level along depends_on; each level has to answer before the next one starts. When the command
    returns, the apps answer. If something fails, the version before goes on serving.
    """
    from flyte._session import init as _init
    from flyte._ship import deploy as _deploy

    if environment is not None and (every or recursive):
        raise click.UsageError("ENVIRONMENT cannot be combined with --all or --recursive.")
    if ignore_load_errors and not recursive:
        raise click.UsageError("--ignore-load-errors goes with --recursive.")
    programs = _programs(file, recursive, ignore_load_errors, root_dir)
    environments = [programs[0].environment(environment)] if environment else _environments(programs, file)
    form = invocation().format(output)
    if dry_run:
        _init.init(root_dir=programs[0].root, project=project, domain=domain)
    else:
        client = connect(project, domain, root_dir=programs[0].root, start=True)
    with badly_declared():
        planned = _deploy.plan(environments, version=version, copy_style=copy_style, strict=strict or None)
    if dry_run:
        _show_plan(planned, form)
        return
    try:
        record = asyncio.run(_sent(client, planned))
    except KeyboardInterrupt:
        say("\nWhat was sent goes on; `flyte get app` and `flyte get task` show what became of it.")
        raise
    show_deployed(record, form)


def _programs(file: str, recursive: bool, ignore_load_errors: bool, root_dir: str | None) -> list[Program]:
    if not recursive:
        return [load(file, root_dir)]
    found, files = [], python_files(Path(file))
    root = Path(root_dir or import_root(Path(file).resolve() / "__init__.py")).expanduser().resolve()
    sources = source_folders(root, files)
    for path in files:
        try:
            found.append(load(str(path), root, sources))
        except click.ClickException as error:
            if not ignore_load_errors:
                raise
            say(f"left out: {error.format_message()}")
    if not found:
        raise click.UsageError(f"There is no Python file in {file} that can be imported.")
    return found


def _environments(programs: Sequence[Program], file: str) -> list[Environment]:
    found = {id(env): env for program in programs for env in program.environments().values()}
    if not found:
        raise click.UsageError(
            f"{file} declares no environments; declare one with flyte.TaskEnvironment or an app environment."
        )
    return list(found.values())


async def _sent(client: Client, planned: Plan) -> Deployment:
    """Deploy and show the progress; returns the deployment's last record. Raises DeploymentError."""
    from flyte._ship import deploy as _deploy

    with watching(invocation().is_live) as watch:
        return await _deploy.send(client, planned, watch)


COLUMNS: Sequence[Column[DeployedEnvironment]] = (
    Column("environment", lambda env: env.name),
    Column("kind", lambda env: env.kind, leaves=2),
    Column("phase", lambda env: env.phase),
    Column("url", lambda env: env.url),
    Column("tasks", lambda env: ", ".join(env.tasks), leaves=1, least=12),
)


def show_deployed(record: Deployment, form: str) -> None:
    """Print what was deployed, on stdout."""
    if form.startswith("json"):
        render.show_json(render.as_data(record), form)
        return
    render.listing(record.environments, COLUMNS, form)
    if form == "table":
        say(f"deployed at version {record.version}")


PLANNED: Sequence[Column[DeployedEnvironment]] = tuple(
    column for column in COLUMNS if column.title in ("environment", "kind", "tasks")
)


def _show_plan(planned: Plan, form: str) -> None:
    """Print what a deploy would send, dependencies first."""
    request = planned.request
    if form.startswith("json"):
        render.show_json(render.as_data(request), form)
        return
    apps = {app.name for app in request.apps}
    rows = [
        DeployedEnvironment(
            name=name,
            kind="app" if name in apps else "task",
            tasks=[task.name for task in request.tasks if task.environment.name == name],
        )
        for name in request.order
    ]
    render.listing(rows, PLANNED, form)
    for note in planned.no_effect:
        warn(str(note))
    files = len(planned.bundle.names) if planned.bundle else 0
    say(f"nothing was deployed; it would be version {request.version}, with {files} file{'s' * (files != 1)} of code")
