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
from collections.abc import Callable
from dataclasses import replace

import msgspec

from flyte import wire
from flyte.errors import BaseRuntimeError
from flyte.phases import after_failure
from flyte.wire import ActionPhase, ErrorInfo
from tarmac.control.clock import Clock
from tarmac.control.errands import Errands
from tarmac.control.live import LiveAction, LiveRun, Pool, Worker, result_of_call
from tarmac.control.ports import Lifecycle
from tarmac.control.runs.limits import TIMED_OUT, Limits
from tarmac.control.workers.dispatch import Dispatch
from tarmac.control.workers.pools import Pools
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.model import subject_of_action
from tarmac.store import Change, StoreError

log = logging.getLogger("tarmac.actions")

_P = ActionPhase

STOPPED = ErrorInfo(code="PlatformStopped", message="stopped by `flyte down`", kind="system")
"""The reason of an attempt that `flyte down` ended; it does not count as a failure."""

UNCOUNTED = 100
"""Attempts up to which the loss of a worker that was not its own fault costs an action nothing."""


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
    ) -> None:
        self._journal = journal
        self._home = home
        self._run_over = run_over
        self._errands = errands
        self._pools = pools
        self.limits = Limits(clock, self._time_over)
        self.dispatch = dispatch(self)

    # ------------------------------------------------------------------ what dispatch reports

    def began(self, action: LiveAction, worker: Worker) -> wire.Assign:
        """A worker takes the action; the answer is what it is told."""
        now = time.time()
        self.limits.stop(action, "max_queued_time")
        action.go(_P.RUNNING, now)
        action.message = "running" if action.attempt == 1 else f"running, attempt {action.attempt}"
        self.limits.start(action, "max_runtime")
        run = action.run
        event = self.event(action, action.message)
        change = Change(actions=(action.write(),), attempts=(action.attempt_row(),), events=(event,))
        self._journal.post(change, self._show(action, event.seq), lazy=True)
        request = run.request
        return wire.Assign(
            run=run.name,
            action=action.name,
            attempt=action.attempt,
            task=action.task_name,
            version=action.version,
            entry=action.task_spec.entry,
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
            failures=action.user_failures,
        )

    def initializing(self, action: LiveAction, message: str) -> None:
        action.go(_P.INITIALIZING, time.time())
        action.message = message
        event = self.event(action, message)
        change = Change(actions=(action.write(),), events=(event,))
        self._journal.post(change, self._show(action, event.seq))

    def runs_already(self, action: LiveAction) -> None:
        """A worker was given the action, and the commit that said so was lost."""
        self.dispatch.forget(action)
        self.limits.stop(action, "max_queued_time")
        if action.run.limit is not None:
            action.run.limit.goes_on(action.name)
        action.go(_P.RUNNING, time.time())
        self.limits.start(action, "max_runtime")
        event = self.event(action, "running")
        change = Change(actions=(action.write(),), attempts=(action.attempt_row(),), events=(event,))
        self._journal.post(change, self._show(action, event.seq))

    def on_disk(self, then: Callable[[], None]) -> None:
        """Call `then` when everything that was changed until now is on disk."""
        self._journal.post(Change(), then, lazy=True)

    def mine(self, worker: Worker, run: str, action: str, attempt: int) -> LiveAction | None:
        """The action this worker speaks of, unless it has lost it (`attempt` fences)."""
        found = worker.actions.get(f"{run}/{action}")
        return found if found is not None and found.attempt == attempt and not found.over else None

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
            override = action.task_spec if action.spec else None
            action.pool = await self._pools.make(action.task, override, action.run.request.env_vars)
        except BaseRuntimeError as problem:
            return problem
        return None

    def finished(self, worker: Worker, frame: wire.Finished) -> None:
        action = self.mine(worker, frame.run, frame.action, frame.attempt)
        ack = wire.FinishedAck(run=frame.run, action=frame.action, attempt=frame.attempt)
        if action is None:  # what it tells again may be on its way to the disk
            self.on_disk(functools.partial(worker.send, ack))
        elif frame.error is not None:
            self.failed(action, frame.error, ack)
        else:
            value = frame.outputs or wire.Value(inline=b"[null]")
            action.outputs, action.outputs_blob = value.inline, value.blob
            self.end(action, _P.SUCCEEDED, "", ack)

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
        if error.kind == "system":
            action.system_failures += 1 if counted or action.attempt > UNCOUNTED else 0
        else:
            action.user_failures += 1
        retries, timed_out = action.task_spec.retries, error.code in TIMED_OUT
        verdict = after_failure(error, retries, action.user_failures, action.system_failures, timed_out)
        action.error = error
        if verdict.phase is _P.QUEUED:
            self._try_again(action, error, verdict.delay, ack)
        else:
            self.end(action, verdict.phase, sentence(error), ack)

    def _try_again(self, action: LiveAction, error: ErrorInfo, delay: float, ack: wire.Frame | None) -> None:
        worker = action.worker
        last = action.attempt_row()
        pool = action.pool
        self.limits.stop(action, "max_runtime")
        self.dispatch.release(action)
        if action.phase is not _P.QUEUED:
            action.go(_P.QUEUED, time.time())
        action.attempt += 1
        action.error, action.attempt_started = None, None
        action.callers = [caller for caller in action.callers if not caller[0].over]
        when = f" in {delay:g} s" if delay else ""
        was_stopped = error.code == STOPPED.code
        what = STOPPED.message if was_stopped else "failed"
        why = "" if was_stopped else f": {sentence(error)}"
        action.message = f"attempt {action.attempt - 1} {what}, trying again{when}{why}"
        event = self.event(action, action.message)
        ended = replace(
            last, phase=_P.ABORTED if was_stopped else _P.FAILED, ended=time.time(), error=msgspec.json.encode(error)
        )
        change = Change(actions=(action.write(),), attempts=(ended,), events=(event,))
        shown = self._show(action, event.seq)

        def then() -> None:
            shown()
            if ack is not None and worker is not None:
                worker.acknowledge(ack)
            if action.run.limit is not None:
                action.run.limit.ends(action.name)
            if not action.over:
                self.queue_after(delay, action, pool)

        self._journal.post(change, then)

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
        action.error = ErrorInfo(code="RuntimeSystemError", message=message, kind="system", retryable=False)
        self.end(action, _P.FAILED, message)

    # ------------------------------------------------------------------ over

    def end(self, action: LiveAction, phase: ActionPhase, message: str, ack: wire.Frame | None = None) -> None:
        """A terminal phase, for the action and for whatever is still running beneath it."""
        worker = action.worker
        ended = [action, *self._close(action, phase, message)]
        self._journal.post(*self._ends(ended, (worker, ack) if worker and ack else None))
        self.dispatch.release(action)
        for child in ended[1:]:
            self.dispatch.end(child, "its parent ended")

    def abort(self, action: LiveAction, reason: str, by: str = "") -> asyncio.Future[None]:
        """`by`: who said so; nobody where it follows from something else."""
        if action.over:  # its end may still be on its way to the disk
            return self._journal.commit(Change())
        message = f"aborted: {reason}" if reason else "aborted"
        action.error = ErrorInfo(code="ActionAbortedError", message=message, retryable=False)
        ended = [action, *self._close(action, _P.ABORTED, message)]
        committed = self._journal.commit(*self._ends(ended, by=by))
        for each in ended:
            self.dispatch.end(each, message)
        return committed

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
        self, actions: list[LiveAction], ack: tuple[Worker, wire.Frame] | None = None, by: str = ""
    ) -> tuple[Change, Callable[[], None]]:
        """The terminal phases with their events, and what comes after their commit: the callers are told, and a run is
        closed with its root.

        `actions` are an action and those below it. Their events are numbered from the deepest up, so that a stream,
        which is over with its root, has told of all ends before that. `by`: who ended the first of them.
        """
        first, actions = actions[0], actions[::-1]
        body: dict[str, object] | None = {"by": by} if by else None
        events = tuple(self.event(action, action.message, body if action is first else None) for action in actions)
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
                if action.run.limit is not None:
                    action.run.limit.ends(action.name)
                if action.is_root:
                    self._run_over(action.run, action.run.record(seq))

        return change, then

    def _tell_callers(self, action: LiveAction) -> None:
        callers, action.callers = action.callers, []
        for parent, key in callers:
            if parent.calls.get(key) is not action or parent.worker is None:
                continue
            del parent.calls[key]
            self.dispatch.goes_on(parent)
            parent.worker.send(result_of_call(key, action))

    # ------------------------------------------------------------------ small steps

    def event(self, action: LiveAction, message: str, body: dict[str, object] | None = None) -> wire.Event:
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


def _nothing() -> None:
    """After commits that nobody needs to be shown."""


def sentence(error: ErrorInfo) -> str:
    first = error.message.strip().split("\n", 1)[0]
    return first if error.code in first else f"{error.code}: {first}"
