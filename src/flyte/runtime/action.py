"""One action in a worker: who it is, what it calls, and how its outcome is told.

`Job` is the `Caller` of the action: children and recorded steps go over the worker's link and come back to whichever
loop or thread asked. A child is named by what is called, with what, and for the how-manieth time (`sequence`), so an
action that runs again finds the children of its earlier attempt.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import flyte.io  # noqa: F401 - files and folders may arrive where nothing is declared
from flyte import wire
from flyte._context import ActionID, TaskContext, get_custom_context
from flyte._declare.links import Submission
from flyte._failure import to_error
from flyte._sync import block, in_event_loop
from flyte._values.text import from_bytes, to_bytes
from flyte.errors import ActionAbortedError, BaseRuntimeError, NotInTaskContextError
from flyte.runtime import output
from flyte.runtime.loader import describe
from flyte.runtime.values import pack_value, unpack_value
from flyte.storage._new_files import RUN_BASE_DIR, data_folder, folder_of_machine, path_of_environment

if TYPE_CHECKING:
    from flyte._declare.task import TaskTemplate
    from flyte.runtime.link import Link

_keys = itertools.count(1)

Answered = Callable[[wire.AnyFrame], None]

ERROR_LIMIT = 64 * 1024
"""Characters of an error's message, and of its traceback, that travel; a frame has a limit, a message has none."""


