"""`tarmac up | down | status`: start, stop and look at the platform on this machine.

`flyte up`, `flyte down` and `flyte status` are these commands under another name. Exit codes: 0 for success, 1 for a
failure, 2 if the command could not be tried (a port in use, no HAProxy, a wrong option) or, from `status`, if the
platform does not run.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from flyte.errors import BaseRuntimeError, InitializationError
from flyte.official import refuse_official
from tarmac import __version__, older_version, process
from tarmac import home as homes
from tarmac import settings as all_settings
from tarmac.home import Home
from tarmac.settings import Settings
from tarmac.supervisor import address, lock, part_logs

# what only some of the commands need is imported there: `flyte up` is waited for

START_LIMIT = address.START_LIMIT + 15
"""Seconds that `up` waits for the supervisor's report."""

DOWN_LIMIT = 30.0
"""Seconds that `down` waits at least."""

_LEFTOVERS_LIMIT = 5.0
"""Seconds to wait for the end of killed processes."""

_PAUSE = 0.02
_FRONT_DOORS = range(12_000, 32_000, 600)
"""The ports from which `--port 0` chooses, below those that the system gives to connections.

They are far apart because the apps' ports are in between.
"""


class Failed(click.ClickException):
    """Raised for a failure that is not the caller's mistake: exit code 1."""


class Refused(click.ClickException):
    """Raised when the command could not be tried: exit code 2."""

    exit_code = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tarmac")
def main() -> None:
    """Flyte tasks and apps on this machine, without Docker."""


_HOME = click.option("--home", "folder", type=click.Path(path_type=Path), help="The platform's folder.  [TARMAC_HOME]")


def _home(folder: Path | None) -> Home:
    if folder is not None:
        os.environ["TARMAC_HOME"] = str(folder.expanduser().absolute())
    return homes.find()


# ------------------------------------------------------------------------------------------------------------------ up


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the front door; 0: a free one.  [default: 30080]")
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@_HOME
def up(port: int | None, foreground: bool, quiet: bool, folder: Path | None) -> None:
    """Start the platform, and return when it answers. If it runs already, print its address."""
    home = _home(folder)
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
        for line in _left_out_lines(_left_out(home)):
            say(line)
        say(f"Logs: {home.part_log('supervisor').parent}   End it with: flyte down")
    elif (running := _running(home)) is not None:  # somebody else was quicker
        say(_already(running))
    else:
        raise Failed(_failure_text(failure, home.part_log("supervisor")))


def exposure(settings: Settings) -> list[str]:
    """Warnings about settings that expose the platform to other users or machines."""
    found = []
    if settings.host != "localhost" and not _is_loopback(settings.host):
        found.append(
            f"TARMAC_HOST is {settings.host}: other machines can reach the front door and every app's port, the apps "
            "without TLS; docs/limits.md says what keeps them out"
        )
    with contextlib.suppress(OSError):
        if settings.tls_cert and os.stat(settings.tls_cert).st_mode & 0o077:
            found.append(f"others can read {settings.tls_cert}, which holds the private key: chmod 600 it")
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
        time.sleep(_PAUSE)
    return None


def _prepared(home: Home, port: int | None) -> Settings:
    """The settings for a start, after checking its requirements. Raises BaseRuntimeError naming what is missing."""
    refuse_official()
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
        process.end_marked(home.path, _LEFTOVERS_LIMIT)
    if is_free(settings.host, settings.port):
        return None
    if (running := _running(home)) is None:
        raise InitializationError("PortInUse", "user", _in_use(settings.host, settings.port))
    return running


