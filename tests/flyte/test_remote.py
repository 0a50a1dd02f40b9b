"""Handles on what the platform knows: runs that stream, tasks found by name, apps, secrets, projects, uploads."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte import remote, wire
from flyte._context import ActionID, TaskContext, entered
from flyte._session import state as _state
from flyte.errors import (
    AppNotFoundError,
    DeploymentError,
    InvalidInputError,
    NotFoundError,
    RemoteTaskNotFoundError,
    RemoteTaskUsageError,
    RunNotFoundError,
    SecretNotFoundError,
    TooLargeError,
)
from flyte.io import Dir
from flyte.remote import Action, App, Project, Run, RunUpdate, Secret, Task, TaskDetails, TimeFilter, User
from tests.flyte.conftest import Project as Program
from tests.flyte.fake_platform import TOKEN, FakePlatform, FakeRun, Refused


@pytest.fixture
def task(connected: FakePlatform) -> remote.LazyEntity:
    """A deployed task that adds one."""
    connected.task("env.f", lambda x: x + 1)
    return Task.get("env.f", version="v1")


@pytest.fixture
def slow(connected: FakePlatform) -> Run:
    """A run that goes on until the gate opens."""
    connected.task("env.slow", lambda: "done")
    run = flyte.run(Task.get("env.slow", version="v1"))
    assert connected.started.wait(5)
    return run


# --- streams


async def test_a_stream_shows_where_the_run_is_then_each_update_then_ends(connected: FakePlatform, slow: Run) -> None:
    updates: list[RunUpdate] = []
    async for update in slow.stream():
        updates.append(update)
        if len(updates) == 1:
            await asyncio.to_thread(connected.progress, slow.name, "half way", percent=50)
            connected.gate.set()
    assert [(update.status, update.message) for update in updates] == [
        ("running", "a worker took it"),
        ("running", "half way"),
        ("succeeded", "the function returned"),
    ]
    assert updates[1].body == {"percent": 50}
    assert [update.is_terminal for update in updates] == [False, False, True]
    assert all(update.action == "a0" for update in updates)
    assert json.loads(json.dumps(updates[2].to_dict()))["status"] == "succeeded"
    assert (await slow.outputs.aio()) == ("done",)


def test_a_stream_is_a_plain_iterator_too(connected: FakePlatform, slow: Run) -> None:
    seen = []
    for update in slow.stream():
        seen.append(update.status)
        connected.gate.set()
    assert seen == ["running", "succeeded"]
    assert slow.status == "succeeded"


def test_a_stream_of_an_ended_run_is_one_update(connected: FakePlatform, task: remote.LazyEntity) -> None:
    run = flyte.run(task, x=1)
    run.wait()
    assert [update.status for update in run.stream()] == ["succeeded"]


async def test_a_stream_survives_a_lost_connection(connected: FakePlatform, slow: Run) -> None:
    connected.cut_after = 2
    messages = []
    async for update in slow.stream():
        messages.append(update.message)
        if len(messages) == 1:
            for number in range(5):
                await asyncio.to_thread(connected.progress, slow.name, f"step {number}")
            connected.gate.set()
    assert messages[1:] == [*(f"step {number}" for number in range(5)), "the function returned"]


async def test_watch_gives_details(connected: FakePlatform, slow: Run) -> None:
    phases = []
    async for details in slow.watch(cache_data_on_done=True):
        phases.append(details.status)
        connected.gate.set()
    assert phases[-1] == "succeeded"
    assert (await details.outputs()) == ("done",)
    assert details.attempts == 1
    assert details.running_time.total_seconds() > 0


# --- runs


def test_waiting_for_the_start_returns_before_the_end(connected: FakePlatform, slow: Run) -> None:
    slow.wait(wait_for="running")
    assert slow.status == "running"
    assert not slow.done()


@pytest.mark.parametrize("word", ["finished", "", "activated"])
async def test_waiting_for_something_that_there_is_not_is_refused(
    connected: FakePlatform, task: remote.LazyEntity, word: str
) -> None:
    run = await flyte.run.aio(task, x=1)
    await run.wait.aio()
    wrong: Any = word
    for asked in (
        run.wait.aio(wait_for=wrong),
        run.action.wait(wait_for=wrong),
        anext(run.action.watch(wait_for=wrong)),
    ):
        with pytest.raises(InvalidInputError, match=f"wait_for is '{word}'; it is 'terminal' .* or 'running'"):
            await asked


def test_watching_an_app_for_something_that_there_is_not_is_refused(connected: FakePlatform) -> None:
    connected.apps["a"] = wire.App(
        project="p", domain="d", name="a", version="1", status=wire.AppStatus.ACTIVE, url="http://127.0.0.1:9"
    )
    wrong: Any = "active"
    with pytest.raises(InvalidInputError, match="wait_for is 'active'; it is 'activated' or 'deactivated'"):
        next(iter(App.get("a").watch(wait_for=wrong)))


def _with_children(connected: FakePlatform, run: Run, count: int, **failed: float) -> None:
    """Actions below the root: all succeeded, but those that are named failed at the given times."""
    connected.runs[run.name].children = [
        wire.Action(
            run=run.name,
            name=f"c{number}",
            parent="a0",
            task="env.child",
            phase=wire.ActionPhase.FAILED if f"c{number}" in failed else wire.ActionPhase.SUCCEEDED,
            created=1000.0 + number,
            ended=failed.get(f"c{number}", 5000.0),
        )
        for number in range(count)
    ]


def test_the_first_failure_is_found_among_thousands_of_actions(
    connected: FakePlatform, task: remote.LazyEntity
) -> None:
    run = flyte.run(task, x=1)
    run.wait()
    assert run.first_failure() is None
    _with_children(connected, run, 1500, c1499=3000.0, c1200=4000.0)
    failure = run.first_failure()
    assert failure is not None
    assert failure.name == "c1499"


async def test_actions_of_several_phases_are_one_list(connected: FakePlatform, task: remote.LazyEntity) -> None:
    run = await flyte.run.aio(task, x=1)
    await run.wait.aio()
    _with_children(connected, run, 3000, c2999=3000.0, c1200=4000.0)
    client = _state.client()
    P = wire.ActionPhase
    found = await client.list_actions(run.name, wire.ActionFilter(phases=(P.TIMED_OUT, P.FAILED)))
    assert [action.name for action in found] == ["c1200", "c2999"]
    asked = len(connected.seen)
    chosen = wire.ActionFilter(phases=(P.FAILED, P.SUCCEEDED), limit=3, offset=1199)
    assert [action.name for action in await client.list_actions(run.name, chosen)] == ["c1198", "c1199", "c1200"]
    assert len(connected.seen) == asked + 1


def test_properties_ask_nobody(connected: FakePlatform, slow: Run) -> None:
    before = len(connected.seen)
    shown = (slow.name, slow.id, slow.url, slow.phase, slow.status, slow.raw_phase, slow.project, slow.domain)
    assert all(shown)
    assert (slow.task_name, slow.version, slow.labels, slow.done()) == ("env.slow", "v1", {}, False)
    assert slow.created_at is not None
    assert slow.action.action_id == f"{slow.name}/a0"
    assert len(connected.seen) == before


def test_runs_are_found_and_listed(connected: FakePlatform, task: remote.LazyEntity) -> None:
    runs = [flyte.run(task, x=number) for number in range(3)]
    for run in runs:
        run.wait()
    assert Run.get(runs[0].name) == runs[0]
    assert [run.name for run in Run.listall()] == [run.name for run in reversed(runs)]
    assert list(Run.listall(limit=1)) == [runs[2]]
    assert list(Run.listall(in_phase="succeeded", sort_by=("created_at", "asc"))) == runs
    assert list(Run.listall(in_phase=["failed", "aborted"])) == []
    assert list(Run.listall(updated_at=TimeFilter(after=datetime(2100, 1, 1, tzinfo=UTC)))) == []
    with pytest.raises(InvalidInputError, match="the phases are queued"):
        list(Run.listall(in_phase="gone"))
    with pytest.raises(RunNotFoundError):
        Run.get("nobody")


def _many(connected: FakePlatform, count: int, at_once: int = 1) -> list[str]:
    """Names of ended runs that are there, oldest first; `at_once` of them are created in the same instant."""
    for number in range(count):
        record = wire.Run(
            name=f"r{number:05}",
            project=wire.DEFAULT_PROJECT,
            domain=wire.DEFAULT_DOMAIN,
            task="env.f",
            version="v1",
            phase=wire.ActionPhase.SUCCEEDED,
            url="",
            created=float(1000 + number // at_once),
            created_by="ann" if number % 10 == 0 else "bob",
            labels={"team": "a"} if number % 10 == 5 else {},
        )
        connected.runs[record.name] = FakeRun(record, b"{}", wire.RunRequest(task="env.f"))
    return list(connected.runs)


def test_runs_are_listed_by_the_time_of_their_creation(connected: FakePlatform) -> None:
    names = _many(connected, 10)
    span = TimeFilter(before=datetime.fromtimestamp(1003, UTC))
    assert [run.name for run in Run.listall(created_at=span)] == names[2::-1]


def test_a_limit_counts_the_runs_that_fit_and_not_those_that_were_looked_at(connected: FakePlatform) -> None:
    names = _many(connected, 1200)
    assert [run.name for run in Run.listall(created_by_subject="ann", limit=2)] == [names[1190], names[1180]]
    assert [run.name for run in Run.listall(with_label_keys=["team"], limit=2)] == [names[1195], names[1185]]
    old = TimeFilter(before=datetime.fromtimestamp(1002, UTC))
    assert [run.name for run in Run.listall(updated_at=old, limit=5)] == [names[1], names[0]]


def test_the_oldest_runs_come_first_where_that_is_asked(connected: FakePlatform) -> None:
    names = _many(connected, 450)
    assert [run.name for run in Run.listall(sort_by=("created_at", "asc"), limit=3)] == names[:3]
    assert connected.count()["GET /v1/runs"] == 3


@pytest.mark.parametrize("at_once", [1, 7, 2000])
def test_a_listing_longer_than_a_page_has_each_run_once(connected: FakePlatform, at_once: int) -> None:
    """Also where whole pages were created in one instant."""
    names = _many(connected, 1500, at_once)
    assert [run.name for run in Run.listall(limit=1400)] == names[:99:-1]
    assert [run.name for run in Run.listall(limit=5000)] == names[::-1]
    assert list(Run.listall(limit=0)) == list(Run.listall(limit=0, created_by_subject="ann")) == []


def test_runs_of_this_process_are_listed_in_the_same_way(project: Program) -> None:
    program = project.load(
        """
        import flyte
        env = flyte.TaskEnvironment(name="listed")

        @env.task
        async def one() -> int:
            return 1
        """
    )
    flyte.init()
    runs = [flyte.run(program.one) for _ in range(450)]
    for run in runs:
        run.wait()
    assert list(Run.listall(limit=430, task_name="listed.one")) == runs[:19:-1]
    assert list(Run.listall(limit=3, sort_by=("created_at", "asc"), task_name="listed.one")) == runs[:3]
    before = TimeFilter(before=runs[7].created_at)
    assert set(Run.listall(created_at=before, task_name="listed.one")) <= set(runs[:8])  # a datetime has microseconds
    assert runs[0].first_failure() is None


async def test_listings_can_be_awaited(connected: FakePlatform, task: remote.LazyEntity) -> None:
    run = await flyte.run.aio(task, x=1)
    assert [found.name async for found in Run.listall.aio()] == [run.name]
    assert [found.name async for found in Task.listall()] == ["env.f"]


def test_aborting_what_nobody_knows_is_no_error(connected: FakePlatform, slow: Run) -> None:
    gone = Run(slow._record, slow._runs)
    connected.runs.clear()
    gone.abort()


def test_logs_are_lines(connected: FakePlatform, task: remote.LazyEntity, capsys: pytest.CaptureFixture[str]) -> None:
    run = flyte.run(task, x=1)
    run.wait()
    assert list(run.get_logs()) == ["started", "done"]
    run.show_logs(max_lines=1)
    assert capsys.readouterr().out == "done\n"


async def test_logs_can_be_awaited(connected: FakePlatform, task: remote.LazyEntity) -> None:
    run = await flyte.run.aio(task, x=1)
    await run.wait.aio()
    assert [line async for line in run.get_logs.aio()] == ["started", "done"]
    assert [line async for line in run.action.get_logs()] == ["started", "done"]


def test_actions_are_found_by_name_and_by_address(connected: FakePlatform, task: remote.LazyEntity) -> None:
    run = flyte.run(task, x=1)
    run.wait()
    assert Action.get(run_name=run.name, name="a0").status == "succeeded"
    assert Action.get(f"{run.url}/a0").run_name == run.name
    assert Action.get(f"{run.name}/a0").action_id == f"{run.name}/a0"
    assert [action.name for action in Action.listall(run.name)] == ["a0"]
    assert list(Action.listall(run.name, in_phase="failed")) == []
    assert remote.ActionDetails.get(run_name=run.name).task_name == "env.f"


# --- tasks


async def test_a_task_is_fetched_by_full_or_bare_name(connected: FakePlatform) -> None:
    interface = wire.InterfaceSpec(
        inputs=[wire.InputSpec(name="x", schema={}), wire.InputSpec(name="y", schema={}, required=False)]
    )
    connected.task("env.f", lambda x: x, version="v1", interface=interface)
    connected.task("env.f", lambda x: x, version="v2", interface=interface)
    found = await TaskDetails.fetch(name="f", version="v1", project="flytesnacks", domain="development")
    assert (found.name, found.version) == ("env.f", "v1")
    assert (found.required_args, found.default_input_args) == (("x",), ("y",))
    assert (await TaskDetails.fetch("env.f", auto_version="latest")).version == "v2"
    with pytest.raises(RemoteTaskNotFoundError, match=r"tasks there: env\.f"):
        await TaskDetails.fetch("g", version="v1")


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((...,), {}, r'fetch\(name="env\.function", version="v1"\)'),
        (("f",), {}, "pass version=, or auto_version='latest'"),
        (("f",), {"version": ...}, "the version of f is Ellipsis"),
        (("f",), {"version": "v1", "auto_version": "latest"}, "either"),
        (("f",), {"auto_version": "newest"}, "'latest' or 'current'"),
    ],
)
async def test_what_cannot_be_fetched_says_what_to_pass(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        await TaskDetails.fetch(*args, **kwargs)
    with pytest.raises(ValueError, match=said):
        Task.get(*args, **kwargs)


def test_get_asks_nobody_until_it_is_used(connected: FakePlatform, task: remote.LazyEntity) -> None:
    assert connected.seen == []
    assert task.fetch().version == "v1"
    assert task.fetch().version == "v1"
    assert connected.count()["GET /v1/tasks/env.f"] == 1


async def test_the_current_version_is_the_callers(connected: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    connected.task("env.f", lambda x: x, version="v1")
    with pytest.raises(InvalidInputError, match="auto_version='latest'"):
        await TaskDetails.fetch("env.f", auto_version="current")
    monkeypatch.setenv("FLYTE_VERSION", "v1")
    assert (await TaskDetails.fetch("env.f", auto_version="current")).version == "v1"


async def test_a_fetched_task_can_be_overridden(connected: FakePlatform, task: remote.LazyEntity) -> None:
    changed = (await task.fetch.aio()).override(retries=2, timeout=5, env_vars={"A": "1"}, cache="disable", queue="q")
    run = await flyte.run.aio(changed, x=1)
    spec = connected.runs[run.name].request.overrides
    assert spec is not None
    assert (spec.retries.count, spec.timeout.max_runtime, spec.environment.env_vars) == (2, 5, {"A": "1"})
    lazily = await flyte.run.aio(task.override(retries=4), x=1)
    again = connected.runs[lazily.name].request.overrides
    assert again is not None
    assert again.retries.count == 4
    with pytest.raises(TypeError, match="no option 'speed'"):
        changed.override(speed=1)


class _Caller:
    """No children are started in these tests."""

    def __init__(self, is_ending: bool = False) -> None:
        self.is_ending = is_ending


async def test_a_fetched_task_is_called_inside_an_action_only(connected: FakePlatform, task: remote.LazyEntity) -> None:
    with pytest.raises(RemoteTaskUsageError, match=r"use flyte\.run here"):
        await task(x=1)
    caller: Any = _Caller()
    with entered(TaskContext(action=ActionID("a3", "r9"), mode="remote"), caller):
        assert await task(x=1) == 2
        (run,) = connected.runs.values()
        assert run.request.spawned_by == "r9/a3"

        def fails(x: int) -> None:
            raise Refused(wire.ErrorInfo(code="KeyError", message="'k'", type="builtins:KeyError"))

        connected.functions["env.f"] = fails
        with pytest.raises(KeyError):
            await task(x=1)


def _attempt(failures: int = 0, action: str = "a3") -> TaskContext:
    return TaskContext(action=ActionID(action, "r9"), mode="remote", failures=failures)


async def _in(context: TaskContext, *calls: Any, is_ending: bool = False) -> list[Any]:
    """What the calls give in an attempt of an action, in order."""
    caller: Any = _Caller(is_ending)
    with entered(context, caller):
        return [await call() for call in calls]


async def test_an_action_that_runs_again_finds_the_runs_that_it_called(
    connected: FakePlatform, task: remote.LazyEntity
) -> None:
    calls = [lambda: task(x=1), lambda: task(x=2), lambda: task(x=1)]
    assert await _in(_attempt(), *calls) == [2, 3, 2]
    assert len(connected.runs) == 3, "equal calls are several"
    connected.functions["env.f"] = lambda x: x + 100
    connected.task("env.f", lambda x: x + 100, version="v2")
    assert await _in(_attempt(), *calls) == [2, 3, 2]
    assert await _in(_attempt(failures=1), *calls) == [2, 3, 2]
    assert len(connected.runs) == 3
    assert await _in(_attempt(action="a4"), calls[0]) == [101]


async def test_the_latest_version_is_one_call_whichever_version_that_is_by_now(connected: FakePlatform) -> None:
    connected.task("env.f", lambda x: x + 1)
    calls = [lambda: Task.get("env.f", auto_version="latest")(x=1)]
    await _in(_attempt(), *calls)
    connected.task("env.f", lambda x: x + 1, version="v2")
    await _in(_attempt(), *calls)
    assert [run.record.version for run in connected.runs.values()] == ["v1"]


async def test_a_call_that_failed_is_made_anew_by_a_retry_and_not_after_a_loss(
    connected: FakePlatform, task: remote.LazyEntity
) -> None:
    def fails(x: int) -> None:
        raise Refused(wire.ErrorInfo(code="KeyError", message="'k'", type="builtins:KeyError"))

    connected.functions["env.f"] = fails
    for _ in range(2):  # the second time its worker was lost: the failure is part of the history
        with pytest.raises(KeyError):
            await _in(_attempt(), lambda: task(x=1))
    assert len(connected.runs) == 1
    for _ in range(2):
        with pytest.raises(KeyError):
            await _in(_attempt(failures=1), lambda: task(x=1))
    assert len(connected.runs) == 2
    connected.functions["env.f"] = lambda x: x
    assert await _in(_attempt(failures=2), lambda: task(x=1)) == [1]
    assert await _in(_attempt(failures=2), lambda: task(x=1)) == [1]
    assert len(connected.runs) == 3


async def test_a_call_that_ended_with_its_cancelled_caller_is_made_anew(connected: FakePlatform) -> None:
    connected.task("env.slow", lambda: "done")
    task = Task.get("env.slow", version="v1")
    calling = asyncio.ensure_future(_in(_attempt(), task))
    assert await asyncio.to_thread(connected.started.wait, 5)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    connected.gate.set()
    assert await _in(_attempt(), task) == ["done"]
    assert [run.record.phase for run in connected.runs.values()] == ["aborted", "succeeded"]


async def test_a_call_stands_when_its_process_is_told_to_end(connected: FakePlatform) -> None:
    """Whoever takes the action up finds it: nobody asked for its end."""
    connected.task("env.slow", lambda: "done")
    task = Task.get("env.slow", version="v1")
    calling = asyncio.ensure_future(_in(_attempt(), task, is_ending=True))
    assert await asyncio.to_thread(connected.started.wait, 5)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    connected.gate.set()
    assert await _in(_attempt(), task) == ["done"]
    assert [run.record.phase for run in connected.runs.values()] == ["succeeded"]


# --- apps

PROGRAM = """
    from flyte.app import AppEnvironment, Parameter
    low = AppEnvironment(name="low", args="python -m http.server $PORT")
    env = AppEnvironment(
        name="page", args="python -m http.server $PORT", depends_on=[low], parameters=[Parameter("model", value="a")]
    )
