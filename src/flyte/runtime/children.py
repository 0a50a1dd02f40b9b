"""The children of a fork server: how they are forked, how their ends are noticed, how they are signalled."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container

from flyte.runtime import unit_process


def branch() -> tuple[int, int, int]:
    """Fork: the child's pid, which is 0 in the child, and the two ends of a pipe between the two. Raises OSError."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        unit_process.flush()
        return os.fork(), reading, writing
    except OSError:
        os.close(reading)
        os.close(writing)
        raise


def next_ended(leaders: Container[int]) -> tuple[int, int] | None:
    """A child that has ended, and how; None when all others live. Raises ChildProcessError when there is none at all.

    Of a leader, what is left of its process group is killed while it is still a zombie: its number cannot be anybody
    else's. Other children are processes that the import started, and orphans of units, which may have groups of others.
    """
    if hasattr(os, "waitid"):
        seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if seen is None:
            return None
        if seen.si_pid in leaders:
            signal_group(seen.si_pid, signal.SIGKILL)
        return os.waitpid(seen.si_pid, 0)
    pid, status = os.waitpid(-1, os.WNOHANG)
    if pid == 0:
        return None
    if pid in leaders:
        signal_group(pid, signal.SIGKILL)
    return pid, status


def signal_group(pid: int, number: int) -> None:
    """A unit that has only just been forked may not lead a group yet; then it is signalled alone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
