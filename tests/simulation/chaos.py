"""Many clients at once, every latency by chance, and failures at any step: the control plane is killed between any two
of its callbacks, links are cut and stalled, workers die and fall silent, the agent dies, the disk is full or slow for a
while, the clock is set. Then what the clients were told is judged (`checker`), and what is left must be in order.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from docs import specification as spec

from flyte import wire
from flyte.errors import BaseRuntimeError
from tarmac.control import Control
from tarmac.store import StoreUnavailable
from tests.simulation.checker import Asked, check
from tests.simulation.driver import PLACE, TASKS, task
from tests.simulation.loop import Stuck
from tests.simulation.world import Down, WallClock, World, digest, health, simulate
from tests.tarmac.fake_agent import Act, FakeWorker, Vanish

TREE = task("tree")
SHORT = [each for each in TASKS if each.name in ("env.add", "env.flaky", "env.slow")]
REUSED = msgspec.structs.replace(
    task("reused", environment="kept"),
    environment=wire.EnvironmentSpec(name="kept", kind="task", reuse=wire.ReuseSpec(max_replicas=1, concurrency=2)),
)
ONCE = task("once", cache=wire.CacheSpec(version="1", serialize=True), retries=wire.RetrySpec(count=1))
DEPLOYED = [TREE, REUSED, ONCE, *SHORT]

ONCE_TWICE = [ONCE.name] * 2
"""So that it is called as often as two others."""

ENDLESS = -7
"""The input of an action that does not end by itself."""

PARTING = 30.0
"""Seconds in which a child is aborted for which nobody waits any more."""

NAMES = [f"n{at}" for at in range(12)]


@dataclass
class Stream:
    """What a client that watches a run was told."""

    run: str
    snapshot: tuple[int, str] | None = None
    events: list[tuple[int, str]] = field(default_factory=list)
    is_over: bool = False
    is_none: bool = False


@dataclass
class Cached:
    """A run of the task `once` that a client started."""

    run: str
    x: int
    overwrites: bool
    at: float
    """When the client asked for it."""


@dataclass
class Result:
    """What became of a seed."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    """Of all events: the same seed gives the same."""
    story: list[tuple[float, str]] = field(default_factory=list)


class Chaos:
    def __init__(self, world: World, wall: WallClock, seed: str, seconds: float) -> None:
        self._world, self._wall, self._seconds = world, wall, seconds
        self._chance = random.Random(f"chaos {seed}")
        self.history: list[Asked] = []
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self._gave_up: set[tuple[str, str, int]] = set()
        """Attempts that went on for PARTING seconds after they had cancelled a call."""
        self._attempts: dict[tuple[str, str, int], str] = {}
        """Attempt whose function was called → runs, returned, raised, or lost: its worker was, or may have been."""
        self._units: dict[tuple[str, str, int], str] = {}
        self._raised: Counter[tuple[str, str]] = Counter()
        self._numbers = itertools.count(1000)
        """What `once` returns: never the same twice."""
        self._computing: dict[tuple[str, str, int], int] = {}
        """Attempts of `once` that were called, but for those that overwrite the cache → their inputs."""
        self._cached: list[Cached] = []
        self._streams: list[Stream] = []
        self._records: list[tuple[str, wire.Run]] = []
        """Kind of answer, and what it showed."""
        self._seen: list[str] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self._until = 0.0
        self._full_until = self._slow_until = 0.0
        self.digest = ""
        world.behave = self._behave
        world.disk.is_full = lambda: world.loop.now < self._full_until
        world.disk.slowness = lambda: 200 if world.loop.now < self._slow_until else 1

    # ------------------------------------------------------------------ workers

    async def _behave(self, act: Act) -> Any:
        order, chance = act.assign, self._chance
        which = (order.run, order.action, order.attempt)
        self._check_call(which)
        self._attempts[which], self._units[which] = "runs", act._worker.order.unit
        self._world.note(*which, "begins in", act._worker.order.unit)
        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01, 0.3]))
        if order.task == "env.flaky" and self._raised[which[:2]] < 2:
            self._raised[which[:2]] += 1
            self._attempts[which] = "raised"
            raise ValueError("not yet")
        if chance.random() < 0.03:
            self._lost(act._worker)
            raise Vanish
        x = act.inputs["x"]
        if x == ENDLESS:
            await asyncio.Event().wait()
        if order.task == "env.once":
            x = await self._compute(which, x)
        if order.task == "env.tree" and x > 0:
            names = ["env.tree", "env.add", "env.flaky", "env.once"]
            calls = [act.call(name, x=x - 1, sequence=at) for at, name in enumerate(names)]
            for result in await asyncio.gather(*calls):
                x += json.loads(result.outputs.inline or b"[0]")[0] if result.outputs else 0
            if chance.random() < 0.1:
                await self._give_up(act, which)
        self._attempts[which] = "returned"
        self._world.note(*which, "returns")
        return x + 1

    async def _give_up(self, act: Act, which: tuple[str, str, int]) -> None:
        """Cancel a call that would never end, and go on for longer than any failure lasts."""
        call = asyncio.ensure_future(act.call("env.add", x=ENDLESS, sequence=9))
        await asyncio.sleep(self._chance.choice([0, 0.001, 0.02, 0.3]))
        call.cancel()
        await asyncio.sleep(PARTING)
        self._gave_up.add(which)

    async def _compute(self, which: tuple[str, str, int], x: int) -> int:
        """Of equal calls that do not overwrite the cache, one computes at a time. Returns the result less one."""
        run = next((each for each in self._cached if each.run == which[0]), None)
        if run is None or not run.overwrites:
            for other, its_x in self._computing.items():
                if its_x == x and other[:2] != which[:2] and self._is_at_it(other) and not self._is_over(other):
                    self.wrong.append(f"{which} and {other} compute the same at the same time")
            self._computing[which] = x
        await asyncio.sleep(self._chance.choice([0.001, 0.05, 0.3]))
        if self._chance.random() < 0.2:
            self._attempts[which] = "raised"
            raise ValueError("not this time")
        return next(self._numbers)

    def _check_call(self, which: tuple[str, str, int]) -> None:
        """No attempt runs twice, and none runs while an earlier one may be at it or has finished."""
        if which in self._attempts:
            self.wrong.append(f"{which} is called twice")
        for number in range(1, which[2]):
            before = (*which[:2], number)
            if self._is_at_it(before, or_returned=True):
                self.wrong.append(f"{which} is called, and attempt {number} {self._attempts[before]}")

    def _is_over(self, which: tuple[str, str, int]) -> bool:
        """Whether the action has ended, though its worker may not have heard of that: it was aborted."""
        run, name, _ = which
        (phase,) = self._world.rows(f"select phase from actions where run = '{run}' and name = '{name}'")
        return phase[0] in spec.OVER

    def _is_at_it(self, which: tuple[str, str, int], or_returned: bool = False) -> bool:
        """Whether that attempt runs, and was not told to stop."""
        how = self._attempts.get(which, "lost")
        orders = [order for order in self._world.agent.stopped if order.unit == self._units.get(which)]
        ended = any(order.reason.startswith(("aborted", "its parent ended", "it ran longer")) for order in orders)
        return not ended and (how == "runs" or (or_returned and how == "returned"))

    def _lost(self, worker: FakeWorker) -> None:
        self._world.note(worker.order.unit, "is lost")
        for held in worker.held.values():
            self._attempts[held.run, held.action, held.attempt] = "lost"

    # ------------------------------------------------------------------ clients

    async def _ask(self, asked: Asked, make: Callable[[Control], Awaitable[Any]], read: Callable[[Any], None]) -> None:
        asked.at = self._world.loop.now
        self.history.append(asked)
        try:
            got = await self._world.call(make)
        except Down:
            self.counts["unanswered"] += 1
            return
        except BaseRuntimeError as error:
            name = type(error).__name__
            asked.till = self._world.loop.now
            asked.answer = "not found" if "NotFound" in name else "refused" if "Already" in name else name
            if asked.answer == name and name != "SystemUnavailableError":
                self.wrong.append(f"{asked.kind} of {asked.name} fails: {error!r}")
            return
        except Exception as error:  # noqa: BLE001 - the store's, when its disk is full; the API says 503 then
            self.counts[f"failed with {type(error).__name__}"] += 1
            if not self._world.failures:
                self.wrong.append(f"{asked.kind} of {asked.name} fails: {error!r}")
            return
        asked.till = self._world.loop.now
        read(got)

    def _shows(self, asked: Asked, run: wire.Run) -> None:
        asked.says.append((run.name, run.phase.value, run.attempt, asked.till or 0))
        self._records.append((asked.kind, run))

    def _answered(self, asked: Asked) -> Callable[[wire.Run], None]:
        def read(run: wire.Run) -> None:
            asked.answer = run.phase.value
            self._shows(asked, run)

        return read

    async def _client(self) -> None:
        chance = self._chance
        while self._world.loop.now < self._until:
            await asyncio.sleep(chance.expovariate(1 / 0.02))
            kinds = ["create", "get", "abort", "list", "actions", "stream", "wait", "abort_action"]
            kind = chance.choices(kinds, [10, 12, 3, 4, 4, 4, 2, 1])[0]
            self.counts[kind] += 1
            name = chance.choice(NAMES if chance.random() < 0.5 or not self._seen else self._seen[-8:])
            await getattr(self, f"_{kind}")(Asked(kind, name), name)

    async def _create(self, asked: Asked, _: str) -> None:
        chance = self._chance
        mark, number = chance.choice(["name", "key", "none"]), chance.randrange(12)
        asked.name = f"n{number}" if mark == "name" else None
        asked.key = f"k{number}" if mark == "key" else None
        names = ["env.add", "env.tree", "env.flaky"]
        name = names[number % 3] if mark != "none" else chance.choice([*names, "kept.reused", "env.slow", *ONCE_TWICE])
        x = chance.randrange(3) if name == ONCE.name else 2
        request = wire.RunRequest(
            task=name,
            name=asked.name,
            idempotency_key=asked.key,
            inputs=msgspec.Raw(json.dumps({"x": x}).encode()),
            overwrite_cache=name == ONCE.name and chance.random() < 0.1,
        )

        def read(got: tuple[wire.Run, bool]) -> None:
            asked.answer, asked.run = "created" if got[1] else "found", got[0].name
            self._shows(asked, got[0])
            if name == ONCE.name:
                self._cached.append(Cached(asked.run, x, request.overwrite_cache, asked.at))
            if asked.run not in self._seen:
                self._seen.append(asked.run)

        if asked.name and chance.random() < 0.3:
            self._begin(self._abort_soon(asked.name))
        await self._ask(asked, lambda control: control.runs.create(request, "owner"), read)

    async def _abort_soon(self, name: str) -> None:
        """An abort that meets a run which is being created."""
        await asyncio.sleep(self._chance.uniform(0, 0.015))
        await self._abort(Asked("abort", name), name)

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        job = asyncio.ensure_future(coroutine)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _get(self, asked: Asked, name: str) -> None:
        await self._ask(asked, lambda control: control.runs.get(name), self._answered(asked))

    async def _wait(self, asked: Asked, name: str) -> None:
        await self._ask(asked, lambda control: control.runs.wait(name, 0.2), self._answered(asked))

    async def _abort(self, asked: Asked, name: str) -> None:
        await self._ask(asked, lambda control: control.runs.abort(name, "", "owner"), self._answered(asked))

    async def _abort_action(self, asked: Asked, name: str) -> None:
        def read(action: wire.Action) -> None:
            asked.kind, asked.answer = "abort", action.phase.value
            asked.says.append((name, action.phase.value, action.attempt, asked.till or 0))

        await self._ask(asked, lambda control: control.actions.abort(name, "a0", "", "owner"), read)

    async def _list(self, asked: Asked, _: str) -> None:
        asked.name = None

        def read(runs: list[wire.Run]) -> None:
            asked.answer = "list"
            asked.names = frozenset(run.name for run in runs) if len(runs) < 1000 else None
            for run in runs:
                self._shows(asked, run)

        every = wire.RunFilter(limit=1000)
        await self._ask(asked, lambda control: control.runs.list(wire.Scope(*PLACE), every), read)

    async def _actions(self, asked: Asked, name: str) -> None:
        def read(actions: list[wire.Action]) -> None:
            asked.answer = "actions"
            roots = [action for action in actions if action.name == wire.ROOT_ACTION]
            asked.says += [(name, root.phase.value, root.attempt, asked.till or 0) for root in roots]

        await self._ask(asked, lambda control: control.actions.list(name, wire.ActionFilter(limit=1000)), read)

    async def _stream(self, asked: Asked, name: str) -> None:
        self._begin(self._watch(asked, name))

    async def _watch(self, asked: Asked, name: str) -> None:
        """A client that goes on where it was when its stream is cut off, as the SDK does."""
        asked.at = self._world.loop.now
        self.history.append(asked)
        stream = Stream(name)
        self._streams.append(stream)
        after: int | None = None

        async def follow(control: Control) -> bool:
            nonlocal after
            async for kind, seq, record in control.watching.run(name, after):
                phase = getattr(record.phase, "value", record.phase)
                if kind == "snapshot":
                    stream.snapshot = (seq, phase)
                else:
                    stream.events.append((seq, phase))
                after = seq
                asked.says.append((name, phase, record.attempt, self._world.loop.now))
            return True

        while not stream.is_over and self._world.loop.now < self._until + 400:
            try:
                stream.is_over = await self._world.call(follow)
            except Down:
                await asyncio.sleep(0.05)
            except BaseRuntimeError as error:
                stream.is_none = True
                if "NotFound" not in type(error).__name__:
                    self.wrong.append(f"the stream of {name} fails: {error!r}")
                return
            except Exception as error:  # noqa: BLE001 - the store's, as above
                if not self._world.failures:
                    self.wrong.append(f"the stream of {name} fails: {error!r}")
                await asyncio.sleep(0.05)

    # ------------------------------------------------------------------ failures

    async def _kill(self) -> None:
        """The control plane dies before some callback, again and again; another one is started a little later."""
        world, chance = self._world, self._chance
        while world.loop.now < self._until:
            left = iter(range(chance.randrange(1, 1500)))

            def burn(left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    world.crash()

            world.loop.on_step = burn
            await self._until_dead()
            world.loop.on_step = None
            if chance.random() < 0.15:
                self._lose_some()
            pause = chance.choice([0.001, 0.05, 0.5])
            if chance.random() < 0.5:
                world.let_the_last_batch_come_late(pause + chance.choice([0.03, 0.06, 0.2]))
            await asyncio.sleep(pause)
            if chance.random() < 0.25:
                self._lose_some()
            if chance.random() < 0.1:
                self._set_clock()
            await world.up()

    def _lose_some(self) -> None:
        """Workers end while no control plane is there; some of them before they read what had been sent to them."""
        workers = list(self._world.agent.workers.values())
        lost = self._chance.sample(workers, -(-len(workers) // 3))
        for worker in lost:
            self._lost(worker)
        self._world.agent.lose(*lost)

    async def _until_dead(self) -> None:
        await self._world.crashed.wait()

    async def _revive(self) -> None:
        """After the last kill: start it again whenever it ends by itself."""
        while True:
            await self._until_dead()
            await asyncio.sleep(0.2)
            await self._world.up()

    async def _hurt(self) -> None:
        """Everything but the control plane itself."""
        chance = self._chance
        while self._world.loop.now < self._until:
            await asyncio.sleep(chance.expovariate(1 / 0.15))
            kinds = ["cut", "stall", "freeze", "silent", "kill", "agent", "full", "slow", "clock"]
            kind = chance.choices(kinds, [6, 4, 1, 1, 3, 1, 2, 1, 1])[0]
            if self._world.listening:
                self.counts[f"{kind} (hurt)"] += 1
                self._world.note("hurt:", kind)
                getattr(self, f"_hurt_{kind}")()

    def _linked(self) -> list[FakeWorker]:
        gate = self._world.gate.open_wires()
        found = [each for each in self._world.agent.workers.values() if getattr(each.link, "wire", None) in gate]
        return sorted(found, key=lambda each: each.order.unit)

    def _hurt_cut(self) -> None:
        if linked := self._linked():
            self._chance.choice(linked).cut()

    def _hurt_stall(self) -> None:
        """What is sent over some link, or the other way, takes a second longer; the order stays."""
        if wires := self._world.gate.open_wires():
            self._chance.choice(wires).stall = self._world.loop.now + self._chance.uniform(0.05, 1)

    def _hurt_freeze(self) -> None:
        """The whole machine stands still."""
        self._world.loop.now += self._chance.uniform(0.05, 3)

    def _hurt_silent(self) -> None:
        if linked := self._linked():
            worker = self._chance.choice(linked)
            worker.deaf = True
            self._lost(worker)

    def _hurt_kill(self) -> None:
        if linked := self._linked():
            worker = self._chance.choice(linked)
            self._lost(worker)
            self._world.agent.exited(worker, signal=9)

    def _hurt_agent(self) -> None:
        agent = self._world.agent
        if getattr(agent.link, "wire", None) in self._world.gate.open_wires():
            for worker in agent.workers.values():
                self._lost(worker)
            agent.die()

    def _hurt_full(self) -> None:
        self._full_until = self._world.loop.now + self._chance.choice([0.02, 0.3, 1, 5.05, 5.15, 7])

    def _hurt_slow(self) -> None:
        """Each commit, and each answer of the reader, takes the better part of a second."""
        self._slow_until = self._world.loop.now + self._chance.choice([0.1, 0.5, 2])

    def _hurt_clock(self) -> None:
        self._set_clock()

    def _set_clock(self) -> None:
        self._wall.ahead += self._chance.choice([-3600, -5, 5, 3600, 86400])

    # ------------------------------------------------------------------ all of it

    async def live(self) -> None:
        world = self._world
        await world.up()
        request = wire.DeployRequest(version="v1", root="/", tasks=DEPLOYED)
        await world.call(lambda control: control.deployments.start(request, "owner"))
        self._until = world.loop.now + self._seconds
        await asyncio.gather(self._kill(), self._hurt(), *(self._client() for _ in range(6)))
        self._full_until = self._slow_until = 0
        reviving = asyncio.ensure_future(self._revive())
        await asyncio.sleep(300)
        reviving.cancel()
        self._check()

    def _check(self) -> None:
        """What must hold when all is over."""
        self.wrong += check(self.history) + health(self._world)
        rows = self._world.rows("select seq, stream, member, attempt, phase from events order by seq")
        events: dict[str, list[tuple[int, str]]] = defaultdict(list)
        moves: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        for seq, stream, member, attempt, phase in rows:
            if stream.startswith("run/"):
                moves[stream[4:], member].append((attempt, phase))
                if member == wire.ROOT_ACTION:
                    events[stream[4:]].append((seq, phase))
        for which, of_action in moves.items():
            self._check_moves(which, of_action)
        for each in self._streams:
            self._check_stream(each, events[each.run])
        for kind, run in self._records:
            told = [phase for seq, phase in events[run.name] if seq <= run.seq]
            if not told or told[-1] != run.phase.value:
                self.wrong.append(f"{kind} shows {run.name} as {run.phase} at {run.seq}; events: {events[run.name]}")
        self._check_cache()
        self._check_given_up()
        left = [row for row in self._world.rows("select run, name, phase from actions") if row[2] not in spec.OVER]
        if left:
            self.wrong.append(f"not over: {left[:5]}")
        self.wrong += [
            f"the control plane ended with {failure!r}"
            for failure in self._world.failures
            if not isinstance(failure, StoreUnavailable)
        ]
        if busy := self._world.control.dispatch.busy:
            self.wrong.append(f"{busy} slots are taken by nobody")
        self.counts["crashes"], self.counts["commits"] = self._world.crashes, self._world.commits
        self.counts["writes lost at a crash"] = self._world.lost_writes
        self.counts["operations"], self.counts["runs"] = len(self.history), len(events)
        self.counts["steps"], self.counts["attempts"] = self._world.loop.steps, len(self._attempts)
        self.digest = digest(self._world) + hashlib.sha256(repr(self.history).encode()).hexdigest()

    def _check_cache(self) -> None:
        """A result in the cache is what some equal call returned; and who asks after it was heard of gets one."""
        rows = self._world.rows(f"select run, name, inputs, outputs, cache from actions where task = '{ONCE.name}'")
        values = {(run, name): (bytes(inputs), outputs and bytes(outputs)) for run, name, inputs, outputs, _ in rows}
        for run, name, *_, cache in rows:
            use = msgspec.json.decode(bytes(cache or b"null"), type=wire.CacheUse | None)
            if use is not None and use.status == "hit":
                self.counts["results from the cache"] += 1
                if values[run, name] != values.get((use.run, use.action)):
                    self.wrong.append(f"{run}/{name} has {values[run, name]}, as {use.run}/{use.action} had")
        heard: dict[str, float] = {}
        for run, phase, _, at in (each for asked in self.history for each in asked.says):
            if phase == "succeeded":
                heard[run] = min(at, heard.get(run, at))
        known: dict[int, float] = {}
        for each in self._cached:
            if each.run in heard:
                known[each.x] = min(heard[each.run], known.get(each.x, heard[each.run]))
        for each in self._cached:
            computed = (each.run, wire.ROOT_ACTION, 1) in self._attempts
            if computed and not each.overwrites and each.at > known.get(each.x, each.at):
                self.wrong.append(f"{each.run} computes {each.x}, which was known at {known[each.x]:.6f}: {each}")

    def _check_given_up(self) -> None:
        """A child for which nobody waits any more ends soon, and not with its parent."""
        told = "aborted: env.tree ended before it"
        rows = self._world.rows(f"select run, name, parent from actions where message = '{told}'")
        for run, name, parent in rows:
            (inputs,) = self._world.rows(f"select inputs from actions where run = '{run}' and name = '{name}'")[0]
            attempts = [each for each in self._gave_up if each[:2] == (run, parent)]
            returned = any(self._attempts.get(each) == "returned" for each in attempts)
            if returned and json.loads(inputs) == {"x": ENDLESS}:
                self.wrong.append(f"{name} of {run} ran on after {parent} had cancelled its call")

    def _check_moves(self, which: tuple[str, str], moves: list[tuple[int, str]]) -> None:
        phase, attempt = "", 0
        for number, to in moves:
            if phase and to != phase and to not in spec.ACTION_MOVES.get(phase, ()):
                self.wrong.append(f"{which} goes from {phase} to {to}: {moves}")
            if number < attempt:
                self.wrong.append(f"{which} goes back to attempt {number}: {moves}")
            phase, attempt = to, number

    def _check_stream(self, stream: Stream, events: list[tuple[int, str]]) -> None:
        if stream.is_none or stream.snapshot is None:
            return
        want = [event for event in events if event[0] > stream.snapshot[0]]
        if stream.events != want or not stream.is_over:
            told = f"snapshot {stream.snapshot}, events {stream.events}, over: {stream.is_over}"
            self.wrong.append(f"the stream of {stream.run} told {told}; the table has {events}")


def chaos(seed: int, seconds: float = 4, *, story: bool = False) -> Result:
    """One seed's life."""
    result = Result()

    async def life(world: World, wall: WallClock) -> None:
        world.story = result.story if story else None
        chaos = Chaos(world, wall, str(seed), seconds)
        try:
            await chaos.live()
        finally:
            result.wrong, result.counts, result.digest = chaos.wrong, chaos.counts, chaos.digest

    try:
        simulate(str(seed), life, slots=4)
    except Stuck as stuck:
        result.wrong.append(f"Stuck: {stuck}")
    return result
