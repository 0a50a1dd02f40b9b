"""Before a run's actions are given to processes, it is asked whether those have the code that is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flyte import wire
from flyte.wire import ActionPhase
from tarmac.control.workers.freshness import PATIENCE, REPLICA_PATIENCE, Freshness
from tests.tarmac.fake_agent import Act
from tests.tarmac.house import House, add_one, eventually, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


def change(house: House) -> None:
    """A file has changed, more than a second after anybody looked."""
    house.agent.change()
    for pool in house.control.dispatch.pools.values():
        pool.looked = 0


@pytest.mark.parametrize("name", ["add", "reused"])
async def test_idle_workers_with_old_code_are_ended_and_the_run_gets_another(house: House, name: str) -> None:
    used: list[str] = []

    async def behave(act: Act) -> Any:
        used.append(house.worker_of(act).order.unit)
        return await add_one(act)

    house.behave = behave
    await house.result(name)
    old = {order.unit for order in house.agent.started}
    change(house)
    await house.result(name)
    assert used[0] in old
    assert used[1] not in old
    assert await eventually(lambda: not old & house.agent.workers.keys())


async def test_a_busy_worker_with_old_code_finishes_what_it_has_and_gets_nothing_more(house: House) -> None:
    used: list[str] = []
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def behave(act: Act) -> Any:
        used.append(house.worker_of(act).order.unit)
        if act.inputs["x"] == 1:
            begun.set()
            await goes_on.wait()
        return await add_one(act)

    house.behave = behave
    first = await house.run("reused", x=1)
    await begun.wait()
    change(house)
    second = await house.run("reused", x=2)
    assert await eventually(lambda: house.control.dispatch.workers[used[0]].outdated)
    goes_on.set()
    for run in (first, second):
        assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED
    assert used[0] != used[1]
    assert len(house.agent.assigned) == 2


async def test_a_run_is_asked_about_once_in_each_pool_and_runs_in_a_row_once_a_second(house: House) -> None:
    async def behave(act: Act) -> Any:
        for x in range(act.inputs["x"]):
            await act.call("env.add", x=x)
        return 0

    house.behave = behave
    for _ in range(3):
        await house.result("tree", x=5)
        for pool in house.control.dispatch.pools.values():
            pool.looked += 60  # whatever the clock says
    assert len(house.agent.checks) == len(set(house.agent.checks)) > 0


async def until_asked(house: House) -> None:
    assert await eventually(lambda: bool(house.agent.checks))


async def test_an_agent_that_does_not_answer_keeps_no_run(house: House) -> None:
    house.agent.mute = True
    run = await house.run("add")
    await until_asked(house)
    assert house.agent.assigned == []
    house.clock.forward(2)
    assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED


async def test_an_agent_that_ends_while_it_is_asked_keeps_no_run_either(house: House) -> None:
    house.agent.mute = True
    run = await house.run("add")
    await until_asked(house)
    house.agent.die()
    assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED


async def test_a_run_that_is_aborted_while_it_is_asked_is_not_begun(house: House) -> None:
    house.agent.mute = True
    run = await house.run("add")
    await until_asked(house)
    await house.control.runs.abort(run.name, "not wanted", "owner")
    assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.ABORTED
    house.clock.forward(2)
    house.agent.mute = False
    assert (await house.result("add")).phase is ActionPhase.SUCCEEDED
    assert run.name not in {assign.run for assign in house.agent.assigned}


async def test_a_replica_waits_for_the_answer_longer_than_an_action_and_not_for_ever(house: House) -> None:
    """The process that is slow to answer, since it imports, is the one that has to start the replica."""
    freshness = Freshness(house.control.agent, 0)
    house.agent.mute = True
    asked = asyncio.create_task(freshness.found("some-pool"))
    answers: list[wire.PoolChecked] = []
    freshness.look("some-pool", answers.append)
    assert await eventually(lambda: house.agent.checks == ["some-pool"] * 2)
    house.clock.forward(PATIENCE)
    assert await eventually(lambda: bool(answers))
    assert not asked.done()
    house.clock.forward(REPLICA_PATIENCE)
    assert await asked == answers[0] == wire.PoolChecked(pool="some-pool")
