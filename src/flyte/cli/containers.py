"""`flyte build --oci | --push`: container images, made by a program of the platform on this machine.

No platform has to run. This package never imports the platform; it starts the program, as `flyte up` does.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from flyte.cli import render
from flyte.cli.options import invocation, say, warn
from flyte.cli.tables import Column
from flyte.official import refuse_official
from flyte.wire import ContainerImage, ContainerNews, ContainerOrder, ContainerSpec

PROGRAM = "tarmac.oci.write"

COLUMNS: Sequence[Column[ContainerImage]] = (
    Column("environment", lambda image: image.environment),
    Column("python", lambda image: image.python),
    Column("size", lambda image: f"{image.bytes / 2**20:.0f} MiB"),
    Column("digest", lambda image: image.digest, leaves=1, least=19),
    Column("pushed to", lambda image: image.reference, leaves=2),
)


class ContainerFailed(click.ClickException):
    exit_code = 2


def make_containers(
    images: list[ContainerSpec], *, layout: str | None, base: str | None, push: str | None, force: bool
) -> list[ContainerImage]:
    """Have the images made, and pushed where that is asked for; says how far they are. Raises ContainerFailed."""
    order = ContainerOrder(
        images=images,
        layout=str(Path(layout).absolute()) if layout else "",
        base=str(Path(base).absolute()) if base else "",
        push=push or "",
        force=force,
        parent=os.getpid(),
    )
    made: list[ContainerImage] = []
    with _program() as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(msgspec.json.encode(order))
        program.stdin.close()
        for line in program.stdout:
            made += _heard(msgspec.json.decode(line, type=ContainerNews))
    if program.returncode != 0:
        raise ContainerFailed(f"the program that makes the image ended with code {program.returncode}; see above")
    return made


def _program() -> subprocess.Popen[bytes]:
    refuse_official()
    if importlib.util.find_spec("tarmac") is None:
        raise ContainerFailed("Container images are made by the platform's package, which is not installed here.")
    command = [sys.executable, "-P", "-m", PROGRAM]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _heard(news: ContainerNews) -> list[ContainerImage]:
    if news.error:
        raise ContainerFailed(news.error)
    if news.warning:
        warn(news.warning)
    if news.message:
        say(news.message)
    return [news.image] if news.image is not None else []


def show(images: list[ContainerImage], output: str | None) -> None:
    form = invocation().format(output)
    if form.startswith("json"):
        render.show_json(render.as_data(images), form)
    else:
        render.listing(images, COLUMNS, form)
