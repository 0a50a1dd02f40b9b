"""The platform's lock: the process that has it runs the platform. The kernel releases it at the end of the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tarmac import process
from tarmac.home import Home

_WIDTH = 20
"""Bytes for the pid in the file."""


@contextlib.contextmanager
def locked(home: Home, patience: float = 5.0) -> Iterator[None]:
    """Have the platform's lock. Raises BlockingIOError when another process has it for `patience` seconds.

    The cleanup process of a supervisor that was killed (`cleanup`) has it for a moment, too.
    """
    fd = os.open(lock_file(home), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise BlockingIOError(f"another supervisor has the lock {lock_file(home)}")
            time.sleep(0.02)
        os.pwrite(fd, f"{os.getpid():<{_WIDTH}}".encode(), 0)  # overwriting needs no room on a full disk
        yield
    finally:
        os.close(fd)


def lock_file(home: Home) -> Path:
    return home.path / "supervisor.lock"


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(home: Home) -> int | None:
    """The pid of the supervisor that runs the platform in `home`; None without one, 0 when it has not written it yet.

    This tries a shared lock: two processes that check at once must not take each other for a supervisor.
    """
    try:
        fd = os.open(lock_file(home), os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(fd, fcntl.LOCK_SH):
            return None
        pid = int(os.read(fd, _WIDTH) or 0)
        return pid if pid and process.is_there(pid) else 0  # a pid without a process is that of an earlier supervisor
    finally:
        os.close(fd)
