"""Who runs the platform: the holder of a lock on a file, which the system releases when its holder is gone."""

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
    """Hold the platform's lock. Raises BlockingIOError when another one holds it for `patience` seconds.

    The last will of one that was killed (`will`) holds it for a moment, too.
    """
    fd = os.open(lock_file(home), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise BlockingIOError(f"another supervisor has the lock {lock_file(home)}")
            time.sleep(0.02)
        os.pwrite(fd, f"{os.getpid():<{_WIDTH}}".encode(), 0)  # over the last one's: needs no room on a full disk
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
    """The pid of the supervisor that runs the platform in `home`, None where none does; 0: it has not said so yet.

    Looks by a lock that many may have at once: two that look must not take each other for a supervisor.
    """
    try:
        fd = os.open(lock_file(home), os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(fd, fcntl.LOCK_SH):
            return None
        pid = int(os.read(fd, _WIDTH) or 0)
        return pid if pid and process.is_there(pid) else 0  # else it is the last one's
    finally:
        os.close(fd)
