"""Which worker runs which action.

Actions queue in the *pool* of their environment; a pool's *workers* are processes that have imported its code. The
agent starts workers when this module asks for them, a little ahead of need; a ready worker is given an action the
moment one is queued and a *slot* is free. Slots bound how many actions compute at once on this machine; an action that
waits for its children gives its slot back, and in a pool of reused workers it does not count against the pool's size,
so that a tree deeper than the pool cannot lock up. A worker is fresh (one action, then it exits) or reused.

After a restart of the control plane workers and agent come back by themselves, and nothing is given out until they
have (`arrivals.py`), so that an action which still runs is found again and not started twice.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from flyte import wire
from flyte.wire import ActionPhase, ErrorInfo
from tarmac.auth import Identities
from tarmac.control.agents import GONE, Agent
from tarmac.control.live import LiveAction, Pool, Worker
from tarmac.control.ports import Lifecycle
from tarmac.control.workers.deaths import death, fatal, never_started
from tarmac.control.workers.freshness import Freshness
from tarmac.control.workers.pools import Pools
from tarmac.control.workers.strays import Strays
from tarmac.control.workers.supply import Supply
from tarmac.home import Home
from tarmac.links.server import Link
from tarmac.settings import Settings

log = logging.getLogger("tarmac.dispatch")

EXIT_NEWS = 2.0
"""Seconds in which the agent tells how a process ended whose link was lost."""

REPLACE_AFTER = 3
"""Workers in a row, each started after the one before had died, without one that ever connected."""

START_LIMIT = 330.0
"""Seconds a worker has to connect for the first time; importing its code may take 300 of them."""

FRESH = 1.0
"""Seconds before a run's beginning for which it counts that a pool has the code that is on disk."""

PASSING = 60.0
"""Seconds after which processes that imported the code with the variables of a run are ended, if none came again."""


_WAITING = (ActionPhase.QUEUED, ActionPhase.INITIALIZING)


