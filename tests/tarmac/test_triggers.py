"""Triggers start the runs of their tasks when they are due, each time once, whatever is killed in between."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.errors import InvalidInputError, NotFoundError
from flyte.wire import InputSpec, InterfaceSpec, TriggerSpec
from tarmac.control.triggers import Triggers, run_name
from tarmac.store import Change, Delete, TriggerRow
from tests.tarmac.house import House, eventually, open_house, task

PLACE = ("flytesnacks", "development")
INPUTS = InterfaceSpec(
    inputs=[
        InputSpec(name="x", schema={"type": "integer"}, type="int"),
        InputSpec(name="at", schema={"type": "string", "format": "date-time"}, type="datetime", required=False),
    ]
)
START = dt.datetime(2026, 3, 1, 12, 0, 30, tzinfo=dt.UTC).timestamp()


def timed(*triggers: TriggerSpec, name: str = "timed") -> wire.TaskSpec:
    return msgspec.structs.replace(task(name), interface=INPUTS, triggers=list(triggers))


def each_minute(**changes: Any) -> TriggerSpec:
    values: dict[str, Any] = {"name": "each-minute", "cron": "* * * * *", "inputs": msgspec.Raw(b'{"x":1}')}
    return TriggerSpec(**{**values, "time_inputs": ["at"], **changes})


class Scheduled:
    """A house whose triggers look at a clock of the test's own."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.now = START
        self.version = 0

    @property
    def triggers(self) -> Triggers:
        self.house.control.triggers._now = lambda: self.now
        return self.house.control.triggers

    async def deploy(self, *tasks: wire.TaskSpec) -> None:
        self.version += 1
        request = wire.DeployRequest(version=f"t{self.version}", root="/", tasks=list(tasks))
        await self.house.control.deployments.start(request, "owner")
        assert await eventually(lambda: not self.house.control.deployments.is_under_way())
        await self.triggers.list(*PLACE)

    async def after(self, seconds: float) -> list[str]:
        """The runs that there are when the clock has gone on so far and the triggers have looked at it."""
        self.now += seconds
        await self.triggers.fire()
        found = await self.house.control.runs.list(wire.Scope(*PLACE), wire.RunFilter(limit=1000))
        return sorted(run.name for run in found)

    async def only(self) -> wire.Trigger:
        (trigger,) = await self.triggers.list(*PLACE)
        return trigger


@pytest.fixture
async def scheduled(tmp_path: Path) -> AsyncIterator[Scheduled]:
    async with open_house(tmp_path) as house:
        yield Scheduled(house)


def at(hour: int, minute: int) -> str:
    return dt.datetime(2026, 3, 1, hour, minute, tzinfo=dt.UTC).strftime("each-minute-%Y%m%dt%H%M00-")


async def test_a_deployed_trigger_starts_one_run_each_time_that_it_is_due(scheduled: Scheduled) -> None:
    await scheduled.deploy(timed(each_minute(labels={"team": "ops"}, env_vars={"A": "1"})))
    assert await scheduled.after(0) == []
    assert [name[:-8] for name in await scheduled.after(31)] == [at(12, 1)]
    assert [name[:-8] for name in await scheduled.after(29)] == [at(12, 1)]
    names = await scheduled.after(31)
    assert [name[:-8] for name in names] == [at(12, 1), at(12, 2)]
    run = await scheduled.house.control.runs.wait(names[0], 10)
    assert (run.phase.value, run.labels, run.version) == ("succeeded", {"trigger": "each-minute", "team": "ops"}, "t1")
    action = await scheduled.house.control.actions.get(run.name, "a0")
    assert json.loads(bytes(action.inputs or b"")) == {"x": 1, "at": "2026-03-01T12:01:00Z"}
    trigger = await scheduled.only()
    assert (trigger.run, trigger.message, trigger.active) == (names[1], "", True)
    assert trigger.next[0] - (trigger.fired or 0) == 60
    assert len(trigger.next) == 5


async def test_an_interval_is_counted_from_the_activation(scheduled: Scheduled) -> None:
    spec = TriggerSpec(name="often", every=10, inputs=msgspec.Raw(b'{"x":1}'))
    await scheduled.deploy(timed(spec))
    assert await scheduled.after(599) == []
    assert len(await scheduled.after(1)) == 1
    assert len(await scheduled.after(600)) == 2


async def test_a_restarted_control_plane_starts_no_run_twice(scheduled: Scheduled) -> None:
    await scheduled.deploy(timed(each_minute()))
    first = await scheduled.after(60)
    assert (await scheduled.house.control.runs.wait(first[0], 10)).phase.is_terminal
    await scheduled.house.restart()
    assert await scheduled.after(1) == first
    assert len(await scheduled.after(60)) == 2


