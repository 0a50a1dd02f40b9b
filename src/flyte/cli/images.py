"""`flyte images list | prune | log`: the environments that images became."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import click

from flyte.cli import render
from flyte.cli.options import connect, examples, formatted, invocation, say
from flyte.cli.tables import Column
from flyte.cli.verbs import Verbs
from flyte.moments import ago
from flyte.rules import moment
from flyte.wire import ImageRecord


@click.group(cls=Verbs, epilog=examples("flyte images list", "flyte images prune --older 7d"))
def images() -> None:
    """The environments that images became on the platform's machine."""


def _size(record: ImageRecord) -> str:
    return f"{record.bytes / 2**20:.0f} MiB" if record.key else ""


def _packages(record: ImageRecord) -> str:
    return ", ".join(record.asked) or "(none named)"


COLUMNS: Sequence[Column[ImageRecord]] = (
    Column("id", lambda record: record.id),
    Column("state", lambda record: record.state),
    Column("python", lambda record: record.python),
    Column("packages", _packages, leaves=1, least=16),
    Column("size", _size, leaves=3),
    Column("used by", lambda record: ", ".join(name.rpartition("/")[2] for name in record.environments), leaves=2),
    Column("last used", lambda record: ago(record.used), leaves=4),
)


@images.command("list", epilog=examples("flyte images list", "flyte images list -o json      with the exact versions"))
@formatted
def list_images(output: str | None) -> None:
    """List what images asked for and came to, the one that was used last first."""
    form = invocation().format(output)
    found = asyncio.run(connect().list_images(1000))
    if form.startswith("json"):
        render.show_json(render.as_data(found), form)
    else:
        render.listing(found, COLUMNS, form)


@images.command("show", epilog=examples("flyte images show ID"))
@click.argument("image", metavar="ID")
def show(image: str) -> None:
    """Print the exact versions of what is in an environment; ID may be its beginning."""
    found = [record for record in asyncio.run(connect().list_images(1000)) if record.id.startswith(image)]
    if not found:
        raise click.ClickException(f"There is no image {image}; `flyte images list` shows what there is.")
    record = found[0]
    for line in [record.error] if record.state == "failed" else record.packages:
        click.echo(line)
    for note in record.notes:
        say(note)


@images.command("log", epilog=examples("flyte images log ID"))
@click.argument("image", metavar="ID")
def log(image: str) -> None:
    """Print what was run to make an environment, and what it said; ID may be its beginning."""
    click.echo(asyncio.run(connect().image_log(image)).text)


@images.command(
    "prune", epilog=examples("flyte images prune", "flyte images prune --older 7d", "flyte images prune --all")
)
@click.option("--older", metavar="AGE", default="14d", show_default=True, help="Only what was not used that long.")
@click.option("--all", "every", is_flag=True, help="However lately it was used.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def prune(older: str, every: bool, yes: bool) -> None:
    """Remove environments that nothing deployed names and nothing runs in. uv's cache of packages is left alone."""
    now = time.time()
    try:
        seconds = 0.0 if every else now - moment(older, now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older") from None
    client = connect()
    if not yes and sys.stdin.isatty():
        click.confirm("Remove the environments that are not in use?", abort=True, err=True)
    removed = asyncio.run(client.prune_images(seconds))
    size = sum(record.bytes for record in removed) / 2**20
    say(f"removed {len(removed)} environment{'s' * (len(removed) != 1)} ({size:.0f} MiB; files in uv's cache stay)")
