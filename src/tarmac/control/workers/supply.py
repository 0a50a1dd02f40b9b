"""The supply of workers: how many of a pool are started ahead of need, and which there are."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable

from flyte import wire
from tarmac.auth import Identities
from tarmac.control.agents import Agent, Owner
from tarmac.control.live import Pool, Worker
from tarmac.control.workers.in_flight import InFlightFile
from tarmac.home import Home
from tarmac.settings import Settings

STARTS_AT_ONCE = 16
"""Fresh workers a pool may have on the way; a burst of forks would only compete for the cores."""

WORKER_IDENTITY = 365 * 24 * 3600.0
"""Seconds; a worker proves with it who it is whenever it connects again, however long its action takes."""


class Supply:
    """The workers by unit, from the order to start one until it is gone. `owner` hears what the agent says of them."""

    def __init__(
        self,
        agent: Agent,
        settings: Settings,
        identities: Identities,
        addresses: Callable[[wire.Scope], dict[str, str]],
        home: Home,
        owner: Owner,
    ) -> None:
        self.workers: dict[str, Worker] = {}
        self.in_flight = InFlightFile(home.in_flight)
        self._agent = agent
        self._settings = settings
        self._identities = identities
        self._addresses = addresses
        self._home = home
        self._owner = owner
        self._loop = asyncio.get_running_loop()

    # ------------------------------------------------------------------ starting

    def stock(self, pool: Pool, free: int) -> None:
        """Ask for as many workers as will be needed soon; `free` slots wait for work."""
        if not pool.known:
            return
        wanted = self.missing(pool, free)
        if pool.spec.id in self._agent.suspects:  # the agent died when it was started last
            alone = pool.starting == 0 and self._agent.suspects.may_start(pool.spec.id)
            wanted = min(wanted, 1) if alone else 0
        for _ in range(wanted):
            if not self._start(pool):
                return
            self._agent.suspects.begin(pool.spec.id)

    def missing(self, pool: Pool, free: int) -> int:
        ready = len(pool.idle) + pool.starting
        if pool.reuse is None:
            quiet = self._loop.time() - pool.used
            if not pool.queue and (not pool.proven or quiet > self._settings.pool_idle):
                return 0  # nothing is kept ready of what does not start, or is not used
            soon = min(len(pool.queue), max(0, free))
            spare = 0 if pool.passing or pool.spec.fresh else self._settings.spare_workers
            return min(soon + spare - ready, STARTS_AT_ONCE - pool.starting)
        wanted = -(-len(pool.queue) // pool.concurrency)
        if wanted <= ready:
            return 0
        room = pool.reuse.max_replicas - (len(pool.workers) - pool.blocked)
        return min(wanted - ready, room)

    def _start(self, pool: Pool) -> bool:
        unit = f"w-{secrets.token_hex(8)}"
        token = self._identities.mint(unit, "workload", pool.project, pool.domain, WORKER_IDENTITY)
        worker = Worker(unit, pool, self.in_flight.take(), born=self._loop.time(), token=token)
        order = wire.StartUnit(
            unit=unit,
            kind="worker",
            pool=pool.spec,
            reuse=pool.reuse is not None,
            concurrency=pool.concurrency,
            env=self._unit_environment(worker),
        )
        if not self._agent.start(order, self._owner):
            self.in_flight.give_back(worker.place)
            return False
        self._expect(worker)
        return True

    def _unit_environment(self, worker: Worker) -> dict[str, str]:
        return {
            "FLYTE_UNIT": worker.unit,
            "FLYTE_POOL": worker.pool.key,
            "FLYTE_OUTPUT": str(self._home.worker_log(worker.unit)),
            "FLYTE_HELD": self.in_flight.variable(worker.place),
            "FLYTE_API_KEY": worker.token,
            "FLYTE_LINK_TOKEN": worker.token,
            **self._addresses(wire.Scope(worker.pool.project, worker.pool.domain)),
        }

    def _expect(self, worker: Worker) -> None:
        """One more worker, which has yet to connect."""
        self.workers[worker.unit] = worker
        worker.pool.workers.add(worker)
        worker.pool.starting += 1

    def adopt(self, unit: str, pool: Pool, place: int | None) -> Worker:
        """A worker that an earlier control plane started."""
        if place is None:
            place = self.in_flight.take()
        else:
            self.in_flight.claim(place)
        worker = Worker(unit, pool, place, born=self._loop.time())
        self._expect(worker)
        self._agent.adopt(unit, self._owner)
        return worker

    def is_known(self, hello: wire.Hello) -> bool:
        """Whether this is a worker that was started here, by the token it was given."""
        worker = self.workers.get(hello.name)
        return worker is not None and bool(worker.token) and hmac.compare_digest(worker.token, hello.token)

    # ------------------------------------------------------------------ ending

    def stop(self, worker: Worker, grace: float, reason: str) -> None:
        worker.stopping = True
        worker.takes_nothing()
        self._agent.stop(worker.unit, grace, reason)

    def end_outdated(self, worker: Worker) -> None:
        """End a worker whose code has changed, as soon as it has nothing more to do."""
        if not worker.actions and not worker.stopping and not worker.spent:
            self.stop(worker, self._settings.grace, "what it has imported has changed")

    def retire(self, pool: Pool) -> None:
        """End the pool's workers that have nothing to do."""
        for worker in list(pool.workers):
            if not worker.actions and not worker.stopping:
                self.stop(worker, self._settings.grace, "it is not needed any more")

    def remove(self, worker: Worker) -> bool:
        """The worker's process is gone; False where that was known."""
        if self.workers.pop(worker.unit, None) is None:
            return False
        worker.pool.workers.discard(worker)
        worker.pool.starting -= 0 if worker.met else 1
        worker.takes_nothing()
        return True