class Dispatch:
    """Queues, slots and workers. Actions come from `lifecycle`, which is told what becomes of them."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        agent: Agent,
        settings: Settings,
        identities: Identities,
        addresses: Callable[[wire.Scope], dict[str, str]],
        home: Home,
        freshness: Freshness,
        pools: Pools,
    ) -> None:
        self.agent = agent
        self.lifecycle = lifecycle
        self.slots = settings.worker_slots()
        self.busy = 0
        self.pools = pools.all
        self.supply = Supply(agent, settings, identities, addresses, home, self)
        self.workers = self.supply.workers
        self.strays = Strays(self.supply, self.pump)
        self.is_open = False
        """Whether actions are given out: not before those workers have come back that were there before."""
        self._all_pools = pools
        self._freshness = freshness
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._turn = itertools.count()
        self.tidy_every = min(10.0, settings.lease / 6)
        """Seconds between two calls of `tidy`."""
        self._tidied = self._loop.time()
        freshness.on_units = self._outdated
        agent.on_pool_failed = self._pool_failed
        agent.on_pool_ready = self._pool_ready

    # ------------------------------------------------------------------ actions in and out

    def submit(self, action: LiveAction, pool: Pool) -> None:
        """Queue an action whose creation, or next attempt, is on disk."""
        action.pool = pool = self.pools.setdefault(pool.key, pool)
        pool.used = self._loop.time()
        if pool.looked < action.run.row.created - FRESH:
            self._look(pool, action)
        else:
            self._queue(action, pool)

    def _look(self, pool: Pool, action: LiveAction) -> None:
        """Queue the action when it is known that the pool's processes have the code that is on disk, or nearly."""
        pool.looking.append(action)
        if len(pool.looking) == 1:
            self._freshness.look(pool.spec.id, functools.partial(self._looked_at, pool, time.time()))

    def _looked_at(self, pool: Pool, asked: float, answer: wire.PoolChecked) -> None:
        if answer.outdated:
            log.info("%s is imported anew: %s", pool.spec.name, answer.outdated)
        pool.looked, waiting, pool.looking = asked, pool.looking, []
        for action in waiting:
            if not action.over and action.worker is None:
                self._queue(action, pool)

    def _queue(self, action: LiveAction, pool: Pool) -> None:
        pool.queue.append(action)
        self.pump(pool)
        near = len(pool.queue) <= self.slots
        if near and action.phase is ActionPhase.QUEUED and not pool.proven and action.is_root:
            self.lifecycle.initializing(action, f"starting a process for {pool.spec.name}")

    def release(self, action: LiveAction) -> None:
        """The action's attempt is over: its slot is free, and its worker if it is a reused one."""
        worker, action.worker = action.worker, None
        if worker is None:
            return
        worker.has_no_more(action)
        if not action.waiting:
            self.busy -= 1
        action.waiting = 0
        for key, child in action.calls.items():  # another worker will number its calls anew
            child.callers = [caller for caller in child.callers if caller != (action, key)]
        action.calls.clear()
        if worker.pool.reuse:
            worker.takes_more()
            if worker.outdated:
                self.supply.end_outdated(worker)
        self.pump_all()

    def waits(self, action: LiveAction) -> None:
        """The action made one more call; with the first it gives its slot back."""
        action.waiting += 1
        if action.waiting == 1:
            self.busy -= 1
            if action.worker is not None:
                action.worker.computes(-1)
            if action.run.limit is not None:
                action.run.limit.waits(action.name)
            self.pump_all()

    def goes_on(self, action: LiveAction) -> None:
        """A call was answered; after the last one the action computes again."""
        action.waiting -= 1
        if action.waiting == 0:
            self.busy += 1
            if action.worker is not None:
                action.worker.computes(1)
            if action.run.limit is not None:
                action.run.limit.goes_on(action.name)

    def end(self, action: LiveAction, reason: str) -> None:
        """Stop whatever runs the action: for good, and whether or not it listens."""
        worker = action.worker
        if worker is None:
            return
        if len(worker.actions) > 1:  # others run in the same process
            self.strays.cut_off(worker, action.ref, reason, self._settings.grace)
        else:
            self.lifecycle.keep_log(action, worker.unit)
            self.supply.stop(worker, self._settings.grace, reason)
        self.release(action)

    # ------------------------------------------------------------------ giving out

    def pump_all(self) -> None:
        """Give every queued action a ready worker while slots last; pools take turns."""
        pools = [pool for pool in self.pools.values() if pool.queue]
        if len(pools) > 1:
            first = next(self._turn) % len(pools)
            pools = pools[first:] + pools[:first]
        for pool in pools:
            self.pump(pool)

    def pump(self, pool: Pool) -> None:
        """Give its queued actions to its ready workers; an error in that fails what is queued, and no other pool."""
        try:
            self._pump(pool)
        except Exception as error:
            log.exception("pool %s (%s) cannot be given work", pool.key, pool.spec.name)
            waiting, pool.queue = list(pool.queue), deque()
            for action in waiting:
                self.lifecycle.fault(action, error)

    def _pump(self, pool: Pool) -> None:
        if not self.is_open:
            return
        while pool.queue and self.busy < self.slots and pool.idle:
            action = pool.queue.popleft()
            if action.phase in _WAITING and action.worker is None:
                self._give(pool.idle[-1], action)
        if pool.queue and pool.queue[0].over:
            pool.queue = deque(action for action in pool.queue if not action.over)
        self.supply.stock(pool, self.slots - self.busy)

    def _give(self, worker: Worker, action: LiveAction) -> None:
        try:
            self._assign(worker, action)
        except Exception as error:  # noqa: BLE001 - `fault` logs it
            self.lifecycle.fault(action, error)

    def takes_up(self, worker: Worker, action: LiveAction) -> None:
        """The action is this worker's, and computes in a slot."""
        worker.has(action)
        self.busy += 1

    def _assign(self, worker: Worker, action: LiveAction) -> None:
        self.takes_up(worker, action)
        if not worker.has_room or worker.pool.reuse is None:
            worker.pool.idle.remove(worker)
        worker.send(self.lifecycle.began(action, worker))

    # ------------------------------------------------------------------ workers come and go

    def returned(self, worker: Worker, link: Link, hello: wire.Hello) -> None:
        """The worker has connected, for the first time or again."""
        worker.link, worker.pid, worker.spent = link, hello.pid, hello.spent
        if not worker.met:
            worker.met = True
            worker.pool.starting -= 1
            self._clear(worker.pool)
        worker.pool.proven = True
        worker.pool.failures = 0

    def link_lost(self, worker: Worker, link: Link) -> None:
        if link is not worker.link:  # it has connected again
            return
        worker.link = None
        worker.takes_nothing()
        if worker.unit in self.workers:
            self.agent.ask()
            self._loop.call_later(EXIT_NEWS, self._presume_dead, worker)

    def _presume_dead(self, worker: Worker) -> None:
        if worker.link is not None or worker.unit not in self.workers:
            return
        if self.agent.has_answered:
            self.lose(worker, "its process stopped answering")
        else:  # it will say how the process ended, if it has
            self._loop.call_later(EXIT_NEWS, self._presume_dead, worker)

    def lose(self, worker: Worker, reason: str) -> None:
        self.agent.stop(worker.unit, 0, reason)
        self._exited(worker, wire.UnitExited(unit=worker.unit, reason=reason), counted=True)

    # the agent's news of a worker

    def unit_started(self, unit: str, pid: int) -> None:
        if (worker := self.workers.get(unit)) is not None:
            worker.pid = pid

    def unit_ready(self, unit: str, address: str) -> None:
        """Workers speak for themselves, with Hello."""

    def unit_waits(self, unit: str, message: str) -> None:
        """Nobody asks a worker whether it is ready."""

    def unit_exited(self, unit: str, exit: wire.UnitExited) -> None:
        if (worker := self.workers.get(unit)) is not None:
            self._exited(worker, exit)

    def _exited(self, worker: Worker, exit: wire.UnitExited, counted: bool = False) -> None:
        """The process is gone: what it ran has failed, and why is told from how it ended.

        That it ended with the agent or its fork server is not a fault of the action, and not `counted` as one.
        """
        if not self.supply.remove(worker):
            return
        pool = worker.pool
        own = exit.code is not None or exit.signal is not None
        if own and not worker.met and not worker.stopping and worker.born > pool.failed_at:
            pool.failures += 1
            pool.failed_at = self._loop.time()
        worker.stopping = True  # nothing is given to it while what it had is taken away
        for action in list(worker.actions.values()):
            self.lifecycle.keep_log(action, worker.unit)
            self.release(action)
            self._failed(action, death(exit), counted or own)
        self.lifecycle.on_disk(lambda: self.supply.in_flight.give_back(worker.place))
        if pool.failures >= REPLACE_AFTER:
            self._give_up(pool, ErrorInfo(code="WorkerLostError", message=never_started(pool, exit), kind="system"))
        if not worker.met:
            self._start_is_over(worker, exit)
        self.pump(pool)

    def _start_is_over(self, worker: Worker, exit: wire.UnitExited) -> None:
        """A worker has ended before it connected; if the agent did with it, that may be what the agent died of."""
        pool, suspects = worker.pool, self.agent.suspects
        key = pool.spec.id
        if exit.reason != GONE:
            suspects.ended(key)
        elif worker.born > pool.agent_died:
            pool.agent_died = self._loop.time()
            if suspects.died(key):
                suspects.forgive(key)
                waiting, pool.queue = list(pool.queue), deque()
                for action in waiting:
                    self.lifecycle.give_up(action, f"{fatal(pool)}; start the run again to try once more")
        if key in suspects:
            self._loop.call_soon(self.pump_everything)

    def _clear(self, pool: Pool) -> None:
        """It was started, and the agent lives."""
        if pool.spec.id in self.agent.suspects:
            self.agent.suspects.clear(pool.spec.id)
            self._loop.call_soon(self.pump_everything)

    def _outdated(self, units: Sequence[str]) -> None:
        """What these units have imported has changed: they are given nothing more, and end when they have nothing."""
        for worker in filter(None, map(self.workers.get, units)):
            if not worker.outdated:
                worker.outdated = True
                worker.takes_nothing()
                self.supply.end_outdated(worker)

    # ------------------------------------------------------------------ pools

    def _pool_ready(self, frame: wire.PoolReady) -> None:
        self._all_pools.imported(frame)
        if not frame.forks:
            log.warning("pool %s is not forked: %s", frame.pool, frame.message)

    def _pool_failed(self, frame: wire.PoolFailed) -> None:
        for pool in self._all_pools.of_spec(frame.pool):
            self._give_up(pool, frame.error)

    def _give_up(self, pool: Pool, error: ErrorInfo) -> None:
        """No worker of this pool can start: everything that waits for one fails with the reason."""
        waiting, pool.queue = list(pool.queue), deque()
        pool.failures, pool.proven = 0, False
        for action in waiting:
            if not action.over:
                self._failed(action, error, counted=True)

    def _failed(self, action: LiveAction, error: ErrorInfo, counted: bool) -> None:
        try:
            self.lifecycle.failed(action, error, counted=counted)
        except Exception as fault:  # noqa: BLE001 - `fault` logs it
            self.lifecycle.fault(action, fault)

    def tidy(self, others: Iterable[str] = ()) -> None:
        """Called now and then: lost workers, idle reused workers, pools that nobody uses.

        `others` are pools that somebody else, the apps, wants kept.
        """
        now = self._loop.time()
        if now - self._tidied > 2 * self.tidy_every:  # it was us who did not listen
            for worker in self.workers.values():
                if worker.link is not None:
                    worker.link.asked = None
        self._tidied = now
        for worker in list(self.workers.values()):
            self._check_life(worker, now)
        for key, pool in list(self.pools.items()):
            quiet = now - pool.used
            longest = min(PASSING, self._settings.pool_idle) if pool.passing else self._settings.pool_idle
            limit = pool.reuse.idle_ttl if pool.reuse else longest
            if quiet > limit and not pool.queue and not any(worker.actions for worker in pool.workers):
                self.supply.retire(pool)
            if quiet > longest and not pool.workers and not pool.queue:
                del self.pools[key]
        self.agent.keep_pools(sorted({pool.spec.id for pool in self.pools.values()} | set(others)))

    def _check_life(self, worker: Worker, now: float) -> None:
        """A worker that is silent is asked for a heartbeat, and lost when it goes on being silent."""
        link, lease = worker.link, self._settings.lease
        if link is None:
            if not worker.met and now - worker.born > START_LIMIT:
                self.lose(worker, f"its process did not start within {START_LIMIT:g} s")
        elif link.asked is not None and now - link.asked > lease * 3 / 4:
            self.lose(worker, f"its process sent no heartbeat for {now - link.heard:.0f} s")
        elif now - link.heard > lease / 4:
            link.ping()

    # ------------------------------------------------------------------ all queues

    def forget(self, action: LiveAction) -> None:
        """Take an action out of its queue."""
        if action.pool is not None:
            for waiting in (action.pool.queue, action.pool.looking):
                if action in waiting:
                    waiting.remove(action)

    def pump_everything(self) -> None:
        for pool in list(self.pools.values()):
            self.pump(pool)
