"""Which worker runs which action.

Actions queue in the *pool* of their environment; a pool's *workers* are processes that have imported its code. The
agent starts workers when this module asks for them, a little ahead of need; a ready worker is given an action the
moment one is queued and a *slot* is free. Slots bound how many actions compute at once on this machine; an action that
waits for its children gives its slot back, and in a pool of reused workers it does not count against the pool's size,
so that a tree deeper than the pool cannot lock up. A worker is fresh (one action, then it exits) or reused.

After a restart of the control plane workers and agent come back by themselves, and nothing is given out until they
have (`settling.py`), so that an action which still runs is found again and not started twice.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import itertools
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from flyte import wire
from flyte.wire import ActionPhase, ErrorInfo
from tarmac.auth import Identities
from tarmac.control.agents import GONE, Agent
from tarmac.control.live import LiveAction
from tarmac.control.runs.recovery import Recovery
from tarmac.control.workers.freshness import Freshness
from tarmac.control.workers.holdings import Holdings
from tarmac.control.workers.settling import Settling
from tarmac.control.workers.variables import Looked, imported_with
from tarmac.control.workers.workers import Pool, Stray, Worker, death, fatal, never_started
from tarmac.home import Home
from tarmac.links.server import Link
from tarmac.settings import Settings

log = logging.getLogger("tarmac.dispatch")

EXIT_NEWS = 2.0
"""Seconds in which the agent tells how a process ended whose link was lost."""

STARTS_AT_ONCE = 16
"""Fresh workers a pool may have on the way; a burst of forks would only compete for the cores."""

WORKER_IDENTITY = 365 * 24 * 3600.0
"""Seconds; a worker proves with it who it is whenever it connects again, however long its action takes."""

REPLACE_AFTER = 3
"""Workers in a row, each started after the one before had died, without one that ever connected."""

START_LIMIT = 330.0
"""Seconds a worker has to connect for the first time; importing its code may take 300 of them."""

FRESH = 1.0
"""Seconds before a run's beginning for which it counts that a pool has the code that is on disk."""

PASSING = 60.0
"""Seconds after which processes that imported the code with the variables of a run are ended, if none came again."""

STRAY_PATIENCE = 1.0
"""Seconds a returning worker has to hand in what it holds of an action that is not its own any more."""


_WAITING = (ActionPhase.QUEUED, ActionPhase.INITIALIZING)


class Lifecycle(Protocol):
    """What happens to actions is decided elsewhere (actions.py); this is what dispatch reports."""

    def began(self, action: LiveAction, worker: Worker) -> wire.Assign: ...
    def unfit(self, worker: Worker, frame: wire.AnyFrame, problem: str) -> None: ...
    def initializing(self, action: LiveAction, message: str) -> None: ...
    def failed(self, action: LiveAction, error: ErrorInfo, *, counted: bool = True) -> None: ...
    def fault(self, action: LiveAction, error: Exception) -> None: ...
    def give_up(self, action: LiveAction, message: str) -> None: ...
    def from_worker(self, worker: Worker, frame: wire.AnyFrame) -> None: ...
    def keep_log(self, action: LiveAction, unit: str) -> None: ...
    def on_disk(self, then: Callable[[], None]) -> None: ...


