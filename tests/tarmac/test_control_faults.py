"""What the control plane makes of peers that come and go, code that does not start, and restarts at bad moments."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import phases, wire
from flyte.errors import RunAlreadyExistsError, TooLargeError
from flyte.wire import ActionPhase, EnvironmentSpec
from tarmac import settings as all_settings
from tarmac.store import Change, Delete
from tests.tarmac.fake_agent import Act, FakeWorker, Vanish
from tests.tarmac.house import House, eventually, open_house, task


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


# ----------------------------------------------------------------- links, workers and agents that come and go


async def test_a_call_that_was_cancelled_before_a_crash_does_not_run_on(house: House) -> None:
    """The worker says it again until the child's end is on disk, and the child ends while its parent goes on."""
    may_cancel, may_end = asyncio.Event(), asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            return await asyncio.Event().wait()
        call = asyncio.create_task(act.call("env.add", x=1))
        await may_cancel.wait()
        call.cancel()
        return await may_end.wait()

    house.behave = behave
    run = await house.run("env.tree")
    assert await eventually(lambda: len(house.agent.assigned) == 2)
    child = house.control.runs.live[run.name].children["a0"][0]
    house.disk.hold()
    may_cancel.set()
    assert await eventually(lambda: child.over)
    await house.crash("handed over")
    await house.up()
    alive = house.control.runs.live[run.name]
    assert await eventually(lambda: alive.actions[child.name].settled)
    row = alive.actions[child.name].row
    assert (row.phase, row.message) == (ActionPhase.ABORTED, "aborted: its caller was cancelled")
    assert not alive.root.over
    may_end.set()
    assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED


async def test_a_result_never_reaches_the_call_of_another_worker_that_has_the_same_number(house: House) -> None:
    """Each worker numbers its calls from 1; a parent's second attempt waits for other children than its first."""
    started: dict[int, asyncio.Event] = {1: asyncio.Event(), 2: asyncio.Event()}
    opens: dict[int, asyncio.Event] = {1: asyncio.Event(), 2: asyncio.Event()}

    async def behave(act: Act) -> Any:
        x = act.inputs["x"]
        if act.assign.task == "env.add":
            if x in opens:
                started[x].set()
                await opens[x].wait()
            return x
        number = act.assign.attempt
        call = asyncio.ensure_future(act.call("env.add", x=number))
        await asyncio.wait_for(started[number].wait(), 5)
        if number == 1:
            raise Vanish
        opens[1].set()  # the first attempt's child ends while this one's call of the same number is open
        children = house.control.runs.live[act.assign.run].children["a0"]
        assert await eventually(lambda: children[0].settled)
        assert (await act.call("env.add", x=3)).phase is ActionPhase.SUCCEEDED  # its answer comes behind any other
        assert not call.done()
        opens[2].set()
        return json.loads((await call).outputs.inline)  # type: ignore[union-attr,arg-type]

    house.environ["TARMAC_SLOTS"] = "8"
    await house.restart()
    house.behave = behave
    run = await house.result("tree")
    assert bytes(run.outputs or b"") == b"[[2]]"


async def test_an_order_that_was_lost_with_the_link_is_given_again(house: House) -> None:
    seen: list[int] = []

    async def behave(act: Act) -> Any:
        seen.append(act.assign.attempt)
        if act.assign.attempt == 1:
            worker = house.worker_of(act)
            worker.held.clear()  # as if it had never read the order
            worker.cut()
            await asyncio.sleep(60)
        return act.assign.attempt

    house.behave = behave
    run = await house.result("reused")
    assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[2]")


async def test_a_worker_that_makes_a_new_link_keeps_its_action(house: House) -> None:
    async def behave(act: Act) -> Any:
        known = house.control.dispatch.workers[house.worker_of(act).order.unit]
        before = known.link
        house.worker_of(act).cut()
        assert await eventually(lambda: known.link not in (None, before))
        return act.assign.attempt

    house.behave = behave
    for name in ("add", "reused"):
        run = await house.result(name)
        assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[1]")


async def test_the_loss_of_an_old_link_does_not_count_once_there_is_a_new_one(house: House) -> None:
    await house.result("reused")
    worker = next(w for w in house.control.dispatch.workers.values() if w.pool.reuse)
    old, new = worker.link, type("NewLink", (), {"send": lambda self, frame: None, "open": True})()
    assert old is not None
    worker.link = new
    house.control.dispatch.link_lost(worker, old)
    assert worker.link is new
    worker.link = old


