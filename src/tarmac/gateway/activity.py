"""Which apps have no requests. HAProxy counts; its counters are read now and then, and nothing is done per request.

An app is *quiet* when its counters have not changed, with nothing open, for its `scaledown_after`. The clock starts at
the first reading that shows this, and starts again whenever something is uncertain: another HAProxy process, other
replicas, a held request. So an app may stay awake a little too long, and never goes to sleep too early.

The counters are read every tenth of the shortest `scaledown_after`, within `SHORTEST` and `LONGEST`. Reading them for a
thousand apps costs HAProxy some 4 ms. HAProxy workers that a reload replaced and that still have connections are read
too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flyte.wire import Quiet, Route
from tarmac.gateway import runtime_api
from tarmac.gateway.runtime_api import Traffic

SHORTEST, LONGEST = 1.0, 10.0
"""Seconds between two readings."""


@dataclass(frozen=True, slots=True)
class Look:
    """One reading: open requests and the counts of all requests, at one moment."""

    worker: int
    """The pid of the HAProxy process whose counters these are."""
    traffic: Mapping[int, Traffic]
    """Slot → counters; `open` includes what replaced workers have."""


@dataclass(frozen=True, slots=True)
class _Still:
    """An app's last counters, and since when they have not changed."""

    worker: int
    total: int
    replicas: frozenset[str]
    since: float


class Activity:
    """`clock` is monotonic, so that setting the machine's clock sends no app to sleep."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._still: dict[str, _Still] = {}
        self._looked = float("-inf")

    def touch(self, app: str) -> None:
        """Count the app as busy now."""
        self._still.pop(app, None)

    def forget(self) -> None:
        """Count all apps as busy now."""
        self._still.clear()

    def is_due(self, routes: Iterable[Route]) -> bool:
        """Whether it is time to read the counters; never, if no app with a replica may sleep."""
        limits = [route.scaledown_after for route in routes if route.replicas and route.scaledown_after is not None]
        return bool(limits) and self._clock() - self._looked >= min(max(min(limits) / 10, SHORTEST), LONGEST)

    def see(self, look: Look, routes: Iterable[Route]) -> list[Quiet]:
        """Take a reading into account. Returns the apps that have been quiet for long enough, at each reading again."""
        now = self._looked = self._clock()
        before, self._still = self._still, {}
        quiet = []
        for route in routes:
            traffic = look.traffic.get(route.port)
            if route.scaledown_after is None or not route.replicas or traffic is None or traffic.open:
                continue
            replicas = frozenset(replica.name for replica in route.replicas)
            still = _Still(look.worker, traffic.total, replicas, now)
            was = before.get(route.app)
            if was is not None and (was.worker, was.total, was.replicas) == (look.worker, traffic.total, replicas):
                still = was
                if now - was.since >= route.scaledown_after:
                    quiet.append(Quiet(app=route.app, replicas=sorted(replicas)))
            self._still[route.app] = still
        return quiet


async def look(runtime: Path, master: Path) -> Look:
    """Read HAProxy's counters. Raises HAProxyAway."""
    async with runtime_api.session(runtime) as session:
        info = await session.info()
        traffic = await session.traffic()
    for worker in await runtime_api.old_workers(master):
        for slot, old in (await runtime_api.old_traffic(master, worker)).items():
            if old.open and slot in traffic:
                traffic[slot] = Traffic(traffic[slot].open + old.open, traffic[slot].total)
    return Look(info.pid, traffic)