"""


def test_serve_deploys_the_app_and_what_it_needs(connected: FakePlatform, project: Program) -> None:
    app = flyte.serve(project.load(PROGRAM).env)
    assert isinstance(app, App)
    assert (app.name, app.endpoint, app.is_active(), app.status) == ("page", "http://127.0.0.1:9/page", True, "active")
    assert connected.requests[0].order == {"low": [], "page": ["low"]}


def test_serve_can_be_told_versions_variables_and_parameters(connected: FakePlatform, project: Program) -> None:
    env = project.load(PROGRAM).env
    server = flyte.with_servecontext(version="v2", env_vars={"A": "1"}, parameter_values={"page": {"model": "b"}})
    assert server.serve(env).version == "v2"
    request = connected.requests[0]
    assert (request.env_vars, request.parameter_values) == ({"A": "1"}, {"page": {"model": "b"}})
    with pytest.raises(InvalidInputError, match="no parameter 'size'; it has: model"):
        flyte.with_servecontext(parameter_values={"page": {"size": 1}}).serve(env)
    with pytest.raises(InvalidInputError, match="names the app 'other'; there are: low, page"):
        flyte.with_servecontext(parameter_values={"other": {}}).serve(env)
    before = len(connected.seen)
    assert flyte.with_servecontext(dry_run=True).serve(env).status == "stopped"
    assert len(connected.seen) == before


def test_serve_refuses_what_is_no_app_and_tells_of_failures(connected: FakePlatform, project: Program) -> None:
    with pytest.raises(TypeError, match="takes an app environment"):
        flyte.serve(flyte.TaskEnvironment(name="e"))  # type: ignore[arg-type]
    connected.deployment_error = wire.ErrorInfo(code="DeploymentError", message="page died: port in use")
    with pytest.raises(DeploymentError, match="page died"):
        flyte.serve(project.load(PROGRAM).env)


def test_an_app_is_switched_listed_and_deleted(connected: FakePlatform, project: Program) -> None:
    app = flyte.serve(project.load(PROGRAM).env)
    app.deactivate(wait=True)
    assert (app.is_deactivated(), app.is_active(), app.desired_state) == (True, False, "stopped")
    assert [found.name for found in App.listall(in_status="stopped")] == ["page"]
    with app.ephemeral_ctx_sync() as active:
        assert active.is_active()
    assert app.is_deactivated()
    app.activate()
    assert App.get("page").is_active()
    App.delete("page")
    with pytest.raises((AppNotFoundError, NotFoundError)):
        App.get("page")


async def test_an_app_is_active_for_a_block(connected: FakePlatform, project: Program) -> None:
    app = await flyte.serve.aio(project.load(PROGRAM).env)
    async with app.ephemeral_ctx() as active:
        assert active.is_active()
    assert app.is_deactivated()


# --- secrets, projects, users


def test_secrets_are_kept_and_never_shown(connected: FakePlatform) -> None:
    Secret.create("api-key", b"value")
    assert connected.values == {"api-key": "value"}
    assert [secret.name for secret in Secret.listall()] == ["api-key"]
    assert "value" not in Secret.get("api-key").to_json()
    Secret.delete("api-key")
    with pytest.raises(SecretNotFoundError):
        Secret.get("api-key")
    with pytest.raises(InvalidInputError, match="secret name 'a b' must be"):
        Secret.create("a b", "x")
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        Secret.create("k", b"\xff\xfe")


def test_projects_are_created_and_found(connected: FakePlatform) -> None:
    Project.create("new", name="New", labels={"a": "b"})
    assert [project.id for project in Project.listall()] == ["flytesnacks", "new"]
    assert (Project.get("new").name, Project.get("new").labels) == ("New", {"a": "b"})
    with pytest.raises(NotFoundError, match="there are: flytesnacks, new"):
        Project.get("old")


def test_the_user_is_who_the_key_says(connected: FakePlatform) -> None:
    assert (User.get().subject(), User.get().kind) == ("owner", "owner")


async def test_calls_carry_their_callers_headers(fake: FakePlatform) -> None:
    await flyte.init_passthrough.aio(endpoint=fake.endpoint)
    with remote.auth_metadata(("authorization", f"Bearer {TOKEN}"), ("cookie", "a=b")):
        assert (await User.get.aio()).subject() == "owner"
    assert fake.seen[-1].headers["Cookie"] == "a=b"
    with pytest.raises(flyte.errors.NotAuthenticatedError):
        await User.get.aio()


# --- uploads


def test_files_are_sent_once(connected: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "data" / "sub" / "b.txt").write_text("b")
    digest, address = remote.upload_file(tmp_path / "data" / "a.txt")
    assert digest == hashlib.sha256(b"a").hexdigest()
    assert address == f"blob://{digest}/a.txt"
    assert (
        remote.upload_file(fp=tmp_path / "data" / "a.txt", fname="my data.csv")[1] == f"blob://{digest}/my%20data.csv"
    )
    folder = remote.upload_dir(tmp_path / "data")
    assert [file.name for file in Dir[str](path=folder).walk_sync()] == ["a.txt", "b.txt"]
    listed = connected.blobs[folder.split("/")[2]]
    assert json.loads(listed) == {"a.txt": digest, "sub/b.txt": hashlib.sha256(b"b").hexdigest()}
    assert connected.count()[f"PUT /v1/blobs/{digest}"] == 1
    monkeypatch.setattr(wire, "VALUE_LIMIT", 0)
    with pytest.raises(TooLargeError, match=r"a\.txt is 0 MiB"):
        remote.upload_file(tmp_path / "data" / "a.txt")
    with pytest.raises(TooLargeError, match=r"\.txt is 0 MiB"):
        remote.upload_dir(tmp_path / "data")
    with pytest.raises(NotADirectoryError):
        remote.upload_dir(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="insecure_skip_verify"):
        remote.upload_file(tmp_path / "data" / "a.txt", verify=False)


# --- what is public


def test_every_public_name_is_there() -> None:
    assert sorted(remote.__all__) == remote.__all__
    assert all(getattr(remote, name) for name in remote.__all__)


def test_a_label_that_no_run_can_have_is_refused_by_name(connected: FakePlatform) -> None:
    with pytest.raises(ValueError, match=r"label value 'a,b' at with_labels must be .* without ','"):
        list(Run.listall(with_labels={"team": "a,b"}))
    assert connected.seen == []
