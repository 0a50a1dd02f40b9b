"""Who runs the platform: the holder of a lock on a file, which the system releases when its holder is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tarmac.home import Home


@contextlib.contextmanager
def locked(home: Home, patience: float = 2.0) -> Iterator[None]:
    """Hold the platform's lock. Raises BlockingIOError when another supervisor goes on holding it."""
    fd = os.open(lock_file(home), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _try_lock(fd):
            if time.monotonic() > deadline:
                raise BlockingIOError(f"another supervisor holds {lock_file(home)}")
            time.sleep(0.02)
        os.truncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        yield
    finally:
        os.close(fd)


def lock_file(home: Home) -> Path:
    return home.path / "supervisor.lock"


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(home: Home) -> int | None:
    """The pid of the supervisor that runs the platform in `home`, None where none does."""
    try:
        fd = os.open(lock_file(home), os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(fd) else int(os.read(fd, 32) or 0)
    finally:
        os.close(fd)
