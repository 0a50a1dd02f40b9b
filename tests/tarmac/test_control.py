"""The control plane's promises about runs: created, carried out, tried again, aborted, watched, restarted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.errors import InvalidInputError, RemoteTaskNotFoundError, RunAlreadyExistsError, SystemUnavailableError
from flyte.wire import ActionPhase
from tarmac.control.inbox import WorkerPeer
from tests.tarmac.fake_agent import Act, Vanish
from tests.tarmac.house import TASKS, House, eventually, open_house, task


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def test_a_run_goes_through_its_phases_and_gives_its_result(house: House) -> None:
    run = await house.result("env.add", x=41)
    assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[42]")
    phases = [phase for _, phase in await house.history(run.name)]
    assert phases[0] == "queued"
    assert phases[-2:] == ["running", "succeeded"]


async def test_a_run_that_was_acknowledged_is_on_disk(house: House) -> None:
    run = await house.run("add")
    assert (await house.store.run(run.name)).found is not None
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


async def test_a_task_that_was_looked_at_before_shows_what_was_deployed_since(house: House) -> None:
    async def versions() -> tuple[str, list[str]]:
        shown = await house.control.tasks.get("flytesnacks", "development", "env.add")
        return shown.version, shown.versions

    assert await versions() == ("v1", ["v1"])
    assert await versions() == ("v1", ["v1"])
    await house.control.deployments.start(wire.DeployRequest(version="v2", root="/", tasks=TASKS), "owner")
    assert await versions() == ("v2", ["v2", "v1"])
    await house.restart()
    assert await versions() == ("v2", ["v2", "v1"])


async def test_a_task_is_unchanged_where_only_the_list_of_what_has_no_effect_differs(house: House) -> None:
    noted = [msgspec.structs.replace(spec, no_effect=["cache= has no effect"]) for spec in TASKS]
    again = await house.control.deployments.start(wire.DeployRequest(version="v1", root="/", tasks=noted), "owner")
    assert {env.phase for env in again.environments} == {"unchanged"}


async def test_more_than_the_machine_has_is_a_warning_and_an_error_if_strict(house: House) -> None:
    wanted = wire.EnvironmentSpec(name="env", kind="task", resources=wire.ResourcesSpec(cpu=5000, memory=2**60))
    tasks = [msgspec.structs.replace(spec, environment=wanted) for spec in TASKS]
    request = wire.DeployRequest(version="big", root="/", tasks=tasks)
    cores, memory = (await house.control.deployments.start(request, "owner")).warnings
    assert "5000 cores" in cores
    assert "1073741824.0 GiB" in memory
    strict = msgspec.structs.replace(request, version="bigger", strict=True)
    with pytest.raises(InvalidInputError, match=r"strict: .*5000 cores"):
        await house.control.deployments.start(strict, "owner")
    with pytest.raises(RemoteTaskNotFoundError):
        await house.run("add", version="bigger")


def mounting(*secrets: wire.SecretSpec) -> wire.DeployRequest:
    """The tasks, in an environment with these secrets."""
    wanted = wire.EnvironmentSpec(name="env", kind="task", secrets=list(secrets))
    tasks = [msgspec.structs.replace(spec, environment=wanted) for spec in TASKS]
    return wire.DeployRequest(version="mounts", root="/", tasks=tasks)


PEM = wire.SecretSpec(key="pem", env="PEM", mount="/etc/flyte/secrets")


@pytest.mark.parametrize(("profile", "warns"), [("tidy", False), ("links", True), ("open", True)])
async def test_a_secret_that_cannot_be_mounted_on_this_machine_is_a_warning_at_its_deployment(
    house: House, profile: str, warns: bool
) -> None:
    await house.control.secrets.create(wire.SecretRequest(name="pem", value="x"), "owner")
    house.home.isolation.write_text(json.dumps({"profile": profile, "reason": ""}))
    warnings = (await house.control.deployments.start(mounting(PEM), "owner")).warnings
    assert ["'env' mounts pem at /etc/flyte/secrets; no file is made" in line for line in warnings] == [True] * warns
    strict = msgspec.structs.replace(mounting(PEM), strict=True)
    with pytest.raises(InvalidInputError, match="mounts pem") if warns else contextlib.nullcontext():
        await house.control.deployments.start(strict, "owner")


async def test_a_secret_and_a_group_that_would_be_one_file_are_refused(house: House) -> None:
    for name in ("pem", "pem_key"):
        await house.control.secrets.create(wire.SecretRequest(name=name, value="x"), "owner")
    grouped = wire.SecretSpec(key="key", group="pem", env="KEY", mount="/etc/flyte/secrets")
    with pytest.raises(InvalidInputError, match="a secret and a group of secrets at /etc/flyte/secrets/pem"):
        await house.control.deployments.start(mounting(PEM, grouped), "owner")


async def deployed(house: House, version: str, **options: Any) -> str:
    """Deploy the tasks at a version, and say what the deployment says of their environment."""
    request = wire.DeployRequest(version=version, root=f"/{version}", tasks=TASKS, **options)
    found = await house.control.deployments.start(request, "owner")
    return found.environments[0].phase


async def latest(house: House) -> set[str]:
    """The version of `env.add` by every way of asking for the latest."""
    scope = ("flytesnacks", "development")
    listed = [task.version for task in await house.control.tasks.list(*scope) if task.name == "env.add"]
    shown = [await house.control.tasks.get(*scope, name) for name in ("env.add", "add")]
    versions = [task.version for task in shown] + [task.current for task in shown]
    return {*listed, *versions, (await house.run("add")).version, (await house.run("env.add")).version}


async def test_deploying_an_older_version_goes_back_to_it(house: House) -> None:
    assert await deployed(house, "good") == "ready"
    assert await deployed(house, "bad") == "ready"
    assert await latest(house) == {"bad"}
    assert await deployed(house, "good") == "ready"
    assert await latest(house) == {"good"}
    assert await deployed(house, "good") == "unchanged"
    await house.restart()
    assert await latest(house) == {"good"}


async def test_a_run_of_code_that_is_not_deployed_leaves_the_deployed_version_current(house: House) -> None:
    assert await deployed(house, "laptop", moves_current=False) == "ready"
    assert await deployed(house, "laptop", moves_current=False) == "unchanged"
    assert await latest(house) == {"v1"}
    assert (await house.result("add", version="laptop")).version == "laptop"
    assert await deployed(house, "laptop") == "ready"
    assert await latest(house) == {"laptop"}


async def test_a_task_that_was_never_deployed_is_current_at_what_was_run_last(house: House) -> None:
    spec = wire.TaskSpec(name="new.task", entry="m:t", environment=wire.EnvironmentSpec(name="new", kind="task"))

    async def current(version: str, *, moves_current: bool) -> str:
        request = wire.DeployRequest(version=version, root="/", tasks=[spec], moves_current=moves_current)
        await house.control.deployments.start(request, "owner")
        return (await house.control.tasks.get("flytesnacks", "development", "new.task")).version

    assert [await current(version, moves_current=False) for version in ("a", "b", "a")] == ["a", "b", "a"]
    assert await current("a", moves_current=True) == "a"
    assert await current("b", moves_current=False) == "a"


async def test_a_fresh_key_that_comes_twice_starts_one_run(house: House) -> None:
    """A call that broke is made again as one that may have been heard; its first words may still arrive after it."""
    request = wire.RunRequest(task="add", inputs=msgspec.Raw(b'{"x": 1}'), idempotency_key="made-for-it")
    runs = [await house.control.runs.create(request, "owner", fresh=fresh) for fresh in (True, False, True)]
    assert [created for _, created in runs] == [True, False, False]
    assert len({run.name for run, _ in runs}) == 1


async def test_a_caller_that_hangs_up_too_early_and_calls_again_finds_its_run(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call ends with its connection, in the middle of the commit; what it began goes on."""
    begun, goes_on = asyncio.Event(), asyncio.Event()
    commit = house.control.journal.commit

    async def held(*change: Any) -> None:
        begun.set()
        await goes_on.wait()
        await commit(*change)

    monkeypatch.setattr(house.control.journal, "commit", held)
    request = wire.RunRequest(task="add", inputs=msgspec.Raw(b'{"x": 1}'), idempotency_key="key")
    calls = [asyncio.ensure_future(house.control.runs.create(request, "owner")) for _ in range(2)]
    await begun.wait()
    calls[0].cancel()
    await asyncio.wait(calls[:1])
    goes_on.set()
    run, created = await calls[1]
    assert (calls[0].cancelled(), created) == (True, False)
    assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED
    assert len(await house.control.runs.list(wire.Scope(), wire.RunFilter())) == 1