async def test_a_reused_worker_that_dies_is_given_nothing_while_it_is_taken_down(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.attempt == 1 and act.inputs["x"] == 0:
            raise Vanish
        return act.inputs["x"]

    house.behave = behave
    runs = await asyncio.gather(*(house.run("reused", x=n) for n in range(4)))
    done = await asyncio.gather(*(house.control.runs.wait(run.name, 10) for run in runs))
    assert [run.phase for run in done] == [ActionPhase.SUCCEEDED] * 4


async def test_what_waits_behind_an_aborted_action_gets_another_process(house: House) -> None:
    """A reused worker whose action is aborted is ended; the next action must not be given to it before that."""
    started = asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.inputs["x"] == 1:
            started.set()
            await asyncio.sleep(60)
        return act.inputs["x"]

    house.behave = behave
    first = await house.run("reused", x=1)
    await asyncio.wait_for(started.wait(), 5)
    second = await house.run("reused", x=2)
    await house.control.runs.abort(first.name, "", "owner")
    done = await house.control.runs.wait(second.name, 10)
    assert (done.phase, done.attempt) == (ActionPhase.SUCCEEDED, 1)


async def test_a_reused_worker_whose_result_was_taken_before_a_restart_goes_on(house: House) -> None:
    """The answer to its Finished was lost with the control plane; that is no reason to end it."""
    await house.result("reused")
    worker = next(w for w in house.agent.workers.values() if w.order.reuse)
    last = house.agent.assigned[-1]
    worker.held[last.run, last.action] = wire.InFlight(run=last.run, action=last.action, attempt=last.attempt)
    worker.kept[last.run, last.action] = wire.Finished(
        run=last.run, action=last.action, attempt=last.attempt, outputs=wire.Value(inline=b"[2]")
    )
    stopped = len(house.agent.stopped)
    await house.restart()
    done = await house.result("reused", x=7)
    assert (done.phase, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[8]")
    assert worker.order.unit in house.agent.workers
    assert worker.order.unit not in [order.unit for order in house.agent.stopped[stopped:]]


async def test_a_worker_that_still_runs_what_was_given_to_another_is_ended(house: House) -> None:
    async def behave(act: Act) -> Any:
        await asyncio.sleep(60)

    house.behave = behave
    run = await house.run("add")
    assert await eventually(lambda: len(house.agent.assigned) == 1)
    worker = next(w for w in house.agent.workers.values() if w.held)
    (key,) = worker.held
    worker.held[key] = wire.InFlight(run=run.name, action="a0", attempt=7)
    await house.restart()
    assert await eventually(lambda: worker.order.unit in [order.unit for order in house.agent.stopped])


async def test_idle_workers_are_adopted_by_the_next_control_plane(house: House) -> None:
    await house.result("add")
    await house.result("reused")
    idle = set(house.agent.workers)
    assert idle
    control = await house.restart()
    assert await eventually(lambda: {w.unit for w in control.dispatch.workers.values() if w.link} >= idle)
    started = len(house.agent.started)
    reused = next(w for w in house.agent.workers.values() if w.order.reuse)
    assert (await house.result("reused", x=1)).phase is ActionPhase.SUCCEEDED
    assert house.agent.started[started:] == []
    assert reused.order.unit in house.agent.workers


async def test_an_idle_worker_is_not_taken_for_lost_when_it_is_given_work_at_last(house: House) -> None:
    control = await house.restart()
    lease = all_settings.load(house.home.path, house.environ).lease
    dispatch = control.dispatch
    dispatch.tidy_every = 1000 * lease  # this test calls `tidy` itself

    async def behave(act: Act) -> Any:
        link = dispatch.workers[house.worker_of(act).order.unit].link
        assert link is not None
        for _ in range(8):
            dispatch.tidy()
            assert await eventually(lambda: link.asked is None), "whoever is asked gives a heartbeat"
            house.clock.forward(lease / 3)
        return act.assign.attempt

    house.behave = behave
    for _ in range(3):
        assert await eventually(lambda: any(pool.idle for pool in dispatch.pools.values()) or not dispatch.pools)
        house.clock.forward(10 * lease)
        begun = await house.run("add")
        run = await control.runs.wait(begun.name, 100 * lease)  # by the clock that is put forward
        assert (run.phase, run.attempt) == (ActionPhase.SUCCEEDED, 1)


async def test_a_worker_that_stops_answering_is_lost_after_its_lease_whatever_the_wall_clock_does(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.environ["TARMAC_LEASE"] = "0.4"
    control = await house.restart()
    tidying = asyncio.ensure_future(control.keep_tidy())
    here = time.time

    async def behave(act: Act) -> Any:
        if act.assign.attempt == 1:
            house.worker_of(act).deaf = True
            monkeypatch.setattr(time, "time", lambda: here() - 3600)  # the clock is set back by an hour
            await asyncio.sleep(60)
        return act.assign.attempt

    house.behave = behave
    run = await house.result("add")
    tidying.cancel()
    assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[2]")


async def test_a_control_plane_that_was_stopped_itself_takes_nobody_for_lost(house: House) -> None:
    control = await house.restart()
    lease = all_settings.load(house.home.path, house.environ).lease
    started, go = asyncio.Event(), asyncio.Event()

    async def behave(act: Act) -> Any:
        started.set()
        await go.wait()
        return act.assign.attempt

    house.behave = behave
    run = await house.run("add")
    await asyncio.wait_for(started.wait(), 5)
    for worker in control.dispatch.workers.values():
        if worker.link is not None:
            worker.link.ping()
    house.clock.forward(3 * lease)  # this is the stop: nothing is read meanwhile
    control.dispatch.tidy()
    go.set()
    done = await control.runs.wait(run.name, 5)
    assert (done.phase, done.attempt) == (ActionPhase.SUCCEEDED, 1)


async def test_the_end_of_the_agent_costs_a_run_none_of_its_attempts(house: House) -> None:
    """Not even when it happens again and again: it is no fault of the run's."""
    rounds = 6

    async def behave(act: Act) -> Any:
        if act.assign.attempt <= rounds:
            house.agent.die()
            await asyncio.sleep(60)
        return act.assign.attempt

    house.behave = behave
    run = await house.result("add")
    assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[7]")


def elsewhere(name: str, environment: str) -> wire.TaskSpec:
    """A task in an environment of its own."""
    spec = task(name)
    changed = msgspec.structs.replace(spec.environment, name=environment, env_vars={"WHERE": environment})
    return msgspec.structs.replace(spec, name=f"{environment}.{name}", environment=changed)


async def test_what_ends_the_agent_whenever_it_is_started_is_given_up_and_what_started_beside_it_is_not(
    house: House,
) -> None:
    tasks = [elsewhere("bad", "bad"), elsewhere("other", "other")]
    await house.control.deployments.start(wire.DeployRequest(version="v1", root="/", tasks=tasks), "owner")
    house.agent.deadly.add("bad")
    bad, other, add = await asyncio.gather(*(house.result(name) for name in ("bad.bad", "other.other", "add")))
    assert bad.error is not None
    assert bad.error.message == (
        "the agent died 3 times in a row while it started a process for bad@v1; start the run again to try once more"
    )
    assert (bad.phase, other.phase, add.phase) == (ActionPhase.FAILED, ActionPhase.SUCCEEDED, ActionPhase.SUCCEEDED)
    assert house.agent.deaths == 3
    again = await house.result("bad.bad")
    assert (again.phase, house.agent.deaths) == (ActionPhase.FAILED, 4)
    house.agent.deadly.clear()
    assert (await house.result("bad.bad")).phase is ActionPhase.SUCCEEDED


# ----------------------------------------------------------------- code that does not start


async def test_code_that_cannot_be_imported_fails_what_waits_and_is_not_tried_for_ever(house: House) -> None:
    house.agent.broken = wire.ErrorInfo(code="ModuleLoadError", message="No module named 'pandas'")
    run = await house.result("stubborn")
    assert (run.phase, run.error and run.error.code) == (ActionPhase.FAILED, "ModuleLoadError")
    tries = len(house.agent.started)
    for number in range(5):
        house.control.dispatch.tidy()
        await probe(house, f"probe-{number}")
    assert [order.unit for order in house.agent.started[tries:]] == [f"probe-{number}" for number in range(5)]
    house.agent.broken = None
    assert (await house.result("stubborn")).phase is ActionPhase.SUCCEEDED


class Probe:
    """The owner of a unit that nobody needs."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def unit_started(self, unit: str, pid: int) -> None: ...
    def unit_ready(self, unit: str, address: str) -> None: ...
    def unit_waits(self, unit: str, message: str) -> None: ...
    def unit_exited(self, unit: str, exit: wire.UnitExited) -> None:
        self.ended.set()


async def probe(house: House, unit: str) -> None:
    """There and back between control plane and agent: whatever was ordered or told before has arrived."""
    owner = Probe()
    spec = wire.PoolSpec(id=unit, name=unit, python="", root="")
    assert house.control.agent.start(wire.StartUnit(unit=unit, kind="worker", pool=spec), owner)
    await asyncio.wait_for(owner.ended.wait(), 5)


async def test_an_import_that_was_lost_is_tried_again_and_fails_the_run_in_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "SYSTEM_RETRIES", 1)
    house.agent.broken = wire.ErrorInfo(code="WorkerLostError", message="it ended before it was done", kind="system")
    run = await house.result("add")
    assert (run.phase, run.error and run.error.code) == (ActionPhase.FAILED, "WorkerLostError")
    assert (await house.history(run.name))[-1] == (2, "failed")


async def test_processes_that_die_before_they_are_ready_fail_the_run_in_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "SYSTEM_RETRIES", 1)

    def start(worker: FakeWorker) -> None:
        house.agent.workers[worker.order.unit] = worker
        house.agent.exited(worker, signal=11)

    monkeypatch.setattr(house.agent, "_start", start)
    run = await house.result("add")
    assert (run.phase, run.error and run.error.code) == (ActionPhase.FAILED, "WorkerLostError")
    assert run.error
    assert "no worker of env@v1 lives long enough to take an action: killed by signal 11" in run.error.message


# ----------------------------------------------------------------- restarts in the middle of something


async def test_a_task_that_is_not_registered_any_more_does_not_keep_the_platform_from_starting(house: House) -> None:
    async def behave(act: Act) -> Any:
        await asyncio.sleep(60)

    house.behave = behave
    run = await house.run("add")
    gone = Delete("tasks", ("flytesnacks", "development", "env.add", "v1"))
    await house.store.write(Change(deletes=(gone,)))
    control = await house.restart()
    done = await control.runs.wait(run.name, 5)
    assert (done.phase, done.error and done.error.code) == (ActionPhase.FAILED, "RemoteTaskNotFoundError")


async def test_what_ended_runs_saved_is_removed_by_the_next_control_plane_at_the_latest(house: House) -> None:
    async def behave(act: Act) -> Any:
        await asyncio.sleep(60)

    over = await house.result("add")
    house.behave = behave
    live = await house.run("add")
    for run in (over, live):
        (house.home.checkpoints(run.name) / "a0").mkdir(parents=True)  # as if it died before it could remove the first
    await house.restart()
    assert await eventually(lambda: not house.home.checkpoints(over.name).exists())
    assert house.home.checkpoints(live.name).exists()


async def test_an_abort_during_the_pause_before_a_retry_is_the_end(house: House) -> None:
    async def behave(act: Act) -> Any:
        raise ValueError("no")

    house.behave = behave
    run = await house.run("patient")
    assert await eventually(lambda: "trying again in 60 s" in (house.control.runs.live[run.name].root.row.message))
    aborted = await house.control.runs.abort(run.name, "enough", "owner")
    assert aborted.phase is ActionPhase.ABORTED
    control = await house.restart()
    assert (await control.runs.get(run.name)).phase is ActionPhase.ABORTED
    assert control.dispatch.busy == 0


async def test_the_pause_before_a_retry_goes_on_after_a_restart(house: House) -> None:
    async def behave(act: Act) -> Any:
        raise ValueError("no")

    house.behave = behave
    run = await house.run("patient")
    assert await eventually(lambda: "trying again in 60 s" in (house.control.runs.live[run.name].root.row.message))
    control = await house.restart()
    timer = control.runs.live[run.name].root.timers["retry"]
    assert 50 < timer.when() - asyncio.get_running_loop().time() <= 60
    assert control.dispatch.pools == {} or not any(pool.queue for pool in control.dispatch.pools.values())


async def test_a_limit_goes_on_where_it_was_when_the_control_plane_restarts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of fifty seconds, twenty go by before each restart; in the end what is left."""
    started = asyncio.Event()

    async def behave(act: Act) -> Any:
        started.set()
        await asyncio.Event().wait()

    house.behave = behave
    run = await house.run("limited")
    await asyncio.wait_for(started.wait(), 5)
    control, wall, steady = house.control, time.time, time.clock_gettime
    for gone in (20, 40):
        monkeypatch.setattr(time, "time", lambda gone=gone: wall() + gone)
        monkeypatch.setattr(time, "clock_gettime", lambda clock, gone=gone: steady(clock) + gone)
        control = await house.restart()
        timers = control.runs.live[run.name].root.timers
        assert await eventually(lambda timers=timers: "max_runtime" in timers)  # type: ignore[misc]
        left = timers["max_runtime"].when() - house.clock.time()
        assert 50 - gone - 10 < left <= 50 - gone
    house.clock.forward(10)
    done = await control.runs.wait(run.name, 5)
    assert (done.phase, done.error and done.error.code) == (ActionPhase.TIMED_OUT, "MaxRuntimeExceededError")
    assert [order.reason for order in house.agent.stopped] == ["it ran longer than 50 s (max_runtime)"]


async def test_a_result_that_was_ready_in_time_counts_however_long_the_control_plane_was_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker finished within its fifty seconds, could tell nobody, and tells it when its limit has passed."""
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def behave(act: Act) -> Any:
        started.set()
        await goes_on.wait()
        return 7

    house.behave = behave
    run = await house.run("limited")
    await asyncio.wait_for(started.wait(), 5)
    live = house.control.runs.live[run.name]
    assert await eventually(lambda: live.shown is not None and live.shown.phase is ActionPhase.RUNNING)
    await house.crash()
    goes_on.set()
    wall, steady = time.time, time.clock_gettime
    monkeypatch.setattr(time, "time", lambda: wall() + 200)
    monkeypatch.setattr(time, "clock_gettime", lambda clock: steady(clock) + 200)
    control = await house.up()
    done = await control.runs.wait(run.name, 5)
    assert (done.phase, done.error) == (ActionPhase.SUCCEEDED, None)


async def test_the_attempt_after_a_lost_one_has_all_of_its_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker is lost with the control plane, which is away for longer than the attempt may run."""
    started = asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.assign.attempt == 1:
            started.set()
            await asyncio.Event().wait()
        return 7

    house.behave = behave
    run = await house.run("limited")
    await asyncio.wait_for(started.wait(), 5)
    live = house.control.runs.live[run.name]
    assert await eventually(lambda: live.shown is not None and live.shown.phase is ActionPhase.RUNNING)
    await house.crash()
    house.agent.lose(*house.agent.workers.values())
    wall, steady = time.time, time.clock_gettime
    monkeypatch.setattr(time, "time", lambda: wall() + 200)
    monkeypatch.setattr(time, "clock_gettime", lambda clock: steady(clock) + 200)
    control = await house.up()
    done = await control.runs.wait(run.name, 5)
    assert (done.phase, done.error) == (ActionPhase.SUCCEEDED, None)


async def test_thousands_of_queued_runs_are_taken_up_again_and_none_is_told_to_start(house: House) -> None:
    house.agent.broken = None
    hold = asyncio.Event()

    async def behave(act: Act) -> Any:
        await hold.wait()
        return act.inputs["x"]

    house.behave = behave
    runs = await asyncio.gather(*(house.run("reused", x=n) for n in range(2000)))
    before = house.control.journal.seq
    control = await house.restart()
    assert control.journal.seq - before < 50
    hold.set()
    done = await asyncio.gather(*(control.runs.wait(run.name, 30) for run in runs))
    assert {run.phase for run in done} == {ActionPhase.SUCCEEDED}
    assert [json.loads(bytes(run.outputs or b"")) for run in done] == [[n] for n in range(2000)]


async def test_a_deployment_that_was_under_way_has_failed_after_a_restart_and_says_so(house: House) -> None:
    house.agent.broken = wire.ErrorInfo(code="x", message="x")
    app = wire.AppSpec(
        name="front", environment=EnvironmentSpec(name="front", kind="app"), kind="command", argv=["sleep", "60"]
    )
    house.agent.broken = None
    request = wire.DeployRequest(version="v2", root="/", apps=[app], order={"front": []})
    deployment = await house.control.deployments.start(request, "owner")
    assert deployment.phase is wire.DeploymentPhase.RUNNING
    control = await house.restart()
    found = await control.deployments.get(deployment.id)
    assert found.phase is wire.DeploymentPhase.FAILED
    assert found.error
    assert "deploy again" in found.error.message


# ----------------------------------------------------------------- children and attempts


async def test_a_retried_parent_calls_again_what_failed_and_finds_what_did_not(house: House) -> None:
    ran: list[int] = []

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            ran.append(act.inputs["x"])
            if act.inputs["x"] == 2 and ran.count(2) == 1:
                raise ValueError("once")
            return act.inputs["x"]
        results = [await act.call("env.add", x=n) for n in (1, 2)]
        if any(result.error for result in results):
            raise ValueError("a child failed")
        return "done"

    house.behave = behave
    run = await house.result("flaky")
    assert (run.phase, run.attempt) == (ActionPhase.SUCCEEDED, 2)
    assert ran == [1, 2, 2]


async def test_a_parent_that_crashes_sees_the_same_failures_again(house: House) -> None:
    """What a child came to is part of the parent's history; only a retry of the user's asks for another."""
    ran: list[int] = []

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            ran.append(act.inputs["x"])
            raise ValueError("always")
        result = await act.call("env.add", x=1)
        if act.assign.attempt == 1:
            raise Vanish
        return result.error.code if result.error else "none"

    house.behave = behave
    run = await house.result("tree")
    assert bytes(run.outputs or b"") == b'["ValueError"]'
    assert ran == [1]


async def test_a_child_that_still_runs_is_attached_to_its_parents_next_attempt(house: House) -> None:
    ran: list[int] = []
    go = asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            ran.append(act.inputs["x"])
            await go.wait()
            return 5
        call = asyncio.ensure_future(act.call("env.add", x=1))
        if act.assign.attempt == 1:
            assert await eventually(lambda: ran == [1])
            raise Vanish
        go.set()
        return json.loads((await call).outputs.inline)[0]  # type: ignore[union-attr,arg-type]

    house.environ["TARMAC_SLOTS"] = "8"
    await house.restart()
    house.behave = behave
    run = await house.result("tree")
    assert (bytes(run.outputs or b""), ran) == (b"[5]", [1])


async def test_a_result_that_arrives_twice_is_taken_once(house: House) -> None:
    await house.result("reused")
    before = house.control.journal.seq
    last = house.agent.assigned[-1]
    worker = next(w for w in house.agent.workers.values() if w.order.reuse)
    assert worker.link is not None
    for _ in range(3):
        worker.link.send(
            wire.Finished(run=last.run, action=last.action, attempt=1, outputs=wire.Value(inline=b'["other"]'))
        )
    assert (await house.result("reused", x=4)).phase is ActionPhase.SUCCEEDED
    assert bytes((await house.control.runs.get(last.run)).outputs or b"") == b"[2]"
    events = await house.store.events(f"run/{last.run}/a0", before, 100)
    assert events == []


# ----------------------------------------------------------------- requests


async def test_a_name_that_is_taken_by_other_inputs_is_refused(house: House) -> None:
    first = await house.run("add", name="daily", x=1)
    assert (await house.run("add", name="daily", x=1)).name == first.name
    with pytest.raises(RunAlreadyExistsError, match="run 'daily' exists with other inputs"):
        await house.run("add", name="daily", x=2)


async def test_a_request_that_is_too_large_to_travel_is_refused(house: House) -> None:
    with pytest.raises(TooLargeError, match=r"is 2,.* bytes without its inputs; the limit is 1,048,576 bytes"):
        await house.run("add", env_vars={f"X{n}": "x" * 90_000 for n in range(23)})
    assert await house.control.runs.list(wire.Scope(), wire.RunFilter()) == []


async def test_the_event_log_has_no_gap_after_crashes(house: House) -> None:
    """Numbers that were given to events which never reached the disk are given again."""
    for _ in range(3):
        await asyncio.gather(*(house.result("add", x=n) for n in range(5)))
        house.disk.hold()
        lost = [asyncio.create_task(house.run("add", x=n)) for n in range(5)]
        given = house.control.journal.seq
        assert await eventually(lambda given=given: house.control.journal.seq >= given + 5)  # type: ignore[misc]
        for each in lost:
            each.cancel()
        await house.crash("handed over")
        assert (await house.up()).journal.seq <= given
    await house.result("add")
    with contextlib.closing(sqlite3.connect(house.home.database)) as connection:
        numbers = [seq for (seq,) in connection.execute("select seq from events order by seq")]
    assert len(numbers) > 15
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_clock_that_is_set_while_the_control_plane_is_away_times_nothing_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = asyncio.Event()

    async def behave(act: Act) -> Any:
        await opens.wait()
        return 1

    house.behave = behave
    run = await house.run("limited")
    assert await eventually(lambda: any(worker.held for worker in house.agent.workers.values()))
    await house.down()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    control = await house.up()
    opens.set()
    done = await control.runs.wait(run.name, 10)
    assert (done.phase, done.error) == (ActionPhase.SUCCEEDED, None)
