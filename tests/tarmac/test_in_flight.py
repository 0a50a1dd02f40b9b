"""What a worker held is known also when it died in the same moment as the control plane that had given it out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flyte import wire
from flyte.runtime.in_flight import InFlightSlot
from flyte.wire import SLOT_SIZE, ActionPhase, InFlight
from tarmac.control.workers import settling
from tarmac.control.workers.in_flight import InFlightFile
from tests.tarmac.fake_agent import Act, FakeWorker, Vanish
from tests.tarmac.house import House, eventually, open_house


def held(*actions: str, attempt: int = 1) -> list[InFlight]:
    return [InFlight(run="r", action=action, attempt=attempt) for action in actions]


def test_each_worker_has_a_place_and_the_next_control_plane_reads_them_all(tmp_path: Path) -> None:
    file = tmp_path / "holdings"
    first = InFlightFile(file)
    places = [first.take() for _ in range(3)]
    for unit, place in zip(("w-a", "w-b", "w-c"), places, strict=True):
        InFlightSlot(unit, first.variable(place)).write(held(unit))
    InFlightSlot("w-b", first.variable(places[1])).write(held("later"))
    left = InFlightFile(file).left
    assert {place: (found.unit, [one.action for one in found.held]) for place, found in left.items()} == {
        0: ("w-a", ["w-a"]),
        1: ("w-b", ["later"]),
        2: ("w-c", ["w-c"]),
    }


def test_a_place_from_before_is_free_only_when_it_was_given_back(tmp_path: Path) -> None:
    file = tmp_path / "holdings"
    InFlightSlot("w-a", f"{file}:1").write(held("a"))
    in_flight = InFlightFile(file)
    assert [in_flight.take(), in_flight.take()] == [2, 3]
    for _ in range(2):  # it may be said twice
        in_flight.give_back(1)
    assert [in_flight.take(), in_flight.take()] == [1, 4]


def test_of_more_than_there_is_room_for_the_newest_are_kept_and_nobody_elses_place_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "holdings"
    InFlightSlot("w-b", f"{file}:1").write(held("b"))
    InFlightSlot("w-a", f"{file}:0").write(held(*(f"action-{number}" for number in range(1000))))
    left = InFlightFile(file).left
    assert left[0].held[-1].action == "action-999"
    assert 100 < len(left[0].held) < 1000
    assert [one.action for one in left[1].held] == ["b"]


def test_a_place_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    file = tmp_path / "holdings"
    InFlightSlot("w-b", f"{file}:1").write(held("b"))
    with file.open("r+b") as opened:
        opened.write(b"{nonsense\n")
    assert list(InFlightFile(file).left) == [1]
    assert os.path.getsize(file) <= 2 * SLOT_SIZE


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def test_what_a_dead_worker_had_begun_is_a_new_attempt_and_what_nobody_began_is_not(house: House) -> None:
    """As the disk has it, both are queued: that one of them had begun was never written."""
    attempts: dict[str, int] = {}

    async def behave(act: Act) -> int:
        attempts[act.assign.run] = act.assign.attempt
        return 1

    house.behave = behave
    house.control.dispatch.is_open = False  # nothing is given out any more
    begun, waiting = await house.run("add"), await house.run("add")
    await house.down()
    InFlightSlot("w-dead", f"{house.home.in_flight}:40").write([InFlight(run=begun.name, action="a0", attempt=1)])
    await house.up()
    for run in (begun, waiting):
        assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED
    assert attempts == {begun.name: 2, waiting.name: 1}
    found = await house.control.actions.get(begun.name, "a0")
    assert [(one.number, one.phase) for one in found.attempts][-1] == (2, ActionPhase.SUCCEEDED)


async def test_what_a_living_worker_holds_stays_its_own(house: House) -> None:
    gate, opens = gated(house)
    run = await house.run("add")
    assert await eventually(lambda: len(gate) == 1)
    await house.restart()
    opens.set()
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.attempt, len(gate)) == (ActionPhase.SUCCEEDED, 1, 1)


def gated(house: House) -> tuple[list[Act], asyncio.Event]:
    """The actions that have begun, which go on until the event is set."""
    gate: list[Act] = []
    opens = asyncio.Event()

    async def behave(act: Act) -> int:
        gate.append(act)
        await opens.wait()
        return 1

    house.behave = behave
    return gate, opens


async def begun(house: House, task: str, **options: Any) -> tuple[wire.Run, FakeWorker, asyncio.Event]:
    """A run whose action goes on until the event is set, and its worker. That it began is not on disk yet, and will
    not be before `house.disk.go_on`."""
    gate, opens = gated(house)
    run = await house.run(task, **options)
    house.disk.hold()
    assert await eventually(lambda: len(gate) == 1)
    return run, house.worker_of(gate[0]), opens


async def crash(house: House, run: wire.Run) -> None:
    """The control plane dies before it wrote that the run's action was given out."""
    await house.crash("handed over")
    with contextlib.closing(sqlite3.connect(house.home.database)) as connection:
        ((phase,),) = connection.execute("select phase from actions where run = ?", (run.name,))
    assert phase in ("queued", "initializing"), "as the disk has it, nobody began"
    await house.up()


