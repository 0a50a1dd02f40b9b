"""Local mode: runs whose tasks run in this process.

Async tasks run on one event loop in a thread of its own (`flyte-local`), each sync task in a thread. Values still go
through JSON on their way in and out, retries, backoff and timeouts hold, children are actions with names and phases of
their own, and a run goes on in the background while its starter does something else: what works here works on a
platform. What one process cannot give is left out: environment variables, secrets, images, resources, reuse of
processes, limits of concurrency; a sync task that is timed out or aborted goes on in its thread, unheard.

Phases and events change on the loop's thread only; `LocalClient` brings every call there. Finished runs stay in memory.
When the program ends, it waits for the runs that it started.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import hashlib
import importlib
import random
import string
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import msgspec

from flyte import wire
from flyte._context import ActionID, TaskContext, ctx, entered, get_custom_context
from flyte._failure import to_error
from flyte._specs import Timeout
from flyte._sync import LoopThread
from flyte._task import TaskTemplate
from flyte._values import from_bytes, to_bytes
from flyte.errors import (
    ActionAbortedError,
    ActionNotFoundError,
    BaseRuntimeError,
    DeadlineExceededError,
    MaxRuntimeExceededError,
    NonRecoverableError,
    RunAlreadyExistsError,
    RunNotFoundError,
    TaskInterruptedError,
)
from flyte.runtime.loader import describe
from flyte.wire import ActionPhase, ErrorInfo

R = TypeVar("R")
Task = TaskTemplate[..., Any, Any]

_ALPHABET = string.digits + string.ascii_lowercase


@dataclass(slots=True, eq=False)
class _Action:
    """One action, as it stands."""

    name: str
    task: Task
    inputs: bytes
    parent: str | None
    group: str | None
    custom_context: dict[str, str]
    phase: ActionPhase = ActionPhase.QUEUED
    attempt: int = 1
    message: str = ""
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    error: ErrorInfo | None = None
    cause: BaseException | None = None
    """The exception itself, for the traceback of whoever called."""
    outputs: bytes | None = None
    children: int = 0
    attempts: list[wire.Attempt] = field(default_factory=list)
    steps: dict[str, tuple[Any, ErrorInfo | None]] = field(default_factory=dict)
    """Recorded steps: JSON, or the error."""
    work: asyncio.Task[Any] | None = None


@dataclass(slots=True, eq=False)
class _Run:
    """One run, as it stands."""

    name: str
    project: str
    domain: str
    version: str
    labels: dict[str, str]
    actions: dict[str, _Action] = field(default_factory=dict)
    events: list[wire.Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def root(self) -> _Action:
        return self.actions[wire.ROOT_ACTION]

    @property
    def url(self) -> str:
        return f"local://runs/{self.name}"

    def record(self, action: _Action, phase: ActionPhase, message: str, body: dict[str, Any] | None = None) -> None:
        """Set an action's phase, and tell everybody who watches."""
        action.phase, action.message = phase, message
        event = wire.Event(
            seq=len(self.events) + 1,
            at=time.time(),
            subject=f"run/{self.name}/{action.name}",
            phase=phase.value,
            message=message,
            attempt=action.attempt,
            body=body or {},
        )
        self.events.append(event)
        self.changed.set()
        self.changed = asyncio.Event()

    def to_wire(self) -> wire.Run:
        root = self.root
        return wire.Run(
            name=self.name,
            project=self.project,
            domain=self.domain,
            task=root.task.name,
            version=self.version,
            phase=root.phase,
            url=self.url,
            created=root.created,
            started=root.started,
            ended=root.ended,
            error=root.error,
            attempt=root.attempt,
            outputs=msgspec.Raw(root.outputs) if root.outputs is not None else None,
            message=root.message,
            labels=self.labels,
            created_by="local",
            actions=len(self.actions),
            seq=len(self.events),
        )

    def action_to_wire(self, action: _Action) -> wire.Action:
        return wire.Action(
            run=self.name,
            name=action.name,
            parent=action.parent,
            task=action.task.name,
            short_name=action.task.short_name,
            phase=action.phase,
            attempt=action.attempt,
            group=action.group,
            message=action.message,
            created=action.created,
            started=action.started,
            ended=action.ended,
            error=action.error,
            children=action.children,
        )


# ----------------------------------------------------------------------------------------------------- running it


def _prepare(loop: asyncio.AbstractEventLoop) -> None:
    try:
        from flyte.runtime import greenlets
    except ImportError:  # no greenlet here: blocking calls in async tasks warn, and hold up the loop
        return
    greenlets.install(loop)


_thread = LoopThread("flyte-local", _prepare)
_runs: dict[str, _Run] = {}


