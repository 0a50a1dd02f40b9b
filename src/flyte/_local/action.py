"""The life of an action in local mode: its attempts, and the children that they call."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import functools
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

import flyte.io  # noqa: F401 - files and folders may arrive where nothing is declared
from flyte import wire
from flyte._context import ActionID, TaskContext, entered, get_custom_context
from flyte._failure import plain, to_error
from flyte._local import cache as _cache
from flyte._local.run import LocalAction, LocalRun, Task, thread
from flyte._sync import Outcome, outcome
from flyte._values.text import from_bytes, to_bytes
from flyte.errors import (
    ActionAbortedError,
    BaseRuntimeError,
    DeadlineExceededError,
    MaxRuntimeExceededError,
    NonRecoverableError,
)
from flyte.names import child_names
from flyte.phases import after_failure
from flyte.runtime.loader import describe
from flyte.wire import ActionPhase, ErrorInfo

R = TypeVar("R")


_FINAL = (NonRecoverableError, DeadlineExceededError)
"""Errors after which there is no other attempt."""


class LocalCaller:
    """The `Caller` of one attempt."""

    def __init__(self, run: LocalRun, action: LocalAction) -> None:
        self._run = run
        self._action = action
        self._failures = action.attempt - 1
        self._waits = 0
        """Children that it waits for."""
        self._sequence: Counter[tuple[str, bytes, str | None]] = Counter()
        self._lock = threading.Lock()
        self.children: set[asyncio.Task[Any]] = set()
        self.is_over = False

    async def call(self, task: Task, inputs: dict[str, Any], *, group: str | None) -> Any:
        return await thread.aio(self._child(task, *self._identified(task, inputs, group), group))

    def call_blocking(self, task: Task, inputs: dict[str, Any], *, group: str | None) -> Any:
        return self._waited(self._child(task, *self._identified(task, inputs, group), group))

    def _identified(self, task: Task, inputs: dict[str, Any], group: str | None) -> tuple[str, bytes]:
        """The child's name, the same in every attempt, and its inputs."""
        data = to_bytes(task.dump_inputs(inputs))
        with self._lock:
            key = (task.name, data, group)
            sequence, self._sequence[key] = self._sequence[key], self._sequence[key] + 1
        for name in child_names(self._action.name, self._failures, task.name, data, None, sequence, group):
            child = self._run.actions.get(name)
            if child is None or child.phase is ActionPhase.SUCCEEDED or not child.phase.is_terminal:
                break
        return name, data

    async def _child(self, task: Task, name: str, data: bytes, group: str | None) -> Any:
        if self.is_over:
            raise ActionAbortedError(f"{self._action.task.name} is over; it cannot call {task.name} any more")
        child = self._run.actions.get(name)
        if child is None or child.phase is not ActionPhase.SUCCEEDED:
            self._action.children += 1
            child = LocalAction(name, task, data, self._action.name, group, get_custom_context())
            work = start(self._run, child)
            self.children.add(work)
            work.add_done_callback(self.children.discard)
            try:
                with self._waiting():
                    await work
            except asyncio.CancelledError:
                if _is_cancelled():  # it is the caller that was; else somebody aborted the child alone
                    raise
        if child.error is not None:
            if isinstance(child.cause, BaseRuntimeError):
                raise child.cause
            error = to_error(child.error)
            error.worker = child.name
            raise error from child.cause
        return task.interface.load_result(from_bytes(child.outputs or b"null"))

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """While it waits for a child, the action does not count against the run's limit."""
        limit, name = self._run.limit, self._action.name
        self._waits += 1
        if limit is not None and self._waits == 1:
            limit.waits(name)
        try:
            yield
        finally:
            self._waits -= 1
            if limit is not None and self._waits == 0 and not self.is_over:
                limit.goes_on(name)

    def _waited(self, coro: Coroutine[Any, Any, R]) -> R:
        try:
            return thread.call(coro)
        except concurrent.futures.CancelledError:
            raise ActionAbortedError(f"{self._action.task.name} was aborted") from None

    async def trace_lookup(self, step: str, name: str) -> tuple[bool, Any]:
        return self.trace_lookup_blocking(step, name)

    def trace_lookup_blocking(self, step: str, name: str) -> tuple[bool, Any]:
        if step not in self._action.steps:
            return False, None
        value, error = self._action.steps[step]
        if error is not None:
            raise to_error(error)
        return True, value

    async def trace_record(
        self, step: str, name: str, value: Any = None, error: BaseException | None = None, started: float = 0
    ) -> None:
        self.trace_record_blocking(step, name, value, error, started)

    def trace_record_blocking(
        self, step: str, name: str, value: Any = None, error: BaseException | None = None, started: float = 0
    ) -> None:
        self._action.steps[step] = (value, describe(error) if error else None)

    is_ending = False

    def progress(self, message: str, body: dict[str, Any] | None = None) -> None:
        if thread.is_current():  # at once: an action may end before its loop turns again
            self._progressed(message, body)
        else:
            thread.submit(self._progressed_there(message, body))

    async def _progressed_there(self, message: str, body: dict[str, Any] | None) -> None:
        self._progressed(message, body)

    def _progressed(self, message: str, body: dict[str, Any] | None) -> None:
        if not self._action.phase.is_terminal:
            self._run.record(self._action, self._action.phase, message, body)


