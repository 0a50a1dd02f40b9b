"""`flyte.run`: every kind of task, on a platform and in this process; inputs, sizes, settings, errors."""

from __future__ import annotations

import datetime as dt
import enum
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

import flyte
from flyte import _values, remote, wire
from flyte.errors import (
    ActionAbortedError,
    InvalidInputError,
    NonRecoverableError,
    RemoteTaskNotFoundError,
    RuntimeUserError,
    TooLargeError,
)
from flyte.remote import ActionOutputs, Run
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import TOKEN, FakePlatform, Refused

PROGRAM = """
    import datetime
    import flyte

    env = flyte.TaskEnvironment(name="env")

    @env.task
    async def add_one(x: int, by: int = 1) -> int:
        return x + by

    @env.task
    def later(when: datetime.datetime) -> tuple[datetime.datetime, str]:
        return when, "x"

    @env.task
    def echo(data: dict) -> dict:
        return data

    @env.task
    async def slow() -> str:
        return "done"

    @env.task
    def fails() -> None:
        raise ValueError("no good")
"""


@pytest.fixture
def program(project: Project) -> Any:
    return project.load(PROGRAM)


@pytest.fixture
def served(connected: FakePlatform, program: Any) -> Any:
    """The program, and a platform that can carry out its tasks."""
    connected.functions.update({
        "env.add_one": lambda x, by: x + by,
        "env.later": lambda when: (when, "x"),
        "env.echo": lambda data: data,
        "env.slow": lambda: "done",
    })  # fmt: skip
    return program


# --- a task of this code


def test_a_task_is_deployed_and_run(connected: FakePlatform, served: Any) -> None:
    run = flyte.run(served.add_one, 41)
    run.wait()
    assert run.phase is wire.ActionPhase.SUCCEEDED
    assert run.outputs() == (42,)
    assert run.outputs().o0 == 42
    assert run.outputs().named_outputs == {"o0": 42}
    assert run.url.endswith(f"/v2/domain/development/project/flytesnacks/runs/{run.name}")
    assert dict(run.inputs()) == {"x": 41, "by": 1}


async def test_everything_can_be_awaited(connected: FakePlatform, served: Any) -> None:
    run = await flyte.run.aio(served.add_one, x=1, by=2)
    await run.wait.aio()
    assert (await run.outputs.aio()) == (3,)
    assert (await run.inputs.aio())["by"] == 2
    assert (await (await run.details.aio()).outputs()) == (3,)


def test_the_second_run_sends_nothing_but_itself(connected: FakePlatform, served: Any) -> None:
    flyte.run(served.add_one, 1)
    before = len(connected.seen)
    flyte.run(served.add_one, 2)
    assert [f"{seen.method} {seen.path}" for seen in connected.seen[before:]] == ["POST /v1/runs"]


def test_a_platform_that_was_made_anew_gets_the_code_again(connected: FakePlatform, served: Any) -> None:
    flyte.run(served.add_one, 1)
    connected.tasks.clear()
    run = flyte.run(served.add_one, 2)
    run.wait()
    assert run.outputs() == (3,)


def test_outputs_have_the_types_of_the_annotations(connected: FakePlatform, served: Any) -> None:
    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    run = flyte.run(served.later, when=when)
    run.wait()
    assert run.outputs() == (when, "x")
    assert isinstance(run.outputs(), tuple)
    assert Run(run._record, run._runs).outputs() == ("2026-01-02T00:00:00+00:00", "x")
    assert run.typed_outputs(dt.datetime, str) == (when, "x")


