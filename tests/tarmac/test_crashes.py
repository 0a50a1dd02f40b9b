"""The control plane is killed at every moment of a busy life, and whatever it had acknowledged comes out as it must.

    start some runs ── a few turns of the loop ── crash ── (workers die too, now and then) ── up ── and so on

The moments are counted in turns of the event loop that the control plane, the stand-ins for its workers and the test
share, so that a crash falls between any two of its steps: before a change is handed to the writer's thread, before
that commits it, after that and before anybody was told. `House.crash` says what is lost. The `Ledger` keeps what
clients were told and what really ran; nothing in it is taken from the control plane's own books.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flyte import wire
from flyte.errors import RunNotFoundError
from flyte.wire import ActionPhase
from tests.tarmac.fake_agent import Act, FakeWorker
from tests.tarmac.house import House, Loses, eventually, open_house

CRASHES = 1500 if os.environ.get("TARMAC_SLOW") else 200
TURNS = 250
"""Turns of the loop between two crashes, at most; a run of the smaller kind is over within some fifty."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


Attempt = tuple[str, str, int]
"""Run, action, number."""


@dataclass
class Ledger:
    """What really ran, and what clients were told."""

    how: dict[Attempt, str] = field(default_factory=dict)
    """Each attempt's function that was called → `runs`, `returned`, `raised`, `ended` (before its time), `lost`: its
    worker was, and what it came to may not be known."""
    who: dict[Attempt, str] = field(default_factory=dict)
    """The worker."""
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each action's function raised, whether or not anybody heard of it."""
    wrong: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    """Runs whose start was acknowledged."""
    aborted: set[str] = field(default_factory=set)
    """Runs of which a client was told that they are aborted."""

    def begin(self, act: Act, unit: str, stopped: list[wire.StopUnit]) -> Attempt:
        """`stopped` are the orders by which workers were ended."""
        a = act.assign
        this = (a.run, a.action, a.attempt)
        if this in self.how:
            self.wrong.append(f"{this} was called twice")
        for number in range(1, a.attempt):
            before = (a.run, a.action, number)
            how, who = self.how.get(before, "lost"), self.who.get(before)
            if how not in ("raised", "lost"):
                why = [order.reason for order in stopped if order.unit == who]
                if not any(reason.startswith(_TAKEN_BACK) for reason in why):
                    self.wrong.append(f"{this} is called, and attempt {number} {how} {why}")
        self.how[this], self.who[this] = "runs", unit
        return this

    def lost(self, worker: FakeWorker) -> None:
        """What it held is over, and the control plane may not know how it ended."""
        for held in worker.held.values():
            self.how[held.run, held.action, held.attempt] = "lost"


_TAKEN_BACK = ("aborted", "its parent ended")
"""Why a process is ended at once when its action is aborted. If the crash takes back the abort (which then nobody was
told of) the action is tried again."""


