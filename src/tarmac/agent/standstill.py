"""Processes that give no heartbeat by themselves, and stand still.

An import may take minutes, and a replica may compute for hours: from outside that looks like a dead lock. But a process
that was stopped (SIGSTOP) is known to do nothing, and nobody may ever continue it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tarmac import heartbeat, process


class Standstill:
    """Who has been stopped for `lease` seconds, on the monotonic clock."""

    def __init__(self, lease: float, now: float, stopped: Callable[[int], bool] = process.stopped) -> None:
        self._watch = heartbeat.Watch(lease, now)
        self._stopped = stopped
        self._known: set[int] = set()

    def found(self, pids: Collection[int], now: float) -> list[int]:
        """Those of `pids` that every look within a lease found stopped. To be called a few times in a lease."""
        for pid in pids:
            if pid not in self._known or not self._stopped(pid):
                self._watch.hear(pid, now)
        self._known = set(pids)
        return self._watch.silent(now, self._known)
