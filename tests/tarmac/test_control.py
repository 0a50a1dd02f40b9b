"""The control plane's promises about runs, with a real store and real links; only the user's processes are stand-ins."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.errors import InvalidInputError, RemoteTaskNotFoundError, RunAlreadyExistsError
from flyte.wire import ActionPhase, EnvironmentSpec, InputSpec, InterfaceSpec, RetrySpec, TaskSpec, TimeoutSpec
from tarmac import settings as all_settings
from tarmac.control import Control
from tarmac.control.links import listen
from tarmac.home import Home
from tarmac.store import open_store

from tests.tarmac.fake_agent import Act, FakeAgent, Vanish

X = InterfaceSpec(inputs=[InputSpec(name="x", schema={"type": "integer"}, type="int")])


def task(name: str, **changes: Any) -> TaskSpec:
    environment = EnvironmentSpec(name="env", kind="task", **changes.pop("environment", {}))
    return TaskSpec(name=f"env.{name}", entry=f"module:{name}", environment=environment, interface=X, **changes)


TASKS = [
    task("add"),
    task("tree"),
    task("flaky", retries=RetrySpec(count=2)),
    task("slow", timeout=TimeoutSpec(max_runtime=0.05)),
    task("reused", environment={"reuse": wire.ReuseSpec(max_replicas=1)}),
]


class House:
    """A control plane that can be stopped and started again over the same folder."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.prepare()
        self.settings = all_settings.load(folder, {"TARMAC_SLOTS": "2", "TARMAC_SPARE_WORKERS": "1"})
        self.failures: list[BaseException] = []
        self.agent = FakeAgent(self.home.link_socket, self.home.token(), self._behave)
        self.behave: Callable[[Act], Any] = add_one

    async def _behave(self, act: Act) -> Any:
        return await self.behave(act)

    async def up(self) -> Control:
        self.store = await open_store("", self.home.database, "normal")
        self.control = Control(self.store, self.home, self.settings, "http://127.0.0.1:1", 1, self.failures.append)
        await self.control.start()
        self.links = await listen(self.home.link_socket, self.control.accept)
        self.agent.run(self.agent.live())
        for worker in list(self.agent.workers.values()):
            self.agent.run(worker.live())
        return self.control

    async def down(self) -> None:
        self.links.close()
        for peer in [self.agent.link, *(worker.link for worker in self.agent.workers.values())]:
            if peer is not None:
                peer.close()
        await self.store.close()

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


async def eventually(fact: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether the fact comes true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not fact():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True
