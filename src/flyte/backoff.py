"""Growing pauses between tries, for everything that tries again: calls, links, processes that end, attempts.

`pause` says how long a pause is. `Pauses` counts the tries of one caller and shortens each pause by a random part, so
that the many callers that one process has lost do not all return at the same moment.
"""

from __future__ import annotations

import math
import os
import time


def pause(failures: int, first: float, longest: float, factor: float = 2.0) -> float:
    """Seconds before the next try after `failures` failures in a row: `first`, times `factor` for each one more.

    Never more than `longest`; none before the first failure.
    """
    if failures < 1:
        return 0.0
    try:
        return min(first * factor ** (failures - 1), longest)
    except OverflowError:
        return longest if first else 0.0


class Pauses:
    """The pauses of one caller: from `first` seconds, doubled up to `longest`, until `limit` seconds are over."""

    def __init__(self, first: float = 0.05, longest: float = 1.0, limit: float = math.inf) -> None:
        self._first, self._longest, self._limit = first, longest, limit
        self._failures = 0
        self._end: float | None = None

    def next(self) -> float | None:
        """Seconds until the next try, None when the time is up. The clock starts at the first call."""
        now = time.monotonic()
        self._end = self._end if self._end is not None else now + self._limit
        self._failures += 1
        seconds = pause(self._failures, self._first, self._longest)
        return None if now + seconds > self._end else seconds * _jitter()

    async def wait(self) -> bool:
        """Sleep until the next try; False when the time is up."""
        import asyncio  # here: `import flyte` loads no event loop

        seconds = self.next()
        if seconds is None:
            return False
        await asyncio.sleep(seconds)
        return True

    def sleep(self) -> bool:
        """`wait` for a thread."""
        seconds = self.next()
        if seconds is None:
            return False
        time.sleep(seconds)
        return True

    def reset(self) -> None:
        """The connection works: the next outage has its full time."""
        self._failures, self._end = 0, None


def _jitter() -> float:
    """Between 0.75 and 1. Not of `random`, whose numbers are the user's: a program may have seeded it."""
    return 1 - os.urandom(1)[0] / 1024
