"""`flyte build FILE [ENVIRONMENT]`: have the environments of a file's images made, and deploy nothing.

With `--oci` and `--push` they become container images.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
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


@click.command(
    epilog=examples(
        "flyte build hello.py",
        "flyte build hello.py env",
        "flyte build hello.py --force",
        "flyte build hello.py --oci images              an OCI layout, for podman run oci:images:env",
        "flyte build hello.py env --push HOST/NAME:TAG",
        "flyte build hello.py env --dockerfile --context DIR && podman build DIR",
    )
)
@click.argument("file", metavar="FILE")
@click.argument("environment", required=False)
@click.option("--force", is_flag=True, help="Find the newest versions that fit, also for what was made before.")
@click.option("--root-dir", metavar="DIR", help="Folder the code lies in.  [default: FILE's own, or above its package]")
@click.option(
    "--oci", metavar="DIR", help="Write container images into an OCI layout; no engine and no platform needed."
)
@click.option("--push", metavar="REF", help="Send the container image to a registry: HOST/NAME:TAG.")
@click.option("--base", metavar="DIR", help="With --oci or --push: build on the image of this OCI layout.")
@click.option("--dockerfile", is_flag=True, help="Print a Dockerfile, for a container engine to build; make nothing.")
@click.option("--context", metavar="DIR", help="With --dockerfile: write it there, with all that it copies.")
@scoped
@formatted
def build(
    file: str,
    environment: str | None,
    force: bool,
    root_dir: str | None,
    oci: str | None,
    push: str | None,
    base: str | None,
    dockerfile: bool,
    context: str | None,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> int:
    """Have the environments made that the images of FILE ask for, or of one environment with what it depends on.

    What was made is reused by every deployment. With --force versions are found anew: processes that start from then
    on have them. Exit code 2 where one cannot be made.

    With --oci or --push they become container images, of the environment that is named alone. Credentials for a
    registry are those of `podman login` or `docker login`.
    """
    from flyte._ship import deploy

    if base and not (oci or push):
        raise click.UsageError("--base is for --oci and --push.")
    if context and not dockerfile:
        raise click.UsageError("--context is for --dockerfile.")
    if dockerfile and (oci or push):
        raise click.UsageError("--dockerfile makes nothing; leave --oci and --push out.")
    program = load(file, root_dir)
    chosen = [program.environment(environment)] if environment else list(program.environments().values())
    if not chosen:
        raise click.UsageError(f"{file} declares no environments; declare one with flyte.TaskEnvironment.")
    if dockerfile:
        return _dockerfile(_only(chosen, "--dockerfile is for one image"), program.root, context)
    if oci or push:
        return _containers(chosen, program.root, Containers(oci, push, base, force), output)
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


@dataclass(frozen=True, slots=True)
class Containers:
    """What is to become of the images: the options --oci, --push, --base and --force."""

    layout: str | None
    push: str | None
    base: str | None
    force: bool


def _containers(chosen: list[Environment], root: Path, wanted: Containers, output: str | None) -> int:
    from flyte._ship.containers import container_spec, left_out
    from flyte.cli.containers import make_containers, show

    if wanted.push:
        _only(chosen, "--push sends one image")
    with badly_declared():
        specs = [container_spec(env, root, has_base=wanted.base is not None) for env in chosen]
    for env in chosen:
        if lines := left_out(env):
            warn(f"not in the image of {env.name!r}: {'; '.join(lines)}; --dockerfile has it, or a base (--base)")
    made = make_containers(specs, layout=wanted.layout, base=wanted.base, push=wanted.push, force=wanted.force)
    show(made, output)
    return 0


def _dockerfile(env: Environment, root: Path, context: str | None) -> int:
    from flyte._ship.dockerfile import render as rendered

    with badly_declared():
        made = rendered(env, root)
    if context is None:
        click.echo(made.text, nl=False)
        say(f"It copies {len(made.files)} files: `--context DIR` writes it into a folder with all of them.")
        return 0
    try:
        made.write(Path(context))
    except OSError as error:
        raise click.UsageError(f"--context {context}: {error}") from None
    say(f"podman build {context}")
    return 0


def _only(chosen: list[Environment], why: str) -> Environment:
    """The one environment. Raises UsageError where there are several."""
    if len(chosen) > 1:
        raise click.UsageError(f"{why}; name the environment: one of {', '.join(env.name for env in chosen)}.")
    return chosen[0]


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
