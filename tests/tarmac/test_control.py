"""The control plane's promises about runs, with a real store and real links; only the user's processes are stand-ins."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.errors import InvalidInputError, RemoteTaskNotFoundError, RunAlreadyExistsError, TooLargeError
from flyte.wire import ActionPhase, EnvironmentSpec, InputSpec, InterfaceSpec, RetrySpec, TaskSpec, TimeoutSpec
from tarmac import model
from tarmac import settings as all_settings
from tarmac.control import Control
from tarmac.control.links import listen
from tarmac.home import Home
from tarmac.store import Change, Delete, open_store

from tests.tarmac.fake_agent import Act, FakeAgent, FakeWorker, Vanish

X = InterfaceSpec(inputs=[InputSpec(name="x", schema={"type": "integer"}, type="int")])


def task(name: str, **changes: Any) -> TaskSpec:
    environment = EnvironmentSpec(name="env", kind="task", **changes.pop("environment", {}))
    return TaskSpec(name=f"env.{name}", entry=f"module:{name}", environment=environment, interface=X, **changes)


TASKS = [
    task("add"),
    task("tree"),
    task("flaky", retries=RetrySpec(count=2)),
    task("slow", timeout=TimeoutSpec(max_runtime=0.05)),
    task("limited", timeout=TimeoutSpec(max_runtime=0.5, deadline=30)),
    task("patient", retries=RetrySpec(count=1, base=60)),
    task("stubborn", retries=RetrySpec(count=1)),
    task("reused", environment={"reuse": wire.ReuseSpec(max_replicas=1)}),
]


class House:
    """A control plane that can be stopped and started again over the same folder."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.prepare()
        self.environ = {"TARMAC_SLOTS": "2", "TARMAC_SPARE_WORKERS": "1"}
        self.failures: list[BaseException] = []
        self.restarts = 0
        self.agent = FakeAgent(self.home.link_socket, self.home.token(), self._behave)
        self.behave: Callable[[Act], Any] = add_one

    async def _behave(self, act: Act) -> Any:
        return await self.behave(act)

    async def up(self) -> Control:
        self.store = await open_store("", self.home.database, "normal")
        settings = all_settings.load(self.home.path, self.environ)
        number = self.restarts

        def failed(error: BaseException) -> None:
            if self.restarts == number:  # else a timer of one that would be dead, were it a process
                self.failures.append(error)

        self.control = Control(self.store, self.home, settings, "http://127.0.0.1:1", 1, failed)
        await self.control.start()
        self.links = await listen(self.home.link_socket, self.control.accept)
        self.agent.run(self.agent.live())
        for worker in list(self.agent.workers.values()):
            self.agent.run(worker.live())
        return self.control

    async def down(self) -> None:
        self.restarts += 1
        self.links.close()
        for peer in [self.agent.link, *(worker.link for worker in self.agent.workers.values())]:
            if peer is not None:
                peer.close()
        await self.store.close()

    async def restart(self) -> Control:
        await self.down()
        return await self.up()

    def worker_of(self, act: Act) -> FakeWorker:
        """The worker that runs the action."""
        of = {unit: worker for unit, worker in self.agent.workers.items()}
        return next(w for w in of.values() if (act.assign.run, act.assign.action) in w.held)

    async def run(self, task_name: str, /, **options: Any) -> wire.Run:
        inputs = msgspec.Raw(json.dumps({"x": options.pop("x", 1)}).encode())
        run, _ = await self.control.create_run(wire.RunRequest(task=task_name, inputs=inputs, **options), "owner")
        return run

    async def result(self, task_name: str, /, **options: Any) -> wire.Run:
        run = await self.run(task_name, **options)
        return await self.control.wait(run.name, 10)

    async def history(self, run: str) -> list[tuple[int, str]]:
        """The root's (attempt, phase) pairs, as the event log has them."""
        events = await self.store.events(f"run/{run}/a0", 0, 1000)
        return [(event.attempt, event.phase) for event in events]


async def add_one(act: Act) -> Any:
    return act.inputs["x"] + 1


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path / "home")
    control = await house.up()
    await control.deploy(wire.DeployRequest(version="v1", root="/", tasks=TASKS), "owner")
    yield house
    await house.agent.close()
    with contextlib.suppress(OSError):
        await house.down()
    assert house.failures == []