class LocalCaller:
    """The `Caller` of one attempt."""

    def __init__(self, run: _Run, action: _Action) -> None:
        self._run = run
        self._action = action
        self._sequence: Counter[tuple[str, bytes, str | None]] = Counter()
        self._lock = threading.Lock()
        self.children: set[asyncio.Task[Any]] = set()
        self.is_over = False

    async def call(self, task: Task, inputs: dict[str, Any], *, group: str | None) -> Any:
        return await _thread.aio(self._child(task, *self._identified(task, inputs, group), group))

    def call_blocking(self, task: Task, inputs: dict[str, Any], *, group: str | None) -> Any:
        return self._waited(self._child(task, *self._identified(task, inputs, group), group))

    def _identified(self, task: Task, inputs: dict[str, Any], group: str | None) -> tuple[str, bytes]:
        """The child's name, the same in every attempt, and its inputs."""
        data = to_bytes(task.interface.dump_inputs(inputs))
        with self._lock:
            key = (task.name, data, group)
            sequence, self._sequence[key] = self._sequence[key], self._sequence[key] + 1
        identity = "\0".join([self._action.name, task.name, str(sequence), group or ""]).encode() + data
        return _base36(int.from_bytes(hashlib.sha256(identity).digest()))[:25], data

    async def _child(self, task: Task, name: str, data: bytes, group: str | None) -> Any:
        if self.is_over:
            raise ActionAbortedError(f"{self._action.task.name} is over; it cannot call {task.name} any more")
        child = self._run.actions.get(name)
        if child is None or child.phase is not ActionPhase.SUCCEEDED:
            if child is None:
                self._action.children += 1
            child = _Action(name, task, data, self._action.name, group, get_custom_context())
            work = _start(self._run, child)
            self.children.add(work)
            work.add_done_callback(self.children.discard)
            try:
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

    def _waited(self, coro: Coroutine[Any, Any, R]) -> R:
        try:
            return _thread.call(coro)
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

    def progress(self, message: str, body: dict[str, Any] | None = None) -> None:
        _thread.submit(self._progressed(message, body))

    async def _progressed(self, message: str, body: dict[str, Any] | None) -> None:
        if not self._action.phase.is_terminal:
            self._run.record(self._action, self._action.phase, message, body)


def _start(run: _Run, action: _Action) -> asyncio.Task[None]:
    """Begin with an action; the task ends when it is terminal, and is cancelled to abort it."""
    run.actions[action.name] = action
    run.record(action, ActionPhase.QUEUED, "queued")
    action.work = asyncio.get_running_loop().create_task(_live(run, action), name=f"{run.name}/{action.name}")
    return action.work


async def _live(run: _Run, action: _Action) -> None:
    """An action's whole life."""
    try:
        await _attempts(run, action)
    except asyncio.CancelledError:
        error = ActionAbortedError(f"{action.task.name} was aborted")
        _end(run, action, ActionPhase.ABORTED, "aborted", describe(error))
        raise


async def _attempts(run: _Run, action: _Action) -> None:
    retries = action.task.retries.to_wire()
    while True:
        phase, error = await _attempt(run, action)
        if error is None:
            _end(run, action, phase, "succeeded", None)
            return
        is_last = action.attempt > retries.count or isinstance(error, NonRecoverableError | DeadlineExceededError)
        info = describe(error)
        action.cause = error
        words = f"{info.code}: {info.message}"
        if is_last:
            _end(run, action, phase, words, info)
            return
        delay = min(retries.base * retries.factor ** (action.attempt - 1), retries.cap or float("inf"))
        run.record(action, ActionPhase.QUEUED, f"attempt {action.attempt} failed: {words}; trying again")
        action.attempt += 1
        await asyncio.sleep(delay)


async def _attempt(run: _Run, action: _Action) -> tuple[ActionPhase, BaseException | None]:
    """Run the function once: the phase that it would end in, and why it failed."""
    began = time.time()
    action.started = action.started or began
    run.record(action, ActionPhase.RUNNING, "running" if action.attempt == 1 else f"running, attempt {action.attempt}")
    phase, error = ActionPhase.SUCCEEDED, None
    caller = LocalCaller(run, action)
    limit, too_late = _limit(action)
    try:
        async with asyncio.timeout(limit) as clock:
            action.outputs = to_bytes(await _called(run, action, caller))
    except TimeoutError as failure:
        phase, error = (ActionPhase.TIMED_OUT, too_late) if clock.expired() else (ActionPhase.FAILED, failure)
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        phase, error = ActionPhase.FAILED, TaskInterruptedError("the task was cancelled from inside")
    except Exception as failure:  # noqa: BLE001 - a stranger's code
        phase, error = ActionPhase.FAILED, failure
    finally:
        caller.is_over = True
        await _cancelled(caller.children)
    info = describe(error) if error else None
    action.attempts.append(
        wire.Attempt(number=action.attempt, phase=phase, started=began, ended=time.time(), error=info)
    )
    return phase, error


