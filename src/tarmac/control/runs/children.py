"""Children: an action calls a task, and the call is a child action, started or found.

A child's name is derived from its parent, task, inputs, group and call sequence. A parent that runs again therefore
finds the children of its earlier attempt by name: finished ones answer at once, running ones are waited for.
"""

from __future__ import annotations

import asyncio
import functools
import time

import msgspec

from flyte import wire
from flyte.errors import BaseRuntimeError, InvalidInputError
from flyte.names import child_names
from flyte.wire import ActionPhase, AttemptRef, ErrorInfo
from tarmac import checks
from tarmac.control.errands import Errands
from tarmac.control.live import KnownTask, LiveAction, Pool, Worker, accepted, result_of_call
from tarmac.control.runs.actions import Actions
from tarmac.control.runs.registry import Registry, task_row
from tarmac.control.workers.pools import Pools
from tarmac.events import Journal
from tarmac.store import ActionRow, Change, CurrentTaskRow, Store, TaskRow

_P = ActionPhase

_Prepared = tuple[KnownTask, Pool]
"""What a child needs to be started: its task, and the pool that its worker comes from."""


class Children:
    def __init__(
        self,
        store: Store,
        journal: Journal,
        registry: Registry,
        actions: Actions,
        pools: Pools,
        errands: Errands,
    ) -> None:
        self._store = store
        self._journal = journal
        self._registry = registry
        self._actions = actions
        self._dispatch = actions.dispatch
        self._pools = pools
        self._errands = errands
        self._registering = asyncio.Lock()
        self._preparing: dict[tuple[str, int], bool] = {}
        """Calls (worker, key) whose task is being read, and whether somebody still waits for them."""

    def call(self, worker: Worker, frame: wire.Call) -> None:
        self._call(worker, frame, None)

    def _call(self, worker: Worker, frame: wire.Call, prepared: _Prepared | None) -> None:
        parent = self._actions.mine(worker, AttemptRef.of(frame))
        if parent is None or frame.key in parent.calls:
            return
        name, child = _child(parent, frame)
        if child is not None and child.settled:
            worker.send(result_of_call(frame.key, child))
        elif child is not None:
            self._await(parent, child, frame.key)
        elif (ready := prepared or self._at_hand(parent, frame)) is not None:
            self._start_child(parent, *ready, name, frame)
        elif (worker.unit, frame.key) not in self._preparing:
            self._preparing[worker.unit, frame.key] = True
            self._errands.run(self._call_unknown(worker, parent, frame))

    def _at_hand(self, parent: LiveAction, frame: wire.Call) -> _Prepared | None:
        row = parent.run.row
        known = self._registry.at_hand(row.project, row.domain, frame.task, parent.row.version)
        if known is None:
            return None
        override = frame.spec if frame.overridden else None
        pool = self._pools.at_hand(known, override, parent.run.request.env_vars)
        return None if pool is None else (known, pool)

    async def _call_unknown(self, worker: Worker, parent: LiveAction, frame: wire.Call) -> None:
        """The child's task is not at hand: read it, or register what the worker sent along, then start the child."""
        prepared: _Prepared | ErrorInfo
        try:
            async with self._registering:
                prepared = await self._prepare(parent, frame)
        except (msgspec.MsgspecError, RecursionError, InvalidInputError) as error:
            message = f"what was sent along with the call of {frame.task} cannot be read: {error}"
            prepared = ErrorInfo(code="RuntimeSystemError", message=message, kind="system")
        finally:
            is_wanted = self._preparing.pop((worker.unit, frame.key))
        if not is_wanted:
            return
        if isinstance(prepared, ErrorInfo):
            worker.send(wire.CallResult(key=frame.key, action="", phase=_P.FAILED, error=prepared))
        else:
            self._call(worker, frame, prepared)

    async def _prepare(self, parent: LiveAction, frame: wire.Call) -> _Prepared | ErrorInfo:
        """The child's task and pool; otherwise the reason why they cannot be had."""
        row = parent.run.row
        stored = await self._store.task(row.project, row.domain, frame.task, parent.row.version)
        if stored is None and frame.spec is not None and parent.task is not None:
            spec = _spec(frame.spec)
            code = parent.task.row
            request = wire.DeployRequest(
                project=row.project,
                domain=row.domain,
                version=parent.row.version,
                bundle=code.bundle,
                root=code.root,
                sys_path=code.sys_path,
            )
            await self._register(stored := task_row(request, spec, time.time()))
        if stored is None:
            message = f"no task named {frame.task!r} in {row.project}/{row.domain} at {parent.row.version}"
            return ErrorInfo(code="RemoteTaskNotFoundError", message=message)
        known = self._registry.at_hand(row.project, row.domain, frame.task, parent.row.version)
        known = known or self._registry.remember(stored)
        override = _spec(frame.spec) if frame.spec and frame.overridden else None
        try:
            return known, await self._pools.make(known, override, parent.run.request.env_vars)
        except BaseRuntimeError as problem:
            return ErrorInfo(code=problem.code, message=problem.message, kind=problem.kind)

    async def _register(self, row: TaskRow) -> None:
        """Register a task that came with a call; it is current where no version of it was known."""
        known = await self._store.current_task(row.project, row.domain, row.name)
        first = CurrentTaskRow(row.project, row.domain, row.name, row.version, row.created, deployed=False)
        change = Change(tasks=(row,), current_tasks=() if known else (first,))
        await self._journal.write(change, self._registry.changed)

    def _start_child(self, parent: LiveAction, known: KnownTask, pool: Pool, name: str, frame: wire.Call) -> None:
        run = parent.run
        row = ActionRow(
            run=run.name,
            name=name,
            parent=parent.name,
            task=known.row.name,
            version=known.row.version,
            phase=_P.QUEUED,
            group=frame.group,
            sequence=frame.sequence,
            inputs=frame.inputs.inline,
            inputs_blob=frame.inputs.blob,
            spec=frame.spec if frame.overridden else None,
            custom_context=parent.row.custom_context if frame.custom_context is None else frame.custom_context,
            created=time.time(),
        )
        child = LiveAction(run, row, known)
        run.add(child)
        self._await(parent, child, frame.key)
        change = accepted(self._journal, child)

        def then() -> None:
            run.stored += 1
            self._actions.queue(child, pool)

        self._journal.post(change, then)

    def _await(self, parent: LiveAction, child: LiveAction, key: int) -> None:
        parent.calls[key] = child
        child.callers.append((parent, key))
        self._dispatch.waits(parent)

    def cancel(self, worker: Worker, frame: wire.CancelCall) -> None:
        """Answer the call, so that the worker does not say it again. A child for which nobody waits is aborted, and the
        answer waits until that is on disk: a control plane that ends before it hears of the cancellation once more.
        """
        answer = functools.partial(worker.send, wire.CallResult(key=frame.key, action="", phase=_P.ABORTED))
        if (worker.unit, frame.key) in self._preparing:
            self._preparing[worker.unit, frame.key] = False
        parent = self._actions.mine(worker, AttemptRef.of(frame))
        child = parent.calls.pop(frame.key, None) if parent else None
        if parent is None or child is None:
            answer()
            return
        child.callers = [caller for caller in child.callers if caller != (parent, frame.key)]
        self._dispatch.goes_on(parent)
        if child.callers:
            answer()
        else:
            self._actions.abort(child, "its caller was cancelled", answer=answer)


def _spec(text: bytes) -> wire.TaskSpec:
    spec = msgspec.json.decode(text, type=wire.TaskSpec)
    checks.check(spec)
    return spec


def _child(parent: LiveAction, frame: wire.Call) -> tuple[str, LiveAction | None]:
    """The name of the child that is called, and the child if it is there.

    A parent that failed by its own fault and is tried again finds what its earlier attempts finished or still have
    running; what *failed* in an earlier attempt is called anew.
    """
    sent = (frame.inputs.inline, frame.inputs.blob, frame.sequence, frame.group)
    for name in child_names(parent.name, parent.row.user_failures, frame.task, *sent):
        child = parent.run.actions.get(name)
        if child is None or not child.over or child.result() is not None:
            break
    return name, child
