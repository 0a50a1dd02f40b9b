"""Workers that connect, for the first time or again: what they have in flight is compared with what is known here.

After a restart of the control plane a worker may come that only an earlier one knew. It is taken up, and what it has in
flight is its own again, unless that was given to somebody else or is over.
"""

from __future__ import annotations

from collections.abc import Sequence

from flyte import wire
from flyte.wire import AttemptRef, ErrorInfo
from tarmac.control.live import Worker
from tarmac.control.ports import Returning
from tarmac.control.workers.dispatch import Dispatch
from tarmac.control.workers.pools import Pools
from tarmac.control.workers.settling import Settling
from tarmac.control.workers.strays import PATIENCE
from tarmac.links.server import Link


class Arrivals:
    def __init__(self, dispatch: Dispatch, pools: Pools, recovery: Returning, lease: float) -> None:
        self._dispatch = dispatch
        self._supply = dispatch.supply
        self._pools = pools
        self._recovery = recovery
        self._settling = Settling(dispatch, recovery, lease, self._keep)
        dispatch.agent.on_return.append(self._agent_returned)
        dispatch.agent.on_stranger_exited = self._settling.ended

    def connected(self, link: Link, hello: wire.Hello) -> Worker:
        """A worker's Hello. Raises PermissionError for one that nobody wants any more."""
        worker = self._supply.workers.get(hello.name)
        if worker is None:
            if not hello.pool or self._dispatch.is_open:
                raise PermissionError(f"no work for {hello.name}")
            worker = self._supply.adopt(hello.name, self._pools.of_worker(hello), hello.place)
        self._dispatch.returned(worker, link, hello)
        link.send(wire.Welcome(epoch=0))
        self._compare(worker, hello.held)
        worker.takes_more()
        self._settling.came_back(hello.name)
        self._dispatch.pump(worker.pool)
        return worker

    def _compare(self, worker: Worker, held: Sequence[wire.InFlight]) -> None:
        """What the worker says it has in flight, with what we think it has."""
        in_flight = set(map(AttemptRef.of, held))
        for action in list(worker.actions.values()):
            if action.ref not in in_flight:
                self._dispatch.release(action)
                lost = ErrorInfo(code="WorkerLostError", message="the order to run it was lost", kind="system")
                self._dispatch.lifecycle.failed(action, lost, counted=False)
        for each in held:
            self._take_back(worker, each)

    def _take_back(self, worker: Worker, held: wire.InFlight) -> None:
        """The worker still has an action in flight: it is that worker's again, or nobody's."""
        action = self._recovery.held(worker, held)
        if action is None:
            self._dispatch.strays.cut_off(worker, AttemptRef.of(held), "it is not this worker's any more", PATIENCE)
        elif action.worker is not worker:
            self._dispatch.takes_up(worker, action)

    def _keep(self, place: int, holding: wire.InFlightRecord) -> Worker | None:
        """A worker that has not come back owns what it wrote down; None where nothing of that is its own any more."""
        worker: Worker | None = None
        for held in holding.held:
            pool = self._recovery.pool_of(held)
            if pool is None:
                continue
            if worker is None:
                worker = self._supply.adopt(holding.unit, pool, place)
                worker.met = True
                pool.starting -= 1
            self._take_back(worker, held)
        return worker

    def _agent_returned(self, units: Sequence[wire.UnitState]) -> None:
        if not self._dispatch.is_open:
            self._settling.agent_returned(units)
            return
        for state in units:  # orders to stop may have been lost with the link
            worker = self._supply.workers.get(state.unit)
            if state.kind == "worker" and (worker is None or worker.stopping):
                self._dispatch.agent.stop(state.unit, 0, "it is not needed any more")
        self._dispatch.pump_everything()
