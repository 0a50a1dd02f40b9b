"""Heartbeats: they tell a part that hangs from a part that has nothing to do.

A part sends its pid in a datagram to the supervisor's socket, a few times in every lease, from its own event loop. So
the supervisor notices a loop that is blocked, and not a part that computes in another thread. A datagram needs no
connection that could be lost, and a part that was started alone, without a supervisor, may send it all the same.

A part that is alive need not be ready yet: a control plane may migrate a large database, or wait for the writer lock.
It sends `PID?` as soon as its loop runs, and `PID` once it is ready. So a part that hangs while it starts is noticed
too: it has `FIRST_LIMIT` seconds for its first heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Container

from tarmac.home import Home

PER_LEASE = 6
"""Heartbeats in a lease."""

FIRST_LIMIT = 60.0
"""Seconds that a process has for its first heartbeat, if the lease is not longer: its code may be on a slow disk."""

_SHORTEST_LEASE = 1.0

_FAR_TOO_LATE = 4
"""If two checks are more than this many heartbeats apart, the checker itself was suspended: nobody is condemned."""


def pause(lease: float) -> float:
    """Seconds between two heartbeats."""
    return max(lease, _SHORTEST_LEASE) / PER_LEASE


def begin(home: Home, lease: float) -> Callable[[], None]:
    """Send heartbeats from the running loop until it ends. Returns a function to call when the part is ready."""
    loop = asyncio.get_running_loop()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    word = f"{os.getpid()}?"

    def give_sign() -> None:
        with contextlib.suppress(OSError):  # no supervisor listens, or it is suspended and its queue is full
            sender.sendto(word.encode(), str(home.heartbeat_socket))

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
    """The pid of the sender and whether it is ready; None for a datagram that is not a heartbeat."""
    pid, mark, rest = sign.partition(b"?")
    return (int(pid), not mark) if pid.isdigit() and not rest else None


class Watch:
    """The time of each process's last heartbeat, on the monotonic clock, and which have been silent for a lease.

    The watching process may be suspended itself, alone or with the whole machine. So a check that comes far too late
    condemns nobody: the time since the check before is not counted.
    """

    def __init__(self, lease: float, now: float) -> None:
        self._lease = max(lease, _SHORTEST_LEASE)
        self._looked = now
        self._heard: dict[int, float] = {}
        self._awaited: dict[int, float] = {}
        """Process → when the wait for its first heartbeat began."""

    def hear(self, pid: int, now: float) -> None:
        self._heard[pid] = now
        self._awaited.pop(pid, None)

    def expect(self, pid: int, now: float) -> None:
        """The process runs and must send a heartbeat. Calling this again changes nothing."""
        if pid not in self._heard:
            self._awaited.setdefault(pid, now)

    def patience(self, pid: int) -> float:
        """Seconds for which this process may be silent."""
        return max(self._lease, FIRST_LIMIT) if pid in self._awaited else self._lease

    def silent(self, now: float, among: Container[int]) -> list[int]:
        """The processes in `among` that are silent for too long. Processes outside of `among` are forgotten."""
        away = now - self._looked
        self._looked = now
        late = away if away > _FAR_TOO_LATE * self._lease / PER_LEASE else 0
        self._heard = {pid: heard + late for pid, heard in self._heard.items() if pid in among}
        self._awaited = {pid: since + late for pid, since in self._awaited.items() if pid in among}
        known = {**self._heard, **self._awaited}
        return [pid for pid, since in known.items() if now - since > self.patience(pid)]
