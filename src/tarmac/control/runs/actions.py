"""The life of an action: queued, given to a worker, finished, tried again, aborted, timed out. Decided here, in memory.

Every step has the same shape: move the live action along the state table, write the row with its event, and only when
that is on disk notify its waiters (the caller, the parent action, the worker). Effects that must follow the commit
are in the `then` of `Journal.post`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from flyte import wire
from flyte.errors import BaseRuntimeError
from flyte.phases import after_failure
from flyte.wire import ActionPhase, AttemptRef, ErrorInfo
from tarmac.blobs import Blobs
from tarmac.control.artifacts import produced_by
from tarmac.control.clock import Clock
from tarmac.control.errands import Errands
from tarmac.control.live import LiveAction, LiveRun, Pool, Worker, result_of_call, step, together
from tarmac.control.ports import Lifecycle
from tarmac.control.runs.caching import Caching
from tarmac.control.runs.failures import STOPPED, failures_of, sentence
from tarmac.control.runs.limits import TIMED_OUT, Limits
from tarmac.control.runs.orders import order_for
from tarmac.control.runs.results import Results
from tarmac.control.workers.dispatch import Dispatch
from tarmac.control.workers.pools import Pools
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.store import CacheRow, Change, StoreError

log = logging.getLogger("tarmac.actions")

_P = ActionPhase


class Actions:
    """What moves actions. Dispatch reports to it (`Lifecycle`).

    `run_over` is called when a root's terminal phase is on disk, with what the run is from then on. `dispatch` makes
    the dispatch that reports here.
    """

    def __init__(
        self,
        journal: Journal,
        home: Home,
        run_over: Callable[[LiveRun, wire.Run], None],
        errands: Errands,
        clock: Clock,
        pools: Pools,
        dispatch: Callable[[Lifecycle], Dispatch],
        results: Results,
        blobs: Blobs,
    ) -> None:
        self._journal = journal
        self._home = home
        self._run_over = run_over
        self._errands = errands
        self._pools = pools
        self.limits = Limits(clock, self._time_over)
        self.dispatch = dispatch(self)
        self.caching = Caching(results, blobs, errands, self._cached, self._waits, self._forget)

    # ------------------------------------------------------------------ what dispatch reports

    def began(self, action: LiveAction, worker: Worker) -> wire.Assign:
        """A worker takes the action; the answer is what it is told."""
        self.limits.stop(action, "max_queued_time")
        message = "running" if action.attempt == 1 else f"running, attempt {action.attempt}"
        change = step(self._journal, action, _P.RUNNING, message)
        self.limits.start(action, "max_runtime")
        self._journal.post(change, self._show(action, change), lazy=True)
        return order_for(action)

    def initializing(self, action: LiveAction, message: str) -> None:
        change = step(self._journal, action, _P.INITIALIZING, message)
        self._journal.post(change, self._show(action, change))

    def runs_already(self, action: LiveAction) -> None:
        """A worker was given the action, and the commit that said so was lost."""
        self.dispatch.forget(action)
        self.caching.runs_already(action)
        self.limits.stop(action, "max_queued_time")
        if action.run.limit is not None:
            action.run.limit.goes_on(action.name)
        change = step(self._journal, action, _P.RUNNING, "running")
        self.limits.start(action, "max_runtime")
        self._journal.post(change, self._show(action, change))

    def on_disk(self, then: Callable[[], None]) -> None:
        """Call `then` when everything that was changed until now is on disk."""
        self._journal.post(Change(), then, lazy=True)

    def mine(self, worker: Worker, ref: AttemptRef) -> LiveAction | None:
        """The action this worker speaks of, unless it has lost it (the attempt fences)."""
        found = worker.actions.get(f"{ref.run}/{ref.action}")
        return found if found is not None and found.attempt == ref.attempt and not found.over else None

    def keep_log(self, action: LiveAction, unit: str) -> None:
        """The worker did not tell how the action ended: what it wrote gets the action's name now."""
        final = self._home.action_log(action.ref)
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

    # ------------------------------------------------------------------ queued, finished, tried again

    def queue(self, action: LiveAction, pool: Pool | None) -> None:
        try:
            self._queue(action, pool)
        except Exception as error:  # noqa: BLE001 - `fault` logs it
            self.fault(action, error)

    def _queue(self, action: LiveAction, pool: Pool | None) -> None:
        if action.over or action.worker is not None:
            return
        if pool is None:
            self._errands.run(self._queue_anew(action))
            return
        self.limits.start(action, "max_queued_time")
        if not self.limits.is_on(action, "deadline"):
            self.limits.start(action, "deadline")
        if self.caching.is_for(action):
            self.caching.ask(action, functools.partial(self._compute, action, pool))
        else:
            self._compute(action, pool)

    def _compute(self, action: LiveAction, pool: Pool) -> None:
        """Have a worker take it, as soon as the run's limit lets it begin."""
        if (limit := action.run.limit) is None:
            self.dispatch.submit(action, pool)
        else:
            limit.begin(action.name, functools.partial(self._begin, action, pool))

    def _begin(self, action: LiveAction, pool: Pool) -> None:
        """The run's limit lets it begin."""
        if not action.over and action.worker is None:
            self.dispatch.submit(action, pool)

    async def _queue_anew(self, action: LiveAction) -> None:
        """Queue an action whose pool is not at hand."""
        try:
            if await self.has_pool(action):
                self.queue(action, action.pool)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - `fault` logs it
            self.fault(action, error)

    def queue_after(self, delay: float, action: LiveAction, pool: Pool | None) -> None:
        if delay <= 0:
            self.queue(action, pool)
        else:
            self.limits.pause(action, delay, functools.partial(self.queue, action, pool))

    async def has_pool(self, action: LiveAction) -> bool:
        """Have the action's pool at hand; an action whose pool cannot be made ends with the reason."""
        problem = await self.make_pool(action)
        if problem is not None:
            self.failed(action, ErrorInfo(code=problem.code, message=problem.message, retryable=False))
        return problem is None

    async def make_pool(self, action: LiveAction) -> BaseRuntimeError | None:
        assert action.task is not None, f"{action.id} has no task"
        try:
            override = action.task_spec if action.row.spec else None
            action.pool = await self._pools.make(action.task, override, action.run.request.env_vars)
        except BaseRuntimeError as problem:
            return problem
        return None

    def finished(self, worker: Worker, frame: wire.Finished) -> None:
        action = self.mine(worker, AttemptRef.of(frame))
        ack = wire.FinishedAck(run=frame.run, action=frame.action, attempt=frame.attempt)
        if action is None:  # what it tells again may be on its way to the disk
            self.on_disk(functools.partial(worker.send, ack))
        elif frame.error is not None:
            self.failed(action, frame.error, ack)
        else:
            self._succeeded(action, frame, ack)

    def _succeeded(self, action: LiveAction, frame: wire.Finished, ack: wire.Frame) -> None:
        value = frame.outputs or wire.Value(inline=b"[null]")
        result = self.caching.result_of(action, value, time.time())
        kept: dict[str, Any] = {"artifacts": produced_by(action, frame.artifacts)} if frame.artifacts else {}
        changes: dict[str, Any] = {"outputs": value.inline, "outputs_blob": value.blob}
        if result is not None:
            changes["cache"] = msgspec.json.encode(wire.CacheUse(status="populated"))
            kept["cache"] = (result,)
        self.end(action, _P.SUCCEEDED, "done", ack, kept=kept, **changes)

    # ------------------------------------------------------------------ what the cache says

    def _cached(self, action: LiveAction, row: CacheRow) -> None:
        """Its result was in the cache."""
        use = wire.CacheUse(status="hit", run=row.run, action=row.action, seconds=row.seconds)
        changes: dict[str, Any] = {"outputs": row.outputs, "outputs_blob": row.outputs_blob}
        self.end(action, _P.SUCCEEDED, use.message(), cache=msgspec.json.encode(use), **changes)

    def _waits(self, action: LiveAction, message: str) -> None:
        """It stays in the queue until an equal action, which computes, is over."""
        change = step(self._journal, action, _P.QUEUED, message)
        self._journal.post(change, self._show(action, change), lazy=True)

    def _forget(self, action: LiveAction) -> None:
        """It is not to be given out before it is queued again."""
        self.dispatch.forget(action)
        if action.run.limit is not None:
            action.run.limit.ends(action.name)

    def failed(
        self, action: LiveAction, error: ErrorInfo, ack: wire.Frame | None = None, *, counted: bool = True
    ) -> None:
        """An attempt ended badly: try again or end, as the table of retries says.

        A loss that a process of ours is to blame for is not `counted`, so that no run fails of it.
        """
        if action.over:
            return
        if error.kind == "system" and self._home.stopping.exists():
            error, counted = STOPPED, False
        user, system = failures_of(action.row, error, counted)
        verdict = after_failure(error, action.task_spec.retries, user, system, error.code in TIMED_OUT)
        counts: dict[str, Any] = {"user_failures": user, "system_failures": system}
        if verdict.phase is _P.QUEUED:
            self._try_again(action, error, verdict.delay, ack, counts)
        else:
            self.end(action, verdict.phase, sentence(error), ack, error=error, **counts)

    def _try_again(
        self, action: LiveAction, error: ErrorInfo, delay: float, ack: wire.Frame | None, counts: Mapping[str, Any]
    ) -> None:
        worker, pool, last = action.worker, action.pool, action.attempt_row()
        self.limits.stop(action, "max_runtime")
        self.dispatch.release(action)
        action.attempt_started = None
        action.callers = [caller for caller in action.callers if not caller[0].over]
        was_stopped = error.code == STOPPED.code
        when = f" in {delay:g} s" if delay else ""
        why = STOPPED.message if was_stopped else "failed"
        cause = "" if was_stopped else f": {sentence(error)}"
        message = f"attempt {last.number} {why}, trying again{when}{cause}"
        change = step(self._journal, action, _P.QUEUED, message, attempt=last.number + 1, **counts)
        phase = _P.ABORTED if was_stopped else _P.FAILED
        ended = replace(last, phase=phase, ended=time.time(), error=msgspec.json.encode(error))
        shown = self._show(action, change)

        def then() -> None:
            shown()
            if ack is not None and worker is not None:
                worker.acknowledge(ack)
            if action.run.limit is not None:
                action.run.limit.ends(action.name)
            if not action.over:
                self.queue_after(delay, action, pool)

        self._journal.post(replace(change, attempts=(ended,)), then)

    def _time_over(self, action: LiveAction, error: ErrorInfo) -> None:
        try:
            self.dispatch.end(action, error.message)
            self.failed(action, error)
        except Exception as fault:  # noqa: BLE001 - `fault` logs it
            self.fault(action, fault)

    # ------------------------------------------------------------------ what nobody foresaw

    def fault(self, action: LiveAction, error: Exception) -> None:
        """An error in handling one action, of a kind that nobody foresaw: that action fails, and all others go on."""
        log.error("%s cannot be handled", action.id, exc_info=error)
        self.give_up(action, f"the platform could not handle it: {type(error).__name__}: {error}")

    def give_up(self, action: LiveAction, message: str) -> None:
        """The action fails, whatever its `retries` say: another attempt would meet the same."""
        if action.over:
            return
        self.dispatch.forget(action)
        if action.worker is not None:
            self.dispatch.end(action, message)
        error = ErrorInfo(code="RuntimeSystemError", message=message, kind="system", retryable=False)
        self.end(action, _P.FAILED, message, error=error)

    # ------------------------------------------------------------------ over

    def end(
        self,
        action: LiveAction,
        phase: ActionPhase,
        message: str,
        ack: wire.Frame | None = None,
        *,
        error: ErrorInfo | None = None,
        kept: Mapping[str, Any] = {},
        **changes: Any,
    ) -> None:
        """A terminal phase, for the action and for what is still running beneath it; `kept`: rows that outlive it."""
        worker, below = action.worker, action.still_below()
        steps = [*self._cut_short(action, below), step(self._journal, action, phase, message, error=error, **changes)]
        change = replace(together(steps), **kept) if kept else together(steps)
        answer = None if worker is None or ack is None else functools.partial(worker.acknowledge, ack)
        self._journal.post(change, self._ended(action, below, steps[-1], answer))
        self.dispatch.release(action)
        for child in below:
            self.dispatch.end(child, "its parent ended")

    def abort(
        self, action: LiveAction, reason: str, by: str = "", answer: Callable[[], None] | None = None
    ) -> asyncio.Future[None]:
        """`by`: who said so; nobody where it follows from something else. `answer` is called when it is on disk."""
        if action.over:  # its end may still be on its way to the disk
            return self._journal.commit(Change(), answer)
        message = f"aborted: {reason}" if reason else "aborted"
        error = ErrorInfo(code="ActionAbortedError", message=message, retryable=False)
        below = action.still_below()
        steps = [
            *self._cut_short(action, below),
            step(self._journal, action, _P.ABORTED, message, error=error, by=by),
        ]
        committed = self._journal.commit(together(steps), self._ended(action, below, steps[-1], answer))
        for each in (action, *below):
            self.dispatch.end(each, message)
        return committed

    def _cut_short(self, action: LiveAction, below: list[LiveAction]) -> list[Change]:
        """Abort what is below an action that ends.

        The deepest come first: a stream, which is over with its root, has told of all ends before that.
        """
        if not below:
            return []
        message = f"aborted: {action.row.task} ended before it"
        error = ErrorInfo(code="ActionAbortedError", message=message, retryable=False)
        return [step(self._journal, child, _P.ABORTED, message, error=error) for child in reversed(below)]

    def _ended(
        self, action: LiveAction, below: list[LiveAction], change: Change, answer: Callable[[], None] | None
    ) -> Callable[[], None]:
        """What comes after the commit of an end: `answer`, then the callers are told; a run is closed with its root."""
        ended, seq = (*reversed(below), action), change.events[-1].seq
        for each in ended:
            each.cancel_timers()

        def then() -> None:
            if answer is not None:
                answer()
            for each in ended:
                each.settled = True
                self._tell_callers(each)
                self.caching.ended(each)
                if each.run.limit is not None:
                    each.run.limit.ends(each.name)
                if each.is_root:
                    self._run_over(each.run, each.run.record(seq))

        return then

    def _tell_callers(self, action: LiveAction) -> None:
        callers, action.callers = action.callers, []
        for parent, key in callers:
            if parent.calls.get(key) is not action or parent.worker is None:
                continue
            del parent.calls[key]
            self.dispatch.goes_on(parent)
            parent.worker.send(result_of_call(key, action))

    # ------------------------------------------------------------------ small steps

    def _show(self, action: LiveAction, change: Change) -> Callable[[], None]:
        """What to do after the commit so that others see a root's new phase."""
        if not action.is_root:
            return _nothing
        record = action.run.record(change.events[-1].seq)

        def show() -> None:
            action.run.shown = record

        return show


def _nothing() -> None:
    """After commits that nobody needs to be shown."""
