"""The cache's promises: equal calls share a result, it is kept as hard as the run itself, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.wire import ActionPhase, CacheSpec, InputSpec, InterfaceSpec, OutputSpec, RetrySpec, TimeoutSpec
from tarmac.store import Change
from tests.tarmac.fake_agent import Act, Vanish
from tests.tarmac.house import House, eventually, open_house, task

SCOPE = ("flytesnacks", "development")
AUTO = CacheSpec(version="1")
FILE = {"type": ["string", "object"], "format": "file"}


def serialized(name: str, **changes: Any) -> wire.TaskSpec:
    return task(name, cache=CacheSpec(version="1", serialize=True), **changes)


def with_interface(spec: wire.TaskSpec, inputs: list[InputSpec], outputs: list[OutputSpec]) -> wire.TaskSpec:
    return msgspec.structs.replace(spec, interface=InterfaceSpec(inputs=inputs, outputs=outputs))


TASKS = [
    task("cached", cache=AUTO),
    task("other", cache=AUTO),
    task("young", cache=CacheSpec(version="1", max_age=3600)),
    task("flaky", cache=AUTO, retries=RetrySpec(count=1)),
    task("parent"),
    serialized("once"),
    serialized("again", retries=RetrySpec(count=2)),
    serialized("impatient", timeout=TimeoutSpec(max_queued_time=0.2)),
    with_interface(
        task("ignoring", cache=CacheSpec(version="1", ignored_inputs=["note"])),
        [
            InputSpec(name="x", schema={"type": "integer"}),
            InputSpec(name="note", schema={"type": "string"}, required=False, default=msgspec.Raw(b'"-"')),
        ],
        [],
    ),
    with_interface(task("reads", cache=AUTO), [InputSpec(name="x", schema=FILE)], []),
    with_interface(
        task("writes", cache=AUTO),
        [InputSpec(name="x", schema={"type": "integer"})],
        [OutputSpec(name="o", schema=FILE)],
    ),
]


class Counted:
    """What workers do: count each call, wait until they may end, and give x + 1, or what `gives` says."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.gives: Any = None

    async def __call__(self, act: Act) -> Any:
        name = act.assign.task.removeprefix("env.")
        if name == "parent":
            x = act.inputs["x"]
            results = await asyncio.gather(*(act.call("env.once", sequence=n, x=x) for n in range(10)))
            return [result.phase.value for result in results]
        self.calls.append((name, act.inputs.get("x")))
        await self.may_end.wait()
        return self.gives if self.gives is not None else act.inputs["x"] + 1


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        await house.control.deployments.start(wire.DeployRequest(version="c1", root="/", tasks=TASKS), "owner")
        house.behave = Counted()
        yield house


def counted(house: House) -> Counted:
    assert isinstance(house.behave, Counted)
    return house.behave


async def started(house: House, task_name: str, inputs: dict[str, Any], **options: Any) -> wire.Run:
    request = wire.RunRequest(task=task_name, inputs=msgspec.Raw(json.dumps(inputs).encode()), **options)
    run, _ = await house.control.runs.create(request, "owner")
    return run


async def done(house: House, task_name: str, inputs: dict[str, Any], **options: Any) -> wire.Run:
    run = await started(house, task_name, inputs, **options)
    return await house.control.runs.wait(run.name, 10)


def is_hit(run: wire.Run | wire.Action) -> bool:
    return run.cache is not None and run.cache.status == "hit"


