"""The life of runs: created, started, finished, tried again, aborted, timed out. All of it decided here, in memory.

Every step has the same shape: move the live action along the state table, write the row with its event, and only when
that is on disk tell whoever waits (the caller, the parent action, the worker). What must not happen before the commit
stands in the `then` of `Journal.commit`.

A child's name is derived from its parent, task, inputs, group and call sequence. A parent that runs again therefore
finds the children of its earlier attempt by name: finished ones answer at once, running ones are waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from flyte import wire
from flyte.errors import (
    ActionNotFoundError,
    BaseRuntimeError,
    InvalidInputError,
    RunAlreadyExistsError,
    RunNotFoundError,
    TooLargeError,
)
from flyte.wire import INLINE_LIMIT, ROOT_ACTION, ActionPhase, ErrorInfo
from tarmac import inputs as declared
from tarmac.control.errands import Errands
from tarmac.control.live import LiveAction, LiveRun, run_record
from tarmac.control.registry import KnownTask, Registry, task_row
from tarmac.events import Journal
from tarmac.logs import LogFile, Moving
from tarmac.model import after_failure, subject_of_action
from tarmac.names import check_key, check_name, child_name, run_name
from tarmac.store import ActionRow, AttemptRow, Change, RunRow, Store

if TYPE_CHECKING:
    from tarmac.blobs import Blobs
    from tarmac.control.dispatch import Dispatch, Pool, Worker
    from tarmac.control.pools import Pools
    from tarmac.home import Home
    from tarmac.settings import Settings

log = logging.getLogger("tarmac.runs")

_P = ActionPhase
K = TypeVar("K")
V = TypeVar("V")

REQUEST_LIMIT = 1024 * 1024
"""Bytes of a request to run without its inputs: variables, labels, context and overrides travel in every order."""

LATELY = 50_000
"""Idempotency keys that are kept at hand; a call is sent again within seconds, or never."""

UNCOUNTED = 100
"""Attempts up to which the loss of a worker that was not its own fault costs an action nothing."""


class Runs:
    """All runs that are not over, and the use cases that move them. Dispatch reports to it (`Lifecycle`)."""

    dispatch: Dispatch
    _pools: Pools

    def __init__(
        self,
        store: Store,
        journal: Journal,
        registry: Registry,
        blobs: Blobs,
        home: Home,
        settings: Settings,
        endpoint: str,
    ) -> None:
        self.live: dict[str, LiveRun] = {}
        self._store = store
        self._journal = journal
        self._registry = registry
        self._blobs = blobs
        self._home = home
        self._logs = str(home.run_logs("x").parent)
        self._settings = settings
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._creating: dict[str, asyncio.Future[None]] = {}
        self._started: dict[tuple[str, str, str], None] = {}
        """Idempotency keys of runs that were started lately."""
        self._ended_lately: dict[str, wire.Run] = {}
        """Runs that ended lately, as they will always be: whoever started one asks for it again."""
        self.errands = Errands(journal)
        self._registering = asyncio.Lock()

    def attach(self, dispatch: Dispatch, pools: Pools) -> None:
        """Dispatch and runs need each other; this closes the circle."""
        self.dispatch, self._pools = dispatch, pools

    def url(self, project: str, domain: str, run: str) -> str:
        return f"{self._endpoint}/v2/domain/{domain}/project/{project}/runs/{run}"

    # ------------------------------------------------------------------ create

    async def create(self, request: wire.RunRequest, by: str, fresh: bool = False) -> tuple[wire.Run, bool]:
        """Start a run, or find the one that the same name or idempotency key already started.

        A `fresh` key cannot have started one before this control plane did. When this returns the run is on disk.
        Raises RemoteTaskNotFoundError, InvalidInputError, TooLargeError, and RunAlreadyExistsError for a name that
        belongs to another task or other inputs.
        """
        if request.name is not None:
            check_name("name for a run", request.name)
        if request.idempotency_key is not None:
            check_key(request.idempotency_key)
        known = await self._registry.find(request.project, request.domain, request.task, request.version)
        rest = _without_inputs(request)
        await self._check_inputs(known, request, len(rest))
        async with self._alone(_marks(request)):
            if (existing := await self._existing(request, known, fresh)) is not None:
                return existing, False
            return await self._create(request, rest, known, by), True

    @contextlib.asynccontextmanager
    async def _alone(self, marks: list[str]) -> AsyncIterator[None]:
        """Requests that would be the same run come one after the other."""
        while pending := [self._creating[mark] for mark in marks if mark in self._creating]:
            await asyncio.wait(pending)
        done: asyncio.Future[None] = self._loop.create_future()
        self._creating.update(dict.fromkeys(marks, done))
        try:
            yield
        finally:
            for mark in marks:
                del self._creating[mark]
            done.set_result(None)

    async def _check_inputs(self, known: KnownTask, request: wire.RunRequest, rest: int) -> None:
        if rest > REQUEST_LIMIT:
            raise TooLargeError(
                f"the request to run {known.row.name} is {rest:,} bytes without its inputs; {REQUEST_LIMIT:,} go"
            )
        if request.inputs_blob is not None:
            if not await self._blobs.has(request.inputs_blob):
                raise InvalidInputError(f"the inputs' blob {request.inputs_blob} was not sent; PUT /v1/blobs/… first")
            return
        size = len(request.inputs)
        if size > self._settings.value_limit:
            raise TooLargeError(f"the inputs of {known.row.name} are {size:,} bytes; {self._settings.value_limit:,} go")
        interface = request.overrides.interface if request.overrides else known.spec.interface
        declared.check(known.row.name, interface, bytes(request.inputs))

    async def _existing(self, request: wire.RunRequest, known: KnownTask, fresh: bool) -> wire.Run | None:
        if fresh and request.name is None and _key_of(request) not in self._started:
            return None
        row = None
        if request.idempotency_key is not None:
            row = await self._store.run_by_key(request.project, request.domain, request.idempotency_key)
        if row is None and request.name is not None:
            row = await self._store.run(request.name)
        if row is None:
            return None
        if row.task != known.row.name or row.project != request.project or row.domain != request.domain:
            raise RunAlreadyExistsError(
                f"run {row.name!r} exists in {row.project}/{row.domain} and runs {row.task}; choose another name"
            )
        if row.name == request.name and not await self._same_inputs(row.name, request):
            raise RunAlreadyExistsError(f"run {row.name!r} exists with other inputs; choose another name")
        return await self.get(row.name)

    async def _same_inputs(self, run: str, request: wire.RunRequest) -> bool:
        root = await self._store.action(run, ROOT_ACTION)
        inputs, blob = await self._stored(request)
        if root is None or blob is not None or root.inputs is None or inputs is None:
            return root is not None and blob == root.inputs_blob
        return root.inputs == inputs or bool(msgspec.json.decode(root.inputs) == msgspec.json.decode(inputs))

    async def _create(self, request: wire.RunRequest, rest: bytes, known: KnownTask, by: str) -> wire.Run:
        now = time.time()
        row = RunRow(
            name=request.name or run_name(now),
            project=request.project,
            domain=request.domain,
            task=known.row.name,
            version=known.row.version,
            created=now,
            created_by=by,
            idempotency_key=request.idempotency_key,
            request=rest,
            labels=request.labels,
        )
        run = self._live_run(row, request)
        root = LiveAction(run, ROOT_ACTION, None, known, known.row.name, known.row.version, now)
        root.inputs, root.inputs_blob = await self._stored(request)
        root.spec = None if request.overrides is None else msgspec.json.encode(request.overrides)
        root.custom_context = request.custom_context
        pool = await self._pools.make(known, request.overrides)
        run.add(root)
        self.live[row.name] = run
        if request.idempotency_key is not None:
            _remember(self._started, _key_of(request), None)
        event = self._event(root, "accepted")
        record = run.record(event.seq)

        def then() -> None:
            run.shown = run.shown or record
            self._queue(root, pool)

        await self._journal.commit(Change(runs=(row,), actions=(root.write(),), events=(event,)), then)
        return run.shown or record

    def _live_run(self, row: RunRow, request: wire.RunRequest) -> LiveRun:
        return LiveRun(row, request, self.url(row.project, row.domain, row.name), f"{self._logs}/{row.name}")

    async def _stored(self, request: wire.RunRequest) -> tuple[bytes | None, str | None]:
        """Inputs in place, or the digest of the blob that holds them."""
        if request.inputs_blob is not None:
            return None, request.inputs_blob
        inputs = bytes(request.inputs)
        return (inputs, None) if len(inputs) <= INLINE_LIMIT else (None, await self._blobs.put(inputs))

    # ------------------------------------------------------------------ read

    async def get(self, name: str) -> wire.Run:
        """A run as of the last commit. Raises RunNotFoundError."""
        if (run := self.live.get(name)) is not None and run.shown is not None:
            return run.shown
        if (finished := self._ended_lately.get(name)) is not None:
            return finished
        row = await self._store.run(name)
        root = await self._store.action(name, ROOT_ACTION) if row else None
        if row is None or root is None:
            raise RunNotFoundError(f"no run named {name!r}; list them with `flyte get run`")
        count = await self._store.action_count(name)
        return run_record(row, root, self.url(row.project, row.domain, name), count, self._journal.seq)

    def log_of(self, run: str, action: str, attempt: int, current: Callable[[], LiveAction | None]) -> LogFile:
        """The log of an attempt; `current` gives its action as long as it runs."""
        final = self._home.action_log(run, action, attempt)
        found = current()
        if found is None or found.worker is None:
            return final
        worker = found.worker

        def runs() -> bool:
            now = current()
            return now is not None and now.worker is worker

        return Moving(final, self._home.worker_log(worker.unit), runs)

    def keep_log(self, action: LiveAction, unit: str) -> None:
        """The worker did not tell how the action ended: what it wrote gets the action's name now."""
        final = self._home.action_log(action.run.name, action.name, action.attempt)
        try:
            final.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
            first = self._home.worker_log(unit)
            with contextlib.suppress(FileExistsError):  # the worker was faster
                os.link(first, final)
            first.unlink()
        except FileNotFoundError:
            pass  # it wrote nothing into a file of its own: it runs several actions at once
        except OSError as error:
            log.warning("the log of %s stays in %s: %s", action.id, unit, error)

    async def wait(self, name: str, seconds: float) -> wire.Run:
        """The run when it is over, or as it is after `seconds`."""
        run = self.live.get(name)
        if run is None:
            return await self.get(name)
        if run.over is None:
            run.over = self._loop.create_future()
        await asyncio.wait([run.over], timeout=seconds)
        return run.over.result() if run.over.done() else await self.get(name)

    # ------------------------------------------------------------------ what dispatch reports

    def began(self, action: LiveAction, worker: Worker) -> wire.Assign:
        """A worker takes the action; the answer is what it is told."""
        now = time.time()
        self._cancel(action, "max_queued_time")
        action.go(_P.RUNNING, now)
        action.message = "running" if action.attempt == 1 else f"running, attempt {action.attempt}"
        self._limit(action, "max_runtime")
        run = action.run
        event = self._event(action, action.message)
        change = Change(actions=(action.write(),), attempts=(action.attempt_row(),), events=(event,))
        self._journal.post(change, self._show(action, event.seq), lazy=True)
        request = run.request
        return wire.Assign(
            run=run.name,
            action=action.name,
            attempt=action.attempt,
            task=action.task_name,
            version=action.version,
            entry=self._spec(action).entry,
            project=run.row.project,
            domain=run.row.domain,
            inputs=wire.Value(inline=action.inputs, blob=action.inputs_blob),
            parent=action.parent,
            group=action.group,
            env=request.env_vars,
            custom_context=action.custom_context,
            log=f"{run.logs}/{action.name}.{action.attempt}.log",
            started=run.row.created,
            url=run.url,
        )

    def initializing(self, action: LiveAction, message: str) -> None:
        action.go(_P.INITIALIZING, time.time())
        action.message = message
        event = self._event(action, message)
        change = Change(actions=(action.write(),), events=(event,))
        self._journal.post(change, self._show(action, event.seq))

    def held(self, worker: Worker, held: wire.Held) -> LiveAction | None:
        """The live action that a returning worker still has in hand, if it is still its own."""
        run = self.live.get(held.run)
        action = run.actions.get(held.action) if run else None
        if action is None or action.over or action.attempt != held.attempt:
            return None
        if action.worker not in (None, worker):
            return None
        if action.phase is not _P.RUNNING:  # it was given out, and the commit that says so was lost
            action.go(_P.RUNNING, time.time())
            event = self._event(action, "running")
            change = Change(actions=(action.write(),), attempts=(action.attempt_row(),), events=(event,))
            self._journal.post(change, self._show(action, event.seq))
        return action

    def settled(self) -> None:
        """After a restart: what was running and did not come back with its worker is tried again."""
        for run in list(self.live.values()):
            for action in list(run.actions.values()):
                if action.phase is _P.RUNNING and action.worker is None and action.kind == "task":
                    if action.unit:
                        self.keep_log(action, action.unit)
                    lost = ErrorInfo(code="WorkerLostError", message="its worker was lost", kind="system")
                    self.failed(action, lost, counted=False)

    def from_worker(self, worker: Worker, frame: wire.AnyFrame) -> None:
        match frame:
            case wire.Finished():
                self._finished(worker, frame)
            case wire.Call():
                self._call(worker, frame)
            case wire.CancelCall():
                self._cancel_call(worker, frame)
            case wire.TraceLookup():
                self._trace_lookup(worker, frame)
            case wire.TraceRecord():
                self._trace_record(worker, frame)
            case wire.Progress():
                self._progress(worker, frame)
            case _:
                log.warning("%s sent a %s", worker.unit, type(frame).__name__)

    def _mine(self, worker: Worker, run: str, action: str, attempt: int) -> LiveAction | None:
        """The action this worker speaks of, unless it has lost it (`attempt` fences)."""
        found = worker.actions.get(f"{run}/{action}")
        return found if found is not None and found.attempt == attempt and not found.over else None

    # ------------------------------------------------------------------ finish

    def _finished(self, worker: Worker, frame: wire.Finished) -> None:
        action = self._mine(worker, frame.run, frame.action, frame.attempt)
        ack = wire.FinishedAck(run=frame.run, action=frame.action, attempt=frame.attempt)
        if action is None:
            worker.send(ack)
        elif frame.error is not None:
            self.failed(action, frame.error, ack)
        else:
            value = frame.outputs or wire.Value(inline=b"[null]")
            action.outputs, action.outputs_blob = value.inline, value.blob
            self._end(action, _P.SUCCEEDED, "", ack)

    def failed(
        self, action: LiveAction, error: ErrorInfo, ack: wire.Frame | None = None, *, counted: bool = True
    ) -> None:
        """An attempt ended badly: try again or end, as the table of retries says.

        A loss that a process of ours is to blame for is not `counted`, so that no run fails of it.
        """
        if action.over:
            return
        if error.kind == "system":
            action.system_failures += 1 if counted or action.attempt > UNCOUNTED else 0
        else:
            action.user_failures += 1
        timed_out = error.code in ("MaxRuntimeExceededError", "DeadlineExceededError", "MaxQueuedTimeExceededError")
        verdict = after_failure(
            error, self._spec(action).retries, action.user_failures, action.system_failures, timed_out
        )
        action.error = error
        if verdict.phase is _P.QUEUED:
            self._try_again(action, error, verdict.delay, ack)
        else:
            self._end(action, verdict.phase, _sentence(error), ack)

    def _try_again(self, action: LiveAction, error: ErrorInfo, delay: float, ack: wire.Frame | None) -> None:
        worker = action.worker
        last = action.attempt_row()
        pool = action.pool
        self._cancel(action, "max_runtime")
        self.dispatch.release(action)
        if action.phase is not _P.QUEUED:
            action.go(_P.QUEUED, time.time())
        action.attempt += 1
        action.error, action.attempt_started = None, None
        action.callers = [caller for caller in action.callers if not caller[0].over]
        when = f" in {delay:g} s" if delay else ""
        action.message = f"attempt {action.attempt - 1} failed, trying again{when}: {_sentence(error)}"
        event = self._event(action, action.message)
        ended = replace(last, phase=_P.FAILED, ended=time.time(), error=msgspec.json.encode(error))
        change = Change(actions=(action.write(),), attempts=(ended,), events=(event,))
        shown = self._show(action, event.seq)

        def then() -> None:
            shown()
            if ack is not None and worker is not None:
                worker.acknowledge(ack)
            if not action.over:
                self._after(delay, action, pool)

        self._journal.post(change, then)

    def _after(self, delay: float, action: LiveAction, pool: Pool | None) -> None:
        if delay <= 0:
            self._queue(action, pool)
        else:
            self._cancel(action, "retry")
            action.timers["retry"] = self._loop.call_later(delay, self._queue, action, pool)

    def _queue(self, action: LiveAction, pool: Pool | None) -> None:
        if action.over or action.worker is not None:
            return
        if pool is None:
            self.errands.run(self._queue_anew(action))
            return
        self._limit(action, "max_queued_time")
        if "deadline" not in action.timers:
            self._limit(action, "deadline")
        self.dispatch.submit(action, pool)

    async def _queue_anew(self, action: LiveAction) -> None:
        """Queue an action whose pool is not at hand."""
        if await self._has_pool(action):
            self._queue(action, action.pool)

    def _end(self, action: LiveAction, phase: ActionPhase, message: str, ack: wire.Frame | None = None) -> None:
        """A terminal phase, for the action and for whatever is still running beneath it."""
        worker = action.worker
        ended = [action, *self._close(action, phase, message)]
        self._journal.post(*self._ends(ended, (worker, ack) if worker and ack else None))
        self.dispatch.release(action)
        for child in ended[1:]:
            self.dispatch.end(child, "its parent ended")

    def _close(self, action: LiveAction, phase: ActionPhase, message: str) -> list[LiveAction]:
        """Move `action` to `phase` and what is below it to aborted; answer those below."""
        now = time.time()
        action.go(phase, now)
        action.message = message or ("done" if phase is _P.SUCCEEDED else str(phase))
        action.cancel_timers()
        if action.name not in action.run.children:
            return []
        below = [child for child in action.run.below(action) if not child.over]
        for child in below:
            child.go(_P.ABORTED, now)
            child.message = f"aborted: {action.task_name} ended before it"
            child.error = ErrorInfo(code="ActionAbortedError", message=child.message, retryable=False)
            child.cancel_timers()
        return below

    def _ends(
        self, actions: list[LiveAction], ack: tuple[Worker, wire.Frame] | None = None
    ) -> tuple[Change, Callable[[], None]]:
        """The terminal phases with their events, and what comes after their commit: the callers are told, and a run is
        closed with its root.
        """
        events = tuple(self._event(action, action.message) for action in actions)
        change = Change(
            actions=tuple(action.write() for action in actions),
            attempts=tuple(action.attempt_row() for action in actions if action.attempt_started is not None),
            events=events,
        )
        seq = events[-1].seq

        def then() -> None:
            if ack is not None:
                ack[0].acknowledge(ack[1])
            for action in actions:
                action.settled = True
                self._tell_callers(action)
                if action.is_root:
                    self._run_over(action.run, seq)

        return change, then

    def _tell_callers(self, action: LiveAction) -> None:
        callers, action.callers = action.callers, []
        for parent, key in callers:
            if parent.calls.get(key) is not action or parent.worker is None:
                continue
            del parent.calls[key]
            self.dispatch.goes_on(parent)
            parent.worker.send(_result(key, action))

    def _run_over(self, run: LiveRun, seq: int) -> None:
        run.shown = run.record(seq)
        self.live.pop(run.name, None)
        _remember(self._ended_lately, run.name, run.shown, LATELY // 10)
        if run.over is not None and not run.over.done():
            run.over.set_result(run.shown)

    # ------------------------------------------------------------------ children

    def _call(self, worker: Worker, frame: wire.Call) -> None:
        parent = self._mine(worker, frame.run, frame.action, frame.attempt)
        if parent is None or frame.key in parent.calls:
            return
        name, child = _child(parent, frame)
        if child is not None and child.settled:
            worker.send(_result(frame.key, child))
            return
        if child is not None:
            self._await(parent, child, frame.key)
            return
        row = parent.run.row
        known = self._registry.at_hand(row.project, row.domain, frame.task, parent.version)
        pool = self._pools.at_hand(known, frame.spec if frame.overridden else None) if known else None
        if known is None or pool is None:
            self.errands.run(self._call_unknown(worker, parent, frame))
        else:
            self._start_child(parent, known, pool, name, frame)

    async def _call_unknown(self, worker: Worker, parent: LiveAction, frame: wire.Call) -> None:
        """The child's task is not at hand: read it, or register what the worker sent along, then call again."""
        try:
            async with self._registering:
                problem = await self._prepare(parent, frame)
        except msgspec.MsgspecError as error:
            message = f"what was sent along with the call of {frame.task} cannot be read: {error}"
            problem = ErrorInfo(code="RuntimeSystemError", message=message, kind="system")
        if problem is None:
            self._call(worker, frame)
        else:
            worker.send(wire.CallResult(key=frame.key, action="", phase=_P.FAILED, error=problem))

    async def _prepare(self, parent: LiveAction, frame: wire.Call) -> ErrorInfo | None:
        """Have the child's task and pool at hand; otherwise say why that cannot be."""
        row = parent.run.row
        stored = await self._store.task(row.project, row.domain, frame.task, parent.version)
        if stored is None and frame.spec is not None and parent.task is not None:
            spec = msgspec.json.decode(frame.spec, type=wire.TaskSpec)
            code = parent.task.row
            request = wire.DeployRequest(
                project=row.project,
                domain=row.domain,
                version=parent.version,
                bundle=code.bundle,
                root=code.root,
                sys_path=code.sys_path,
            )
            stored = task_row(request, spec, time.time())
            await self._journal.commit(Change(tasks=(stored,)))
        if stored is None:
            message = f"no task named {frame.task!r} in {row.project}/{row.domain} at {parent.version}"
            return ErrorInfo(code="RemoteTaskNotFoundError", message=message)
        known = self._registry.at_hand(row.project, row.domain, frame.task, parent.version)
        known = known or self._registry.remember(stored)
        override = msgspec.json.decode(frame.spec, type=wire.TaskSpec) if frame.spec and frame.overridden else None
        try:
            await self._pools.make(known, override)
        except BaseRuntimeError as problem:
            return ErrorInfo(code=problem.code, message=problem.message, kind=problem.kind)
        return None

    def _start_child(self, parent: LiveAction, known: KnownTask, pool: Pool, name: str, frame: wire.Call) -> None:
        run = parent.run
        child = LiveAction(run, name, parent.name, known, known.row.name, known.row.version, time.time())
        child.inputs, child.inputs_blob = frame.inputs.inline, frame.inputs.blob
        child.group, child.sequence = frame.group, frame.sequence
        child.spec = frame.spec if frame.overridden else None
        child.custom_context = frame.custom_context if frame.custom_context is not None else parent.custom_context
        run.add(child)
        self._await(parent, child, frame.key)
        event = self._event(child, "accepted")
        self._journal.post(Change(actions=(child.write(),), events=(event,)), lambda: self._queue(child, pool))

    def _await(self, parent: LiveAction, child: LiveAction, key: int) -> None:
        parent.calls[key] = child
        child.callers.append((parent, key))
        self.dispatch.waits(parent)

    def _cancel_call(self, worker: Worker, frame: wire.CancelCall) -> None:
        parent = self._mine(worker, frame.run, frame.action, frame.attempt)
        child = parent.calls.pop(frame.key, None) if parent else None
        if parent is None or child is None:
            return
        child.callers = [caller for caller in child.callers if caller != (parent, frame.key)]
        self.dispatch.goes_on(parent)
        if not child.callers and not child.over:
            self._abort(child, "its caller was cancelled")

    # ------------------------------------------------------------------ recorded steps (flyte.trace)

    def _trace_lookup(self, worker: Worker, frame: wire.TraceLookup) -> None:
        parent = self._mine(worker, frame.run, frame.action, frame.attempt)
        step = parent.run.actions.get(frame.step) if parent else None
        if step is None or not step.over:
            worker.send(wire.TraceResult(key=frame.key))
        else:
            worker.send(wire.TraceResult(key=frame.key, found=True, outputs=step.result(), error=step.error))

    def _trace_record(self, worker: Worker, frame: wire.TraceRecord) -> None:
        parent = self._mine(worker, frame.run, frame.action, frame.attempt)
        answer = wire.TraceResult(key=frame.key, found=True)
        if parent is None or frame.step in parent.run.actions:  # it may be on its way to the disk
            self._journal.post(Change(), lambda: worker.send(answer))
            return
        step = LiveAction(
            parent.run, frame.step, parent.name, None, frame.name, parent.version, frame.started, kind="trace"
        )
        step.go(_P.RUNNING, frame.started)
        step.error = frame.error
        if frame.outputs is not None:
            step.outputs, step.outputs_blob = frame.outputs.inline, frame.outputs.blob
        step.go(_P.SUCCEEDED if frame.error is None else _P.FAILED, time.time())
        step.message = "recorded" if frame.error is None else _sentence(frame.error)
        parent.run.add(step)
        change = Change(actions=(step.write(),), events=(self._event(step, step.message),))
        self._journal.post(change, lambda: worker.send(answer))

    def _progress(self, worker: Worker, frame: wire.Progress) -> None:
        action = self._mine(worker, frame.run, frame.action, frame.attempt)
        if action is not None:
            self._journal.post_events(self._event(action, frame.message, {"progress": frame.body}))

    # ------------------------------------------------------------------ abort and time out

    async def abort(self, name: str, reason: str) -> wire.Run:
        """Abort a run and everything in it; when this returns that is on disk. A run that is over stays as it is."""
        run = self.live.get(name)
        if run is None:
            return await self.get(name)
        await self._abort(run.root, reason)
        return await self.get(name)

    async def abort_action(self, name: str, action_name: str, reason: str) -> None:
        run = self.live.get(name)
        action = run.actions.get(action_name) if run else None
        if action is None:
            await self.get(name)
            if await self._store.action(name, action_name) is None:
                raise ActionNotFoundError(f"run {name!r} has no action {action_name!r}; see `flyte get action {name}`")
            return
        await self._abort(action, reason)

    def _abort(self, action: LiveAction, reason: str) -> asyncio.Future[None]:
        if action.over:  # its end may still be on its way to the disk
            return self._journal.commit(Change())
        message = f"aborted: {reason}" if reason else "aborted"
        action.error = ErrorInfo(code="ActionAbortedError", message=message, retryable=False)
        ended = [action, *self._close(action, _P.ABORTED, message)]
        committed = self._journal.commit(*self._ends(ended))
        for each in ended:
            self.dispatch.end(each, message)
        return committed

    def _limit(self, action: LiveAction, limit: str) -> None:
        """Start the clock of one of the task's time limits; after a restart with what is left of it.

        The clock is the loop's, which no step of the wall clock moves; only what went before a restart is told by that.
        """
        whole = getattr(self._spec(action).timeout, limit)
        if whole is None:
            return
        since = action.created if limit == "deadline" else action.since
        gone = 0.0 if since is None else time.time() - since
        seconds = min(whole, max(0.0, whole - gone))
        self._cancel(action, limit)
        action.timers[limit] = self._loop.call_later(seconds, self._time_out, action, limit)

    def _cancel(self, action: LiveAction, limit: str) -> None:
        if (handle := action.timers.pop(limit, None)) is not None:
            handle.cancel()

    def _time_out(self, action: LiveAction, limit: str) -> None:
        if action.over:
            return
        seconds = getattr(self._spec(action).timeout, limit)
        code, words = _LIMITS[limit]
        error = ErrorInfo(code=code, message=f"{words} {seconds:g} s ({limit})", retryable=limit == "max_runtime")
        self.dispatch.end(action, error.message)
        self.failed(action, error)

    # ------------------------------------------------------------------ after a restart

    def restore(self, row: RunRow, rows: list[ActionRow], known: dict[tuple[str, str], KnownTask]) -> None:
        """Put a run that is not over back into memory, as it is on disk."""
        request = msgspec.json.decode(row.request, type=wire.RunRequest)
        run = self._live_run(row, request)
        for stored in rows:
            run.add(_restored(run, stored, known.get((stored.task, stored.version))))
        run.shown = run.record(self._journal.seq)
        self.live[row.name] = run

    async def resume(self) -> None:
        """Queue again what was queued, now that pools can be had."""
        for run in list(self.live.values()):
            for action in list(run.actions.values()):
                if action.over:
                    action.settled = True
                else:
                    await self._resume(action)

    async def _resume(self, action: LiveAction) -> None:
        if action.task is None:
            message = f"task {action.task_name} {action.version} is not registered any more; deploy it again"
            action.error = ErrorInfo(code="RemoteTaskNotFoundError", message=message, retryable=False)
            self._end(action, _P.FAILED, message)
            return
        is_new = action.attempt == 1 and action.phase is not _P.RUNNING
        _resume_clock(action, [] if is_new else await self._store.attempts(action.run.name, action.name))
        if action.phase is _P.INITIALIZING:
            action.go(_P.QUEUED, time.time())
        if action.phase is _P.QUEUED:
            await self._queue_anew(action)
        elif action.phase is _P.RUNNING:
            await self._make_pool(action)  # without one its worker may still come back
            self._limit(action, "max_runtime")
            self._limit(action, "deadline")
        action.since = None

    async def _has_pool(self, action: LiveAction) -> bool:
        """Have the action's pool at hand; an action whose pool cannot be made ends with the reason."""
        problem = await self._make_pool(action)
        if problem is not None:
            self.failed(action, ErrorInfo(code=problem.code, message=problem.message, retryable=False))
        return problem is None

    async def _make_pool(self, action: LiveAction) -> BaseRuntimeError | None:
        assert action.task is not None, f"{action.id} has no task"
        try:
            action.pool = await self._pools.make(action.task, self._spec(action) if action.spec else None)
        except BaseRuntimeError as problem:
            return problem
        return None

    # ------------------------------------------------------------------ small steps

    def _spec(self, action: LiveAction) -> wire.TaskSpec:
        if action.spec is not None:
            return msgspec.json.decode(action.spec, type=wire.TaskSpec)
        assert action.task is not None, f"{action.id} has no task"
        return action.task.spec

    def _event(self, action: LiveAction, message: str, body: dict[str, object] | None = None) -> wire.Event:
        subject = subject_of_action(action.run.name, action.name)
        return self._journal.event(subject, action.phase.value, message, action.attempt, body)

    def _show(self, action: LiveAction, seq: int) -> Callable[[], None]:
        """What to do after the commit so that others see a root's new phase."""
        if not action.is_root:
            return _nothing
        record = action.run.record(seq)

        def show() -> None:
            action.run.shown = record

        return show


_LIMITS = {
    "max_runtime": ("MaxRuntimeExceededError", "it ran longer than"),
    "max_queued_time": ("MaxQueuedTimeExceededError", "it waited in the queue longer than"),
    "deadline": ("DeadlineExceededError", "it was not done within"),
}


def _nothing() -> None:
    """After commits that nobody needs to be shown."""


def _without_inputs(request: wire.RunRequest) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(request, inputs=msgspec.Raw(b"{}")))