def _is_cancelled() -> bool:
    """Whether the current task itself was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _limit(action: _Action) -> tuple[float | None, BaseException]:
    """Seconds that this attempt may take, and what to say when they are over."""
    limits: Timeout = action.task.timeout
    spec = limits.to_wire()
    name = action.task.name
    over: BaseException = MaxRuntimeExceededError(f"{name} ran longer than its max_runtime, {spec.max_runtime} s")
    if spec.deadline is None:
        return spec.max_runtime, over
    left = max(action.created + spec.deadline - time.time(), 0)
    if spec.max_runtime is not None and spec.max_runtime <= left:
        return spec.max_runtime, over
    return left, DeadlineExceededError(f"{name} passed its deadline, {spec.deadline} s after it was called")


async def _called(run: _Run, action: _Action, caller: LocalCaller) -> list[Any]:
    """The function's outputs as JSON."""
    interface = action.task.interface
    args, kwargs = interface.arguments(interface.load_inputs(from_bytes(action.inputs)))
    with entered(_context(run, action), caller):
        if action.task.is_async:
            return interface.dump_outputs(await action.task.func(*args, **kwargs))
        return interface.dump_outputs(await _in_thread(functools.partial(action.task.func, *args, **kwargs)))


def _context(run: _Run, action: _Action) -> TaskContext:
    from flyte.io._place import data_folder

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
        raw_data_path=str(data_folder()),
    )


