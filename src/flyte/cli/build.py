"""`flyte build FILE [ENVIRONMENT]`: have the environments of a file's images made, and deploy nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyte.cli import render
from flyte.cli.execute import badly_declared
from flyte.cli.options import connect, examples, formatted, invocation, say, scoped, warn
from flyte.cli.program import load
from flyte.cli.tables import Column
from flyte.wire import AppSpec, BuildRequest, EnvironmentSpec, ImageBuild

if TYPE_CHECKING:
    from flyte._client.client import Client
    from flyte._declare.environment import Environment

PAUSE = 0.3
"""Seconds between two looks; the platform answers after a second where nothing has ended."""


@click.command(epilog=examples("flyte build hello.py", "flyte build hello.py env", "flyte build hello.py --force"))
@click.argument("file", metavar="FILE")
@click.argument("environment", required=False)
@click.option("--force", is_flag=True, help="Find the newest versions that fit, also for what was made before.")
@click.option("--root-dir", metavar="DIR", help="Folder the code lies in.  [default: FILE's own, or above its package]")
@scoped
@formatted
def build(
    file: str,
    environment: str | None,
    force: bool,
    root_dir: str | None,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> int:
    """Have the environments made that the images of FILE ask for, or of one environment with what it depends on.

    What was made is reused by every deployment. With --force versions are found anew: processes that start from then
    on have them. Exit code 2 where one cannot be made.
    """
    from flyte._ship import deploy

    program = load(file, root_dir)
    chosen = [program.environment(environment)] if environment else list(program.environments().values())
    if not chosen:
        raise click.UsageError(f"{file} declares no environments; declare one with flyte.TaskEnvironment.")
    form = invocation().format(output)
    client = connect(project, domain, root_dir=program.root, start=True)
    with badly_declared():
        specs = [_environment(env, program.root) for env in deploy.closure(chosen)]
    built = asyncio.run(_built(client, specs, force))
    if form.startswith("json"):
        render.show_json(render.as_data(built), form)
    else:
        render.listing(built, COLUMNS, form)
    for each in built:
        for warning in each.warnings:
            warn(warning)
        if each.state == "failed":
            say(f"Error: {each.message}")
    return 2 if any(each.state == "failed" for each in built) else 0


def _environment(env: Environment, root: Path) -> EnvironmentSpec:
    """What is deployed of an environment besides tasks and the app."""
    spec: EnvironmentSpec | AppSpec = env.spec(root)
    return spec.environment if isinstance(spec, AppSpec) else spec


async def _built(client: Client, specs: list[EnvironmentSpec], force: bool) -> list[ImageBuild]:
    """Each environment as it came out, telling on the way how far it is."""
    from flyte._session.state import current

    state = current()
    ended: dict[str, ImageBuild] = {}
    told: dict[str, str] = {}
    todo = specs
    while todo:
        request = BuildRequest(project=state.project, domain=state.domain, environments=todo, force=force)
        for each in await client.build_images(request):
            if each.state != "building":
                ended[each.environment] = each
            elif told.get(each.environment) != each.message:
                told[each.environment] = each.message
                say(f"{each.environment}: {each.message}")
        todo = [spec for spec in specs if spec.name not in ended]
        if todo:
            await asyncio.sleep(PAUSE)
    return [ended[spec.name] for spec in specs]


def _shown(each: ImageBuild) -> str:
    if each.state == "own":
        return "the platform's own Python"
    if each.image is None:
        return each.message.partition("\n")[0]
    return str(each.image)


COLUMNS: Sequence[Column[ImageBuild]] = (
    Column("environment", lambda each: each.environment),
    Column("state", lambda each: each.state),
    Column("image", _shown, leaves=1, least=20),
)