def _child(parent: LiveAction, frame: wire.Call) -> tuple[str, LiveAction | None]:
    """The name of the child that is called, and the child if it is there.

    A parent that failed by its own fault and is tried again finds what its earlier attempts finished or still have
    running; what *failed* in an earlier attempt is called anew, under a name that this attempt, and every repetition
    of it after a crash, derives in the same way.
    """
    inputs = frame.inputs
    for generation in range(parent.user_failures + 1):
        caller = parent.name if generation == 0 else f"{parent.name}~{generation}"
        name = child_name(caller, frame.task, inputs.inline, inputs.blob, frame.sequence, frame.group)
        child = parent.run.actions.get(name)
        if child is None or not child.over or child.result() is not None:
            break
    return name, child


def _resume_clock(action: LiveAction, attempts: Sequence[AttemptRow]) -> None:
    """When what the action is in the middle of began, as the disk has it."""
    current = next((attempt for attempt in attempts if attempt.number == action.attempt), None)
    if action.phase is _P.RUNNING:
        action.unit = current.unit if current else None
        action.attempt_started = action.since = current.started if current else action.started
    elif action.attempt == 1:
        action.since = action.created
    else:
        ends = [attempt.ended for attempt in attempts if attempt.ended is not None]
        action.since = max(ends) if ends else None