class Dispatch:
    def __init__(
        self,
        agent: Agent,
        settings: Settings,
        identities: Identities,
        lifecycle: Lifecycle,
        recovery: Recovery,
        addresses: Callable[[str, str], dict[str, str]],
        home: Home,
        freshness: Freshness,
    ) -> None:
        self.agent = agent
        self._freshness = freshness
        freshness.on_units = self._outdated
        self.lifecycle = lifecycle
        self.recovery = recovery
        self.slots = settings.worker_slots()
        self.busy = 0
        self.pools: dict[str, Pool] = {}
        self.workers: dict[str, Worker] = {}
        self._settings = settings
        self._identities = identities
        self._addresses = addresses
        self._home = home
        self._holdings = Holdings(home.holdings)
        self._loop = asyncio.get_running_loop()
        self._settling = Settling(self, self._holdings, settings.lease)
        self._looked = Looked()
        self._turn = itertools.count()
        self.tidy_every = min(10.0, settings.lease / 6)
        """Seconds between two calls of `tidy`."""
        self._tidied = self._loop.time()
        agent.on_return.append(self._agent_returned)
        agent.on_stranger_exited = self._settling.ended
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
        if worker.pool.reuse and worker.has_room and worker not in worker.pool.idle:
            worker.pool.idle.append(worker)
        if worker.outdated and worker.pool.reuse:
            self._end_outdated(worker)
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
            self._cut_off(worker, action.run.name, action.name, action.attempt, reason, self._settings.grace)
        else:
            self.lifecycle.keep_log(action, worker.unit)
            self._stop(worker, self._settings.grace, reason)
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
        if self._settling.goes_on:
            return
        while pool.queue and self.busy < self.slots and pool.idle:
            action = pool.queue.popleft()
            if action.phase in _WAITING and action.worker is None:
                self._give(pool.idle[-1], action)
        if pool.queue and pool.queue[0].over:
            pool.queue = deque(action for action in pool.queue if not action.over)
        self._stock(pool)

    def _give(self, worker: Worker, action: LiveAction) -> None:
        try:
            self._assign(worker, action)
        except Exception as error:  # noqa: BLE001 - `fault` logs it
            self.lifecycle.fault(action, error)

    def _assign(self, worker: Worker, action: LiveAction) -> None:
        worker.has(action)
        self.busy += 1
        if not worker.has_room or worker.pool.reuse is None:
            worker.pool.idle.remove(worker)
        worker.send(self.lifecycle.began(action, worker))

    def _stock(self, pool: Pool) -> None:
        """Ask for as many workers as will be needed soon."""
        if not pool.known:
            return
        wanted = self._missing(pool)
        if pool.spec.id in self.agent.suspects:  # the agent died when it was started last
            alone = pool.starting == 0 and self.agent.suspects.may_start(pool.spec.id)
            wanted = min(wanted, 1) if alone else 0
        for _ in range(wanted):
            if not self._start(pool):
                return
            self.agent.suspects.begin(pool.spec.id)

    def _missing(self, pool: Pool) -> int:
        ready = len(pool.idle) + pool.starting
        if pool.reuse is None:
            quiet = self._loop.time() - pool.used
            if not pool.queue and (not pool.proven or quiet > self._settings.pool_idle):
                return 0  # nothing is kept ready of what does not start, or is not used
            soon = min(len(pool.queue), max(0, self.slots - self.busy))
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
        worker = Worker(unit, pool, self, self._holdings.take(), born=self._loop.time(), token=token)
        order = wire.StartUnit(
            unit=unit,
            kind="worker",
            pool=pool.spec,
            reuse=pool.reuse is not None,
            concurrency=pool.concurrency,
            env=self._unit_environment(worker),
        )
        if not self.agent.start(order, worker):
            self._holdings.give_back(worker.place)
            return False
        self._expect(worker)
        return True

    def _expect(self, worker: Worker) -> None:
        """One more worker, which has yet to connect."""
        self.workers[worker.unit] = worker
        worker.pool.workers.add(worker)
        worker.pool.starting += 1

    def _unit_environment(self, worker: Worker) -> dict[str, str]:
        return {
            "FLYTE_UNIT": worker.unit,
            "FLYTE_POOL": worker.pool.key,
            "FLYTE_OUTPUT": str(self._home.worker_log(worker.unit)),
            "FLYTE_HELD": self._holdings.variable(worker.place),
            "FLYTE_API_KEY": worker.token,
            "FLYTE_LINK_TOKEN": worker.token,
            **self._addresses(worker.pool.project, worker.pool.domain),
        }

    def is_known(self, hello: wire.Hello) -> bool:
        """Whether this is a worker that was started here, by the token it was given."""
        worker = self.workers.get(hello.name)
        return worker is not None and bool(worker.token) and hmac.compare_digest(worker.token, hello.token)

    # ------------------------------------------------------------------ workers come and go

    def connected(self, link: Link, hello: wire.Hello) -> Worker:
        """A worker's Hello. Raises PermissionError for one that nobody wants any more."""
        worker = self.workers.get(hello.name)
        if worker is None:
            if not hello.pool or not self._settling.goes_on:
                raise PermissionError(f"no work for {hello.name}")
            worker = self._adopt(hello.name, self._pool_of(hello), hello.place)
        worker.link = link
        worker.spent = hello.spent
        if not worker.met:
            worker.met = True
            worker.pool.starting -= 1
            self._clear(worker.pool)
        worker.pid = hello.pid
        worker.pool.proven = True
        worker.pool.failures = 0
        link.send(wire.Welcome(epoch=0))
        self._compare(worker, hello.held)
        if worker.has_room and worker not in worker.pool.idle:
            worker.pool.idle.append(worker)
        self._settling.came_back(hello.name)
        self.pump(worker.pool)
        return worker

    def _pool_of(self, hello: wire.Hello) -> Pool:
        """The pool of a worker that an earlier control plane started; it may be that nobody has asked for it yet."""
        pool = self.pools.get(hello.pool)
        if pool is None:
            spec = wire.PoolSpec(id=hello.pool.partition("-")[0], name=hello.pool, python="", root="")
            reuse = wire.ReuseSpec(concurrency=hello.concurrency) if hello.reuse else None
            pool = Pool(hello.pool, spec, "", "", reuse, used=self._loop.time(), known=False)
            self.pools[hello.pool] = pool
        return pool

    def _adopt(self, unit: str, pool: Pool, place: int | None) -> Worker:
        if place is None:
            place = self._holdings.take()
        else:
            self._holdings.claim(place)
        worker = Worker(unit, pool, self, place, born=self._loop.time())
        self._expect(worker)
        self.agent.adopt(unit, worker)
        return worker

    def keep(self, place: int, holding: wire.Holding) -> Worker | None:
        """A worker that has not come back owns what it wrote down; None where nothing of that is its own any more."""
        worker: Worker | None = None
        for held in holding.held:
            pool = self.recovery.pool_of(held)
            if pool is None:
                continue
            if worker is None:
                worker = self._adopt(holding.unit, pool, place)
                worker.met = True
                pool.starting -= 1
            self._take_back(worker, held)
        return worker

    def _compare(self, worker: Worker, held: Sequence[wire.Held]) -> None:
        """What the worker says it has in hand, with what we think it has."""
        in_hand = {(each.run, each.action, each.attempt) for each in held}
        for action in list(worker.actions.values()):
            if (action.run.name, action.name, action.attempt) not in in_hand:
                self.release(action)
                lost = ErrorInfo(code="WorkerLostError", message="the order to run it was lost", kind="system")
                self.lifecycle.failed(action, lost, counted=False)
        for each in held:
            self._take_back(worker, each)

    def _take_back(self, worker: Worker, held: wire.Held) -> None:
        """The worker still has an action in hand: it is that worker's again, or nobody's."""
        action = self.recovery.held(worker, held)
        if action is None:
            reason = "it is not this worker's any more"
            self._cut_off(worker, held.run, held.action, held.attempt, reason, STRAY_PATIENCE)
        elif action.worker is not worker:
            worker.has(action)
            self.busy += 1

    def _cut_off(self, worker: Worker, run: str, action: str, attempt: int, reason: str, patience: float) -> None:
        """Have the worker cancel what is not its own any more; until it has, it is given nothing."""
        stray = (run, action, attempt)
        worker.strays.add(stray)
        if worker in worker.pool.idle:
            worker.pool.idle.remove(worker)
        worker.send(wire.AbortAction(run=run, action=action, attempt=attempt, reason=reason))
        self._loop.call_later(patience, self._end_stray, worker, stray)

    def stray_over(self, worker: Worker, stray: Stray) -> None:
        """The worker is done with it."""
        worker.strays.discard(stray)
        if worker.pool.reuse and worker.has_room and worker not in worker.pool.idle:
            worker.pool.idle.append(worker)
            self.pump(worker.pool)

    def _end_stray(self, worker: Worker, stray: Stray) -> None:
        """It is still at it, and does not listen: the process is ended as soon as no others run in it."""
        if stray not in worker.strays or worker.unit not in self.workers:
            return
        if worker.actions:
            self._loop.call_later(STRAY_PATIENCE, self._end_stray, worker, stray)
        else:
            self._stop(worker, 0, "it ran what is not its own any more")

    def link_lost(self, worker: Worker) -> None:
        worker.link = None
        if worker in worker.pool.idle:
            worker.pool.idle.remove(worker)
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
        self.worker_exited(worker, wire.UnitExited(unit=worker.unit, reason=reason), counted=True)

    def worker_exited(self, worker: Worker, exit: wire.UnitExited, counted: bool = False) -> None:
        """The process is gone: what it ran has failed, and why is told from how it ended.

        That it ended with the agent or its zygote is no fault of the action, and not `counted` as one.
        """
        if self.workers.pop(worker.unit, None) is None:
            return
        pool = worker.pool
        pool.workers.discard(worker)
        pool.starting -= 0 if worker.met else 1
        if worker in pool.idle:
            pool.idle.remove(worker)
        own = exit.code is not None or exit.signal is not None
        if own and not worker.met and not worker.stopping and worker.born > pool.failed_at:
            pool.failures += 1
            pool.failed_at = self._loop.time()
        worker.stopping = True  # nothing is given to it while what it had is taken away
        for action in list(worker.actions.values()):
            self.lifecycle.keep_log(action, worker.unit)
            self.release(action)
            self._failed(action, death(exit), counted or own)
        self.lifecycle.on_disk(lambda: self._holdings.give_back(worker.place))
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

    def _stop(self, worker: Worker, grace: float, reason: str) -> None:
        worker.stopping = True
        if worker in worker.pool.idle:
            worker.pool.idle.remove(worker)
        self.agent.stop(worker.unit, grace, reason)

    def _outdated(self, units: Sequence[str]) -> None:
        """What these units have imported has changed: they are given nothing more, and end when they have nothing."""
        for worker in filter(None, map(self.workers.get, units)):
            if not worker.outdated:
                worker.outdated = True
                if worker in worker.pool.idle:
                    worker.pool.idle.remove(worker)
                self._end_outdated(worker)

    def _end_outdated(self, worker: Worker) -> None:
        if not worker.actions and not worker.stopping and not worker.spent:
            self._stop(worker, self._settings.grace, "what it has imported has changed")

    # ------------------------------------------------------------------ pools

    def pool(self, spec: wire.PoolSpec, project: str, domain: str, reuse: wire.ReuseSpec | None) -> Pool:
        """The pool for `spec`, made when it is not there."""
        key = spec.id if reuse is None else f"{spec.id}-r{reuse.max_replicas}x{reuse.concurrency}"
        return self._kept(Pool(key, spec, project, domain, reuse, used=self._loop.time()))

    def apart(self, pool: Pool, variables: Mapping[str, str]) -> Pool:
        """The pool for actions of a run that sets `variables`.

        Where the import of the code looked at one of them, it is imported anew with them. Otherwise: a process has one
        set of them. Where it has one action at a time they come and go with the action; what runs with other actions
        shares a process with those that get the same.
        """
        if not variables:
            return pool
        digest = hashlib.sha256(json.dumps(variables, sort_keys=True).encode()).hexdigest()[:12]
        key, now = f"{pool.key}-i{digest}", self._loop.time()
        if key in self.pools or self._looked.meets(pool.spec.id, variables):
            spec = imported_with(pool.spec, variables, digest)
            own = Pool(key, spec, pool.project, pool.domain, pool.reuse, used=now, code=pool.spec.id)
            return self._kept(own)
        if pool.concurrency == 1:
            return pool
        key = f"{pool.key}-e{digest}"
        return self._kept(Pool(key, pool.spec, pool.project, pool.domain, pool.reuse, used=now, proven=pool.proven))

    def _kept(self, wanted: Pool) -> Pool:
        """The pool of that key that is there; else this one, from now on."""
        pool = self.pools.setdefault(wanted.key, wanted)
        if not pool.known:
            pool.spec, pool.project, pool.domain, pool.reuse = wanted.spec, wanted.project, wanted.domain, wanted.reuse
            pool.known = True
        return pool

    def _pool_ready(self, frame: wire.PoolReady) -> None:
        for pool in self._of_spec(frame.pool):
            pool.proven = True
            self._looked.heard(pool.code or pool.spec.id, frame.variables)
        if not frame.forks:
            log.warning("pool %s is not forked: %s", frame.pool, frame.message)

    def _pool_failed(self, frame: wire.PoolFailed) -> None:
        for pool in self._of_spec(frame.pool):
            self._give_up(pool, frame.error)

    def _of_spec(self, spec_id: str) -> list[Pool]:
        return [pool for pool in self.pools.values() if pool.spec.id == spec_id]

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
                self._retire(pool)
            if quiet > longest and not pool.workers and not pool.queue:
                del self.pools[key]
        self.agent.keep_pools(sorted({pool.spec.id for pool in self.pools.values()} | set(others)))

    def _check_life(self, worker: Worker, now: float) -> None:
        """A worker that is silent is asked for a sign of life, and lost when it goes on being silent."""
        link, lease = worker.link, self._settings.lease
        if link is None:
            if not worker.met and now - worker.born > START_LIMIT:
                self.lose(worker, f"its process did not start within {START_LIMIT:g} s")
        elif link.asked is not None and now - link.asked > lease * 3 / 4:
            self.lose(worker, f"its process sent no heartbeat for {now - link.heard:.0f} s")
        elif now - link.heard > lease / 4:
            link.ping()

    def _retire(self, pool: Pool) -> None:
        for worker in list(pool.workers):
            if not worker.actions and not worker.stopping:
                self._stop(worker, self._settings.grace, "it is not needed any more")

    # ------------------------------------------------------------------ the agent's return

    def _agent_returned(self, units: Sequence[wire.UnitState]) -> None:
        if self._settling.goes_on:
            self._settling.agent_returned(units)
            return
        for state in units:  # orders to stop may have been lost with the link
            worker = self.workers.get(state.unit)
            if state.kind == "worker" and (worker is None or worker.stopping):
                self.agent.stop(state.unit, 0, "it is not needed any more")
        self.pump_everything()

    def forget(self, action: LiveAction) -> None:
        """Take an action out of its queue."""
        if action.pool is not None:
            for waiting in (action.pool.queue, action.pool.looking):
                if action in waiting:
                    waiting.remove(action)

    def pump_everything(self) -> None:
        for pool in list(self.pools.values()):
            self.pump(pool)