async def _in_thread(func: Callable[[], R]) -> R:
    """Call `func` in a thread of its own: one that waits for its children must not keep theirs from running."""
    done: concurrent.futures.Future[R] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def target() -> None:
        try:
            done.set_result(context.run(func))
        except SystemExit as ended:
            done.set_exception(
                TaskInterruptedError(f"the task called sys.exit({ended.code!r}); raise an exception to fail")
            )
        except BaseException as error:  # noqa: BLE001 - a stranger's code
            done.set_exception(error)

    threading.Thread(target=target, name="flyte-task", daemon=True).start()
    return await asyncio.wrap_future(done)


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    running = list(tasks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _end(run: _Run, action: _Action, phase: ActionPhase, message: str, error: ErrorInfo | None) -> None:
    action.ended = time.time()
    action.error = error
    if error is not None:
        action.outputs = None
    run.record(action, phase, message)


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _ALPHABET[digit] + digits
    return digits


def new_run_name() -> str:
    """`r` and 19 characters that sort by time."""
    ticks = _base36(time.time_ns() // 1000).rjust(11, "0")
    return "r" + ticks + "".join(random.choices(_ALPHABET, k=8))


@functools.cache
def _wait_at_exit() -> None:
    """Let the runs that are under way end before the interpreter does; Ctrl-C leaves at once."""
    # Python's own hook: `atexit` comes too late, when no executor takes work any more. The last to register is the
    # first to be called, and the executors register when their module is imported.
    importlib.import_module("concurrent.futures.thread")
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_finish_runs)


def _finish_runs() -> None:
    if _thread.thread is None:
        return
    running = [run.name for run in _runs.values() if not run.root.phase.is_terminal]
    if running:
        _thread.call(_all_ended(running))


async def _all_ended(names: list[str]) -> None:
    await asyncio.gather(*(_ended(_runs[name], None) for name in names))


async def _ended(run: _Run, wait: float | None) -> None:
    """Return when the run has ended, or `wait` seconds are over."""
    work = run.root.work
    if work is not None and not work.done():
        await asyncio.wait([work], timeout=wait)


# ---------------------------------------------------------------------------------------------------- asking for it


class LocalClient:
    """What `_client.Client` is for a platform's runs, for those of this process. Usable on any event loop."""

    endpoint = "local://"

    def __init__(self, project: str = wire.DEFAULT_PROJECT, domain: str = wire.DEFAULT_DOMAIN) -> None:
        self.project = project
        self.domain = domain

    def scoped(self, project: str | None = None, domain: str | None = None) -> LocalClient:
        return LocalClient(project or self.project, domain or self.domain)

    async def create_local(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        *,
        name: str | None = None,
        version: str | None = None,
        labels: Mapping[str, str] | None = None,
        custom_context: Mapping[str, str] | None = None,
        **unused: Any,
    ) -> wire.Run:
        """Start a run of `task` with bound inputs; it goes on in the background.

        Of a platform's other options (env_vars, overwrite_cache, max_action_concurrency, …) none means anything here.
        Raises InvalidInputError, and RunAlreadyExistsError where the name is taken.
        """
        data = to_bytes(task.interface.dump_inputs(inputs))
        custom = {**get_custom_context(), **(custom_context or {})}
        root = _Action(wire.ROOT_ACTION, task, data, None, None, custom)
        run = _Run(
            name or new_run_name(), self.project, self.domain, version or ctx().version or "local", dict(labels or {})
        )
        return await _thread.aio(_created(run, root))

    async def get_run(self, name: str, wait: float | None = None) -> wire.Run:
        """The run now or, with `wait`, when it has ended or that many seconds are over."""

        async def there() -> wire.Run:
            run = _find(name)
            if wait:
                await _ended(run, wait)
            return run.to_wire()

        return await _thread.aio(there())

    async def list_runs(
        self, *, limit: int = 100, phase: Any = None, task: str | None = None, **_: Any
    ) -> list[wire.Run]:
        """Newest first."""

        async def there() -> list[wire.Run]:
            runs = [run.to_wire() for run in reversed(_runs.values())]
            kept = [r for r in runs if (phase is None or r.phase == phase) and (task is None or _is_task(r.task, task))]
            return kept[:limit]

        return await _thread.aio(there())

    async def abort_run(self, name: str, reason: str = "") -> wire.Run:
        """Cancel the run's tasks; a sync one is left alone in its thread."""
        await self.abort_action(name, wire.ROOT_ACTION, reason)
        return await self.get_run(name)

    async def abort_action(self, run: str, action: str, reason: str = "") -> None:
        async def there() -> None:
            work = _find_action(_find(run), action).work
            if work is not None and not work.done():
                work.cancel(reason)
                await asyncio.wait([work])

        await _thread.aio(there())

    async def list_actions(
        self, run: str, *, parent: str | None = None, phase: Any = None, limit: int = 1000, offset: int | None = None
    ) -> list[wire.Action]:
        """In the order of their creation."""

        async def there() -> list[wire.Action]:
            found = _find(run)
            actions = [found.action_to_wire(action) for action in found.actions.values()]
            kept = [
                a for a in actions if (parent is None or a.parent == parent) and (phase is None or a.phase == phase)
            ]
            return kept[offset or 0 :][:limit]

        return await _thread.aio(there())

    async def get_action(self, run: str, action: str = wire.ROOT_ACTION) -> wire.ActionDetails:
        async def there() -> wire.ActionDetails:
            found = _find(run)
            known = _find_action(found, action)
            return wire.ActionDetails(
                action=found.action_to_wire(known),
                inputs=msgspec.Raw(known.inputs),
                outputs=msgspec.Raw(known.outputs) if known.outputs is not None else None,
                attempts=list(known.attempts),
                interface=known.task.interface.spec(),
            )

        return await _thread.aio(there())

    async def run_events(
        self, name: str, after: int | None = None, actions: str = "root"
    ) -> AsyncGenerator[tuple[Literal["snapshot", "event"], int, wire.Run | wire.Event], None]:
        """The run as it goes, `actions` being `root` or `all`; ends when the root action has ended."""
        if after is None:
            snapshot = await self.get_run(name)
            after = snapshot.seq
            yield "snapshot", snapshot.seq, snapshot
            if snapshot.phase.is_terminal:
                return
        root = f"run/{name}/{wire.ROOT_ACTION}"
        while True:
            events, is_over = await _thread.aio(_events_after(name, after))
            for event in events:
                after = event.seq
                if actions == "all" or event.subject == root:
                    yield "event", event.seq, event
                if event.subject == root and ActionPhase(event.phase).is_terminal:
                    return
            if is_over and not events:
                return

    async def run_logs(
        self, run: str, action: str = wire.ROOT_ACTION, **options: Any
    ) -> AsyncGenerator[wire.LogLine, None]:
        """One line that says where the task's output is: this process has written it already."""
        await self.get_action(run, action)
        yield wire.LogLine(text="local mode: the task wrote to the output of the process that started it", offset=0)


async def _created(run: _Run, root: _Action) -> wire.Run:
    if run.name in _runs:
        raise RunAlreadyExistsError(f"a run named {run.name!r} exists in this process; choose another name")
    _wait_at_exit()
    _runs[run.name] = run
    _start(run, root)
    return run.to_wire()


async def _events_after(name: str, after: int) -> tuple[list[wire.Event], bool]:
    """The events past `after`, waiting for the next one while the run goes on; and whether it has ended."""
    run = _find(name)
    while len(run.events) <= after and not run.root.phase.is_terminal:
        await run.changed.wait()
    return run.events[after:], run.root.phase.is_terminal


def _find(name: str) -> _Run:
    if name not in _runs:
        raise RunNotFoundError(f"this process has no local run named {name!r}")
    return _runs[name]


def _find_action(run: _Run, name: str) -> _Action:
    if name not in run.actions:
        raise ActionNotFoundError(f"the run {run.name} has no action {name!r}")
    return run.actions[name]


def _is_task(full: str, wanted: str) -> bool:
    return full == wanted or full.rpartition(".")[2] == wanted