def is_free(host: str, port: int) -> bool:
    """Whether HAProxy could listen on this port."""
    with socket.socket(_family(host)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextlib.contextmanager
def free_front_door(host: str) -> Iterator[int]:
    """A port for the front door, with room for the apps' ports above it, that no other `up` chooses within the block.

    During the block the last port of that room is bound, which other `up` commands notice: seconds pass between the
    choice and the moment at which the platform listens. Raises InitializationError if there is no free port.
    """
    for port in random.sample(_FRONT_DOORS, len(_FRONT_DOORS)):
        with _bound(host, port + _FRONT_DOORS.step - 1) as claim:
            if claim and is_free(host, port) and is_free(host, port + 20):
                yield port
                return
    raise InitializationError("NoFreePort", "user", f"no free port was found on {host}; name one: flyte up --port N")


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[bool]:
    """Bind the port for the duration of the block; yields whether that was possible."""
    with socket.socket(_family(host)) as sock:
        try:
            sock.bind((host, port))
        except OSError:
            is_ours = False
        else:
            is_ours = True
        yield is_ours


def _in_use(host: str, port: int) -> str:
    holder = _listener(port)
    by = f" by {holder}" if holder else ""
    with free_front_door(host) as other:
        return f"port {port} is in use{by}; start the platform on another one: flyte up --port {other}"


def _listener(port: int) -> str:
    """The program that listens on `port`, for the message; empty if this user may not know it."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections(kind="tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                words = " ".join(psutil.Process(one.pid).cmdline())
                return f"process {one.pid} ({words[:80]})"
    return ""


def _environment(home: Home) -> dict[str, str]:
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
            env=_environment(home),
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


# ---------------------------------------------------------------------------------------------------------------- down


@main.command()
@click.option(
    "--timeout",
    type=float,
    help="Seconds before the remaining processes are killed.  [default: 30, or what TARMAC_GRACE makes it take]",
)
@_HOME
def down(timeout: float | None, folder: Path | None) -> None:
    """Stop the platform, with all tasks and apps on it; return when every process of it is gone."""
    home = _home(folder)
    pid = lock.holder(home)
    if pid:
        limit = _stops_within(home) if timeout is None else timeout
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + limit
        while lock.holder(home) == pid and time.monotonic() < deadline:
            time.sleep(_PAUSE)
    left = _kill_rest(home, pid)
    if left:
        raise Failed(f"these processes of the platform do not end: {', '.join(map(str, sorted(left)))}")
    home.state_file.unlink(missing_ok=True)
    click.echo("The platform has stopped." if pid else "The platform is not running.")


def _stops_within(home: Home) -> float:
    """Seconds that the running platform may take to stop in order, by its state file."""
    return max(DOWN_LIMIT, float((home.state() or {}).get("stops_within", 0)))


def _kill_rest(home: Home, pid: int | None) -> set[int]:
    """Kill the leftovers of the platform and wait for their end; returns those that do not end."""
    if pid and lock.holder(home) == pid:
        click.echo("stopping takes too long: the platform is killed", err=True)
        process.kill({pid})
    left = process.end_marked(home.path, _LEFTOVERS_LIMIT)
    deadline = time.monotonic() + _LEFTOVERS_LIMIT
    while pid and process.lives(pid) and time.monotonic() < deadline:  # it has no mark
        time.sleep(_PAUSE)
    return left | ({pid} if pid and process.lives(pid) else set())


# -------------------------------------------------------------------------------------------------------------- status


@main.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print it.")
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@_HOME
def status(output: str, as_json: bool, folder: Path | None) -> None:
    """Say whether the platform runs, where it answers, and how its parts are. Exit code 2: it does not run."""
    home = _home(folder)
    state = _state(home)
    if as_json or output == "json":
        click.echo(json.dumps(state, indent=2))
    else:
        click.echo(_table(state))
    if not state["running"]:
        sys.exit(2)


def _state(home: Home) -> dict[str, Any]:
    pid = lock.holder(home)
    if not pid:
        return {"running": False, "home": str(home.path)}
    told = {"isolation": home.isolation_profile(), "left_out": _left_out(home), **_parts(home)}
    return {"running": True, "home": str(home.path), **(home.state() or {}), **told}


def _left_out(home: Home) -> list[dict[str, str]]:
    """The items that the platform has left out: each with the reason and the remedy."""
    if not home.aside.exists():
        return []
    from tarmac import aside

    return [{"what": each.what, "why": each.why, "mend": each.mend} for each in aside.read(home)]


def _left_out_lines(found: list[dict[str, str]]) -> list[str]:
    """A line for each item; names may contain anything, so only their printable characters reach the terminal."""
    lines = [f"  left out: {each['what']}: {each['why']}. {each['mend']}." for each in found]
    return ["".join(letter if letter.isprintable() else "?" for letter in line) for line in lines]


def _parts(home: Home) -> dict[str, Any]:
    """The supervisor's report on itself and its parts; empty if it does not answer."""
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(str(home.supervisor_socket))
        with sock.makefile("rb") as file:
            told: dict[str, Any] = json.loads(file.read())
            return told
    return {}


def _table(state: dict[str, Any]) -> str:
    if not state["running"]:
        return f"The platform is not running ({state['home']})."
    lines = [f"The platform runs: {state.get('endpoint', 'it is being started')}   ({state['home']})"]
    for part in (*state.get("parts", ()), *filter(None, [state.get("fork_server"), state.get("cleanup")])):
        restarts = f"   restarts: {part['restarts']} (last: {part['last_end']})" if part["restarts"] else ""
        lines.append(f"  {part['name']:<11} {part['state']:<8} pid {part['pid'] or '-'}{restarts}")
    if isolation := state.get("isolation"):
        reason = f" ({isolation['reason']})" if isolation["reason"] else ""
        lines.append(f"  {'isolation':<11} {isolation['profile']}{reason}")
    lines += _left_out_lines(state.get("left_out", []))
    return "\n".join(lines)