async def test_a_worker_that_is_too_busy_to_come_back_keeps_what_it_holds(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "SETTLE", 0.05)
    run, worker, opens = await begun(house, "add")
    house.disk.go_on()
    await house.down()
    await house.up(busy=[worker])
    assert await eventually(lambda: house.control.dispatch.is_open)
    opens.set()
    assert (await house.result("add")).phase is ActionPhase.SUCCEEDED  # others are served meanwhile
    assert (await house.control.runs.get(run.name)).phase is ActionPhase.RUNNING
    house.agent.run(worker.live())
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.attempt) == (ActionPhase.SUCCEEDED, 1)


async def test_a_worker_that_never_comes_back_is_lost_after_the_lease(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "SETTLE", 0.05)
    house.environ["TARMAC_LEASE"] = "1"
    run, worker, opens = await begun(house, "add")
    house.disk.go_on()
    await house.down()
    await house.up(busy=[worker])
    opens.set()
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.attempt) == (ActionPhase.SUCCEEDED, 2)
    attempts = (await house.control.actions.get(run.name, "a0")).attempts
    assert "sent no heartbeat for 1 s" in str(attempts[0].error)
    assert worker.order.unit in {order.unit for order in house.agent.stopped}


async def test_of_what_a_worker_held_all_along_the_time_in_the_queue_is_over(house: House) -> None:
    """That it runs was never written; its limit on waiting must not strike, and the one on running must."""
    run, _, _ = await begun(house, "hasty")
    await crash(house, run)
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.error and done.error.code) == (ActionPhase.TIMED_OUT, "MaxRuntimeExceededError")


async def test_one_failure_of_what_was_held_all_along_is_counted_once(house: House) -> None:
    """The pool has no other worker, so that what waits in its queue is not looked at until the action is over."""
    calls: list[int] = []
    opens = asyncio.Event()

    async def behave(act: Act) -> int:
        calls.append(act.assign.attempt)
        await opens.wait()
        if act.assign.attempt == 1:
            raise ValueError("the first time it fails")
        return 1

    house.behave = behave
    run = await house.run("reused_again")
    house.disk.hold()
    assert await eventually(lambda: calls == [1])
    await crash(house, run)
    assert await eventually(lambda: house.agent.welcomes > 1 and house.control.dispatch.is_open)
    opens.set()
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.attempt, calls) == (ActionPhase.SUCCEEDED, 2, [1, 2])


async def test_what_was_held_all_along_is_given_to_nobody_else_when_its_worker_dies(house: House) -> None:
    house.environ["TARMAC_SLOTS"] = "1"
    await house.restart()
    calls: list[int] = []
    dies = asyncio.Event()

    async def behave(act: Act) -> int:
        calls.append(act.assign.attempt)
        if act.assign.attempt == 1:
            await dies.wait()
            raise Vanish
        return 1

    house.behave = behave
    run = await house.run("add")
    house.disk.hold()
    assert await eventually(lambda: calls == [1])
    await crash(house, run)
    assert await eventually(lambda: house.control.dispatch.is_open and len(house.agent.workers) > 1)
    dies.set()
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.attempt, calls) == (ActionPhase.SUCCEEDED, 2, [1, 2])


async def test_no_two_living_workers_have_the_same_place(house: House) -> None:
    """One that has written nothing yet, or whose place shows who had it before, is not found in the file."""
    house.environ["TARMAC_SPARE_WORKERS"] = "3"
    await house.restart()
    assert (await house.result("add")).phase is ActionPhase.SUCCEEDED
    assert await eventually(lambda: len([w for w in house.agent.workers.values() if w.link]) == 3)
    house.environ["TARMAC_SPARE_WORKERS"] = "1"
    first = next(iter(house.agent.workers.values()))
    house.agent.exited(first, signal=9)  # its place is free, and others have theirs above it
    await house.restart()
    opens = asyncio.Event()

    async def behave(act: Act) -> int:
        await opens.wait()
        return 1

    house.behave = behave
    runs = [await house.run("add") for _ in range(3)]
    dispatch = house.control.dispatch
    assert await eventually(lambda: len([w for w in dispatch.workers.values() if w.met]) >= 3)
    told = [worker.order.env["FLYTE_HELD"] for worker in house.agent.workers.values()]
    assert len(set(told)) == len(told)
    opens.set()
    assert {(await house.control.runs.wait(run.name, 10)).phase for run in runs} == {ActionPhase.SUCCEEDED}


async def test_a_fresh_worker_that_had_its_action_is_given_nothing_after_a_restart(house: House) -> None:
    """It may still be closing its loop, and reads its link meanwhile."""
    house.environ["TARMAC_SPARE_WORKERS"] = "0"
    await house.restart()
    opens = asyncio.Event()
    calls: list[str] = []

    async def behave(act: Act) -> int:
        calls.append(house.worker_of(act).order.unit)
        await opens.wait()
        return 1

    house.behave = behave
    run = await house.run("add")
    assert await eventually(lambda: len(calls) == 1)
    worker = house.agent.workers[calls[0]]
    worker.lingers = True
    opens.set()
    assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED
    assert await eventually(lambda: not worker.held)
    await house.restart()
    assert await eventually(lambda: worker.order.unit in house.control.dispatch.workers)
    assert (await house.result("add")).phase is ActionPhase.SUCCEEDED
    assert calls[1] != calls[0]