class Answers:
    """Who waits for which answer.

    What an event loop asks for in one turn goes out together; what is answered together wakes it once.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop | None, Answered]] = {}
        self._flushing: asyncio.AbstractEventLoop | None = None
        """The loop that will send what was asked for in its present turn."""

    def ask(self, key: int, frame: wire.Frame, loop: asyncio.AbstractEventLoop | None, answered: Answered) -> None:
        """Raises NotInTaskContextError in a process that was forked off, which would wait for ever."""
        if self._link.abandoned:
            raise NotInTaskContextError(
                "this process was forked inside a task or traced function and came back out of it; "
                "end it with os._exit, or use multiprocessing, which does"
            )
        self._waiting[key] = (loop, answered)
        self._link.watch()
        if loop is None:
            self._link.send(frame, keep=key)
            return
        self._link.post(frame, keep=key)
        if self._flushing is not loop:
            self._flushing = loop
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self._link.flush()

    def forget(self, key: int) -> None:
        self._waiting.pop(key, None)
        self._link.answered(key)

    def cancel(self, key: int, frame: wire.CancelCall) -> None:
        """Nobody waits for the call any more. A control plane that has not heard of it hears of both."""
        self._waiting.pop(key, None)
        self._link.send(frame, keep=_cancelled(key))

    def receive(self, frames: list[wire.CallResult | wire.TraceResult]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[Answered, wire.AnyFrame]]] = {}
        for frame in frames:
            self._link.answered(frame.key)
            self._link.answered(_cancelled(frame.key))
            if (waiting := self._waiting.pop(frame.key, None)) is not None:
                by_loop.setdefault(waiting[0], []).append((waiting[1], frame))
        for loop, answers in by_loop.items():
            if loop is None:
                _deliver(answers)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, answers)


def _cancelled(key: int) -> tuple[str, int]:
    """Under what the cancellation of a call is kept."""
    return ("cancel", key)


def _deliver(answers: list[tuple[Answered, wire.AnyFrame]]) -> None:
    for answered, frame in answers:
        answered(frame)


class Job:
    def __init__(self, assign: wire.Assign, link: Link, answers: Answers, root: Path) -> None:
        self.assign = assign
        self._root = root
        self._link = link
        self._answers = answers
        self._sequence: Counter[tuple[str, bytes, str | None]] = Counter()
        self._shown: set[str] = set()
        self._lock = threading.Lock()
        self._artifacts: list[wire.ProducedArtifact] = []

    @property
    def key(self) -> wire.AttemptRef:
        return wire.AttemptRef.of(self.assign)

    def context(self) -> TaskContext:
        a = self.assign
        return TaskContext(
            action=ActionID(name=a.action, run_name=a.run, project=a.project, domain=a.domain),
            version=a.version,
            task_name=a.task,
            mode="remote",
            attempt=a.attempt,
            parent=a.parent,
            group=a.group,
            run_url=a.url,
            run_start_time=datetime.datetime.fromtimestamp(a.started, datetime.UTC),
            custom_context=dict(a.custom_context),  # plugins put into it what children get
            failures=a.failures,
            checkpoint_paths=f"{a.run}/{a.action}",
            checkpoint_root=_checkpoints,
            raw_data_path=path_of_environment(a.run) or folder_of_machine(),
            run_base_dir=os.environ.get(RUN_BASE_DIR),
            disable_run_cache=a.disable_cache,
        )

    def environment(self) -> dict[str, str]:
        """What tells every process of the action which one it is."""
        a = self.assign
        return {
            "RUN_NAME": a.run,
            "ACTION_NAME": a.action,
            "FLYTE_ATTEMPT_NUMBER": str(a.attempt - 1),
        }

    # ------------------------------------------------------------------ outcome

    def outputs_of(self, task: TaskTemplate[..., Any, Any], result: Any) -> list[Any]:
        """What the function returned, as JSON data. Artifacts among it are told with the action's success."""
        outputs = task.dump_outputs(result)
        if "flyte.artifacts" in sys.modules:  # otherwise nothing can have been marked as one
            from flyte.artifacts._new import produced

            self._artifacts = produced(task, result, outputs)
        return outputs

    def succeeded(self, outputs: list[Any]) -> wire.Finished:
        a = self.assign
        try:
            value = pack_value(to_bytes(outputs), f"the output of {a.task}")
        except BaseRuntimeError as error:
            return self.failed(error)
        return wire.Finished(run=a.run, action=a.action, attempt=a.attempt, outputs=value, artifacts=self._artifacts)

    def failed(self, error: BaseException) -> wire.Finished:
        a = self.assign
        return wire.Finished(run=a.run, action=a.action, attempt=a.attempt, error=_cut(describe(error)))

    # ------------------------------------------------------------------ children (the Caller protocol)

    async def call(self, task: TaskTemplate[..., Any, Any], inputs: dict[str, Any], *, group: str | None) -> Any:
        """Start a child, or find it, and wait for it. Cancelling the wait aborts the child."""
        frame = self._call_frame(task, inputs, group)
        result = await self._ask(frame.key, frame)
        return _child_result(task, result)

    def call_blocking(self, task: TaskTemplate[..., Any, Any], inputs: dict[str, Any], *, group: str | None) -> Any:
        if in_event_loop():
            return block(lambda: self.call(task, inputs, group=group), task.name)
        frame = self._call_frame(task, inputs, group)
        return _child_result(task, self._ask_blocking(frame.key, frame))

    def _call_frame(self, task: TaskTemplate[..., Any, Any], inputs: dict[str, Any], group: str | None) -> wire.Call:
        a = self.assign
        data = to_bytes(task.dump_inputs(inputs))
        with self._lock:
            same = (task.name, data, group)
            sequence = self._sequence[same]
            self._sequence[same] += 1
            first = task.name not in self._shown
            self._shown.add(task.name)
        spec = None
        custom = get_custom_context()
        if first or task.has_own_spec:
            known = Submission(a.run, a.project, a.domain, a.action, context=custom)
            spec = msgspec.json.encode(task.spec(self._root, known))
        output.settle()
        return wire.Call(
            key=next(_keys),
            run=a.run,
            action=a.action,
            attempt=a.attempt,
            task=task.name,
            inputs=pack_value(data, f"the input of {task.name}"),
            sequence=sequence,
            group=group,
            spec=spec,
            overridden=task.has_own_spec,
            custom_context=custom if custom != a.custom_context else None,
        )

    async def _ask(self, key: int, frame: wire.Frame) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[wire.AnyFrame] = loop.create_future()
        self._answers.ask(key, frame, loop, lambda result: None if future.done() else future.set_result(result))
        try:
            return await future
        except asyncio.CancelledError:
            if isinstance(frame, wire.Call) and not self.is_ending:
                a = self.assign
                self._answers.cancel(key, wire.CancelCall(key=key, run=a.run, action=a.action, attempt=a.attempt))
            else:
                self._answers.forget(key)
            raise

    def _ask_blocking(self, key: int, frame: wire.Frame) -> Any:
        done = threading.Event()
        box: list[wire.AnyFrame] = []

        def answered(result: wire.AnyFrame) -> None:
            box.append(result)
            done.set()

        self._answers.ask(key, frame, None, answered)
        done.wait()  # the link gives up on a control plane that stays away, and ends the process
        return box[0]

    # ------------------------------------------------------------------ recorded steps

    async def trace_lookup(self, step: str, name: str) -> tuple[bool, Any]:
        frame = self._lookup_frame(step, name)
        return _recorded(await self._ask(frame.key, frame))

    def trace_lookup_blocking(self, step: str, name: str) -> tuple[bool, Any]:
        frame = self._lookup_frame(step, name)
        return _recorded(self._ask_blocking(frame.key, frame))

    async def trace_record(
        self, step: str, name: str, value: Any = None, error: BaseException | None = None, started: float = 0
    ) -> None:
        frame = self._record_frame(step, name, value, error, started)
        await self._ask(frame.key, frame)

    def trace_record_blocking(
        self, step: str, name: str, value: Any = None, error: BaseException | None = None, started: float = 0
    ) -> None:
        frame = self._record_frame(step, name, value, error, started)
        self._ask_blocking(frame.key, frame)

    def _lookup_frame(self, step: str, name: str) -> wire.TraceLookup:
        a = self.assign
        return wire.TraceLookup(key=next(_keys), run=a.run, action=a.action, attempt=a.attempt, step=step, name=name)

    def _record_frame(
        self, step: str, name: str, value: Any, error: BaseException | None, started: float
    ) -> wire.TraceRecord:
        a = self.assign
        return wire.TraceRecord(
            key=next(_keys),
            run=a.run,
            action=a.action,
            attempt=a.attempt,
            step=step,
            name=name,
            outputs=None if error else pack_value(to_bytes(value), f"the result of {name}"),
            error=_cut(describe(error)) if error else None,
            started=started or time.time(),
        )

    @property
    def is_ending(self) -> bool:
        return self._link.ending

    def progress(self, message: str, body: dict[str, Any] | None = None) -> None:
        a = self.assign
        self._link.send(wire.Progress(run=a.run, action=a.action, attempt=a.attempt, message=message, body=body or {}))


