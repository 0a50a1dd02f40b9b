"""What a worker held is known also when it died in the same moment as the control plane that had given it out."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyte.runtime.held import Hand
from flyte.wire import HELD_PLACE, ActionPhase, Held
from tarmac.control.holdings import Holdings
from tests.tarmac.fake_agent import Act
from tests.tarmac.house import House, eventually, open_house


def held(*actions: str, attempt: int = 1) -> list[Held]:
    return [Held(run="r", action=action, attempt=attempt) for action in actions]


def test_each_worker_has_a_place_and_the_next_control_plane_reads_them_all(tmp_path: Path) -> None:
    file = tmp_path / "holdings"
    first = Holdings(file)
    places = [first.take() for _ in range(3)]
    for unit, place in zip(("w-a", "w-b", "w-c"), places, strict=True):
        Hand(unit, first.variable(place)).holds(held(unit))
    Hand("w-b", first.variable(places[1])).holds(held("later"))
    left = Holdings(file).left
    assert {place: (found.unit, [one.action for one in found.held]) for place, found in left.items()} == {
        0: ("w-a", ["w-a"]),
        1: ("w-b", ["later"]),
        2: ("w-c", ["w-c"]),
    }


def test_a_place_from_before_is_free_only_when_it_was_given_back(tmp_path: Path) -> None:
    file = tmp_path / "holdings"
    Hand("w-a", f"{file}:1").holds(held("a"))
    holdings = Holdings(file)
    assert [holdings.take(), holdings.take()] == [2, 3]
    for _ in range(2):  # it may be said twice
        holdings.give_back(1)
    assert [holdings.take(), holdings.take()] == [1, 4]


def test_of_more_than_there_is_room_for_the_newest_are_kept_and_nobody_elses_place_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "holdings"
    Hand("w-b", f"{file}:1").holds(held("b"))
    Hand("w-a", f"{file}:0").holds(held(*(f"action-{number}" for number in range(1000))))
    left = Holdings(file).left
    assert left[0].held[-1].action == "action-999"
    assert 100 < len(left[0].held) < 1000
    assert [one.action for one in left[1].held] == ["b"]


def test_a_place_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    file = tmp_path / "holdings"
    Hand("w-b", f"{file}:1").holds(held("b"))
    with file.open("r+b") as opened:
        opened.write(b"{nonsense\n")
    assert list(Holdings(file).left) == [1]
    assert os.path.getsize(file) <= 2 * HELD_PLACE


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
    house.control.dispatch._settling = True  # nothing is given out any more
    begun, waiting = await house.run("add"), await house.run("add")
    await house.down()
    Hand("w-dead", f"{house.home.holdings}:40").holds([Held(run=begun.name, action="a0", attempt=1)])
    await house.up()
    for run in (begun, waiting):
        assert (await house.control.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED
    assert attempts == {begun.name: 2, waiting.name: 1}
    found = await house.control.action(begun.name, "a0")
    assert [(one.number, one.phase) for one in found.attempts][-1] == (2, ActionPhase.SUCCEEDED)


async def test_what_a_living_worker_holds_stays_its_own(house: House) -> None:
    gate: list[Act] = []

    async def behave(act: Act) -> int:
        gate.append(act)
        assert await eventually(lambda: len(gate) > 100 or bool(open_), 10)
        return 1

    open_: list[int] = []
    house.behave = behave
    run = await house.run("add")
    assert await eventually(lambda: len(gate) == 1)
    unit = next(iter(name for name, worker in house.agent.workers.items() if worker.held))
    Hand(unit, f"{house.home.holdings}:40").holds([Held(run=run.name, action="a0", attempt=1)])
    await house.restart()
    open_.append(1)
    done = await house.control.wait(run.name, 10)
    assert (done.phase, done.attempt, len(gate)) == (ActionPhase.SUCCEEDED, 1, 1)
