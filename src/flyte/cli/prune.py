"""`flyte prune`: remove runs that have ended, and the values, files, code and logs that nothing refers to."""

from __future__ import annotations

import asyncio
import sys
import time

import click

from flyte import wire
from flyte.cli import render
from flyte.cli.options import connect, examples, formatted, invocation, say
from flyte.rules import moment


@click.command(
    epilog=examples(
        "flyte prune                     only what nothing refers to",
        "flyte prune --older 30d         also the runs that ended 30 days ago or earlier",
        "flyte prune --run NAME          also this run",
        "flyte prune --older 7d --dry-run",
    )
)
@click.option("--older", metavar="AGE", help="Remove the runs that ended that long ago: 12h, 30d.")
@click.option("--run", "runs", metavar="NAME", multiple=True, help="Remove this run; may be given several times.")
@click.option(
    "--grace", metavar="AGE", default="1h", show_default=True, help="Leave alone what was written more lately."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@formatted
def prune(older: str | None, runs: tuple[str, ...], grace: str, dry_run: bool, yes: bool, output: str | None) -> None:
    """Remove what is not used any more from the platform's storage.

    Values, files, unpacked code and logs to which no run, task, app or cached result refers are removed, and before
    that the runs that are asked for. What is newer than the oldest run under way is left alone.
    """
    request = wire.PruneStorageRequest(
        older=None if older is None else _age(older, "--older"),
        runs=list(runs),
        grace=_age(grace, "--grace"),
        dry_run=dry_run,
    )
    if not (yes or dry_run) and sys.stdin.isatty():
        click.confirm("Remove what is not used?", abort=True, err=True)
    form = invocation().format(output)
    pruned = asyncio.run(connect().prune_storage(request))
    if form.startswith("json"):
        render.show_json(render.as_data(pruned), form)
        return
    for line in lines(pruned):
        say(line)


def _age(text: str, option: str) -> float:
    now = time.time()
    try:
        return max(0.0, now - moment(text, now))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def lines(pruned: wire.PrunedStorage) -> list[str]:
    """What was removed, for people."""
    done = "would be removed" if pruned.dry_run else "removed"
    found = [f"{len(pruned.runs)} runs {done}"] if pruned.runs else []
    found += [f"{pruned.tasks} versions of tasks {done}"] if pruned.tasks else []
    found += [f"{use.kind}: {use.items} {done} ({size(use.bytes)})" for use in pruned.removed]
    return found or [f"nothing {done}"]


def size(count: float) -> str:
    """A number of bytes, as people read it."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
