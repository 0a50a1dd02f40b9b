"""A worker's module that lets the process that imports it not fork at first: as often as NO_FORKS says."""

from __future__ import annotations

import errno
import os

_fork = os.fork
_left = int(os.environ.get("NO_FORKS", "1"))


def fork() -> int:
    global _left
    if _left > 0:
        _left -= 1
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    return _fork()


os.fork = fork
