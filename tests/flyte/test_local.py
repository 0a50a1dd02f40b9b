"""Local mode: the same runs, actions, phases and errors as on a platform, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import inspect
import json
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte import wire
from flyte._local import run as _local_run
from flyte._local.client import LocalClient
from flyte._sync import syncable
from flyte.errors import (
    ActionAbortedError,
    ActionNotFoundError,
    DeadlineExceededError,
    InvalidInputError,
    MaxRuntimeExceededError,
    NonRecoverableError,
    RunAlreadyExistsError,
    RunNotFoundError,
    RuntimeUserError,
    TraceDoesNotAllowNestedTasksError,
)
from flyte.names import child_names, run_name
from flyte.phases import TRANSITIONS, P
from flyte.wire import ActionPhase

env = flyte.TaskEnvironment("local")
client = LocalClient()
seen: dict[str, list[Any]] = {}


def note(name: str, value: Any = None) -> int:
    seen.setdefault(name, []).append(value)
    return len(seen[name])


async def until(fact: str) -> None:
    """Return when the fact was noted, from whatever thread."""
    async with asyncio.timeout(10):
        while fact not in seen:  # noqa: ASYNC110 - threads note facts too
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def _forget() -> None:
    seen.clear()


async def start(task: Any, *args: Any, **kwargs: Any) -> wire.Run:
    return await client.create_local(task, task.interface.bind(args, kwargs))


async def finish(task: Any, *args: Any, **kwargs: Any) -> wire.Run:
    """The run after its end."""
    return await client.get_run((await start(task, *args, **kwargs)).name, wait=20)


async def output(task: Any, *args: Any, **kwargs: Any) -> Any:
    run = await finish(task, *args, **kwargs)
    assert run.phase is ActionPhase.SUCCEEDED, run.error
    assert run.outputs is not None
    return task.interface.load_result(json.loads(bytes(run.outputs)))


@env.task
async def double(x: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * x


@env.task
def add(x: int, y: int = 1) -> int:
    return x + y


MEETING = threading.Barrier(10)
"""Where ten have to be at once before any of them goes on."""


@env.task
def slow_add(x: int) -> int:
    time.sleep(0.1)
    return x + 1


@env.task
def meet(x: int) -> int:
    """Ends when nine others have begun, too; fails when they do not come."""
    MEETING.wait(10)
    return x + 1


@env.task
async def parent(n: int) -> list[int]:
    return list(await asyncio.gather(*(double(x) for x in range(n))))


@env.task
async def broken(message: str) -> None:
    raise ValueError(message)


@env.task
async def forever() -> None:
    note("started")
    try:
        await asyncio.sleep(60)
    finally:
        note("stopped")


@env.task
async def parent_of_forever() -> None:
    await forever()


# ------------------------------------------------------------------------------------------------------------- runs


async def test_a_run_has_a_name_a_url_a_phase_and_outputs() -> None:
    started = await start(parent, 3)
    assert started.phase is ActionPhase.QUEUED
    assert started.name[0] == "r"
    assert len(started.name) == 20
    assert started.url == f"local://runs/{started.name}"
    run = await client.get_run(started.name, wait=10)
    assert run.phase is ActionPhase.SUCCEEDED
    assert bytes(run.outputs or b"") == b"[[0,2,4]]"
    assert run.task == "local.parent"
    assert run.actions == 4
    assert run.created <= (run.started or 0) <= (run.ended or 0)


def test_names_of_one_millisecond_sort_by_time_too() -> None:
    moments = [1_795_000_000 + n / 1_000_000 for n in (0, 3, 999, 1_000, 1_001, 2_000_000)]
    names = [run_name(moment) for moment in moments]
    assert names == sorted(names)
    assert {len(name) for name in names} == {20}


async def test_names_sort_by_time_and_may_be_given_once() -> None:
    names = [(await start(add, 1)).name for _ in range(3)]
    assert names == sorted(names)
    mine = f"mine-{time.time_ns()}"
    first = await client.create_local(add, {"x": 1}, name=mine, labels={"a": "b"})
    assert first.labels == {"a": "b"}
    again = await client.create_local(add, {"x": 1}, name=mine)
    assert (again.name, again.created, again.labels) == (mine, first.created, {"a": "b"})
    for task, inputs, scope in (
        (add, {"x": 2}, client),
        (slow_add, {"x": 1}, client),
        (add, {"x": 1}, client.scoped(domain="production")),
    ):
        with pytest.raises(RunAlreadyExistsError, match=mine):
            await scope.create_local(task, inputs, name=mine)
    with pytest.raises(RunNotFoundError, match="nobody"):
        await client.get_run("nobody")
    assert mine in [run.name for run in await client.list_runs()]
    assert [run.name for run in await client.list_runs(wire.RunFilter(labels={"a": "b"}))] == [mine]
    assert await client.list_runs(wire.RunFilter(labels={"a": "c"})) == []
    await client.get_run(mine, wait=10)
    over = wire.RunFilter(phases=(ActionPhase.SUCCEEDED, ActionPhase.FAILED), version="local")
    assert mine in [run.name for run in await client.list_runs(over)]
    assert mine not in [run.name for run in await client.list_runs(wire.RunFilter(phases=(ActionPhase.FAILED,)))]
    assert await client.list_runs(wire.RunFilter(created_after=time.time() + 1)) == []
    assert {run.task for run in await client.list_runs(wire.RunFilter(task="local.add"))} == {"local.add"}


async def test_a_run_goes_on_in_the_background() -> None:
    run = await start(slow_add, 1)
    assert (await client.get_run(run.name)).phase in (ActionPhase.QUEUED, ActionPhase.RUNNING)
    assert (await client.get_run(run.name, wait=0.001)).phase is not ActionPhase.SUCCEEDED
    assert (await client.get_run(run.name, wait=10)).phase is ActionPhase.SUCCEEDED


async def test_wrong_inputs_are_refused_before_the_run_exists() -> None:
    before = len(await client.list_runs(wire.RunFilter(limit=1000)))
    with pytest.raises(InvalidInputError, match=r"input 'x' of local\.add must be int"):
        await start(add, "one")
    assert len(await client.list_runs(wire.RunFilter(limit=1000))) == before


async def test_tasks_run_off_the_callers_thread_and_async_ones_on_a_loop_of_their_own() -> None:
    @env.task
    async def where() -> str:
        return threading.current_thread().name

    @env.task
    def where_sync() -> str:
        return threading.current_thread().name

    assert await output(where) == "flyte-local"
    assert await output(where_sync) == "flyte-task"


def test_it_is_used_from_code_that_is_not_async() -> None:
    run = syncable(client.create_local)(add, {"x": 1})
    assert syncable(client.get_run)(run.name, wait=10).phase is ActionPhase.SUCCEEDED


async def test_values_are_copies_of_their_declared_types() -> None:
    @env.task
    async def change(items: list[float], when: dt.datetime) -> tuple[list[float], dt.datetime]:
        items.append(9)
        return items, when

    mine = [1, 2]
    result = await output(change, mine, dt.datetime(2026, 1, 1))
    assert result == ([1.0, 2.0, 9.0], dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    assert mine == [1, 2]


async def test_an_output_of_the_wrong_type_fails_the_run() -> None:
    @env.task
    async def wrong() -> int:
        return "one"  # type: ignore[return-value]

    run = await finish(wrong)
    assert run.error is not None
    assert run.error.code == "RuntimeDataValidationError"
    assert "must be int" in run.error.message


# ---------------------------------------------------------------------------------------------------------- children


async def test_children_are_actions_with_parents_phases_and_values() -> None:
    run = await finish(parent, 2)
    actions = await client.list_actions(run.name)
    assert actions[0].name == "a0"
    assert actions[0].children == 2
    children = await client.list_actions(run.name, wire.ActionFilter(parent="a0"))
    assert len(children) == 2
    assert {child.phase for child in children} == {ActionPhase.SUCCEEDED}
    details = await client.get_action(run.name, children[1].name)
    assert json.loads(bytes(details.inputs or b"")) == {"x": 1}
    assert json.loads(bytes(details.outputs or b"")) == [2]
    assert [attempt.phase for attempt in details.attempts] == [ActionPhase.SUCCEEDED]
    with pytest.raises(ActionNotFoundError, match="nothing"):
        await client.get_action(run.name, "nothing")


async def test_children_run_at_once_sync_ones_too() -> None:
    @env.task
    async def fan_out() -> int:
        return sum(await asyncio.gather(*(meet.aio(x) for x in range(10))))

    @env.task
    def fan_out_sync() -> int:
        return sum(flyte.map(meet, range(10)))

    for task in (fan_out, fan_out_sync):
        assert await output(task) == 55


async def test_a_blocking_call_of_a_sync_task_lets_the_other_tasks_of_the_loop_run() -> None:
    @env.task
    async def calls_sync(x: int) -> int:
        return meet(x)

    @env.task
    async def several() -> list[int]:
        return list(await asyncio.gather(*(calls_sync(x) for x in range(10))))

    assert await output(several) == list(range(1, 11))


async def test_tasks_nest_deeply() -> None:
    @env.task
    def down(depth: int) -> int:
        return 0 if depth == 0 else down(depth - 1) + 1

    @env.task
    async def down_async(depth: int) -> int:
        return 0 if depth == 0 else await down_async(depth - 1) + 1

    assert await output(down, 30) == 30
    assert await output(down_async, 30) == 30


async def test_a_childs_error_is_caught_as_what_it_was_and_as_flytes() -> None:
    @env.task
    async def catches() -> list[str]:
        caught = []
        try:
            await broken("first")
        except ValueError as error:
            caught.append(f"{error} {error.code}")  # type: ignore[attr-defined]
        try:
            await broken("second")
        except RuntimeUserError as error:
            caught.append(f"{error} {error.code}")
        return caught

    assert await output(catches) == ["first ValueError", "second ValueError"]


async def test_a_childs_group_of_errors_reaches_its_parent() -> None:
    @env.task
    async def splits() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(broken.forward("in a group"))

    @env.task
    async def catches() -> str:
        try:
            await splits()
        except RuntimeUserError as error:
            return f"{error.code}: {error.__cause__!r}"
        return ""

    assert "ExceptionGroup: ExceptionGroup('unhandled errors" in await output(catches)
    assert "ValueError('in a group')" in await output(catches)


async def test_an_error_that_nobody_catches_fails_the_run_with_its_code_and_traceback() -> None:
    @env.task
    async def passes_on() -> None:
        await broken("deep down")

    run = await finish(passes_on)
    assert run.phase is ActionPhase.FAILED
    assert run.error is not None
    assert (run.error.code, run.error.message, run.error.kind) == ("ValueError", "deep down", "user")
    assert "raise ValueError(message)" in run.error.traceback
    assert run.outputs is None


async def test_sys_exit_in_a_task_fails_the_run_and_nothing_else() -> None:
    @env.task
    def leaves() -> None:
        sys.exit(3)

    run = await finish(leaves)
    assert run.error is not None
    assert run.error.code == "TaskInterruptedError"


async def test_what_a_finished_parent_left_running_is_stopped() -> None:
    @env.task
    async def careless() -> str:
        note("task", asyncio.create_task(forever()))
        await until("started")
        return "done"

    assert await output(careless) == "done"
    assert seen["stopped"] == [None]


# ------------------------------------------------------------------------------------------------ retries and timeouts


async def test_a_failed_task_is_tried_again_with_its_backoff() -> None:
    times: list[float] = []

    @env.task(retries=flyte.RetryStrategy(3, flyte.Backoff(dt.timedelta(milliseconds=50), 2, dt.timedelta(seconds=1))))
    async def flaky() -> int:
        times.append(time.monotonic())
        note("attempt", flyte.ctx().attempt_number)
        if len(times) < 3:
            raise RuntimeError("not yet")
        return len(times)

    run = await finish(flaky)
    assert run.phase is ActionPhase.SUCCEEDED
    assert run.attempt == 3
    assert seen["attempt"] == [0, 1, 2]
    assert times[1] - times[0] >= 0.05
    assert times[2] - times[1] >= 0.1
    attempts = (await client.get_action(run.name)).attempts
    assert [attempt.phase.value for attempt in attempts] == ["failed", "failed", "succeeded"]


async def test_the_last_attempts_error_counts() -> None:
    @env.task(retries=2)
    async def hopeless() -> None:
        raise ValueError(f"attempt {note('n')}")

    run = await finish(hopeless)
    assert run.error is not None
    assert run.error.message == "attempt 3"


async def test_an_error_that_is_not_recoverable_ends_it_at_once() -> None:
    @env.task(retries=5)
    async def final() -> None:
        note("n")
        raise NonRecoverableError("never")

    run = await finish(final)
    assert (run.phase, len(seen["n"])) == (ActionPhase.FAILED, 1)
    assert run.error is not None
    assert run.error.code == "NonRecoverableError"


async def test_an_attempt_that_takes_too_long_is_timed_out() -> None:
    @env.task(timeout=0.05)
    async def slow() -> None:
        await forever.forward()

    @env.task(timeout=0.05)
    def slow_sync() -> None:
        time.sleep(0.5)

    for task in (slow, slow_sync):
        run = await finish(task)
        assert run.phase is ActionPhase.TIMED_OUT
        assert run.error is not None
        assert run.error.code == "MaxRuntimeExceededError"
    assert seen["stopped"] == [None]


async def test_a_timeout_of_a_child_reaches_its_parent_as_such() -> None:
    @env.task(timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    @env.task
    async def catches() -> str:
        try:
            await slow()
        except MaxRuntimeExceededError as error:
            return str(error)
        return ""

    assert "max_runtime, 0.05 s" in await output(catches)


async def test_a_deadline_covers_all_attempts() -> None:
    @env.task(retries=100, timeout=flyte.Timeout(max_runtime=0.05, deadline=0.2))
    async def slow() -> None:
        note("n")
        await asyncio.sleep(60)

    run = await finish(slow)
    assert run.phase is ActionPhase.TIMED_OUT
    assert run.error is not None
    assert run.error.code == DeadlineExceededError.__name__
    assert 1 <= len(seen["n"]) <= 5, "a hundred retries of 0.05 s would be a hundred attempts"


async def test_a_timeout_error_of_the_users_own_is_just_an_error() -> None:
    @env.task(timeout=30)
    async def own() -> None:
        raise TimeoutError("mine")

    run = await finish(own)
    assert run.phase is ActionPhase.FAILED


async def test_finished_children_are_not_run_again_when_their_parent_is() -> None:
    @env.task
    async def child(x: int) -> int:
        return note(f"child {x}")

    @env.task(retries=1)
    async def twice() -> list[int]:
        results = [await child(1), await child(1), await child(2)]
        if note("parent") == 1:
            raise RuntimeError("again")
        return results

    assert await output(twice) == [1, 2, 1]
    assert len(seen["child 1"]) == 2  # two calls with the same input are two children
    assert len(seen["child 2"]) == 1


async def test_a_child_that_failed_is_called_anew_under_another_name_and_its_end_stays() -> None:
    @env.task
    async def child() -> int:
        if note("child") == 1:
            raise RuntimeError("once")
        return 7

    @env.task(retries=1)
    async def parent() -> int:
        return await child()

    run = await finish(parent)
    assert run.phase is ActionPhase.SUCCEEDED
    names = list(child_names("a0", 1, child.name, b"{}", None, 0, None))
    actions = {action.name: action.phase for action in await client.list_actions(run.name)}
    assert actions == {
        "a0": ActionPhase.SUCCEEDED,
        names[0]: ActionPhase.FAILED,
        names[1]: ActionPhase.SUCCEEDED,
    }


async def test_phases_in_this_process_move_along_the_same_table_as_on_a_platform() -> None:
    @env.task(retries=1)
    async def once_more() -> None:
        if note("n") == 1:
            raise RuntimeError("again")

    run = await finish(once_more)
    phases = [ActionPhase(event.phase) async for _, _, event in client.run_events(run.name, after=0)]
    moved = [pair for pair in pairwise(phases) if pair[0] is not pair[1]]
    assert moved == [(P.QUEUED, P.RUNNING), (P.RUNNING, P.QUEUED), (P.QUEUED, P.RUNNING), (P.RUNNING, P.SUCCEEDED)]
    assert {(row.old, row.new) for row in TRANSITIONS} >= set(moved)


async def test_no_more_actions_of_a_run_are_at_work_than_it_says() -> None:
    gate, at_work = asyncio.Event(), [0, 0]

    async def opened(gate: asyncio.Event) -> None:
        gate.set()

    @env.task(retries=1)
    async def leaf(x: int) -> int:
        at_work[0] += 1
        at_work[1] = max(at_work)
        note("begun")
        try:
            await gate.wait()
            if flyte.ctx().attempt_number == 0:
                raise RuntimeError("once")
        finally:
            at_work[0] -= 1
        return x

    @env.task
    async def branch(x: int) -> int:
        return await leaf(x)

    @env.task
    async def root() -> int:
        return sum(await asyncio.gather(*(branch(x) for x in range(6))))

    run = await flyte.with_runcontext("local", max_action_concurrency=2).run.aio(root)
    await until("begun")
    limit = _local_run.runs[run.name].limit
    assert limit is not None
    async with asyncio.timeout(10):
        while len(seen["begun"]) < 2 or len(limit._held) < 4:  # noqa: ASYNC110 - threads note facts too
            await asyncio.sleep(0.001)
    await _local_run.thread.aio(opened(gate))
    done = await client.get_run(run.name, wait=10)
    assert (done.phase, at_work[1]) == (ActionPhase.SUCCEEDED, 2)


# -------------------------------------------------------------------------------------------------------------- abort


async def test_aborting_a_run_stops_what_is_below_it() -> None:
    run = await start(parent_of_forever)
    await until("started")
    aborted = await client.abort_run(run.name, "enough")
    assert aborted.phase is ActionPhase.ABORTED
    assert aborted.error is not None
    assert aborted.error.code == "ActionAbortedError"
    assert {action.phase for action in await client.list_actions(run.name)} == {ActionPhase.ABORTED}
    assert seen["stopped"] == [None]
    assert (await client.abort_run(run.name)).phase is ActionPhase.ABORTED


async def test_a_sync_task_that_was_aborted_can_start_nothing_any_more() -> None:
    go_on = threading.Event()

    @env.task
    def sync_parent() -> None:
        note("started")
        go_on.wait(10)
        try:
            add(1)
        except ActionAbortedError:
            note("refused")

    run = await start(sync_parent)
    await until("started")
    assert (await client.abort_run(run.name)).phase is ActionPhase.ABORTED
    go_on.set()
    await until("refused")


async def test_aborting_a_child_fails_its_parent_only() -> None:
    @env.task
    async def survives() -> str:
        try:
            await forever()
        except ActionAbortedError:
            return "child was aborted"
        return ""

    run = await start(survives)
    await until("started")
    (child,) = await client.list_actions(run.name, wire.ActionFilter(parent="a0"))
    await client.abort_action(run.name, child.name)
    ended = await client.get_run(run.name, wait=10)
    assert bytes(ended.outputs or b"") == b'["child was aborted"]'


async def test_cancelling_who_awaits_a_child_aborts_the_child() -> None:
    @env.task
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.05):
                await forever()
        except TimeoutError:
            return "gave up"
        return ""

    assert await output(impatient) == "gave up"
    assert seen["stopped"] == [None]


# ------------------------------------------------------------------------------------------------------------- events


async def test_events_are_a_snapshot_and_then_every_change_once_until_the_end() -> None:
    run = await start(parent, 2)
    got = [item async for item in client.run_events(run.name)]
    assert got[0][0] == "snapshot"
    assert isinstance(got[0][2], wire.Run)
    phases = [record.phase for kind, _, record in got if kind == "event"]
    assert phases[-1] == "succeeded"
    numbers = [seq for _, seq, _ in got]
    assert numbers == sorted(set(numbers))


async def test_events_resume_after_a_number() -> None:
    run = await finish(parent, 2)
    whole = [(seq, record) async for _, seq, record in client.run_events(run.name, after=0, actions="all")]
    assert [seq for seq, _ in whole] == list(range(1, len(whole) + 1))
    assert len({record.subject for _, record in whole if isinstance(record, wire.Event)}) == 3
    rest = [seq async for _, seq, _ in client.run_events(run.name, after=whole[2][0], actions="all")]
    assert rest == [seq for seq, _ in whole[3:]]
    assert [item async for item in client.run_events(run.name, after=run.seq)] == []


async def test_a_task_tells_of_its_progress() -> None:
    @env.task
    async def tells() -> None:
        await flyte.report.replace.aio("<b>half</b>", do_flush=True)
        await asyncio.sleep(0.01)

    run = await start(tells)
    bodies = [record.body async for _, _, record in client.run_events(run.name, 0) if isinstance(record, wire.Event)]
    assert any("<b>half</b>" in str(body.get("report", "")) for body in bodies)


async def test_logs_say_where_the_output_went() -> None:
    run = await finish(add, 1)
    (line,) = [line async for line in client.run_logs(run.name)]
    assert "local mode" in line.text


# ------------------------------------------------------------------------------------------------------------- context


async def test_a_task_knows_who_it_is() -> None:
    @env.task
    async def who() -> dict[str, Any]:
        context = flyte.ctx()
        return {
            "truth": bool(context),
            "action": context.action.name,
            "run": context.action.run_name,
            "mode": context.mode,
            "cluster": context.is_in_cluster(),
            "task": context.task_name,
            "project": context.action.project,
        }

    run = await finish(who)
    assert run.outputs is not None
    assert json.loads(bytes(run.outputs)) == [
        {
            "truth": True,
            "action": "a0",
            "run": run.name,
            "mode": "local",
            "cluster": False,
            "task": who.name,
            "project": "flytesnacks",
        }
    ]
    assert not flyte.ctx()


async def test_the_custom_context_and_the_group_reach_children() -> None:
    @env.task
    async def child() -> dict[str, str]:
        return flyte.get_custom_context()

    @env.task
    async def outer() -> dict[str, str]:
        with flyte.custom_context(b="2"), flyte.group("batch"):
            return await child()

    started = await client.create_local(outer, {}, custom_context={"a": "1"})
    run = await client.get_run(started.name, wait=10)
    assert json.loads(bytes(run.outputs or b"")) == [{"a": "1", "b": "2"}]
    (action,) = await client.list_actions(run.name, wire.ActionFilter(parent="a0"))
    assert action.group == "batch"


# -------------------------------------------------------------------------------------------------------------- traces


@flyte.trace
async def step(x: int) -> dt.date:
    note("step", flyte.ctx().action.name)
    return dt.date(2026, 1, x)


@flyte.trace
def sync_step(x: int) -> int:
    return x + note("sync step")


@flyte.trace
async def steps(n: int) -> Any:
    for x in range(n):
        note("steps")
        yield x


@flyte.trace
async def failing_step(recoverable: bool) -> None:
    note("failing")
    raise ValueError("again") if recoverable else NonRecoverableError("never")


async def test_a_traced_step_is_remembered_by_the_next_attempt() -> None:
    @env.task(retries=1)
    async def traced() -> list[Any]:
        results = [await step(1), await step(1), await step(2), [x async for x in steps(3)]]
        results.append(await asyncio.to_thread(sync_step, 10))
        if note("attempt") == 1:
            raise RuntimeError("again")
        return results

    first = dt.date(2026, 1, 1)
    result = await output(traced)
    assert result == [first, first, dt.date(2026, 1, 2), [0, 1, 2], 11]
    assert len(seen["step"]) == 3
    assert len(seen["steps"]) == 3
    assert len(seen["sync step"]) == 1
    assert "a0" not in seen["step"]


async def test_a_run_that_a_traced_function_starts_may_call_tasks() -> None:
    @flyte.trace
    async def starts() -> list[int]:
        run = await flyte.with_runcontext("local").run.aio(parent, 2)
        await run.wait.aio()
        return list((await run.outputs.aio())[0])

    @env.task
    async def traced() -> list[int]:
        return await starts()

    assert await output(traced) == [0, 2]


async def test_of_errors_only_the_final_ones_are_remembered() -> None:
    @env.task(retries=2)
    async def traced(recoverable: bool) -> None:
        note("attempt")
        try:
            await failing_step(recoverable)
        except NonRecoverableError:
            raise RuntimeError("try me again") from None

    await finish(traced, True)
    assert (len(seen["attempt"]), len(seen["failing"])) == (3, 3)
    seen.clear()
    await finish(traced, False)
    assert (len(seen["attempt"]), len(seen["failing"])) == (3, 1)


async def test_outside_an_action_a_traced_function_is_itself() -> None:
    assert await step(3) == dt.date(2026, 1, 3)
    assert sync_step(1) == 2
    assert [x async for x in steps(2)] == [0, 1]


@flyte.trace
def echoes(n: int) -> Generator[Any, Any, str]:
    """Gives what was sent, or the name of what was thrown; then how many there were."""
    got: Any = "begun"
    try:
        for _ in range(n):
            try:
                got = yield got
            except LookupError as error:
                got = type(error).__name__
        note("ended", flyte.ctx().action.name)
        return f"{n} echoes"
    finally:
        note("cleaned up")


@flyte.trace
async def async_echoes(n: int) -> AsyncGenerator[Any, Any]:
    got: Any = "begun"
    try:
        for _ in range(n):
            try:
                got = yield got
            except LookupError as error:
                got = type(error).__name__
        note("ended", flyte.ctx().action.name)
    finally:
        await asyncio.sleep(0)
        note("cleaned up")


def converse() -> list[Any]:
    """What `echoes` gives when it is spoken to in every way."""
    got: list[Any] = []

    def all_of_it() -> Generator[Any, Any, None]:
        got.append((yield from echoes(4)))

    talk = all_of_it()
    said = [next(talk), talk.send(1), talk.throw(KeyError("x")), talk.send([2])]
    assert next(talk, None) is None
    return said + got


async def async_converse() -> list[Any]:
    talk = async_echoes(4)
    said = [await anext(talk), await talk.asend(1), await talk.athrow(KeyError("x")), await talk.asend([2])]
    assert await anext(talk, None) is None
    return said


async def test_a_traced_generator_takes_what_is_sent_and_thrown_and_returns_its_value() -> None:
    said = ["begun", 1, "KeyError", [2], "4 echoes"]

    @env.task
    def talks() -> list[Any]:
        return converse()

    @env.task
    async def talks_async() -> list[Any]:
        return await async_converse()

    assert converse() == said
    assert await async_converse() == said[:4]
    assert seen["ended"] == [None, None]
    assert await output(talks) == said
    assert await output(talks_async) == said[:4]
    assert len(seen["cleaned up"]) == 4
    assert inspect.isgeneratorfunction(echoes)
    assert inspect.isasyncgenfunction(async_echoes)


async def test_a_traced_generator_that_came_to_its_end_is_remembered_with_what_it_returned() -> None:
    @env.task(retries=1)
    def traced() -> list[Any]:
        got: list[Any] = []

        def reads() -> Generator[Any, Any, None]:
            got.append((yield from echoes(2)))

        for item in reads():
            got.append(item)
        if note("attempt") == 1:
            raise RuntimeError("again")
        return got

    assert await output(traced) == ["begun", None, "2 echoes"]
    assert len(seen["ended"]) == 1


async def test_the_reader_of_a_traced_generator_may_call_tasks_and_the_generator_may_not() -> None:
    @flyte.trace
    def calls() -> Any:
        yield "first"
        yield add(1)

    @flyte.trace
    async def calls_async() -> Any:
        yield "first"
        yield await double(1)

    @env.task
    def reads() -> int:
        numbers = calls()
        assert next(numbers) == "first"
        assert flyte.ctx().action.name == "a0"
        total = add(1)
        with pytest.raises(TraceDoesNotAllowNestedTasksError, match=r"local\.add"):
            next(numbers)
        return total

    @env.task
    async def reads_async() -> int:
        numbers = calls_async()
        assert await anext(numbers) == "first"
        assert flyte.ctx().action.name == "a0"
        total = await double(1)
        with pytest.raises(TraceDoesNotAllowNestedTasksError, match=r"local\.double"):
            await anext(numbers)
        return total

    assert await output(reads) == 2
    assert await output(reads_async) == 2


async def test_a_traced_generator_that_is_left_early_is_closed_before_its_reader_goes_on() -> None:
    def leaves() -> None:
        talk = echoes(4)
        next(talk)
        talk.close()
        note("gone on", len(seen["cleaned up"]))

    async def leaves_async() -> None:
        async with contextlib.aclosing(async_echoes(4)) as talk:
            await anext(talk)
        note("gone on", len(seen["cleaned up"]))

    @env.task
    def sync_reader() -> None:
        leaves()

    @env.task
    async def async_reader() -> None:
        await leaves_async()

    leaves()
    await leaves_async()
    await output(sync_reader)
    await output(async_reader)
    assert seen["gone on"] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_final_error_of_a_traced_generator_is_remembered(kind: str) -> None:
    @flyte.trace
    def gives_up() -> Any:
        yield note("begun")
        raise NonRecoverableError("never")

    @flyte.trace
    async def gives_up_async() -> Any:
        yield note("begun")
        raise NonRecoverableError("never")

    @env.task(retries=2)
    async def reads(kind: str) -> None:
        note("attempt")
        try:
            if kind == "sync":
                list(gives_up())
            else:
                [_ async for _ in gives_up_async()]
        except NonRecoverableError:
            raise RuntimeError("try me again") from None

    await finish(reads, kind)
    assert (len(seen["attempt"]), len(seen["begun"])) == (3, 1)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_outside_an_action_nothing_of_a_traced_generator_is_kept(kind: str) -> None:
    class Item:
        pass

    @flyte.trace
    def items() -> Any:
        while True:
            yield Item()

    @flyte.trace
    async def async_items() -> Any:
        while True:
            yield Item()

    if kind == "sync":
        endless = items()
        first = weakref.ref(next(endless))
        next(endless)
        assert first() is None
        endless.close()
    else:
        async_endless = async_items()
        first = weakref.ref(await anext(async_endless))
        await anext(async_endless)
        assert first() is None
        await async_endless.aclose()


# ----------------------------------------------------------------------------------------------------------- programs


Program = Callable[..., list[str]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs a program that declares `env`, within half a minute; what it printed. It must not complain of anything."""

    def run(text: str, *command: str, complaints: str = "") -> list[str]:
        script = tmp_path / "program.py"
        head = "import asyncio, sys, time, flyte\nenv = flyte.TaskEnvironment('env')\n"
        script.write_text(head + textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-W", "error", *(command or [str(script)])],
            env={"PYTHONPATH": str(Path(flyte.__file__).parents[1]), "HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stderr == complaints
        return done.stdout.splitlines()

    return run


def test_a_program_that_ends_waits_for_the_runs_it_started(program: Program) -> None:
    said = program("""
        from flyte._local.client import LocalClient
        from flyte._sync import syncable

        @env.task
        async def child(x: int) -> int:
            await asyncio.sleep(0.2)
            return x + 1

        @env.task
        def main(x: int) -> int:
            result = asyncio.run(child(x))
            print('finished', result, flush=True)
            return result

        syncable(LocalClient().create_local)(main, {'x': 41})
        print('end of program', flush=True)
    """)
    assert said == ["end of program", "finished 42"]


LATE_FAILURE = """
    import threading
    from flyte._local.client import LocalClient
    from flyte._sync import syncable

    ENDING = threading.Event()

    @env.task
    async def main() -> None:
        while not ENDING.is_set():
            await asyncio.sleep(0.01)
        FAIL

    syncable(LocalClient().create_local)(main, {}, name='late')
    threading._register_atexit(ENDING.set)
"""


def test_a_run_that_fails_after_the_program_has_ended_is_told_of(program: Program) -> None:
    failing = LATE_FAILURE.replace("FAIL", "raise ValueError('no such file')")
    program(
        failing,
        complaints="flyte: run late failed after the program had ended: ValueError: no such file\n",
    )


if sys.version_info[:2] == (3, 12):  # the only one that starts no thread while it waits for those that there are

    def test_python_3_12_starts_no_thread_for_a_run_that_outlives_the_program(program: Program) -> None:
        failing = LATE_FAILURE.replace("FAIL", "await asyncio.to_thread(time.sleep, 0)")
        program(
            failing,
            complaints="flyte: run late failed after the program had ended: RuntimeError: "
            "can't create new thread at interpreter shutdown\n"
            "flyte: Python starts no thread at that time; wait for the run first: run.wait()\n",
        )


LEAVERS = """
    @env.task
    async def leaves() -> None:
        sys.exit(3)

    @env.task
    async def leaves_below() -> None:
        await asyncio.create_task(leaves.forward())

    @env.task
    async def leaves_in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(leaves.forward())
            group.create_task(asyncio.sleep(60))

    @env.task
    async def leaves_unheard() -> None:
        task = asyncio.create_task(leaves.forward())
        await asyncio.wait([task])
        task.exception()

    @env.task
    async def interrupts() -> None:
        raise KeyboardInterrupt

    @env.task
    def stops() -> int:
        return next(iter([]))

    @env.task
    def cancels() -> None:
        raise asyncio.CancelledError

    @env.task
    async def asks(of: str) -> str:
        try:
            await globals()[of].aio()
        except flyte.errors.RuntimeUserError as error:
            return error.code
        return ""

    @env.task
    async def stays() -> str:
        return "still here"
"""


@pytest.mark.parametrize(
    ("task", "code"),
    [
        ("leaves", "TaskInterruptedError"),
        ("leaves_below", "TaskInterruptedError"),
        ("leaves_in_a_group", "TaskInterruptedError"),
        ("leaves_unheard", ""),
        ("interrupts", "TaskInterruptedError"),  # as on a platform
        ("stops", "RuntimeError"),
        ("cancels", "TaskInterruptedError"),
    ],
)
def test_whatever_ends_a_task_ends_its_action_only(program: Program, task: str, code: str) -> None:
    said = program(
        LEAVERS
        + f"""
    run = flyte.run({task})
    run.wait(quiet=True)
    print(run.phase, run.error_info.code if run.error_info else "")
    print("child:", *flyte.run(asks, {task!r}).outputs())
    print(*flyte.run(stays).outputs())
    """
    )
    assert said == [f"{'failed' if code else 'succeeded'} {code}", f"child: {code}", "still here"]


@pytest.mark.parametrize("of", ["square", "remembered", "starts", "knows"])
@pytest.mark.parametrize("how", ["squares", "squares_async"])
def test_in_a_process_pool_of_a_task_calls_are_plain_function_calls(program: Program, how: str, of: str) -> None:
    said = program(f"""
        import functools, multiprocessing, warnings
        from concurrent.futures import ProcessPoolExecutor

        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons', of a fork beside threads
        pool_of_two = functools.partial(ProcessPoolExecutor, 2, multiprocessing.get_context("fork"))

        @env.task
        def square(x: int) -> int:
            return x * x

        @flyte.trace
        def remembered(x: int) -> int:
            return square(x)

        @env.task
        def twice_removed(x: int) -> int:
            return square(x)

        def starts(x: int) -> int:
            return flyte.run(twice_removed, x).outputs()[0]

        def knows(x: int) -> int:
            return -1 if flyte.ctx() else x * x

        @env.task
        def squares(n: int, of: str) -> list[int]:
            with pool_of_two() as pool:
                return list(pool.map(globals()[of], range(n)))

        @env.task
        async def squares_async(n: int, of: str) -> list[int]:
            loop = asyncio.get_running_loop()
            with pool_of_two() as pool:
                return list(await asyncio.gather(*(loop.run_in_executor(pool, globals()[of], x) for x in range(n))))

        if __name__ == "__main__":
            print(*flyte.run({how}, 5, {of!r}).outputs()[0])
    """)
    assert said == ["0 1 4 9 16"]