class Life:
    """A house, its clients, and what they do and see."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.ledger = Ledger()
        self.chance = random.Random(seed)
        self.wanted: dict[str, str] = {}
        """Run → task, of every run that somebody wants."""
        self.to_abort: set[str] = set()
        self._clients: set[asyncio.Task[None]] = set()
        house.behave = self.behave

    # ------------------------------------------------------------------ workers

    async def behave(self, act: Act) -> Any:
        unit = self.house.worker_of(act).order.unit
        key = self.ledger.begin(act, unit, self.house.agent.stopped)
        try:
            value = await self._function(act)
        except ValueError:
            self.ledger.how[key] = "raised"
            self.ledger.failures[key[:2]] += 1
            raise
        except asyncio.CancelledError:
            if self.ledger.how[key] == "runs":
                self.ledger.how[key] = "ended"
            raise
        self.ledger.how[key] = "returned"
        return value

    async def _function(self, act: Act) -> Any:
        x = act.inputs["x"]
        for _ in range(x % 7):
            await asyncio.sleep(0)
        match act.assign.task:
            case "env.flaky":
                if self.ledger.failures[act.assign.run, act.assign.action] < 2:
                    raise ValueError("not yet")
            case "env.tree" if x >= 10:
                called = [act.call("env.tree", x=x - 10), act.call("env.add", x=x), act.call("env.flaky", x=x)]
                return sum(_value(result) for result in await asyncio.gather(*called)) + 1
            case "env.tree":
                return 1
        return x + 1

    # ------------------------------------------------------------------ clients

    def want(self, number: int) -> None:
        task = self.chance.choice(["add", "tree", "tree", "flaky", "reused", "reused_again"])
        name = f"r{number}"
        self.wanted[name] = task
        if self.chance.random() < 0.2:
            self.to_abort.add(name)
        self._ask(name)

    def x(self, name: str) -> int:
        return int(name[1:]) % 30

    def _ask(self, name: str) -> None:
        client = asyncio.create_task(self._client(name))
        self._clients.add(client)
        client.add_done_callback(self._answered)

    def _answered(self, client: asyncio.Task[None]) -> None:
        self._clients.discard(client)
        if not client.cancelled() and (error := client.exception()) is not None:
            self.ledger.wrong.append(f"a client was told {error!r}")

    async def _client(self, name: str) -> None:
        """Start the run, or find it; wait for its end, or end it."""
        await self.house.run(self.wanted[name], name=name, x=self.x(name))
        if name not in self.ledger.acknowledged:
            self.ledger.acknowledged.append(name)
        if name in self.to_abort:
            for _ in range(self.chance.randrange(60)):
                await asyncio.sleep(0)
            done = await self.house.control.runs.abort(name, "enough", "owner")
        else:
            done = await self.house.control.runs.wait(name, 60)
        self._told(done)

    def _told(self, run: wire.Run) -> None:
        """The run is over, as it will be for ever."""
        if run.phase is ActionPhase.ABORTED:
            self.ledger.aborted.add(run.name)
        self.check(run)
        del self.wanted[run.name]

    def check(self, run: wire.Run) -> None:
        if run.phase is ActionPhase.ABORTED:
            if run.name not in self.to_abort:
                self.ledger.wrong.append(f"{run.name} is aborted, and nobody asked for it")
            return
        task = run.task.removeprefix("env.")
        expected = _tree(self.x(run.name)) if task == "tree" else self.x(run.name) + 1
        if run.phase is not ActionPhase.SUCCEEDED or json.loads(bytes(run.outputs or b"")) != [expected]:
            self.ledger.wrong.append(
                f"{run.name} ({task}) is {run.phase}: {run.error or bytes(run.outputs or b'')!r}, not {expected}"
            )

    # ------------------------------------------------------------------ crashes

    async def crash(self) -> None:
        """The control plane dies, and at times its workers; then it is back, and clients ask again."""
        cut_off = list(self._clients)
        for client in cut_off:
            client.cancel()
        await self.house.crash(self.chance.choice(["gathered", "handed over"]))
        await asyncio.gather(*cut_off, return_exceptions=True)
        workers = list(self.house.agent.workers.values())
        for worker in self.chance.choice([[], [], self.chance.sample(workers, len(workers) // 3), workers]):
            self.ledger.lost(worker)
            self.house.agent.lose(worker)
        await self.house.up()
        for name in self.ledger.acknowledged[-40:]:
            await self.is_there(name)
        for name in list(self.wanted):
            self._ask(name)

    async def is_there(self, name: str) -> None:
        """Still what a client was told of it."""
        try:
            run = await self.house.control.runs.get(name)
        except RunNotFoundError:
            self.ledger.wrong.append(f"{name} was acknowledged and is not there")
            return
        if name not in self.wanted and not run.phase.is_terminal:
            self.ledger.wrong.append(f"{name} was over, and is {run.phase}")
        if name in self.ledger.aborted and run.phase is not ActionPhase.ABORTED:
            self.ledger.wrong.append(f"{name} was aborted, and is {run.phase}")

    async def until_over(self, seconds: float = 60) -> None:
        """Until every run that is wanted is over."""
        if self._clients:
            _, left = await asyncio.wait(self._clients, timeout=seconds)
            assert not left, f"{self.wanted} are not over; {self.ledger.wrong}\n{self._state()}"

    def _state(self) -> str:
        """Of what is not over: who has it, and what that one says."""
        live = self.house.control.runs.live.values()
        lines = [
            f"{each.id} {each.row.task} {each.phase} {each.attempt}, with {each.worker and each.worker.unit}, "
            f"waits for {each.waiting}, timers {list(each.timers)}"
            for run in live
            for each in run.actions.values()
        ]
        held = {unit: list(worker.held.values()) for unit, worker in self.house.agent.workers.items()}
        return "\n".join((*lines, f"{held=}", f"{self.house.agent.failures=}"))


def _value(result: wire.CallResult) -> int:
    assert result.outputs is not None, result
    assert result.outputs.inline is not None
    value: int = json.loads(result.outputs.inline)[0]
    return value


def _tree(x: int) -> int:
    return 1 if x < 10 else _tree(x - 10) + (x + 1) + (x + 1) + 1


def _numbers(house: House) -> list[int]:
    with contextlib.closing(sqlite3.connect(house.home.database)) as connection:
        return [seq for (seq,) in connection.execute("select seq from events order by seq")]


async def test_whatever_moment_it_is_killed_at_no_run_is_lost_doubled_or_changed(house: House) -> None:
    house.environ |= {"TARMAC_SLOTS": "6", "TARMAC_SPARE_WORKERS": "2"}
    await house.restart()
    life = Life(house, seed=11)
    for number in range(CRASHES):
        for each in range(3):
            life.want(3 * number + each)
        for _ in range(life.chance.randrange(TURNS)):
            await asyncio.sleep(0)
        await life.crash()
        assert life.ledger.wrong == [], f"after {number + 1} crashes"
        if len(life.wanted) > 20:
            await life.until_over()
    await life.until_over()
    assert life.ledger.wrong == []
    assert sorted(life.ledger.acknowledged) == sorted(f"r{number}" for number in range(3 * CRASHES))
    await house.restart()
    for name in life.ledger.acknowledged:
        await life.is_there(name)
    assert life.ledger.wrong == []
    hows = list(life.ledger.how.values())
    assert {"returned", "raised", "lost"} <= set(hows), "it was a busy life"
    numbers = _numbers(house)
    assert numbers == list(range(1, len(numbers) + 1))


# --------------------------------------------------------------------------------------- what a crash takes, and leaves


async def test_what_was_not_committed_never_was_and_nobody_was_told(house: House) -> None:
    house.disk.hold()
    asking = asyncio.create_task(house.run("add", name="early"))
    assert await eventually(lambda: house.store._writer.thread.queue.empty() and bool(house.control.runs.live))
    assert not asking.done()
    assert house.agent.assigned == []
    asking.cancel()
    await house.crash("handed over")
    await house.up()
    with pytest.raises(RunNotFoundError):
        await house.control.runs.get("early")
    assert (await house.result("add", name="early")).phase is ActionPhase.SUCCEEDED
    numbers = _numbers(house)
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("loses", ["gathered", "handed over"])
async def test_a_result_whose_commit_was_lost_is_told_again_by_its_worker(house: House, loses: Loses) -> None:
    """Neither its parent nor whoever waits has heard of it, and it is not computed again."""
    called: list[str] = []
    told: list[str] = []

    async def behave(act: Act) -> Any:
        called.append(act.assign.task)
        if act.assign.task == "env.tree":
            result = await act.call("env.add", x=1)
            told.append(str(result.phase))
            return _value(result)
        house.disk.hold()
        return 7

    house.behave = behave
    run = await house.run("tree")
    assert await eventually(lambda: any(action.over for action in house.control.runs.live[run.name].actions.values()))
    assert told == []
    if loses == "gathered":  # what the thread has in hand by then is committed a moment before the end
        house.disk.go_on()
    await house.crash(loses)
    assert told == []
    await house.up()
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.attempt, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, 1, b"[7]")
    assert (called, told) == (["env.tree", "env.add"], ["succeeded"])


async def test_a_result_that_is_told_twice_is_acknowledged_when_it_is_on_disk(house: House) -> None:
    """A worker that makes another link tells again what it has; the first time may still be on its way to the disk."""
    called: list[int] = []

    async def behave(act: Act) -> Any:
        called.append(act.assign.attempt)
        house.disk.hold()
        return 7

    house.behave = behave
    run = await house.run("add")
    assert await eventually(lambda: bool(called) and house.control.runs.live[run.name].root.over)
    (worker,) = [each for each in house.agent.workers.values() if each.held]
    worker.cut()
    peer = house.control.dispatch.workers[worker.order.unit]
    assert await eventually(lambda: peer.link is not None)
    assert worker.link is not None
    worker.link.send(worker.kept[run.name, "a0"])
    assert not await eventually(lambda: not worker.kept, seconds=0.3), "it was acknowledged"
    await house.crash("handed over")
    await house.up()
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.attempt, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, 1, b"[7]")
    assert called == [1]


async def test_an_attempt_that_died_with_the_control_plane_is_not_called_twice(house: House) -> None:
    """That it had begun was not committed; only its worker had written it down, and is gone."""
    attempts: list[int] = []

    async def behave(act: Act) -> Any:
        attempts.append(act.assign.attempt)
        if act.assign.attempt == 1:
            await asyncio.Event().wait()
        return 1

    house.behave = behave
    run = await house.run("add")
    house.disk.hold()
    assert await eventually(lambda: attempts == [1])
    await house.crash("handed over")
    house.agent.lose(*list(house.agent.workers.values()))
    await house.up()
    assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED
    assert attempts == [1, 2]