async def test_a_page_of_runs_begins_after_the_last_of_the_page_before(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when all of them were created in the same instant."""
    monkeypatch.setattr("tarmac.control.runs.runs.time.time", lambda: 1_700_000_000.0)
    names = {(await house.run("add")).name for _ in range(5)}
    listed = partial(house.control.runs.list, wire.Scope())
    found = [run.name for run in await listed(wire.RunFilter(limit=2))]
    while page := await listed(wire.RunFilter(limit=2, before_run=found[-1])):
        found += [run.name for run in page]
    assert (len(found), set(found)) == (5, names)


async def test_wrong_inputs_create_nothing(house: House) -> None:
    with pytest.raises(InvalidInputError, match=r"input 'x' of env\.add is \"one\", not an int"):
        await house.run("add", x="one")
    assert await house.control.runs.list(wire.Scope(), wire.RunFilter()) == []


@pytest.mark.parametrize("options", [{"name": "no spaces"}, {"name": "x" * 101}, {"idempotency_key": "k" * 201}])
async def test_a_name_that_cannot_be_stored_everywhere_is_refused(house: House, options: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match=r"run name .* must be 1 to 100|1 to 200 printable characters"):
        await house.run("add", **options)


async def test_the_same_name_or_key_is_the_same_run_also_when_two_callers_race(house: House) -> None:
    named = await asyncio.gather(*(house.run("add", name="nightly") for _ in range(5)))
    keyed = await asyncio.gather(*(house.run("add", idempotency_key="delivery-7") for _ in range(5)))
    assert {run.name for run in named} == {"nightly"}
    assert len({run.name for run in keyed}) == 1
    with pytest.raises(RunAlreadyExistsError, match="run 'nightly' exists"):
        await house.run("flaky", name="nightly")


async def test_a_key_that_comes_with_the_name_of_a_run_means_that_run_from_then_on(house: House) -> None:
    first = await house.run("add", name="nightly", idempotency_key="k1")
    assert (await house.run("add", name="nightly", idempotency_key="k2")).name == first.name
    await house.restart()
    for key in ("k1", "k2"):
        assert (await house.run("add", idempotency_key=key)).name == "nightly"
        assert (await house.run("add", name="nightly", idempotency_key=key)).name == "nightly"
    assert len(await house.control.runs.list(wire.Scope(), wire.RunFilter())) == 1


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"x": 2}, "which has other inputs"),
        ({"task": "flaky"}, r"which runs env\.add"),
        ({"name": "another"}, "not the one that is named here"),
        ({"name": "there"}, "not the one that is named here"),
    ],
)
async def test_a_key_that_comes_with_another_call_is_refused(house: House, other: dict[str, Any], why: str) -> None:
    """Whether it is the key that started the run or one that came later."""
    await house.run("add", name="there")
    run = await house.run("add", name="mine", idempotency_key="k1")
    await house.run("add", name="mine", idempotency_key="k2")
    for key in ("k1", "k2"):
        with pytest.raises(RunAlreadyExistsError, match=rf"key '{key}' belongs to run 'mine', {why}"):
            await house.run(
                other.get("task", "add"), idempotency_key=key, **{k: v for k, v in other.items() if k != "task"}
            )
    assert (await house.run("add", idempotency_key="k1")).name == run.name
    assert len(await house.control.runs.list(wire.Scope(), wire.RunFilter())) == 2


async def test_the_reports_of_an_action_are_read_at_once_and_are_not_in_its_events(house: House) -> None:
    async def behave(act: Act) -> Any:
        for page in range(3):
            act.progress({"report": f"<p>{page} of {act.assign.attempt}</p>" + "x" * 100_000, "other": page})
        if act.assign.attempt < 3:
            raise ValueError("once more")

    house.behave = behave
    run = await house.run("flaky")
    assert (await house.control.runs.wait(run.name, 10)).attempt == 3
    for attempt, number in ((None, 3), (1, 1), (2, 2)):
        report = await house.control.actions.report(run.name, "a0", attempt)
        assert (report.attempt, report.html[:13]) == (number, f"<p>2 of {number}</p>")
    told = [event.body["progress"] for event in await house.store.events(f"run/{run.name}/a0") if event.body]
    assert told == [{"report": {"characters": 100_013}, "other": page} for _ in range(3) for page in range(3)]


async def test_a_parent_gets_its_childrens_results(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            return act.inputs["x"] + 1
        results = await asyncio.gather(*(act.call("env.add", x=n) for n in range(20)))
        return sum(json.loads(result.outputs.inline or b"")[0] for result in results if result.outputs)

    house.behave = behave
    run = await house.result("tree")
    assert bytes(run.outputs or b"") == b"[210]"
    assert (await house.control.runs.get(run.name)).actions == 21


ELSEWHERE = wire.ImageSpec(name="as another Python evaluates the declaration")
OVERRIDES = {
    "another image": msgspec.json.encode(task("add", environment={"image": ELSEWHERE})),
    "other bytes": msgspec.json.format(msgspec.json.encode(task("add")), indent=2),
}


@pytest.mark.parametrize("overrides", OVERRIDES.values(), ids=OVERRIDES)
async def test_an_overridden_call_starts_its_child_in_whatever_words_the_override_is_written(
    house: House, overrides: bytes
) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            return act.inputs["x"] + 1
        results = [await act.call("env.add", overrides=overrides, x=n) for n in range(3)]
        return [json.loads(result.outputs.inline or b"")[0] for result in results if result.outputs]

    house.behave = behave
    assert bytes((await house.result("tree")).outputs or b"") == b"[[1, 2, 3]]"


async def test_a_tree_deeper_than_the_slots_and_the_pool_does_not_lock_up(house: House) -> None:
    async def behave(act: Act) -> Any:
        depth = act.inputs["x"]
        if depth == 0:
            return 0
        result = await act.call(act.assign.task, x=depth - 1)
        return json.loads(result.outputs.inline or b"")[0] + 1 if result.outputs else None

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
    attempts = (await house.control.actions.get(run.name, "a0")).attempts
    assert [attempt.phase for attempt in attempts] == [ActionPhase.FAILED, ActionPhase.FAILED, ActionPhase.SUCCEEDED]


async def test_a_lost_worker_costs_no_retry_of_the_user(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.attempt < 3:
            raise Vanish
        return "back"

    house.behave = behave
    run = await house.result("add")
    assert (run.phase, run.attempt) == (ActionPhase.SUCCEEDED, 3)


STALE: list[Callable[[str, int], wire.AnyFrame]] = [
    lambda run, attempt: wire.Finished(run=run, action="a0", attempt=attempt, outputs=wire.Value(inline=b'["first"]')),
    lambda run, attempt: wire.Finished(
        run=run, action="a0", attempt=attempt, error=wire.ErrorInfo(code="ValueError", message="of long ago")
    ),
    lambda run, attempt: wire.Call(
        key=1, run=run, action="a0", attempt=attempt, task="env.add", inputs=wire.Value(inline=b'{"x": 1}')
    ),
]
"""What a worker may still say of an action, and must not be heard with when it is not its own."""


@pytest.mark.parametrize("stale", STALE, ids=["result", "error", "call"])
async def test_a_worker_that_lost_its_action_cannot_finish_it_or_act_for_it(
    house: House, stale: Callable[[str, int], wire.AnyFrame]
) -> None:
    """Neither the first attempt's words while the second runs, nor the second's from a worker that does not have it."""
    second: list[Act] = []
    opens = asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.assign.attempt == 1:
            raise Vanish
        second.append(act)
        await opens.wait()
        return "second"

    house.behave = behave
    run = await house.run("add")
    assert await eventually(lambda: bool(second))
    owner = house.worker_of(second[0])
    owner.lingers = True  # what it gets for an answer is not for its own action
    assert await eventually(lambda: any(w.link for w in house.control.dispatch.workers.values() if not w.actions))
    stranger = next(w for w in house.control.dispatch.workers.values() if w.link and not w.actions)
    for worker, attempt in ((house.control.dispatch.workers[owner.order.unit], 1), (stranger, 2), (stranger, 1)):
        WorkerPeer(worker, house.control._inbox).frame(stale(run.name, attempt))
        root = house.control.runs.live[run.name].root
        assert (root.phase, root.attempt, root.waiting) == (ActionPhase.RUNNING, 2, 0)
    opens.set()
    done = await house.control.runs.wait(run.name, 10)
    assert (done.phase, done.attempt, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, 2, b'["second"]')
    assert (done.actions, len(await house.control.actions.list(run.name))) == (1, 1)


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
    aborted = await house.control.runs.abort(run.name, "enough", "owner")
    assert aborted.phase is ActionPhase.ABORTED
    phases = {action.phase for action in await house.control.actions.list(run.name)}
    assert phases == {ActionPhase.ABORTED}
    assert await eventually(lambda: len(house.agent.stopped) == 2)


async def test_an_attempt_that_runs_too_long_times_out(house: House) -> None:
    async def behave(act: Act) -> Any:
        await asyncio.sleep(60)

    house.behave = behave
    run = await house.result("slow")
    assert (run.phase, run.error and run.error.code) == (ActionPhase.TIMED_OUT, "MaxRuntimeExceededError")


async def test_children_end_with_their_parent(house: House) -> None:
    started = asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            started.set()
            await asyncio.Event().wait()
        calling = asyncio.ensure_future(act.call("env.add", x=1))
        await asyncio.wait_for(started.wait(), 5)
        assert not calling.done()
        return "early"

    house.behave = behave
    run = await house.result("tree")
    assert run.phase is ActionPhase.SUCCEEDED
    phases = {action.task: action.phase for action in await house.control.actions.list(run.name)}
    assert phases == {"env.tree": ActionPhase.SUCCEEDED, "env.add": ActionPhase.ABORTED}


async def test_a_watcher_gets_a_snapshot_and_every_later_event_once_and_in_order(house: House) -> None:
    go = asyncio.Event()

    async def behave(act: Act) -> Any:
        await go.wait()
        return 1

    house.behave = behave
    run = await house.run("add")
    seen = []
    async for kind, seq, record in house.control.watching.run(run.name, None, "root"):
        seen.append((kind, seq, str(record.phase)))
        go.set()
    assert seen[0][0] == "snapshot"
    assert seen[-1][2] == "succeeded"
    numbers = [seq for _, seq, _ in seen]
    assert numbers == sorted(set(numbers))
    again = [seq async for _, seq, _ in house.control.watching.run(run.name, numbers[0], "root")]
    assert again == numbers[1:]
    assert [seq async for _, seq, _ in house.control.watching.run(run.name, numbers[-1], "root")] == []


async def _ends_by_failure(house: House, run: str) -> None:
    """The parent's own doing: its gather has failed."""


async def _ends_by_time(house: House, run: str) -> None:
    house.clock.forward(50)


async def _ends_by_abort(house: House, run: str) -> None:
    await house.control.runs.abort(run, "enough", "owner")


@pytest.mark.parametrize(
    ("task", "ends", "phase"),
    [
        ("tree", _ends_by_failure, "failed"),
        ("tree", _ends_by_abort, "aborted"),
        ("limited", _ends_by_time, "timed_out"),
    ],
)
async def test_a_watcher_of_all_actions_hears_of_every_end_and_of_the_roots_last(
    house: House, task: str, ends: Callable[[House, str], Awaitable[None]], phase: str
) -> None:
    """Children, and what is below them, end because the root does; also for whoever comes back for the rest."""
    deep = asyncio.Event()

    async def behave(act: Act) -> Any:
        depth = act.inputs["x"]
        if depth == 0:
            deep.set()
            await asyncio.sleep(60)
        if depth == 3 and ends is _ends_by_failure:
            calls = asyncio.ensure_future(act.call("env.tree", x=depth - 1))
            await asyncio.wait([calls, asyncio.ensure_future(deep.wait())], return_when=asyncio.FIRST_COMPLETED)
            raise ValueError("one of them failed")
        await act.call("env.tree", x=depth - 1)

    house.behave = behave
    run = await house.run(task, x=3)
    watched = asyncio.ensure_future(_watched(house, run.name, None))
    await asyncio.wait_for(deep.wait(), 5)
    before = house.control.journal.seq
    await ends(house, run.name)
    seen = await asyncio.wait_for(watched, 5)
    last = {subject: told for _, subject, told in seen}
    children = [last[f"run/{run.name}/{action.name}"] for action in await house.control.actions.list(run.name)][1:]
    assert children == ["aborted"] * 3
    assert seen[-1][1:] == (f"run/{run.name}/a0", phase)
    numbers = [seq for seq, _, _ in seen]
    assert numbers == sorted(set(numbers))
    for offset in (before, numbers[-2]):
        assert await _watched(house, run.name, offset) == [each for each in seen if each[0] > offset]
    assert (await house.control.runs.get(run.name)).seq == numbers[-1]


async def _watched(house: House, run: str, after: int | None) -> list[tuple[int, str, str]]:
    """(number, subject, phase) of every event."""
    stream = house.control.watching.run(run, after, "all")
    return [(seq, record.subject, record.phase) async for kind, seq, record in stream if kind == "event"]


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
    done = await control.runs.wait(run.name, 10)
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
    done = await control.runs.wait(run.name, 10)
    assert (done.phase, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[2]")


async def test_a_parent_that_runs_again_finds_its_finished_children(house: House) -> None:
    ran: list[int] = []

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.add":
            ran.append(act.inputs["x"])
            return act.inputs["x"]
        values = [json.loads((await act.call("env.add", x=n)).outputs.inline)[0] for n in range(3)]  # type: ignore[union-attr,arg-type]
        if act.assign.attempt == 1:
            raise Vanish
        return values

    house.behave = behave
    run = await house.result("tree")
    assert (run.phase, bytes(run.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[[0, 1, 2]]")
    assert ran == [0, 1, 2]


async def test_what_was_stopped_with_the_platform_did_not_fail_and_is_run_again(house: House) -> None:
    """One worker is heard to end while the platform stops, and one is found to be gone by the next control plane."""
    begun: list[Act] = []

    async def behave(act: Act) -> Any:
        begun.append(act)
        if act.assign.attempt == 1:
            await asyncio.Event().wait()
        return act.inputs["x"]

    house.behave = behave
    runs = [await house.run("add", x=x) for x in (1, 2)]
    assert await eventually(lambda: len(begun) == 2)
    house.home.stopping.touch()
    first, second = (house.worker_of(act) for act in sorted(begun, key=lambda act: int(act.inputs["x"])))
    house.agent.exited(first, signal=15)
    assert await eventually(lambda: len(begun) == 3)
    house.agent.lose(second)
    await house.restart()
    for run in runs:
        assert (await house.control.runs.wait(run.name, 10)).phase is ActionPhase.SUCCEEDED
        attempts = (await house.control.actions.get(run.name, "a0")).attempts
        assert [attempt.phase.value for attempt in attempts] == ["aborted", "succeeded"]
        assert attempts[0].error is not None
        assert attempts[0].error.message == "stopped by `flyte down`"
        root = await house.store.action(run.name, "a0")
        assert root is not None
        assert (root.user_failures, root.system_failures) == (0, 0)
        events = await house.store.events(f"run/{run.name}/a0", 0, 1000)
        assert any(event.message.startswith("attempt 1 stopped by `flyte down`, trying again") for event in events)
    assert not house.home.stopping.exists()


async def test_who_did_it_is_in_the_event_of_every_change(house: House) -> None:
    control, scope = house.control, ("flytesnacks", "development")

    async def blocks(act: Act) -> Any:
        await asyncio.Event().wait()

    house.behave = blocks
    run = await house.run("add")
    await control.runs.abort(run.name, "enough", "ann")
    deployment = await control.deployments.start(wire.DeployRequest(version="v1", root="/", tasks=TASKS), "ben")
    deployed_by = deployment.created_by
    await control.secrets.create(wire.SecretRequest(name="s", value="1"), "cleo")
    await control.secrets.create(wire.SecretRequest(name="s", value="2"), "dora")
    await control.secrets.delete(*scope, "s", "ed")
    key = await control.keys.create(wire.KeyRequest(name="ci"), "fred")
    with contextlib.suppress(SystemUnavailableError):  # there is no gateway that could confirm it
        await control.keys.delete(key.id, "gina")
    await control.projects.create(wire.Project(id="shop"), "hal")
    await control.projects.update(wire.Project(id="shop", name="Shop"), "ida")

    async def told(subject: str) -> list[tuple[str, str]]:
        events = await house.store.events(subject, 0, 1000)
        return [(event.phase, event.body["by"]) for event in events if "by" in event.body]

    assert await told(f"run/{run.name}/a0") == [("aborted", "ann")]
    assert deployed_by == "ben"
    assert await told("secret/flytesnacks/development/s") == [
        ("created", "cleo"),
        ("updated", "dora"),
        ("deleted", "ed"),
    ]
    assert await told(f"key/{key.id}") == [("created", "fred"), ("deleted", "gina")]
    assert await told("project/shop") == [("created", "hal"), ("updated", "ida")]
