"""The end of a process: asked for, awaited, and put in words."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from tarmac.process.table import PROC, entry_of

# asyncio and psutil are imported where they are used: `flyte up` and `flyte down` pass here and need neither


@dataclass(slots=True)
class Adopted:
    """A child that was started by another process and becomes ours (`adopt_orphans`); like a `Popen`.

    We may know of it before it is ours: until the process between has ended, it is that one's child.
    """

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, negative for a signal; None as long as it lives, or is somebody else's."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = None if is_there(self.pid) else -signal.SIGKILL  # nobody knows how it ended
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def is_there(pid: int) -> bool:
    """Whether the table of processes has it; a zombie is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


Child = subprocess.Popen[bytes] | Adopted


def reap_strangers(known: Collection[int]) -> None:
    """Reap the children that have ended, but for the `known` ones, whose end somebody waits for."""
    with contextlib.suppress(ChildProcessError):  # there is no child left
        while (seen := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if seen.si_pid in known:
                return  # it stands before the others; who waits for it calls again
            os.waitpid(seen.si_pid, os.WNOHANG)


async def ended(process: Child, pause: float = 0.05) -> int:
    """Wait until a child has ended; its return code, negative for a signal.

    A pidfd wakes us at once; where there is none, or another process has to end before the child is ours, we look every
    `pause` seconds.
    """
    import asyncio

    fd = _pidfd(process.pid)
    if fd is not None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(fd, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)
    while (code := process.poll()) is None:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(pause)
    return code


async def gone(pid: int, limit: float, pause: float = 0.05) -> bool:
    """Wait up to `limit` seconds until a process, which may be somebody else's child, has ended; whether it has."""
    import asyncio

    fd = _pidfd(pid)
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    if fd is not None:
        loop.add_reader(fd, over.set)
    deadline = loop.time() + limit
    try:
        while not over.is_set() and lives(pid) and loop.time() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), limit if fd is not None else pause)
        return over.is_set() or not lives(pid)
    finally:
        if fd is not None:
            loop.remove_reader(fd)
            os.close(fd)


def lives(pid: int) -> bool:
    """Whether it is there and has not ended; a zombie has."""
    if PROC.joinpath("self/stat").exists():
        return entry_of(pid) is not None
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a whole process group; False when there is nobody in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says this of a group of zombies
        return False
    return True


def describe_exit(code: int | None, number: int | None) -> str:
    """An exit in words: `exit code 1`, `killed by SIGKILL`."""
    if number is None:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def kill(pids: set[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to each; processes that have ended are ignored."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