async def test_a_run_goes_through_its_phases_and_gives_its_result(house: House) -> None:
    run = await house.result("env.add", x=41)
    assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[42]")
    phases = [phase for _, phase in await house.history(run.name)]
    assert phases[0] == "queued"
    assert phases[-2:] == ["running", "succeeded"]


async def test_a_run_that_was_acknowledged_is_on_disk(house: House) -> None:
    run = await house.run("add")
    assert await house.store.run(run.name) is not None
    root = await house.store.action(run.name, "a0")
    assert root is not None


async def test_a_terminal_phase_is_on_disk_before_anyone_hears_of_it(house: House) -> None:
    run = await house.result("add")
    root = await house.store.action(run.name, "a0")
    assert root is not None
    assert root.phase is run.phase is ActionPhase.SUCCEEDED


async def test_a_task_is_found_by_its_bare_name_and_a_wrong_name_lists_what_there_is(house: House) -> None:
    assert (await house.run("add")).task == "env.add"
    with pytest.raises(RemoteTaskNotFoundError, match=r"no task named 'sub' in flytesnacks/development; tasks there:"):
        await house.run("sub")
    with pytest.raises(RemoteTaskNotFoundError, match=r"no task named 'add' in .* at v7; versions there: v1"):
        await house.run("add", version="v7")


async def test_wrong_inputs_create_nothing(house: House) -> None:
    with pytest.raises(InvalidInputError, match="input 'x' of env.add is \"one\", not an int"):
        await house.run("add", x="one")
    assert await house.control.runs(project="flytesnacks", domain="development") == []


async def test_the_same_name_or_key_is_the_same_run_also_when_two_callers_race(house: House) -> None:
    named = await asyncio.gather(*(house.run("add", name="nightly") for _ in range(5)))
    keyed = await asyncio.gather(*(house.run("add", idempotency_key="delivery-7") for _ in range(5)))
    assert {run.name for run in named} == {"nightly"}
    assert len({run.name for run in keyed}) == 1
    with pytest.raises(RunAlreadyExistsError, match="run 'nightly' exists"):
        await house.run("flaky", name="nightly")


