"""Did the kernel kill it for want of memory? A process that it kills looks like any that got SIGKILL.

Linux counts such kills. When a unit dies of a SIGKILL that nobody here sent while that count went up, memory was why.
Elsewhere, and where the count cannot be read, a SIGKILL stays a SIGKILL.
"""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec

from flyte.wire import UnitExited

VMSTAT = Path("/proc/vmstat")


class OutOfMemory:
    def __init__(self, counters: Path = VMSTAT) -> None:
        self._counters = counters
        self._seen = self._count()

    def judge(self, exited: UnitExited, unasked: bool) -> UnitExited:
        """`exited` with `oom` set if that is what it was; `unasked`: the agent did not end this unit."""
        if exited.signal != signal.SIGKILL or not unasked:
            return exited
        before, self._seen = self._seen, self._count()
        return msgspec.structs.replace(exited, oom=True) if self._seen > before else exited

    def _count(self) -> int:
        try:
            lines = self._counters.read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