def test_an_overridden_task_carries_its_whole_spec(connected: FakePlatform, served: Any) -> None:
    flyte.run(served.add_one.override(retries=3), 1)
    (run,) = connected.runs.values()
    assert run.request.overrides is not None
    assert run.request.overrides.retries.count == 3
    assert connected.requests[0].tasks[0].retries.count == 0


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, r"env\.add_one lacks the input 'x'; it takes \(x: int, by: int"),
        ((1,), {"z": 1}, r"env\.add_one has no input 'z'; it takes \(x: int, by: int"),
        ((1, 2, 3), {}, "3 positional inputs were given"),
    ],
)
def test_missing_and_unknown_inputs_are_value_errors(
    connected: FakePlatform, served: Any, args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        flyte.run(served.add_one, *args, **kwargs)
    assert isinstance(caught.value, InvalidInputError)
    assert connected.seen == [], "nothing was sent"


def test_an_input_of_the_wrong_type_is_a_type_error_too(connected: FakePlatform, served: Any) -> None:
    for expected in (TypeError, InvalidInputError, ValueError):
        with pytest.raises(expected, match=r"input 'x' of env\.add_one must be int, not 'many'"):
            flyte.run(served.add_one, "many")


def test_what_is_no_task_is_a_type_error(connected: FakePlatform) -> None:
    with pytest.raises(TypeError, match=r"run takes a task"):
        flyte.run(len, [])


def test_an_input_may_be_called_task_or_name(connected: FakePlatform) -> None:
    connected.task("env.f", lambda task, name: [task, name])
    run = flyte.run(remote.Task.get("env.f", version="v1"), task=1, name=2)
    run.wait()
    assert run.outputs() == ([1, 2],)


# --- sizes


def test_large_values_go_through_the_blob_store_unseen(connected: FakePlatform, served: Any) -> None:
    data = {"text": "x" * 200_000}
    run = flyte.run(served.echo, data)
    run.wait()
    assert connected.runs[run.name].request.inputs_blob is not None
    assert len(connected.blobs) == 2
    assert run.outputs() == (data,)
    assert run.outputs.aio is not None


def test_a_value_over_the_limit_is_named(connected: FakePlatform, served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "VALUE_LIMIT", 2**20)
    with pytest.raises(TooLargeError, match=r"input 'data' of env\.echo is 2\.0 MiB.*limit is 1 MiB.*flyte\.io\.File"):
        flyte.run(served.echo, {"text": "x" * 2**21})


# --- a fetched task


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


@dataclass
class Point:
    x: int
    at: dt.datetime


ListOfDicts, DictOfDicts = list[dict], dict[str, dict]  # type: ignore[type-arg]


def _spec(name: str, annotation: Any) -> wire.InputSpec:
    return wire.InputSpec(name=name, schema=_values.schema(annotation), type=_values.describe(annotation))


def _fetched(fake: FakePlatform, **annotations: Any) -> remote.LazyEntity:
    """A deployed task that returns its inputs as they arrived."""
    interface = wire.InterfaceSpec(inputs=[_spec(name, annotation) for name, annotation in annotations.items()])
    fake.task("env.f", lambda **inputs: inputs, interface=interface)
    return remote.Task.get("f", version="v1")


def test_a_fetched_task_takes_what_a_web_hook_has(connected: FakePlatform) -> None:
    task = _fetched(connected, data=dict, priority=int)
    run = flyte.run(task, data={"a": [1, None]}, priority=3)
    run.wait()
    assert run.outputs() == ({"data": {"a": [1, None]}, "priority": 3},)


def test_python_values_for_a_fetched_task_go_as_plain_json(connected: FakePlatform) -> None:
    task = _fetched(connected, c=Color, p=Point, ps=list[Point], path=Path, raw=bytes, some=set[int], any=Any)
    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    point = Point(1, when)
    run = flyte.run(
        task, c=Color.RED, p=point, ps=[point], path=Path("/x"), raw=b"ab", some={1}, any={"p": point, "c": Color.BLUE}
    )
    sent = json.loads(bytes(connected.runs[run.name].request.inputs))
    plain = {"x": 1, "at": "2026-01-02T00:00:00+00:00"}
    assert sent == {
        "c": 1,
        "p": plain,
        "ps": [plain],
        "path": "/x",
        "raw": "YWI=",
        "some": [1],
        "any": {"p": {"x": 1, "at": {"$datetime": plain["at"]}}, "c": "BLUE"},
    }
    assert _values.from_json(sent["p"], Point) == point
    assert _values.from_json(sent["c"], Color) is Color.RED


@pytest.mark.parametrize("annotation", [Any, dict, ListOfDicts, DictOfDicts, dict | None])
def test_what_a_stranger_sent_never_becomes_a_pickle(connected: FakePlatform, annotation: Any) -> None:
    evil: Any = {"$pickle": "gASVHAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjARleGl0lIWUUpQu"}
    data = [evil] if annotation is ListOfDicts else {"k": evil} if annotation is DictOfDicts else evil
    run = flyte.run(_fetched(connected, data=annotation), data=data)
    sent = json.loads(bytes(connected.runs[run.name].request.inputs))["data"]
    assert _values.from_json(sent, annotation) == data


def test_a_value_that_is_no_data_is_refused(connected: FakePlatform) -> None:
    with pytest.raises(InvalidInputError, match=r"input 'x' holds a lock, which has no JSON form"):
        flyte.run(_fetched(connected, x=dict), x={"a": threading.Lock()})


def test_positional_inputs_of_a_fetched_task_have_its_names(connected: FakePlatform) -> None:
    task = _fetched(connected, a=int, b=int)
    run = flyte.run(task, 1, b=2)
    run.wait()
    assert run.outputs()[0] == {"a": 1, "b": 2}
    with pytest.raises(InvalidInputError, match="got the input 'a' twice"):
        flyte.run(task, 1, a=2)
    with pytest.raises(InvalidInputError, match="takes the inputs a, b; 3 positional"):
        flyte.run(task, 1, 2, 3)


def test_a_fetched_task_cannot_run_in_local_mode() -> None:
    flyte.init()
    with pytest.raises(ValueError, match=r"cannot run in local mode: call flyte\.init_from_config"):
        flyte.run(remote.Task.get("f", version="v1"))


# --- settings


def test_the_settings_of_a_run_reach_the_platform(connected: FakePlatform, served: Any, tmp_path: Path) -> None:
    runner = flyte.with_runcontext(
        name="nightly",
        version="v9",
        project="p",
        domain="staging",
        env_vars={"A": "1"},
        labels={"team": "x"},
        custom_context={"k": "v"},
        overwrite_cache=True,
        max_action_concurrency=4,
        log_level="DEBUG",
        copy_bundle_to=tmp_path,
        queue="q",
        interruptible=True,
    )
    with flyte.custom_context(outer="o"):
        run = runner.run(served.add_one, 1)
    request = connected.runs["nightly"].request
    assert (run.name, request.version, request.project, request.domain) == ("nightly", "v9", "p", "staging")
    assert (request.env_vars, request.labels) == ({"LOG_LEVEL": "DEBUG", "A": "1"}, {"team": "x"})
    assert request.custom_context == {"outer": "o", "k": "v"}
    assert (request.overwrite_cache, request.max_action_concurrency) == (True, 4)
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1


async def test_a_runner_can_be_awaited(connected: FakePlatform, served: Any) -> None:
    run = await flyte.with_runcontext(labels={"a": "b"}).run.aio(served.add_one, 1)
    assert connected.runs[run.name].request.labels == {"a": "b"}


@pytest.mark.parametrize("settings", [{"mode": "cloud"}, {"max_action_concurrency": 1}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        flyte.with_runcontext(**settings)


def test_a_dry_run_sends_nothing(connected: FakePlatform, served: Any) -> None:
    run = flyte.with_runcontext(dry_run=True).run(served.add_one, 1)
    assert (run.name, run.status) == ("dry-run", "queued")
    assert connected.seen == []
    with pytest.raises(InvalidInputError):
        flyte.with_runcontext(dry_run=True).run(served.add_one)


# --- from inside the platform


def test_a_process_of_the_platform_runs_its_own_version(
    fake: FakePlatform, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.task("env.add_one", lambda x, by: x + by, version="v5")
    for name, value in {
        "FLYTE_UNIT": "u1",
        "FLYTE_ENDPOINT": fake.endpoint,
        "FLYTE_API_KEY": TOKEN,
        "FLYTE_VERSION": "v5",
        "RUN_NAME": "r1",
        "ACTION_NAME": "a7",
    }.items():
        monkeypatch.setenv(name, value)
    run = flyte.run(program.add_one, 1)
    run.wait()
    assert run.outputs() == (2,)
    assert fake.runs[run.name].request.spawned_by == "r1/a7"
    assert fake.requests == [], "nothing was deployed"
    fake.functions["env.echo"] = lambda data: data
    other = flyte.run(program.echo, {})
    assert other.version == fake.requests[0].version, "what is not there is deployed"


# --- errors


def test_a_failed_run_says_why_and_raises_the_tasks_own_error(connected: FakePlatform, served: Any) -> None:
    def fails() -> None:
        raise Refused(wire.ErrorInfo(code="ValueError", message="no good", type="builtins:ValueError", traceback="T"))

    connected.functions["env.fails"] = fails
    run = flyte.run(served.fails)
    run.wait()
    assert (run.status, run.error_info.code if run.error_info else "") == ("failed", "ValueError")
    assert (run.outputs(), run.outputs().named_outputs) == ((), {})
    for take in (lambda: run.outputs()[0], lambda: run.outputs().o0, run.typed_outputs, run.output_literals):
        with pytest.raises(RuntimeError, match=r"has no outputs: it failed \(ValueError: no good\)"):
            take()
    with pytest.raises(ValueError, match="no good") as caught:
        run.raise_for_status()
    assert isinstance(caught.value, RuntimeUserError)
    assert (caught.value.code, caught.value.traceback) == ("ValueError", "T")
    failure = run.first_failure()
    assert failure is not None
    assert (failure.name, failure.error_message) == ("a0", "no good")


def test_outputs_before_the_end_say_so(connected: FakePlatform, served: Any) -> None:
    run = flyte.run(served.slow)
    assert connected.started.wait(5)
    with pytest.raises(RuntimeError, match="has no outputs yet: it is running; wait for its end"):
        run.outputs()
    with pytest.raises(RuntimeError, match="has not ended"):
        run.raise_for_status()
    run.abort("enough")
    run.wait()
    assert (run.status, run.message) == ("aborted", "aborted: enough")
    with pytest.raises(ActionAbortedError, match="enough"):
        run.raise_for_status()


def test_a_task_that_is_not_there_is_an_error_of_its_own(connected: FakePlatform) -> None:
    with pytest.raises(RemoteTaskNotFoundError):
        flyte.run(remote.Task.get("nobody", version="v1"))


# --- rerun


def test_a_run_can_be_repeated_with_other_inputs(connected: FakePlatform) -> None:
    first = flyte.run(_fetched(connected, a=int, b=int), a=1, b=2)
    first.wait()
    again = flyte.rerun(first.name, b=5)
    again.wait()
    assert again.outputs()[0] == {"a": 1, "b": 5}
    assert again.version == first.version
    with pytest.raises(NotImplementedError, match="recover"):
        flyte.rerun(first.name, recover=True)


# --- local mode


def test_a_local_run_is_the_same_class(program: Any) -> None:
    flyte.init()
    run = flyte.run(program.add_one, 41)
    assert type(run) is Run
    assert run.outputs() == (42,)
    assert (run.status, run.done(), run.phase.is_terminal) == ("succeeded", True, True)
    assert run.name.startswith("r")
    assert [update.status for update in run.stream()] == ["succeeded"]
    assert dict(run.inputs()) == {"x": 41, "by": 1}
    assert run.details().name == run.name
    assert Run.get(run.name) == run
    assert run.name in [each.name for each in Run.listall()]
    with pytest.raises(NotImplementedError):
        flyte.rerun(run.name)


def test_mode_local_is_stronger_than_the_platform_in_force(connected: FakePlatform, program: Any) -> None:
    run = flyte.with_runcontext(mode="local", name="mine").run(program.add_one, 1)
    run.wait()
    assert (run.outputs(), run.name) == ((2,), "mine")
    assert connected.seen == []


def test_a_local_run_fails_like_any_other(program: Any) -> None:
    run = flyte.run(program.fails)
    run.wait()
    assert run.status == "failed"
    with pytest.raises(ValueError, match="no good") as caught:
        run.raise_for_status()
    assert isinstance(caught.value, RuntimeUserError)


def test_local_inputs_are_checked_the_same(program: Any) -> None:
    with pytest.raises(TypeError, match="must be int"):
        flyte.run(program.add_one, "x")
    with pytest.raises(ValueError, match="lacks the input"):
        flyte.run(program.add_one)


# --- JSON


def test_fastapi_can_encode_status_and_outputs(connected: FakePlatform, served: Any) -> None:
    from fastapi.encoders import jsonable_encoder

    run = flyte.run(served.later, when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    run.wait()
    body = jsonable_encoder({"status": run.status, "phase": run.phase, "id": run.id, "outputs": run.outputs()})
    assert body == {
        "status": "succeeded",
        "phase": "succeeded",
        "id": run.name,
        "outputs": ["2026-01-02T00:00:00+00:00", "x"],
    }
    assert jsonable_encoder(ActionOutputs((None,))) == [None]
    assert json.loads(run.to_json()) == run.to_dict()


def test_a_non_recoverable_error_keeps_its_class() -> None:
    from flyte._failure import to_error

    error = to_error(wire.ErrorInfo(code="NonRecoverableError", message="stop"))
    assert isinstance(error, NonRecoverableError)
    assert msgspec.json.encode(wire.ErrorInfo(code=error.code, message=str(error)))
