"""`flyte deploy FILE [ENVIRONMENT]`: register the tasks and start the apps that a file declares."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flyte.cli import render
from flyte.cli.options import connect, formatted, invocation, say, scoped, shipped
from flyte.cli.program import Program, load, python_files
from flyte.cli.progress import watching
from flyte.cli.render import Column
from flyte.wire import DeployedEnvironment, Deployment

if TYPE_CHECKING:
    from flyte._environment import Environment

EXAMPLES = """\b
Examples:
  flyte deploy hello.py                 everything that the file declares
  flyte deploy hello.py env             one environment, and what it depends on
  flyte deploy hello.py --version v1
  flyte deploy -r services/             all files of a folder
  flyte deploy hello.py --dry-run       say what would be deployed
"""


@dataclass(frozen=True, slots=True)
class Shipping:
    """How the code travels; what several verbs ask for."""

    version: str | None
    copy_style: Any
    root_dir: str | None


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
    copy_style: str,
    root_dir: str | None,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> None:
    """Deploy the environments that FILE declares, or one of them with what it depends on.

    They go up level by level along depends_on; each level has to answer before the next one starts. When the command
    returns, the apps answer. If something fails, the version before goes on serving.
    """
    if environment is not None and (every or recursive):
        raise click.UsageError("ENVIRONMENT cannot be combined with --all or --recursive.")
    programs = _programs(file, recursive, ignore_load_errors, root_dir)
    environments = [programs[0].environment(environment)] if environment else _environments(programs, file)
    form = invocation().format(output)
    shipping = Shipping(version, copy_style, root_dir)
    root = programs[0].root
    if dry_run:
        _show_plan(environments, shipping, root, form)
        return
    connect(project, domain, root_dir=root, start=True)
    show_deployed(asyncio.run(deployed(environments, shipping)), form)


def _programs(file: str, recursive: bool, ignore_load_errors: bool, root_dir: str | None) -> list[Program]:
    if not recursive:
        return [load(file, root_dir)]
    found = []
    for path in python_files(Path(file)):
        try:
            found.append(load(str(path), root_dir or file))
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


async def deployed(environments: Sequence[Environment], shipping: Shipping) -> Deployment:
    """Deploy them, showing how it goes, and return the deployment's last record. Raises DeploymentError."""
    from flyte._deploy import deploy_all

    with watching(invocation().is_live) as watch:
        return await deploy_all(
            *environments, version=shipping.version, copy_style=shipping.copy_style, on_progress=watch
        )


COLUMNS: Sequence[Column[DeployedEnvironment]] = (
    Column("environment", lambda env: env.name),
    Column("kind", lambda env: env.kind),
    Column("phase", lambda env: env.phase),
    Column("url", lambda env: env.url),
    Column("tasks", lambda env: ", ".join(env.tasks)),
)


def show_deployed(record: Deployment, form: str) -> None:
    """Print what was deployed, on stdout."""
    if form.startswith("json"):
        render.show_json(render.as_data(record), form)
        return
    render.listing(record.environments, COLUMNS, form)
    if form == "table":
        say(f"deployed at version {record.version}")


def _show_plan(environments: Sequence[Environment], shipping: Shipping, root: Path, form: str) -> None:
    """What a deploy would send, without a platform."""
    from flyte import _init

    _init.init(root_dir=root)
    raise NotImplementedError(environments, shipping, form)