async def test_a_control_plane_that_is_killed_between_the_run_and_its_note_finds_the_run(scheduled: Scheduled) -> None:
    house = scheduled.house
    await scheduled.deploy(timed(each_minute()))
    moment = START + 30
    request = wire.RunRequest(
        task="env.timed",
        version="t1",
        inputs=msgspec.Raw(b'{"x":1,"at":"2026-03-01T12:01:00Z"}'),
        name=run_name((*PLACE, "env.timed", "each-minute"), moment),
        labels={"trigger": "each-minute"},
    )
    run, _ = await house.control.runs.create(request, "trigger")
    await house.crash("handed over")
    await house.up()
    assert await scheduled.after(31) == [run.name]
    assert (await scheduled.only()).run == run.name


@pytest.mark.parametrize(("missed", "expected"), [("latest", 1), ("skip", 0), ("all", 100)])
async def test_what_was_due_while_the_platform_was_down_is_made_up_for_as_the_setting_says(
    tmp_path: Path, missed: str, expected: int
) -> None:
    async with open_house(tmp_path, TARMAC_MISSED=missed) as house:
        scheduled = Scheduled(house)
        await scheduled.deploy(timed(each_minute(cron="0 * * * *")))
        assert len(await scheduled.after(150 * 3600 + 600)) == expected
        assert len(await scheduled.after(3000)) == expected + 1


async def test_a_clock_that_is_set_back_neither_doubles_a_run_nor_stops_the_trigger(scheduled: Scheduled) -> None:
    await scheduled.deploy(timed(each_minute()))
    once = await scheduled.after(60)
    assert await scheduled.after(-86_400) == once
    assert await scheduled.after(86_400) == once
    assert len(await scheduled.after(60)) == 2


async def test_a_paused_trigger_starts_nothing_and_does_not_make_up_for_it(scheduled: Scheduled) -> None:
    await scheduled.deploy(timed(each_minute()))
    paused = await scheduled.triggers.switch(*PLACE, "env.timed", "each-minute", False, "ann")
    assert (paused.active, paused.next, paused.updated_by) == (False, [], "ann")
    assert await scheduled.after(600) == []
    await scheduled.house.restart()
    assert await scheduled.after(600) == []
    assert (await scheduled.triggers.switch(*PLACE, "env.timed", "each-minute", True, "ann")).active
    assert await scheduled.after(0) == []
    assert len(await scheduled.after(60)) == 1


async def test_a_new_version_says_anew_what_is_active_and_what_it_leaves_out_is_gone(scheduled: Scheduled) -> None:
    await scheduled.deploy(timed(each_minute(), each_minute(name="b")))
    await scheduled.triggers.switch(*PLACE, "env.timed", "each-minute", False, "ann")
    await scheduled.deploy(timed(each_minute()))
    trigger = await scheduled.only()
    assert (trigger.name, trigger.active, trigger.version, trigger.updated_by) == (
        "each-minute",
        True,
        "t2",
        "version t2",
    )
    await scheduled.deploy(timed())
    assert await scheduled.triggers.list(*PLACE) == []
    assert await scheduled.after(600) == []


async def test_a_version_with_the_same_trigger_goes_on_where_the_last_one_was(scheduled: Scheduled) -> None:
    spec = TriggerSpec(name="often", every=10, inputs=msgspec.Raw(b'{"x":1}'))
    await scheduled.deploy(timed(spec))
    await scheduled.after(500)
    await scheduled.deploy(timed(spec))
    (name,) = await scheduled.after(100)
    assert (await scheduled.house.control.runs.get(name)).version == "t2"


async def test_a_task_that_a_run_brought_along_is_not_started_by_its_triggers(scheduled: Scheduled) -> None:
    request = wire.DeployRequest(version="r1", root="/", tasks=[timed(each_minute())], moves_current=False)
    await scheduled.house.control.deployments.start(request, "owner")
    assert await scheduled.after(600) == []
    assert await scheduled.triggers.list(*PLACE) == []


async def test_a_trigger_that_cannot_start_a_run_says_why_and_goes_on(scheduled: Scheduled) -> None:
    await scheduled.deploy(timed())
    request = wire.TriggerRequest(task="env.timed", version="t1", trigger=each_minute())
    await scheduled.triggers.create(request, "ann")
    await scheduled.house.store.write(Change(deletes=(Delete("tasks", (*PLACE, "env.timed", "t1")),)))
    scheduled.house.control.tasks.forget([(*PLACE, "env.timed", "t1")])
    scheduled.house.control.tasks.changed()
    assert await scheduled.after(60) == []
    trigger = await scheduled.only()
    assert "no task named 'env.timed'" in trigger.message
    assert (trigger.run, trigger.fired) == ("", START + 30)


