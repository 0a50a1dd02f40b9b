"""Signs of life: what tells a part that hangs from one that has nothing to do.

A part sends its pid in a datagram to the supervisor's socket, a few times in every lease, from its own event loop; so
a loop that stands still is noticed, and a part that merely computes elsewhere is not. A datagram needs no connection
that could be lost, and a part that was started alone, without a supervisor, sends into the void.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Container

from tarmac.home import Home

BEATS = 6
"""Signs of life in a lease."""

_SHORTEST_LEASE = 1.0

_FAR_TOO_LATE = 4
"""Beats between two looks at which whoever looks was stopped itself; at two, all is well."""


def pause(lease: float) -> float:
    """Seconds between two signs of life."""
    return max(lease, _SHORTEST_LEASE) / BEATS


def begin(home: Home, lease: float) -> None:
    """Give signs of life from the running loop, for as long as it runs. The first says that this part has come up."""
    loop = asyncio.get_running_loop()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    word = str(os.getpid()).encode()

    def beat() -> None:
        with contextlib.suppress(OSError):  # nobody listens, or is suspended and has enough of them
            sender.sendto(word, str(home.pulse_socket))
        loop.call_later(pause(lease), beat)

    beat()


class Watch:
    """When it was heard of others last, on the monotonic clock, and who has been silent for a lease.

    Whoever watches may be stopped itself, alone or with the whole machine. So a look that comes far too late condemns
    nobody: the time since the last one is not counted.
    """

    def __init__(self, lease: float, now: float) -> None:
        self._lease = max(lease, _SHORTEST_LEASE)
        self._looked = now
        self._heard: dict[int, float] = {}

    def hear(self, pid: int, now: float) -> None:
        self._heard[pid] = now

    def silent(self, now: float, among: Container[int]) -> list[int]:
        """Those of these that were heard once, and not within a lease; all others are forgotten."""
        away = now - self._looked
        self._looked = now
        late = away if away > _FAR_TOO_LATE * self._lease / BEATS else 0
        self._heard = {pid: heard + late for pid, heard in self._heard.items() if pid in among}
        return [pid for pid, heard in self._heard.items() if now - heard > self._lease]
