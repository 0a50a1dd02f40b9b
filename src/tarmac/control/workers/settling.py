"""After a start of the control plane: nothing is given out until those who were there before have come back.

The agent says which workers are alive, and each of them connects by itself and says what it has in flight. That takes
some milliseconds; who is not back after SETTLE seconds will not come, with one exception. A worker that wrote down that
it holds something (`in_flight.py`) is at it: user code may keep the interpreter to itself for a while, and then nobody
in that process can connect. It stays the owner of what it holds, and has the lease to come back, as any worker has that
is silent.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence

from flyte import wire
from tarmac.control.live import Worker
from tarmac.control.ports import Returning
from tarmac.control.workers.dispatch import Dispatch

log = logging.getLogger("tarmac.dispatch")

SETTLE = 3.0
"""Seconds that workers known to the agent have to come back after a restart of the control plane."""


class Settling:
    """`keep`: what makes a silent worker the owner of what it wrote down."""

    def __init__(
        self,
        dispatch: Dispatch,
        recovery: Returning,
        lease: float,
        keep: Callable[[int, wire.InFlightRecord], Worker | None],
    ) -> None:
        self._dispatch = dispatch
        self._recovery = recovery
        self._in_flight = dispatch.supply.in_flight
        self._lease = lease
        self._keep_worker = keep
        self._loop = asyncio.get_running_loop()
        self._awaited: set[str] = set()

    def agent_returned(self, units: Sequence[wire.UnitState]) -> None:
        """These are alive; called while settling goes on, once by each agent that connects meanwhile."""
        known = self._dispatch.workers
        self._awaited = {state.unit for state in units if state.kind == "worker" and state.unit not in known}
        if self._awaited:
            self._loop.call_later(SETTLE, self.settle)
        else:
            self.settle()

    def came_back(self, unit: str) -> None:
        """A worker has connected, and what it holds is its own again."""
        self._awaited.discard(unit)
        if not self._dispatch.is_open and not self._awaited and self._dispatch.agent.present:
            self.settle()

    def ended(self, unit: str) -> None:
        """A worker has ended before it could come back."""
        if unit in self._awaited:
            self._awaited.discard(unit)
            if not self._awaited:
                self.settle()

    def settle(self) -> None:
        """End the recovery window: workers that have not reconnected are lost; start dispatching."""
        if self._dispatch.is_open:
            return
        self._dispatch.is_open = True
        for place, holding in self._in_flight.left.items():
            if holding.unit in self._awaited:
                self._keep(place, holding)
        for unit in self._awaited.difference(self._dispatch.workers):
            self._dispatch.agent.stop(unit, 0, "nobody knows it")
        self._awaited.clear()
        self._take_over()
        self._recovery.settled()
        self._dispatch.pump_everything()

    def _keep(self, place: int, holding: wire.InFlightRecord) -> None:
        """It is alive, silent, and at something that is still its own."""
        worker = self._keep_worker(place, holding)
        if worker is not None:
            log.info("%s is busy and has not come back yet", worker.unit)
            self._loop.call_later(self._lease, self._give_up, worker)

    def _give_up(self, worker: Worker) -> None:
        if worker.link is None and self._dispatch.workers.get(worker.unit) is worker:
            self._dispatch.lose(worker, f"its process sent no heartbeat for {self._lease:g} s")

    def _take_over(self) -> None:
        """What workers held that are gone now had begun, whether or not anybody had written that down."""
        taken = {worker.place for worker in self._dispatch.workers.values()}
        for place, holding in self._in_flight.left.items():
            if holding.unit not in self._dispatch.workers:
                self._recovery.lost(holding)
            if place not in taken:
                self._dispatch.lifecycle.on_disk(functools.partial(self._in_flight.give_back, place))
        self._in_flight.left.clear()
