"""Tasks: what they are, how they are called inside and outside an action, and where they are found again."""

from __future__ import annotations

import asyncio
import functools
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import flyte
from flyte import _sync, wire
from flyte._context import ActionID, TaskContext, current_caller, entered, set_process_action
from flyte._declare.task import TaskTemplate
from flyte.errors import CodeBundleError, InvalidInputError, TraceDoesNotAllowNestedTasksError

env = flyte.TaskEnvironment("tasks", image="img", env_vars={"A": "1"})
warm = flyte.TaskEnvironment("warm", reusable=flyte.ReusePolicy(replicas=1))
ROOT = Path(__file__).parents[2]


@env.task
async def double(x: int) -> int:
    """Twice x.

    Args:
        x: The number.
    """
    return 2 * x


@env.task(short_name="plus one", retries=3, timeout=10, cache="auto", report=True, entrypoint=True)
def add(x: int, y: int = 1) -> int:
    return x + y


@warm.task
async def kept(x: int) -> int:
    return x


class Recorder:
    """A caller that answers with what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any], str | None]] = []

    async def call(self, task: Any, inputs: dict[str, Any], *, group: str | None) -> Any:
        await asyncio.sleep(0)
        self.calls.append(("async", task.name, inputs, group))
        return f"child {task.name}"

    def call_blocking(self, task: Any, inputs: dict[str, Any], *, group: str | None) -> Any:
        self.calls.append(("blocking", task.name, inputs, group))
        return f"child {task.name}"

    async def trace_lookup(self, step: str, name: str) -> tuple[bool, Any]:
        return False, None

    async def trace_record(
        self, step: str, name: str, value: Any = None, error: BaseException | None = None, started: float = 0
    ) -> None: ...

    def trace_lookup_blocking(self, step: str, name: str) -> tuple[bool, Any]:
        return False, None

    def trace_record_blocking(
        self, step: str, name: str, value: Any = None, error: BaseException | None = None, started: float = 0
    ) -> None: ...

    is_ending = False

    def progress(self, message: str, body: dict[str, Any] | None = None) -> None: ...


@contextmanager
def action() -> Iterator[Recorder]:
    caller = Recorder()
    with entered(TaskContext(ActionID("a0", "run"), mode="remote"), caller):
        yield caller


# ------------------------------------------------------------------------------------------------------ what it is


def test_a_task_is_named_after_its_environment_and_function() -> None:
    assert (double.name, double.short_name, double.is_async) == ("tasks.double", "double", True)
    assert (add.name, add.short_name, add.is_async) == ("tasks.add", "plus one", False)
    assert isinstance(double, flyte.TaskTemplate)
    assert isinstance(add, flyte.AsyncFunctionTaskTemplate)
    assert double.__name__ == "double"
    assert double.__doc__ is not None
    assert double.source_file == __file__
    assert add.entrypoint is True
    assert env.tasks["tasks.add"] is add


def test_the_spec_holds_what_was_declared() -> None:
    spec = add.spec(ROOT)
    assert spec.entry == "tests.flyte.test_task:add"
    assert spec.retries == wire.RetrySpec(count=3)
    assert spec.timeout == wire.TimeoutSpec(max_runtime=10)
    assert spec.cache is not None
    assert spec.report
    assert not spec.is_async
    assert spec.source.startswith("tests/flyte/test_task.py:")
    assert spec.environment.env_vars == {"A": "1"}
    assert [each.name for each in spec.interface.inputs] == ["x", "y"]
    assert double.spec(ROOT).docs.startswith("Twice x.")
    assert double.spec(ROOT).cache is None
    assert double.json_schema["properties"]["x"] == {"type": "integer", "description": "The number."}


def test_stars_are_refused_where_they_are_written() -> None:
    with pytest.raises(ValueError, match=r"`\*args`; every input of a task needs a name"):

        @env.task
        def stars(*args: int) -> None: ...

    with pytest.raises(ValueError, match=r"`\*\*more`"):

        @env.task
        async def double_stars(**more: int) -> None: ...


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="no option 'retrys'"):
        env.task(retrys=3)  # type: ignore[call-overload]


def test_reused_processes_and_their_limits() -> None:
    busy = flyte.TaskEnvironment("busy", reusable=flyte.ReusePolicy(concurrency=2))
    with pytest.raises(ValueError, match="not async"):

        @busy.task
        def sync(x: int) -> int:
            return x

    with pytest.raises(ValueError, match="pod_template"):
        warm.task(pod_template="template")(sync_function)


def sync_function(x: int) -> int:
    return x


def test_an_override_is_another_task_with_the_same_name() -> None:
    changed = add.override(
        retries=flyte.RetryStrategy(5),
        timeout=60,
        resources=flyte.Resources(cpu=4),
        env_vars={"B": "2"},
        short_name="b",
    )
    assert changed.name == add.name
    assert changed.overridden
    assert not add.overridden
    spec = changed.spec(ROOT)
    assert (spec.retries.count, spec.timeout.max_runtime, spec.short_name) == (5, 60, "b")
    assert spec.environment.resources.cpu == 4
    assert spec.environment.env_vars == {"B": "2"}
    assert spec.entry == "tests.flyte.test_task:add"
    assert add.spec(ROOT).retries.count == 3
    assert add.override(entrypoint=False).entrypoint is False


@pytest.mark.parametrize("field", ["name", "image", "docs", "interface"])
def test_what_a_task_is_cannot_be_overridden(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} cannot be overridden"):
        add.override(**{field: "x"})


def test_reused_processes_keep_their_settings_unless_reuse_is_off() -> None:
    with pytest.raises(ValueError, match="reusable='off'"):
        kept.override(resources=flyte.Resources(cpu=2))
    off = kept.override(resources=flyte.Resources(cpu=2), reusable="off")
    assert off.spec(ROOT).environment.reuse is None
    assert off.spec(ROOT).environment.resources.cpu == 2
    assert kept.spec(ROOT).environment.reuse is not None
    with pytest.raises(ValueError, match="ReusePolicy or 'off'"):
        kept.override(reusable="on")


def test_a_task_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(add)) is add


# --------------------------------------------------------------------------------------------- where it is found again


def module(name: str, file: Path, code: str) -> ModuleType:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    made = ModuleType(name)
    made.__file__ = str(file)
    sys.modules[name] = made
    exec(compile(code, str(file), "exec"), made.__dict__)
    return made


CODE = "import flyte\nenv = flyte.TaskEnvironment('e')\n@env.task\ndef one(x: int) -> int: return x\n"


def test_a_script_is_found_by_its_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    script = module("__main__", tmp_path / "flows" / "train.py", CODE)
    assert script.one.spec(tmp_path).entry == "flows.train:one"
    assert script.one.spec(tmp_path / "flows").entry == "train:one"
    assert script.one.spec(tmp_path).source == "flows/train.py:3"


def test_a_package_below_the_root_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkg.mod", ModuleType("pkg.mod"))
    mod = module("pkg.mod", tmp_path / "src" / "pkg" / "mod.py", CODE)
    assert mod.one.spec(tmp_path).entry == "pkg.mod:one"


def test_the_variable_is_the_one_that_holds_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vars_mod", ModuleType("vars_mod"))
    code = CODE + "def plain(x: int) -> int: return x\nrenamed = env.task(plain)\nfor each in (one, renamed): pass\n"
    mod = module("vars_mod", tmp_path / "vars_mod.py", code)
    assert mod.renamed.spec(tmp_path).entry == "vars_mod:renamed"
    assert mod.renamed.override(retries=1).spec(tmp_path).entry == "vars_mod:renamed"
    assert mod.one.spec(tmp_path).entry == "vars_mod:one"


def test_what_no_worker_could_find_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @env.task
    def inside(x: int) -> int:
        return x

    with pytest.raises(CodeBundleError, match="inside a function"):
        inside.spec(ROOT)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    script = module("__main__", tmp_path / "elsewhere" / "train.py", CODE)
    with pytest.raises(CodeBundleError, match="outside the root folder"):
        script.one.spec(tmp_path / "root")
    odd = module("__main__", tmp_path / "my-flows" / "train.py", CODE)
    with pytest.raises(CodeBundleError, match="rename it"):
        odd.one.spec(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "my-flows")
    assert odd.one.spec(tmp_path).entry == "train:one"


def test_an_interactive_session_is_told_to_use_a_file() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CODE, "<stdin>", "exec"), names)
    with pytest.raises(CodeBundleError, match="interactive session"):
        names["one"].spec(ROOT)


# -------------------------------------------------------------------------------------------------------- calling it


async def test_outside_an_action_a_call_is_a_plain_call() -> None:
    assert await double(4) == 8
    assert add(4) == 5
    assert await add.aio(4, y=2) == 6
    assert await double.aio(4) == 8
    assert await double.forward(4) == 8


async def test_inside_an_action_a_call_of_an_async_task_is_a_child_to_await() -> None:
    with action() as caller:
        assert await double(4) == "child tasks.double"  # type: ignore[comparison-overlap]
        with flyte.group("batch"):
            await double(x=5)
            await add.aio(6)
        assert await double.forward(4) == 8
    assert caller.calls == [
        ("async", "tasks.double", {"x": 4}, None),
        ("async", "tasks.double", {"x": 5}, "batch"),
        ("async", "tasks.add", {"x": 6}, "batch"),
    ]


def test_inside_an_action_a_call_of_a_sync_task_waits_for_its_child() -> None:
    with action() as caller:
        assert add(4, y=5) == "child tasks.add"  # type: ignore[comparison-overlap]
    assert caller.calls == [("blocking", "tasks.add", {"x": 4, "y": 5}, None)]


async def test_a_sync_task_is_called_from_async_code_too() -> None:
    def blocker(awaitable: Any) -> Any:
        awaitable.close()
        return "waited in the task"

    before = _sync._blocker
    _sync.set_blocker(blocker)
    try:
        with action():
            assert add(4) == "waited in the task"  # type: ignore[comparison-overlap]
    finally:
        _sync.set_blocker(before)


async def test_a_wrong_call_is_refused_before_the_child_is_started() -> None:
    with action() as caller:
        with pytest.raises(InvalidInputError, match=r"tasks\.double has no input 'y'"):
            await double(y=1)  # type: ignore[call-arg]
        with pytest.raises(InvalidInputError, match=r"tasks\.add lacks the input 'x'"):
            add()  # type: ignore[call-arg]
    assert caller.calls == []


async def test_a_task_must_not_be_called_in_a_traced_function() -> None:
    @flyte.trace
    async def traced() -> Any:
        return await double(1)

    with action(), pytest.raises(TraceDoesNotAllowNestedTasksError, match=r"tasks\.double"):
        await traced()


def test_threads_of_the_users_own_see_the_action_of_a_process_that_runs_one() -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append((flyte.ctx().action.name, current_caller()))

    caller = Recorder()
    set_process_action(TaskContext(ActionID("a7", "run"), mode="remote"), caller)
    try:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(10)
    finally:
        set_process_action(None, None)
    assert seen == [("a7", caller)]
    assert not flyte.ctx()


# --------------------------------------------------------------------------------------------------------- contexts


def test_outside_an_action_the_context_is_falsy_and_empty() -> None:
    context = flyte.ctx()
    assert not context
    assert context.action.name is None
    assert context.attempt_number == 0
    assert not context.is_in_cluster()
    assert flyte.get_custom_context() == {}


def test_the_custom_context_is_nested_and_restored() -> None:
    with flyte.custom_context(a="1", b="1"):
        with flyte.custom_context(b="2"):
            assert flyte.get_custom_context() == {"a": "1", "b": "2"}
        assert flyte.get_custom_context() == {"a": "1", "b": "1"}
    assert flyte.get_custom_context() == {}
    with pytest.raises(TypeError, match="takes strings; a is int"), flyte.custom_context(a=1):  # type: ignore[arg-type]
        pass


# -------------------------------------------------------------------------------------------------------------- map


def test_map_gives_results_in_order() -> None:
    assert list(flyte.map(add, range(5))) == [1, 2, 3, 4, 5]
    assert list(flyte.map(add, [1, 2, 3], [10, 20])) == [11, 22]
    assert list(flyte.map(double, [1, 2])) == [2, 4]
    assert list(flyte.map(functools.partial(add, y=10), [1, 2])) == [11, 12]
    assert list(flyte.map(add, [])) == []


async def test_map_has_an_async_form() -> None:
    assert [result async for result in flyte.map.aio(double, [1, 2])] == [2, 4]


async def test_map_inside_an_action_starts_children_in_a_group() -> None:
    with action() as caller:
        [_ async for _ in flyte.map.aio(add, [1, 2], group_name="mine")]
        [_ async for _ in flyte.map.aio(double, [1])]
    assert sorted(call[3] or "" for call in caller.calls) == ["double_map", "plus one_mine", "plus one_mine"]


async def test_map_runs_at_most_so_many_at_once() -> None:
    running, most = 0, 0

    async def work(x: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return x

    assert [x async for x in flyte.map.aio(work, range(10), concurrency=3)] == list(range(10))
    assert most == 3
    started = [x async for x in flyte.map.aio(work, range(10))]
    assert started == list(range(10))
    assert most == 10


async def test_map_gives_exceptions_or_raises_the_first_and_cancels_the_rest() -> None:
    cancelled: list[int] = []

    async def work(x: int) -> int:
        if x == 1:
            raise ValueError("one")
        try:
            await asyncio.sleep(0 if x == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(x)
            raise
        return x

    results = [result async for result in flyte.map.aio(work, [0, 1])]
    assert results[0] == 0
    assert isinstance(results[1], ValueError)
    with pytest.raises(ValueError, match="one"):
        [result async for result in flyte.map.aio(work, [0, 1, 2, 3], return_exceptions=False)]
    assert sorted(cancelled) == [2, 3]


async def test_leaving_map_early_cancels_what_runs() -> None:
    cancelled: list[int] = []

    async def work(x: int) -> int:
        try:
            await asyncio.sleep(60 if x else 0)
        except asyncio.CancelledError:
            cancelled.append(x)
            raise
        return x

    results = flyte.map.aio(work, [0, 1, 2])
    assert await anext(results) == 0
    await results.aclose()  # type: ignore[attr-defined]
    assert sorted(cancelled) == [1, 2]


def test_a_partial_must_leave_one_parameter_open() -> None:
    @env.task
    def three(a: int, b: int, c: int) -> int:
        return a + b + c

    with pytest.raises(TypeError, match="exactly one parameter open"):
        list(flyte.map(functools.partial(three, 1), [1]))
    with pytest.raises(TypeError, match="2 iterables"):
        list(flyte.map(functools.partial(three, 1, 2), [1], [2]))
    assert list(flyte.map(functools.partial(three, 1, c=3), [2])) == [6]


def test_the_task_keeps_the_types_of_its_function() -> None:
    task: TaskTemplate[[int, int], int, int] = env.task(typed)
    assert task(1, 2) == 3


def typed(a: int, b: int) -> int:
    return a + b
