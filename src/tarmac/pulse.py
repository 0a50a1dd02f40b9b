"""Signs of life: what tells a part that hangs from one that has nothing to do.

A part sends its pid in a datagram to the supervisor's socket, a few times in every lease, from its own event loop; so
a loop that stands still is noticed, and a part that merely computes elsewhere is not. A datagram needs no connection
that could be lost, and a part that was started alone, without a supervisor, sends into the void.

*To live* and *to have come up* are two things: a control plane that migrates a large database, or waits for its turn,
lives. A part says `PID?` from the first moment of its loop, and `PID` once it has come up. So no part may be silent for
long, not even one that hangs before it has come up: it has `BIRTH` seconds for its first sign.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Container

from tarmac.home import Home

BEATS = 6
"""Signs of life in a lease."""

BIRTH = 60.0
"""Seconds that a process has for its first sign of life, if the lease is not longer: its code may be on a slow disk."""

_SHORTEST_LEASE = 1.0

_FAR_TOO_LATE = 4
"""Beats between two looks at which whoever looks was stopped itself; at two, all is well."""


def pause(lease: float) -> float:
    """Seconds between two signs of life."""
    return max(lease, _SHORTEST_LEASE) / BEATS


def begin(home: Home, lease: float) -> Callable[[], None]:
    """Give signs of life from the running loop, for as long as it runs. Call what it returns when the part is up."""
    loop = asyncio.get_running_loop()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    word = f"{os.getpid()}?"

    def give_sign() -> None:
        with contextlib.suppress(OSError):  # nobody listens, or is suspended and has enough of them
            sender.sendto(word.encode(), str(home.pulse_socket))

    def beat() -> None:
        give_sign()
        loop.call_later(pause(lease), beat)

    def came_up() -> None:
        nonlocal word
        word = str(os.getpid())
        give_sign()

    beat()
    return came_up


def understood(sign: bytes) -> tuple[int, bool] | None:
    """Whose sign of life that is, and whether it has come up; None for anything else."""
    pid, mark, rest = sign.partition(b"?")
    return (int(pid), not mark) if pid.isdigit() and not rest else None


class Watch:
    """When it was heard of others last, on the monotonic clock, and who has been silent for a lease.

    Whoever watches may be stopped itself, alone or with the whole machine. So a look that comes far too late condemns
    nobody: the time since the last one is not counted.
    """

    def __init__(self, lease: float, now: float) -> None:
        self._lease = max(lease, _SHORTEST_LEASE)
        self._looked = now
        self._heard: dict[int, float] = {}
        self._unborn: dict[int, float] = {}
        """Since when the first sign of life is waited for."""

    def hear(self, pid: int, now: float) -> None:
        self._heard[pid] = now
        self._unborn.pop(pid, None)

    def expect(self, pid: int, now: float) -> None:
        """It is there, and should be heard of; once is enough, and more does not matter."""
        if pid not in self._heard:
            self._unborn.setdefault(pid, now)

    def patience(self, pid: int) -> float:
        """Seconds for which this one may be silent."""
        return max(self._lease, BIRTH) if pid in self._unborn else self._lease

    def silent(self, now: float, among: Container[int]) -> list[int]:
        """Those of these that were heard or expected, and are silent for too long; all others are forgotten."""
        away = now - self._looked
        self._looked = now
        late = away if away > _FAR_TOO_LATE * self._lease / BEATS else 0
        self._heard = {pid: heard + late for pid, heard in self._heard.items() if pid in among}
        self._unborn = {pid: since + late for pid, since in self._unborn.items() if pid in among}
        known = {**self._heard, **self._unborn}
        return [pid for pid, since in known.items() if now - since > self.patience(pid)]
