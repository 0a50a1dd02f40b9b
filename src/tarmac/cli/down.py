"""`flyte down`: stop the platform, and kill the processes that do not end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import click

from tarmac import process
from tarmac.cli.command import HOME, LEFTOVERS_LIMIT, PAUSE, Failed, home_of
from tarmac.home import Home
from tarmac.supervisor import lock

DOWN_LIMIT = 30.0
"""Seconds that `down` waits at least."""


@click.command()
@click.option(
    "--timeout",
    type=float,
    help="Seconds before the remaining processes are killed.  [default: 30, or what TARMAC_GRACE makes it take]",
)
@HOME
def down(timeout: float | None, folder: Path | None) -> None:
    """Stop the platform, with all tasks and apps on it; return when every process of it is gone."""
    home = home_of(folder)
    pid = lock.holder(home)
    if pid:
        limit = stops_within(home) if timeout is None else timeout
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + limit
        while lock.holder(home) == pid and time.monotonic() < deadline:
            time.sleep(PAUSE)
    left = _kill_rest(home, pid)
    if left:
        raise Failed(f"these processes of the platform do not end: {', '.join(map(str, sorted(left)))}")
    home.state_file.unlink(missing_ok=True)
    click.echo("The platform has stopped." if pid else "The platform is not running.")


def stops_within(home: Home) -> float:
    """Seconds that the running platform may take to stop in order, by its state file."""
    return max(DOWN_LIMIT, float((home.state() or {}).get("stops_within", 0)))


def _kill_rest(home: Home, pid: int | None) -> set[int]:
    """Kill the leftovers of the platform and wait for their end; returns those that do not end."""
    if pid and lock.holder(home) == pid:
        click.echo("stopping takes too long: the platform is killed", err=True)
        process.kill({pid})
    left = process.end_marked(home.path, LEFTOVERS_LIMIT)
    deadline = time.monotonic() + LEFTOVERS_LIMIT
    while pid and process.lives(pid) and time.monotonic() < deadline:  # it has no mark
        time.sleep(PAUSE)
    return left | ({pid} if pid and process.lives(pid) else set())