def start(run: LocalRun, action: LocalAction) -> asyncio.Task[None]:
    """Begin with an action; the task ends when it is terminal, and is cancelled to abort it."""
    run.actions[action.name] = action
    run.record(action, ActionPhase.QUEUED, "queued")
    loop = asyncio.get_running_loop()
    action.work = loop.create_task(_live(run, action), name=f"{run.name}/{action.name}")
    if (limit := run.limit) is not None:  # a turn later: its caller goes on before another action begins
        action.work.add_done_callback(lambda _: loop.call_soon(limit.ends, action.name))
    return action.work


async def _live(run: LocalRun, action: LocalAction) -> None:
    """An action's whole life."""
    try:
        await _found_or_computed(run, action)
    except asyncio.CancelledError:
        message = f"aborted: {action.abort_reason}" if action.abort_reason else "aborted"
        _end(run, action, ActionPhase.ABORTED, message, describe(ActionAbortedError(message)))
        raise


async def _found_or_computed(run: LocalRun, action: LocalAction) -> None:
    """End with the result that is in the cache, or compute it and keep it there."""
    spec = None if run.disable_cache else _cache.spec_of(action.task)
    if spec is None:
        await _attempts(run, action)
        return
    key = await _cache.key_for(action.task, spec, run.project, run.domain, action.inputs)
    async with _cache.turn(key, spec.serialize and not _is_below_equal(run, action, key)):
        found = None if run.overwrite_cache else _cache.find(key, action.task, spec)
        if found is not None:
            action.outputs = found.outputs
            action.cache = wire.CacheUse(status="hit", run=found.run, action=found.action, seconds=found.seconds)
            _end(run, action, ActionPhase.SUCCEEDED, action.cache.message(), None)
            return
        action.cache_key = key
        await _attempts(run, action)
        if action.phase is ActionPhase.SUCCEEDED and action.outputs is not None:
            seconds = time.time() - (action.started or time.time())
            _cache.keep(key, action.task, _cache.Stored(run.name, action.name, action.outputs, time.time(), seconds))


def _is_below_equal(run: LocalRun, action: LocalAction, key: str) -> bool:
    """Whether an action above computes the same: this one must not wait for it."""
    parent = action.parent
    while parent is not None:
        above = run.actions[parent]
        if above.cache_key == key:
            return True
        parent = above.parent
    return False


async def _attempts(run: LocalRun, action: LocalAction) -> None:
    """One attempt after the other, as a platform would make them."""
    retries = action.task.retries.to_wire()
    failures = {"user": 0, "system": 0}
    while True:
        await _turn(run, action)
        phase, error = await _attempt(run, action)
        if error is None:
            action.cache = wire.CacheUse(status="populated") if action.cache_key else None
            _end(run, action, phase, "succeeded", None)
            return
        info = msgspec.structs.replace(describe(error), retryable=not isinstance(error, _FINAL))
        action.cause = error
        failures["system" if info.kind == "system" else "user"] += 1
        timed_out = phase is ActionPhase.TIMED_OUT
        verdict = after_failure(info, retries, failures["user"], failures["system"], timed_out)
        words = f"{info.code}: {info.message}"
        if verdict.phase is not ActionPhase.QUEUED:
            _end(run, action, verdict.phase, words, info)
            return
        run.record(action, ActionPhase.QUEUED, f"attempt {action.attempt} failed: {words}; trying again")
        action.attempt += 1
        if run.limit is not None:
            run.limit.ends(action.name)
        await asyncio.sleep(verdict.delay)


async def _turn(run: LocalRun, action: LocalAction) -> None:
    """Return when the run's limit lets the action begin."""
    if run.limit is not None:
        may_begin = asyncio.Event()
        run.limit.begin(action.name, may_begin.set)
        await may_begin.wait()