async def test_a_trigger_that_was_made_by_hand_is_replaced_and_deleted_by_hand(scheduled: Scheduled) -> None:
    await scheduled.deploy(timed(each_minute(name="declared")))
    by_hand = wire.TriggerRequest(task="timed", trigger=each_minute(name="mine", active=False))
    made = await scheduled.triggers.create(by_hand, "ann")
    assert (made.task, made.declared, made.active, made.updated_by) == ("env.timed", False, False, "ann")
    await scheduled.triggers.create(
        wire.TriggerRequest(task="env.timed", trigger=each_minute(name="mine", cron="@hourly")), "ben"
    )
    await scheduled.deploy(timed())
    await scheduled.house.restart()
    assert [(each.name, each.spec.cron) for each in await scheduled.triggers.list(*PLACE)] == [("mine", "@hourly")]
    await scheduled.triggers.delete(*PLACE, "env.timed", "mine", "ann")
    with pytest.raises(NotFoundError, match=r"no trigger 'mine' of env.timed in flytesnacks/development; it has no"):
        await scheduled.triggers.get(*PLACE, "env.timed", "mine")


async def test_a_trigger_that_stands_in_the_code_is_changed_there(scheduled: Scheduled) -> None:
    await scheduled.deploy(timed(each_minute()))
    with pytest.raises(InvalidInputError, match=r"stands in the code of env.timed"):
        await scheduled.triggers.delete(*PLACE, "env.timed", "each-minute", "ann")
    with pytest.raises(InvalidInputError, match=r"stands in the code of env.timed; change it there"):
        await scheduled.triggers.create(wire.TriggerRequest(task="env.timed", trigger=each_minute()), "ann")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (each_minute(cron="61 * * * *"), "'61 .* is not a cron table: Bad minute"),
        (each_minute(cron="* * * * * *", every=0), "is not a cron table"),
        (each_minute(cron="0 0 30 2 *"), "is not a cron table: Bad day-of-month|is never due"),
        (each_minute(timezone="Mars/Olympus"), "'Mars/Olympus' is not a time zone; write one as 'Europe/Berlin'"),
        (each_minute(timezone="../../etc/passwd"), "is not a time zone"),
        (each_minute(every=5), "has a cron table and an interval"),
        (each_minute(inputs=msgspec.Raw(b'{"y":1}')), "gives the input 'y', which the task does not have"),
        (each_minute(inputs=msgspec.Raw(b"[1]")), "its inputs are not a JSON object"),
        (each_minute(inputs=msgspec.Raw(b"{}")), "lacks the input 'x', which has no default"),
        (each_minute(time_inputs=["x"]), "gives 'x' a time; its type is int, not datetime"),
        (each_minute(inputs=msgspec.Raw(b'{"x":"' + b"1" * 70_000 + b'"}')), "the limit is 65,536 bytes"),
    ],
)
async def test_a_trigger_that_could_start_no_run_is_refused_by_its_name(
    scheduled: Scheduled, spec: TriggerSpec, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"trigger 'each-minute' of env.timed.*({words})"):
        await scheduled.deploy(timed(spec))
    await scheduled.deploy(timed())
    with pytest.raises(InvalidInputError, match=words):
        await scheduled.triggers.create(wire.TriggerRequest(task="env.timed", trigger=spec), "ann")
    assert await scheduled.triggers.list(*PLACE) == []


async def test_a_trigger_whose_time_zone_was_taken_away_keeps_no_other_from_its_time(scheduled: Scheduled) -> None:
    """An update of the machine may do that."""
    await scheduled.deploy(timed(each_minute()))
    gone = msgspec.json.encode(each_minute(name="gone", timezone="Mars/Olympus"))
    row = TriggerRow(*PLACE, "env.timed", "gone", gone, "", "", True, START)
    await scheduled.house.store.write(Change(triggers=(row,)))
    await scheduled.house.restart()
    assert [name[:-8] for name in await scheduled.after(31)] == [at(12, 1)]
    assert [each.next == [] for each in await scheduled.triggers.list(*PLACE)] == [False, True]
    assert 0 <= scheduled.triggers._pause() <= 60


async def test_two_triggers_of_a_task_with_one_name_are_refused(scheduled: Scheduled) -> None:
    with pytest.raises(InvalidInputError, match=r"env.timed has two triggers that are called 'each-minute'"):
        await scheduled.deploy(timed(each_minute(), each_minute()))


async def test_the_loop_wakes_by_itself_when_a_trigger_is_due(scheduled: Scheduled) -> None:
    spec = TriggerSpec(name="soon", every=10, inputs=msgspec.Raw(b'{"x":1}'))
    firing = asyncio.create_task(scheduled.triggers.keep_firing())
    await scheduled.deploy(timed(spec))
    scheduled.now += 601
    scheduled.house.control.triggers._news.set()
    live = scheduled.house.control.runs.live
    assert await eventually(lambda: any("soon" in name for name in live) or bool(scheduled.house.agent.assigned))
    firing.cancel()