async def test_a_parent_gets_its_childrens_results(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            return act.inputs["x"] + 1
        results = await asyncio.gather(*(act.call("env.add", x=n) for n in range(20)))
        return sum(json.loads(result.outputs.inline)[0] for result in results if result.outputs)

    house.behave = behave
    run = await house.result("tree")
    assert bytes(run.outputs or b"") == b"[210]"
    assert (await house.control.run(run.name)).actions == 21


async def test_a_tree_deeper_than_the_slots_and_the_pool_does_not_lock_up(house: House) -> None:
    async def behave(act: Act) -> Any:
        depth = act.inputs["x"]
        if depth == 0:
            return 0
        result = await act.call(act.assign.task, x=depth - 1)
        return json.loads(result.outputs.inline)[0] + 1 if result.outputs else None

    house.behave = behave
    assert bytes((await house.result("tree", x=12)).outputs or b"") == b"[12]"
    assert bytes((await house.result("reused", x=6)).outputs or b"") == b"[6]"


async def test_a_failure_is_tried_again_as_often_as_the_task_says(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.attempt < 3:
            raise ValueError("not yet")
        return act.assign.attempt

    house.behave = behave
    run = await house.result("flaky")
    assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[3]")
    failed = await house.result("add")
    assert (failed.phase, failed.error and failed.error.code) == (ActionPhase.FAILED, "ValueError")
    attempts = (await house.control.action(run.name, "a0")).attempts
    assert [attempt.phase for attempt in attempts] == [ActionPhase.FAILED, ActionPhase.FAILED, ActionPhase.SUCCEEDED]


async def test_a_lost_worker_costs_no_retry_of_the_user(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.attempt < 3:
            raise Vanish
        return "back"

    house.behave = behave
    run = await house.result("add")
    assert (run.phase, run.attempt) == (ActionPhase.SUCCEEDED, 3)


async def test_a_worker_that_lost_its_action_cannot_finish_it(house: House) -> None:
    late: list[Act] = []

    async def behave(act: Act) -> Any:
        if act.assign.attempt == 1:
            late.append(act)
            raise Vanish
        return "second"

    house.behave = behave
    run = await house.run("add")
    assert bytes((await house.control.wait(run.name, 10)).outputs or b"") == b'["second"]'
    worker = house.control.dispatch.workers[next(iter(house.agent.workers))]
    stale = wire.Finished(run=run.name, action="a0", attempt=1, outputs=wire.Value(inline=b'["first"]'))
    worker.frame(stale)
    assert bytes((await house.control.run(run.name)).outputs or b"") == b'["second"]'


async def test_aborting_an_action_aborts_what_is_below_it_and_ends_the_processes(house: House) -> None:
    started = asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            started.set()
            await asyncio.sleep(60)
        await act.call("env.add", x=1)

    house.behave = behave
    run = await house.run("tree")
    await asyncio.wait_for(started.wait(), 5)
    aborted = await house.control.abort(run.name, "enough", "owner")
    assert aborted.phase is ActionPhase.ABORTED
    phases = {action.phase for action in await house.control.actions(run.name)}
    assert phases == {ActionPhase.ABORTED}
    assert await eventually(lambda: len(house.agent.stopped) == 2)


async def test_an_attempt_that_runs_too_long_times_out(house: House) -> None:
    async def behave(act: Act) -> Any:
        await asyncio.sleep(60)

    house.behave = behave
    run = await house.result("slow")
    assert (run.phase, run.error and run.error.code) == (ActionPhase.TIMED_OUT, "MaxRuntimeExceededError")


async def test_children_end_with_their_parent(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            await asyncio.sleep(60)
        calls = asyncio.ensure_future(act.call("env.add", x=1))
        await asyncio.wait([calls], timeout=0.05)
        return "early"

    house.behave = behave
    run = await house.result("tree")
    assert run.phase is ActionPhase.SUCCEEDED
    phases = {action.task: action.phase for action in await house.control.actions(run.name)}
    assert phases == {"env.tree": ActionPhase.SUCCEEDED, "env.add": ActionPhase.ABORTED}


async def test_a_watcher_gets_a_snapshot_and_every_later_event_once_and_in_order(house: House) -> None:
    go = asyncio.Event()

    async def behave(act: Act) -> Any:
        await go.wait()
        return 1

    house.behave = behave
    run = await house.run("add")
    seen = []
    async for kind, seq, record in house.control.watch_run(run.name, None, "root"):
        seen.append((kind, seq, str(record.phase)))
        go.set()
    assert seen[0][0] == "snapshot"
    assert seen[-1][2] == "succeeded"
    numbers = [seq for _, seq, _ in seen]
    assert numbers == sorted(set(numbers))
    again = [seq async for _, seq, _ in house.control.watch_run(run.name, numbers[0], "root")]
    assert again == numbers[1:]
    assert [seq async for _, seq, _ in house.control.watch_run(run.name, numbers[-1], "root")] == []


async def test_a_restarted_control_plane_finds_running_actions_and_does_not_start_them_again(house: House) -> None:
    go = asyncio.Event()

    async def behave(act: Act) -> Any:
        await go.wait()
        return "once"

    house.behave = behave
    run = await house.run("add")
    assert await eventually(lambda: len(house.agent.assigned) == 1)
    await house.down()
    control = await house.up()
    assert await eventually(lambda: control.dispatch.busy == 1)
    for worker in house.agent.workers.values():
        for held in worker.held.values():
            assert worker.link is not None
            worker.link.send(
                wire.Finished(
                    run=held.run, action=held.action, attempt=held.attempt, outputs=wire.Value(inline=b'["once"]')
                )
            )
    done = await control.wait(run.name, 10)
    assert (done.phase, done.attempt, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, 1, b'["once"]')
    assert len(house.agent.assigned) == 1
    go.set()


async def test_a_restarted_control_plane_starts_again_what_was_lost_with_its_worker(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.attempt == 1:
            await asyncio.sleep(60)
        return act.assign.attempt

    house.behave = behave
    run = await house.run("add")
    assert await eventually(lambda: len(house.agent.assigned) == 1)
    await house.down()
    house.agent.workers.clear()
    control = await house.up()
    done = await control.wait(run.name, 10)
    assert (done.phase, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[2]")


async def test_a_parent_that_runs_again_finds_its_finished_children(house: House) -> None:
    ran: list[int] = []

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            ran.append(act.inputs["x"])
            return act.inputs["x"]
        values = [json.loads((await act.call("env.add", x=n)).outputs.inline)[0] for n in range(3)]  # type: ignore[union-attr]
        if act.assign.attempt == 1:
            raise Vanish
        return values

    house.behave = behave
    run = await house.result("tree")
    assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[[0, 1, 2]]")
    assert ran == [0, 1, 2]


# ----------------------------------------------------------------- links, workers and agents that come and go


async def test_a_result_never_reaches_the_call_of_another_worker_that_has_the_same_number(house: House) -> None:
    """Each worker numbers its calls from 1; a parent's second attempt waits for other children than its first."""
    slow, quick = asyncio.Event(), asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            await (slow if act.inputs["x"] == 1 else quick).wait()
            return act.inputs["x"]
        if act.assign.attempt == 1:
            call = asyncio.ensure_future(act.call("env.add", x=1))
            await asyncio.wait([call], timeout=0.1)
            raise Vanish
        call = asyncio.ensure_future(act.call("env.add", x=2))
        await asyncio.wait([call], timeout=0.1)
        slow.set()  # the first attempt's child ends while this one's call of the same number is open
        await asyncio.wait([call], timeout=0.2)
        quick.set()
        return json.loads((await call).outputs.inline)  # type: ignore[union-attr]

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
        house.worker_of(act).cut()
        await asyncio.sleep(0.1)
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
    worker.lost(old)
    assert worker.link is new
    worker.link = old


async def test_a_reused_worker_that_dies_is_given_nothing_while_it_is_taken_down(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.attempt == 1 and act.inputs["x"] == 0:
            raise Vanish
        return act.inputs["x"]

    house.behave = behave
    runs = await asyncio.gather(*(house.run("reused", x=n) for n in range(4)))
    done = await asyncio.gather(*(house.control.wait(run.name, 10) for run in runs))
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
    await house.control.abort(first.name, "", "owner")
    done = await house.control.wait(second.name, 10)
    assert (done.phase, done.attempt) == (ActionPhase.SUCCEEDED, 1)


async def test_a_reused_worker_whose_result_was_taken_before_a_restart_goes_on(house: House) -> None:
    """The answer to its Finished was lost with the control plane; that is no reason to end it."""
    await house.result("reused")
    worker = next(w for w in house.agent.workers.values() if w.order.reuse)
    last = house.agent.assigned[-1]
    worker.held[last.run, last.action] = wire.Held(run=last.run, action=last.action, attempt=last.attempt)
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
    worker.held[key] = wire.Held(run=run.name, action="a0", attempt=7)
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
    house.environ["TARMAC_LEASE"] = "0.4"
    control = await house.restart()

    async def behave(act: Act) -> Any:
        await asyncio.sleep(0.6)
        return act.assign.attempt

    house.behave = behave
    await house.run("add")
    control.dispatch.tidy_every = 60  # this test calls `tidy` itself
    for _ in range(3):
        run = await house.run("add")
        while not (await control.wait(run.name, 0.1)).phase.is_terminal:
            control.dispatch.tidy()
        assert (await control.run(run.name)).attempt == 1


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
    house.environ["TARMAC_LEASE"] = "0.4"
    control = await house.restart()
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
    time.sleep(1)  # noqa: ASYNC251 - this is the stop: nothing is read for longer than a lease
    control.dispatch.tidy()
    await asyncio.sleep(0)
    go.set()
    done = await control.wait(run.name, 5)
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


# ----------------------------------------------------------------- code that does not start


async def test_code_that_cannot_be_imported_fails_what_waits_and_is_not_tried_for_ever(house: House) -> None:
    house.agent.broken = wire.ErrorInfo(code="ModuleLoadError", message="No module named 'pandas'")
    run = await house.result("stubborn")
    assert (run.phase, run.error and run.error.code) == (ActionPhase.FAILED, "ModuleLoadError")
    tries = len(house.agent.started)
    await asyncio.sleep(0.2)
    assert len(house.agent.started) == tries
    house.agent.broken = None
    assert (await house.result("stubborn")).phase is ActionPhase.SUCCEEDED


async def test_processes_that_die_before_they_are_ready_fail_the_run_in_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "SYSTEM_RETRIES", 1)

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
    done = await control.wait(run.name, 5)
    assert (done.phase, done.error and done.error.code) == (ActionPhase.FAILED, "RemoteTaskNotFoundError")


async def test_an_abort_during_the_pause_before_a_retry_is_the_end(house: House) -> None:
    async def behave(act: Act) -> Any:
        raise ValueError("no")

    house.behave = behave
    run = await house.run("patient")
    assert await eventually(lambda: "trying again in 60 s" in (house.control._runs.live[run.name].root.message))
    aborted = await house.control.abort(run.name, "enough", "owner")
    assert aborted.phase is ActionPhase.ABORTED
    control = await house.restart()
    assert (await control.run(run.name)).phase is ActionPhase.ABORTED
    assert control.dispatch.busy == 0


async def test_a_limit_goes_on_where_it_was_when_the_control_plane_restarts(house: House) -> None:
    async def behave(act: Act) -> Any:
        await asyncio.sleep(60)

    house.behave = behave
    began = time.monotonic()
    run = await house.run("limited")
    for _ in range(3):
        await asyncio.sleep(0.2)
        control = await house.restart()
    done = await control.wait(run.name, 5)
    assert (done.phase, done.error and done.error.code) == (ActionPhase.TIMED_OUT, "MaxRuntimeExceededError")
    assert time.monotonic() - began < 1.5


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
    done = await asyncio.gather(*(control.wait(run.name, 30) for run in runs))
    assert {run.phase for run in done} == {ActionPhase.SUCCEEDED}
    assert [json.loads(bytes(run.outputs or b"")) for run in done] == [[n] for n in range(2000)]


async def test_a_deployment_that_was_under_way_has_failed_after_a_restart_and_says_so(house: House) -> None:
    house.agent.broken = wire.ErrorInfo(code="x", message="x")
    app = wire.AppSpec(
        name="front", environment=EnvironmentSpec(name="front", kind="app"), kind="command", argv=["sleep", "60"]
    )
    house.agent.broken = None
    request = wire.DeployRequest(version="v2", root="/", apps=[app], order={"front": []})
    deployment = await house.control.deploy(request, "owner")
    assert deployment.phase is wire.DeploymentPhase.RUNNING
    control = await house.restart()
    found = await control.deployment(deployment.id)
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
            await asyncio.wait([call], timeout=0.1)
            raise Vanish
        go.set()
        return json.loads((await call).outputs.inline)[0]  # type: ignore[union-attr]

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
    assert bytes((await house.control.run(last.run)).outputs or b"") == b"[2]"
    events = await house.store.events(f"run/{last.run}/a0", before, 100)
    assert events == []


# ----------------------------------------------------------------- requests


async def test_a_name_that_is_taken_by_other_inputs_is_refused(house: House) -> None:
    first = await house.run("add", name="daily", x=1)
    assert (await house.run("add", name="daily", x=1)).name == first.name
    with pytest.raises(RunAlreadyExistsError, match="run 'daily' exists with other inputs"):
        await house.run("add", name="daily", x=2)


async def test_a_request_that_is_too_large_to_travel_is_refused(house: House) -> None:
    with pytest.raises(TooLargeError, match="is 2,.* bytes without its inputs; 1,048,576 go"):
        await house.run("add", env_vars={"X": "x" * 2_000_000})
    assert await house.control.runs(project="flytesnacks", domain="development") == []


async def test_the_event_log_has_no_gap_after_restarts(house: House) -> None:
    for _ in range(3):
        await asyncio.gather(*(house.result("add", x=n) for n in range(5)))
        await house.restart()
    numbers = [event.seq for event in await house.store.events("", 0, 1000)] or [
        seq for (seq,) in sqlite3.connect(house.home.database).execute("select seq from events order by seq")
    ]
    assert numbers == list(range(1, len(numbers) + 1))


async def eventually(fact: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether the fact comes true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not fact():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True


@pytest.mark.parametrize("options", [{"name": "no spaces"}, {"name": "x" * 101}, {"idempotency_key": "k" * 201}])
async def test_a_name_that_cannot_be_stored_everywhere_is_refused(house: House, options: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match=r"is no name for a run|1 to 200 printable characters"):
        await house.run("add", **options)
