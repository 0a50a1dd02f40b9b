"""`flyte up`: start the platform, in the background or in this terminal."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flyte.errors import BaseRuntimeError, InitializationError
from tarmac import older_version, process
from tarmac import settings as all_settings
from tarmac.cli.command import HOME, LEFTOVERS_LIMIT, PAUSE, Failed, Refused, home_of
from tarmac.cli.down import DOWN_LIMIT
from tarmac.cli.front_door import free_front_door, in_use
from tarmac.cli.status import left_out, left_out_lines
from tarmac.home import Home
from tarmac.hosts import is_free, is_loopback
from tarmac.settings import Settings
from tarmac.supervisor import address, lock, part_logs

START_LIMIT = address.START_LIMIT + 15
"""Seconds that `up` waits for the supervisor's report."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the front door; 0: a free one.  [default: 30080]")
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@HOME
def up(port: int | None, foreground: bool, quiet: bool, folder: Path | None) -> None:
    """Start the platform, and return when it answers. If it runs already, print its address."""
    home = home_of(folder)
    say: Callable[[str], None] = (lambda line: None) if quiet else click.echo
    if (running := _running(home)) is not None:
        say(_already(running))
        return
    try:
        settings = _prepared(home, port)
        for warning in exposure(settings):
            click.echo(f"warning: {warning}", err=True)
        running = _make_room(home, settings)
    except (BaseRuntimeError, PermissionError) as error:
        raise Refused(str(error)) from error
    if running is not None:
        say(_already(running))
    elif foreground:
        _stay(home, settings, say)
    elif (failure := _detach(home)) is None:
        say(f"The platform runs: {address.Address(settings.host, settings.port).endpoint}")
        for line in left_out_lines(left_out(home)):
            say(line)
        say(f"Logs: {home.part_log('supervisor').parent}   End it with: flyte down")
    elif (running := _running(home)) is not None:  # somebody else was quicker
        say(_already(running))
    else:
        raise Failed(_failure_text(failure, home.part_log("supervisor")))


def exposure(settings: Settings) -> list[str]:
    """Warnings about settings that expose the platform to other users or machines."""
    found = []
    if not is_loopback(settings.host):
        found.append(
            f"TARMAC_HOST is {settings.host}: other machines can reach the front door and every app's port, the apps "
            "without TLS; docs/limits.md says what keeps them out"
        )
    with contextlib.suppress(OSError):
        if settings.tls_cert and os.stat(settings.tls_cert).st_mode & 0o077:
            found.append(f"others can read {settings.tls_cert}, which holds the private key: chmod 600 it")
    return found


def _already(state: dict[str, Any]) -> str:
    return f"The platform is running already: {state['endpoint']}"


def _running(home: Home) -> dict[str, Any] | None:
    """The state of the running platform; None if it does not run. Waits while it is being started or stopped."""
    deadline = time.monotonic() + START_LIMIT
    while (pid := lock.holder(home)) is not None:
        state = home.state()
        if state is not None and state.get("pid") == pid:
            return state
        if time.monotonic() > deadline:
            logs = home.part_log("supervisor").parent
            raise Failed(f"process {pid} has been starting the platform for {START_LIMIT:.0f} s; look into {logs}")
        time.sleep(PAUSE)
    return None


def _prepared(home: Home, port: int | None) -> Settings:
    """The settings for a start, after checking its requirements. Raises BaseRuntimeError naming what is missing."""
    older_version.disown()
    if port is not None:
        os.environ["TARMAC_PORT"] = str(port)
    settings = all_settings.load(home.path)
    if settings.port == 0:
        claim = free_front_door(settings.host)
        os.environ["TARMAC_PORT"] = str(click.get_current_context().with_resource(claim))
        settings = all_settings.load(home.path)
    from tarmac.gateway.program import find

    find(settings)
    process.keep_files_private()
    home.prepare()
    return settings


def _make_room(home: Home, settings: Settings) -> dict[str, Any] | None:
    """Check that the port is free. Returns the state of a platform that another `up` has started meanwhile, else None.

    Leftovers of an earlier start are killed. Raises InitializationError if another program has the port.
    """
    if is_free(settings.host, settings.port):
        return None
    with contextlib.suppress(BlockingIOError), lock.locked(home, patience=0.1):
        process.end_marked(home.path, LEFTOVERS_LIMIT)
    if is_free(settings.host, settings.port):
        return None
    if (running := _running(home)) is None:
        raise InitializationError("PortInUse", "user", in_use(settings.host, settings.port))
    return running


def supervisor_environment(home: Home) -> dict[str, str]:
    """The supervisor's environment, without TARMAC_PLATFORM.

    Processes with that variable are killed as leftovers, and a supervisor that waits for the lock must survive that.
    """
    inherited = {name: value for name, value in os.environ.items() if name != process.MARK}
    return process.with_absolute_path({**inherited, "TARMAC_HOME": str(home.path)})


def _detach(home: Home) -> address.GivenUp | None:
    """Start the supervisor in a session of its own; return None when the platform answers, else why it does not.

    The end of this terminal does not end it.
    """
    reading, writing = os.pipe()
    log = home.part_log("supervisor")
    part_logs.rotate(log)
    with log.open("ab") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "tarmac.supervisor", str(writing)],
            env=supervisor_environment(home),
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        if not select.select([pipe], [], [], START_LIMIT)[0]:
            return address.GivenUp(f"it gave no report for {START_LIMIT:.0f} s", "supervisor", part_logs.tail(log))
        news = pipe.read()
    if not news:
        return address.GivenUp("its supervisor died", "supervisor", part_logs.tail(log))
    failure = json.loads(news)
    if not failure:
        return None
    with contextlib.suppress(subprocess.TimeoutExpired):  # nothing of a start that failed is to be left
        started.wait(DOWN_LIMIT)
    return address.GivenUp(**failure)


def _failure_text(failure: address.GivenUp, log: Path) -> str:
    message = f"the platform could not be started: {failure.message}"
    if failure.tail:
        message += f"\nThe end of {log.with_name(failure.part + '.log')}:\n{failure.tail}"
    return message


def _stay(home: Home, settings: Settings, say: Callable[[str], None]) -> None:
    """Run the supervisor in this terminal, until Ctrl-C or SIGTERM."""
    import asyncio
    import logging

    from tarmac.supervisor.supervisor import supervise

    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    failures: list[address.GivenUp] = []

    def announce(failure: address.GivenUp | None) -> None:
        if failure is None:
            say(f"The platform runs: {address.Address(settings.host, settings.port).endpoint}   Ctrl-C ends it.")
        else:
            failures.append(failure)

    try:
        with lock.locked(home):
            asyncio.run(supervise(home, settings, announce))
    except BlockingIOError as error:
        raise Failed(str(error)) from error
    for failure in failures:
        raise Failed(_failure_text(failure, home.part_log("supervisor")))
    with contextlib.suppress(OSError):  # the terminal may be gone
        say("The platform has stopped.")