def _key_of(request: wire.RunRequest) -> tuple[str, str, str]:
    return request.project, request.domain, request.idempotency_key or ""


def _remember(memory: dict[K, V], key: K, value: V, at_most: int = LATELY) -> None:
    """Keep what was put in last."""
    memory[key] = value
    if len(memory) > at_most:
        del memory[next(iter(memory))]


def _marks(request: wire.RunRequest) -> list[str]:
    """What makes two requests the same run."""
    marks = [] if request.name is None else [f"name {request.name}"]
    if request.idempotency_key is not None:
        marks.append(f"key {request.project}/{request.domain}/{request.idempotency_key}")
    return marks


def _sentence(error: ErrorInfo) -> str:
    first = error.message.strip().split("\n", 1)[0]
    return first if error.code in first else f"{error.code}: {first}"


def _result(key: int, child: LiveAction) -> wire.CallResult:
    return wire.CallResult(key=key, action=child.name, phase=child.phase, outputs=child.result(), error=child.error)


def _restored(run: LiveRun, row: ActionRow, task: KnownTask | None) -> LiveAction:
    action = LiveAction(run, row.name, row.parent, task, row.task, row.version, row.created, row.kind, row.phase)
    action.attempt = row.attempt
    action.user_failures, action.system_failures = row.user_failures, row.system_failures
    action.group, action.sequence = row.group, row.sequence
    action.inputs, action.inputs_blob = row.inputs, row.inputs_blob
    action.outputs, action.outputs_blob = row.outputs, row.outputs_blob
    action.error = None if row.error is None else msgspec.json.decode(row.error, type=ErrorInfo)
    action.message, action.spec, action.custom_context = row.message, row.spec, row.custom_context
    action.started, action.ended = row.started, row.ended
    action.stored = (row.attempt, row.phase)
    return action
