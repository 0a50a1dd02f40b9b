"""A machine that is short of something: of processes, memory, threads, open files, or room on the disk.

That says nothing about what was asked for, and often passes in a moment. So it is tried again for a few seconds before
anybody is told, and then it is told as the platform's failure and not as the user's.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger("tarmac.agent")

PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0)
"""Seconds between two attempts at what the machine could not do."""

_NUMBERS = frozenset(
    {
        errno.EAGAIN,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
    }
)


def is_shortage(error: Exception) -> bool:
    """Whether it tells of the machine. Of threads Python says it with a RuntimeError."""
    if isinstance(error, OSError):
        return error.errno in _NUMBERS
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


async def patiently(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of `attempt`, which is made again after a pause while the machine is short of something.

    Raises what the last attempt raised, and at once any error that is not a shortage.
    """
    for pause in PAUSES:
        try:
            return await attempt()
        except (OSError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            log.warning("%s: %s; tried again in %g s", what, error, pause)
        await asyncio.sleep(pause)
    return await attempt()