async def test_an_equal_call_gets_the_result_without_a_worker(house: House) -> None:
    first, second = [await house.result("env.cached", x=41) for _ in range(2)]
    assert (first.cache, bytes(first.outputs or b"")) == (wire.CacheUse(status="populated"), b"[42]")
    assert (second.phase, bytes(second.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[42]")
    assert second.cache is not None
    assert (second.cache.status, second.cache.run, second.cache.action) == ("hit", first.name, "a0")
    assert [phase for _, phase in await house.history(second.name)] == ["queued", "succeeded"]
    assert counted(house).calls == [("cached", 41)]
    details = await house.control.actions.get(second.name, "a0")
    assert (details.attempts, is_hit(details.action)) == ([], True)
    assert details.action.message.startswith(f"cached: the result of {first.name}/a0, ")


async def test_other_inputs_tasks_versions_and_domains_are_computed(house: House) -> None:
    await house.result("env.cached", x=1)
    newer = [msgspec.structs.replace(TASKS[0], cache=CacheSpec(version="2"))]
    await house.control.deployments.start(wire.DeployRequest(version="c2", root="/", tasks=newer), "owner")
    await house.control.deployments.start(
        wire.DeployRequest(version="c1", root="/", tasks=TASKS[:1], domain="staging"), "owner"
    )
    assert not is_hit(await house.result("env.cached", x=2, version="c1"))
    assert not is_hit(await house.result("env.other", x=1))
    assert not is_hit(await house.result("env.cached", x=1, version="c2"))
    assert not is_hit(await house.result("env.cached", x=1, domain="staging"))
    assert is_hit(await house.result("env.cached", x=1, version="c1"))


async def test_a_later_version_of_the_program_finds_the_result(house: House) -> None:
    await house.result("env.cached", x=1)
    await house.control.deployments.start(wire.DeployRequest(version="c2", root="/c2", tasks=TASKS[:1]), "owner")
    run = await house.result("env.cached", x=1)
    assert (run.version, is_hit(run)) == ("c2", True)


async def test_a_task_whose_result_has_another_type_now_is_computed(house: House) -> None:
    await house.result("env.cached", x=1)
    output = OutputSpec(name="o", schema={"type": "string"})
    changed = [with_interface(TASKS[0], list(TASKS[0].interface.inputs), [output])]
    await house.control.deployments.start(wire.DeployRequest(version="c2", root="/", tasks=changed), "owner")
    assert not is_hit(await house.result("env.cached", x=1))


async def test_the_cache_survives_a_restart_and_a_crash(house: House) -> None:
    await house.result("env.cached", x=1)
    await house.restart()
    assert is_hit(await house.result("env.cached", x=1))
    await house.crash("handed over")
    await house.up()
    assert is_hit(await house.result("env.cached", x=1))
    assert len(counted(house).calls) == 1


async def test_what_failed_is_not_cached(house: House) -> None:
    async def fails(act: Act) -> Any:
        raise ValueError("no")

    behave, house.behave = house.behave, fails
    assert (await house.result("env.cached", x=1)).phase is ActionPhase.FAILED
    house.behave = behave
    assert (await house.result("env.cached", x=1)).cache == wire.CacheUse(status="populated")
    assert await house.control.cache.list(*SCOPE) != []


async def test_ignored_inputs_do_not_count_and_a_default_counts_as_given(house: House) -> None:
    assert not is_hit(await done(house, "env.ignoring", {"x": 1, "note": "a"}))
    assert is_hit(await done(house, "env.ignoring", {"x": 1, "note": "b"}))
    assert is_hit(await done(house, "env.ignoring", {"x": 1}))
    assert not is_hit(await done(house, "env.ignoring", {"x": 2}))


async def test_a_result_that_is_too_old_is_computed_anew(house: House) -> None:
    run = await house.result("env.young", x=1)
    assert is_hit(await house.result("env.young", x=1))
    (row,) = await house.store.cache(*SCOPE)
    await house.store.write(Change(cache=(replace(row, created=row.created - 3700),)))
    again = await house.result("env.young", x=1)
    assert (is_hit(again), again.name != run.name) == (False, True)
    assert is_hit(await house.result("env.young", x=1))


async def test_a_run_overwrites_the_cache_or_leaves_it_alone_if_it_says_so(house: House) -> None:
    behave = counted(house)
    await house.result("env.cached", x=1)
    behave.gives = "new"
    ignoring = await house.result("env.cached", x=1, disable_cache=True)
    assert (ignoring.cache, bytes(ignoring.outputs or b"")) == (None, b'["new"]')
    assert bytes((await house.result("env.cached", x=1)).outputs or b"") == b"[2]"
    overwriting = await house.result("env.cached", x=1, overwrite_cache=True)
    assert bytes(overwriting.outputs or b"") == b'["new"]'
    found = await house.result("env.cached", x=1)
    assert found.cache is not None
    assert (found.cache.run, bytes(found.outputs or b"")) == (overwriting.name, b'["new"]')


async def test_a_file_counts_by_its_content(house: House, tmp_path: Path) -> None:
    behave = counted(house)
    behave.gives = "read"
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    for path, text in ((one, "a"), (same, "a"), (other, "b")):
        path.write_text(text)
    assert not is_hit(await done(house, "env.reads", {"x": str(one)}))
    assert is_hit(await done(house, "env.reads", {"x": str(same)}))
    assert is_hit(await done(house, "env.reads", {"x": {"path": str(same), "name": "n"}}))
    assert not is_hit(await done(house, "env.reads", {"x": str(other)}))
    assert not is_hit(await done(house, "env.reads", {"x": {"path": "/nowhere", "hash": "h"}}))
    assert is_hit(await done(house, "env.reads", {"x": {"path": "/elsewhere", "hash": "h"}}))
    one.write_text("changed")
    assert not is_hit(await done(house, "env.reads", {"x": str(one)}))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "f").write_text("a")
    assert not is_hit(await done(house, "env.reads", {"x": str(folder)}))
    assert is_hit(await done(house, "env.reads", {"x": str(folder)}))
    (folder / "g").write_text("a")
    assert not is_hit(await done(house, "env.reads", {"x": str(folder)}))


async def test_inputs_in_a_blob_are_found_by_their_content(house: House) -> None:
    counted(house).gives = 1
    long = {"x": 1, "note": "n" * 100_000}
    assert not is_hit(await done(house, "env.ignoring", long))
    assert is_hit(await done(house, "env.ignoring", {"x": 1, "note": "short"}))


async def test_a_result_whose_file_or_blob_is_gone_is_computed_anew(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tarmac.cache")
    behave = counted(house)
    written = tmp_path / "written"
    written.write_text("w")
    behave.gives = str(written)
    await done(house, "env.writes", {"x": 1})
    assert is_hit(await done(house, "env.writes", {"x": 1}))
    written.unlink()
    assert not is_hit(await done(house, "env.writes", {"x": 1}))
    assert f"{written} is gone" in caplog.text
    (row,) = await house.store.cache(*SCOPE)
    await house.store.write(Change(cache=(replace(row, outputs=None, outputs_blob="0" * 64),)))
    assert not is_hit(await done(house, "env.writes", {"x": 1}))
    assert "its blob is gone" in caplog.text


async def test_a_child_is_found_too_and_a_fan_out_that_is_serialized_computes_once(house: House) -> None:
    run = await house.result("env.parent", x=5)
    assert msgspec.json.decode(run.outputs or b"") == [["succeeded"] * 10]
    assert counted(house).calls == [("once", 5)]
    children = [action for action in await house.control.actions.list(run.name) if action.parent]
    assert sorted(is_hit(child) for child in children) == [False] + [True] * 9


async def two(house: House, name: str = "env.once") -> tuple[wire.Run, wire.Run]:
    """One that computes, and one that waits for it."""
    counted(house).may_end.clear()
    first = await house.run(name, x=1)
    assert await eventually(lambda: len(counted(house).calls) == 1)
    second = await house.run(name, x=1)
    action = house.control.runs.live[second.name].root
    assert await eventually(lambda: "waits for the result of an equal call" in action.row.message)
    assert (await house.control.runs.get(second.name)).phase is ActionPhase.QUEUED
    return first, second


async def results(house: House, *runs: wire.Run) -> list[tuple[str, bool]]:
    ended = [await house.control.runs.wait(run.name, 20) for run in runs]
    return [(run.phase.value, is_hit(run)) for run in ended]


async def test_equal_calls_at_the_same_time_compute_once_if_they_are_serialized(house: House) -> None:
    runs = await two(house)
    counted(house).may_end.set()
    assert await results(house, *runs) == [("succeeded", False), ("succeeded", True)]
    assert len(counted(house).calls) == 1


async def test_the_next_computes_if_the_one_that_computes_fails_or_is_aborted(house: House) -> None:
    first, second = await two(house)
    await house.control.runs.abort(first.name, "", "owner")
    counted(house).may_end.set()
    assert await results(house, first, second) == [("aborted", False), ("succeeded", False)]
    assert len(counted(house).calls) == 2


async def test_one_that_waits_may_be_aborted_or_time_out(house: House) -> None:
    first, second = await two(house)
    await house.control.runs.abort(second.name, "", "owner")
    counted(house).may_end.set()
    assert await results(house, first, second) == [("succeeded", False), ("aborted", False)]
    counted(house).calls.clear()
    counted(house).may_end.clear()
    first = await house.run("env.impatient", x=1)
    assert await eventually(lambda: len(counted(house).calls) == 1)
    assert (await house.result("env.impatient", x=1)).phase is ActionPhase.TIMED_OUT
    counted(house).may_end.set()
    assert await results(house, first) == [("succeeded", False)]


async def test_one_whose_worker_is_lost_computes_again_and_the_others_wait_on(house: House) -> None:
    behave = counted(house)
    deaths = 0

    async def dies_once(act: Act) -> Any:
        nonlocal deaths
        if not deaths:
            deaths += 1
            await behave.may_end.wait()
            raise Vanish
        return await behave(act)

    behave.may_end.clear()
    house.behave = dies_once
    first = await house.run("env.again", x=1)
    await eventually(lambda: any(worker.held for worker in house.agent.workers.values()))
    second = await house.run("env.again", x=1)
    behave.may_end.set()
    assert await results(house, first, second) == [("succeeded", False), ("succeeded", True)]
    assert len(behave.calls) == 1


@pytest.mark.parametrize("loses", ["gathered", "handed over"])
async def test_a_restarted_control_plane_knows_who_computes(house: House, loses: Any) -> None:
    runs = await two(house)
    await house.crash(loses)
    await house.up()
    third = await house.run("env.once", x=1)
    counted(house).may_end.set()
    assert await results(house, *runs, third) == [("succeeded", False), ("succeeded", True), ("succeeded", True)]
    assert len(counted(house).calls) == 1


async def test_after_a_crash_between_the_result_and_its_commit_it_is_not_computed_again(house: House) -> None:
    """The worker tells it again; what waited finds it."""
    runs = await two(house)
    house.disk.hold()
    counted(house).may_end.set()
    await eventually(lambda: any(worker.kept for worker in house.agent.workers.values()))
    await house.crash("handed over")
    await house.up()
    assert await results(house, *runs) == [("succeeded", False), ("succeeded", True)]
    assert len(counted(house).calls) == 1


async def test_a_call_with_the_inputs_of_the_action_that_makes_it_does_not_wait_for_itself(house: House) -> None:
    depth = 0

    async def calls_itself(act: Act) -> Any:
        nonlocal depth
        depth += 1
        if depth == 3:
            return "bottom"
        return (await act.call("env.once", x=act.inputs["x"])).phase.value

    house.behave = calls_itself
    assert (await house.result("env.once", x=1)).phase is ActionPhase.SUCCEEDED


async def test_a_call_waits_for_an_equal_one_whose_own_call_did_not_have_to_wait(house: House) -> None:
    """The root (1) calls 2, which calls 1: that one computes at once, and so a second 2 can wait for the first."""
    calls: list[int] = []
    inner_runs, may_end = asyncio.Event(), asyncio.Event()

    async def nested(act: Act) -> Any:
        x = act.inputs["x"]
        calls.append(x)
        if x == 2:
            return (await act.call("env.once", x=1)).phase.value
        if len(calls) > 1:
            inner_runs.set()
            await may_end.wait()
            return "inner"
        first = asyncio.ensure_future(act.call("env.once", x=2))
        await inner_runs.wait()
        second = asyncio.ensure_future(act.call("env.once", x=2, sequence=1))
        run = house.control.runs.live[act.assign.run]
        assert await eventually(lambda: any("an equal call" in each.row.message for each in run.actions.values()))
        may_end.set()
        return [result.phase.value for result in await asyncio.gather(first, second)]

    house.behave = nested
    run = await house.result("env.once", x=1)
    assert bytes(run.outputs or b"") == b'[["succeeded", "succeeded"]]'
    assert calls == [1, 2, 1]


async def test_results_are_listed_and_deleted(house: House) -> None:
    for x in (1, 2):
        await house.result("env.cached", x=x)
    run = await house.result("env.other", x=1)
    cache = house.control.cache
    listed = await cache.list(*SCOPE)
    assert [result.task for result in listed] == ["env.other", "env.cached", "env.cached"]
    assert (listed[0].run, listed[0].action, listed[0].version, listed[0].bytes) == (run.name, "a0", "1", 3)
    assert len(await cache.list(*SCOPE, task="env.cached")) == 2
    assert [result.key for result in await cache.delete(*SCOPE, key=listed[0].key[:12])] == [listed[0].key]
    assert len(await cache.delete(*SCOPE, task="env.cached")) == 2
    assert await cache.list(*SCOPE) == []
    assert not is_hit(await house.result("env.cached", x=1))