async def _attempt(run: LocalRun, action: LocalAction) -> tuple[ActionPhase, BaseException | None]:
    """Run the function once: the phase that it would end in, and why it failed."""
    began = time.time()
    action.started = action.started or began
    run.record(action, ActionPhase.RUNNING, "running" if action.attempt == 1 else f"running, attempt {action.attempt}")
    error: BaseException | None
    caller = LocalCaller(run, action)
    limit, too_late = _limit(action)
    try:
        async with asyncio.timeout(limit) as clock:
            action.outputs, error = await _called(run, action, caller)
    except TimeoutError as late:
        error = late
    except asyncio.CancelledError as cancelled:
        if _is_cancelled():
            raise
        error = plain(cancelled)
    finally:
        caller.is_over = True
        await _cancelled(caller.children)
    phase = ActionPhase.SUCCEEDED if error is None else ActionPhase.FAILED
    if isinstance(error, TimeoutError) and clock.expired():
        phase, error = ActionPhase.TIMED_OUT, too_late
    info = describe(error) if error else None
    action.attempts.append(
        wire.Attempt(number=action.attempt, phase=phase, started=began, ended=time.time(), error=info)
    )
    return phase, error


def _is_cancelled() -> bool:
    """Whether the current task itself was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _limit(action: LocalAction) -> tuple[float | None, BaseException]:
    """Seconds that this attempt may take, and what to say when they are over."""
    spec = action.task.timeout.to_wire()
    name = action.task.name
    over: BaseException = MaxRuntimeExceededError(f"{name} ran longer than its max_runtime, {spec.max_runtime} s")
    if spec.deadline is None:
        return spec.max_runtime, over
    left = max(action.created + spec.deadline - time.time(), 0)
    if spec.max_runtime is not None and spec.max_runtime <= left:
        return spec.max_runtime, over
    return left, DeadlineExceededError(f"{name} passed its deadline, {spec.deadline} s after it was called")


async def _called(run: LocalRun, action: LocalAction, caller: LocalCaller) -> Outcome[bytes]:
    """The function's outputs as JSON, or what it raised: a coroutine cannot raise StopIteration, and SystemExit would
    leave the loop that all tasks share.
    """
    task = action.task
    try:
        args, kwargs = task.interface.arguments(task.load_inputs(from_bytes(action.inputs)))
        call = functools.partial(task.execute if task.is_wrapped else task.func, *args, **kwargs)
        with entered(_context(run, action), caller):
            value, raised = (await call(), None) if task.is_async or task.is_wrapped else await _in_thread(call)
            if raised is not None:
                return None, plain(raised)
            return to_bytes(task.dump_outputs(value)), None
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as failure:  # noqa: BLE001 - a stranger's code
        return None, plain(failure)


def _context(run: LocalRun, action: LocalAction) -> TaskContext:
    from flyte.storage._new_files import data_folder, path_of_run

    return TaskContext(
        action=ActionID(action.name, run.name, run.project, run.domain),
        version=run.version,
        task_name=action.task.name,
        mode="local",
        attempt=action.attempt,
        parent=action.parent,
        group=action.group,
        run_url=run.url,
        run_start_time=run.started,
        custom_context=action.custom_context,
        checkpoint_paths=f"{run.name}/{action.name}",
        checkpoint_root=_checkpoints,
        raw_data_path=path_of_run(run.raw_data_path, run.run_base_dir, run.name) or str(data_folder()),
        run_base_dir=run.run_base_dir,
        disable_run_cache=run.disable_cache,
    )


@functools.cache
def _checkpoints() -> Path:
    """This process's, which go with it."""
    folder = Path(tempfile.mkdtemp(prefix="flyte-checkpoints-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


async def _in_thread(func: Callable[[], R]) -> Outcome[R]:
    """Call `func` in a thread of its own: one that waits for its children must not keep theirs from running."""
    done: concurrent.futures.Future[Outcome[R]] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()
    call = functools.partial(contextvars.copy_context().run, func)
    threading.Thread(target=lambda: done.set_result(outcome(call)), name="flyte-task", daemon=True).start()
    return await asyncio.wrap_future(done)


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    running = list(tasks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _end(run: LocalRun, action: LocalAction, phase: ActionPhase, message: str, error: ErrorInfo | None) -> None:
    action.ended = time.time()
    action.error = error
    if error is not None:
        action.outputs = None
    run.record(action, phase, message)
