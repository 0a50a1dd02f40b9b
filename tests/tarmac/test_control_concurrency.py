"""`max_action_concurrency`: how many actions of one run are at work at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flyte.concurrency import ActionLimit
from flyte.errors import InvalidInputError
from flyte.wire import ActionPhase
from tests.tarmac.fake_agent import Act, Vanish
from tests.tarmac.house import House, eventually, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        house.environ["TARMAC_SLOTS"] = "16"
        await house.restart()
        yield house


class Fan:
    """A root that calls six children at once; they stay at work until the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.at_work: set[str] = set()
        self.most = 0

    async def __call__(self, act: Act) -> Any:
        if act.assign.task == "env.tree":
            results = await asyncio.gather(*(act.call("env.stubborn", x=x) for x in range(6)))
            assert {result.phase for result in results} == {ActionPhase.SUCCEEDED}
            return len(results)
        self.at_work.add(act.assign.action)
        self.most = max(self.most, len(self.at_work))
        try:
            await self.gate.wait()
            await self.work(act)
        finally:
            self.at_work.discard(act.assign.action)
        return act.inputs["x"]

    async def work(self, act: Act) -> None:
        """What a child does when the gate is open."""
        await asyncio.sleep(0)


def limit(house: House, run: str) -> ActionLimit:
    found = house.control.runs.live[run].limit
    assert found is not None
    return found


async def begun(house: House, fan: Fan, run: str) -> None:
    """All six were called: as many as may are at work, and the others wait."""
    most = limit(house, run).most
    assert await eventually(lambda: len(fan.at_work) == most and len(limit(house, run)._held) == 6 - most)


async def ended(house: House, fan: Fan, run: str) -> None:
    fan.gate.set()
    done = await house.control.runs.wait(run, 10)
    assert (done.phase, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[6]")


async def test_no_more_actions_of_a_run_are_at_work_than_it_says(house: House) -> None:
    house.behave = fan = Fan()
    run = await house.run("tree", max_action_concurrency=2)
    await begun(house, fan, run.name)
    await ended(house, fan, run.name)
    assert fan.most == 2


async def test_runs_are_limited_each_for_itself_and_zero_is_no_limit(house: House) -> None:
    house.behave = fan = Fan()
    runs = [await house.run("tree", max_action_concurrency=most) for most in (0, None, 3)]
    assert await eventually(lambda: len(fan.at_work) == 6)  # equal calls of several runs have equal names
    for run in runs:
        await ended(house, fan, run.name)


@pytest.mark.parametrize("loses", ["gathered", "handed over"])
async def test_the_limit_holds_after_a_restart(house: House, loses: Any) -> None:
    house.behave = fan = Fan()
    run = await house.run("tree", max_action_concurrency=2)
    await begun(house, fan, run.name)
    await house.crash(loses)
    await house.up()
    await begun(house, fan, run.name)
    await ended(house, fan, run.name)
    assert fan.most == 2


async def test_an_attempt_that_fails_gives_its_place_to_another(house: House) -> None:
    class Failing(Fan):
        failed: int = 0

        async def work(self, act: Act) -> None:
            if act.assign.attempt == 1:
                self.failed += 1
                raise (ValueError("once") if self.failed % 2 else Vanish)

    house.behave = fan = Failing()
    run = await house.run("tree", max_action_concurrency=2)
    await begun(house, fan, run.name)
    await ended(house, fan, run.name)
    assert (fan.most, fan.failed) == (2, 6)


async def test_no_depth_of_nesting_locks_up(house: House) -> None:
    async def chain(act: Act) -> Any:
        x = act.inputs["x"]
        return x if x > 8 else (await act.call("env.add", x=x + 1)).phase.value

    house.behave = chain
    done = await house.result("env.add", max_action_concurrency=2)
    assert done.phase is ActionPhase.SUCCEEDED


async def test_an_aborted_run_begins_nothing_more(house: House) -> None:
    house.behave = fan = Fan()
    run = await house.run("tree", max_action_concurrency=2)
    await begun(house, fan, run.name)
    assert (await house.control.runs.abort(run.name, "enough", "owner")).phase is ActionPhase.ABORTED
    actions = await house.control.actions.list(run.name)
    assert {action.phase for action in actions} == {ActionPhase.ABORTED}
    assert sum(action.started is not None for action in actions) == 3


@pytest.mark.parametrize("most", [1, -1, -(2**40)])
async def test_a_limit_that_makes_no_sense_is_refused(house: House, most: int) -> None:
    with pytest.raises(InvalidInputError, match=f"max_action_concurrency (is )?{most}"):
        await house.run("tree", max_action_concurrency=most)