def _child_result(task: TaskTemplate[..., Any, Any], result: wire.CallResult) -> Any:
    if result.error is not None:
        error = to_error(result.error)
        error.worker = result.action
        raise error
    if result.outputs is None:
        raise ActionAbortedError(f"{task.name} ended as {result.phase}")
    return task.interface.load_result(from_bytes(unpack_value(result.outputs)))


def _cut(error: wire.ErrorInfo) -> wire.ErrorInfo:
    """The error with no more than the first ERROR_LIMIT characters of what can be of any length."""
    if len(error.message) <= ERROR_LIMIT and len(error.traceback) <= ERROR_LIMIT:
        return error
    message = error.message[:ERROR_LIMIT] + f"… (cut; it had {len(error.message):,} characters)"
    return msgspec.structs.replace(error, message=message, traceback=error.traceback[-ERROR_LIMIT:])


def _recorded(result: wire.TraceResult) -> tuple[bool, Any]:
    if not result.found:
        return False, None
    if result.error is not None:
        raise to_error(result.error)
    return True, from_bytes(unpack_value(result.outputs)) if result.outputs else None


def set_environment(values: dict[str, str]) -> dict[str, str | None]:
    """Put `values` into this process's environment; returns what stood there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    return before


def restore_environment(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _checkpoints() -> Path:
    from flyte._checkpoint import FOLDER

    return data_folder() / FOLDER
