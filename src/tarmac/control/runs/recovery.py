"""After a restart of the control plane: what its actions were in the middle of, as the disk and the workers say.

First what is on disk is taken up (`resume`). Then the workers come back, and what one of them has in flight is its own
again (`held`). What nobody comes back with was lost, and is tried again (`settled`, and `lost` for what had begun
without anybody having written that down). None of it counts as a failure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from flyte import wire
from flyte.phases import after_failure
from flyte.wire import ActionPhase, ErrorInfo
from tarmac.control.clock import Clock
from tarmac.control.live import LiveAction, LiveRun, Pool, Worker
from tarmac.control.records import error_of
from tarmac.control.runs.actions import Actions
from tarmac.control.runs.failures import STOPPED
from tarmac.store import AttemptRow, Store

_P = ActionPhase

TOLD_WITHIN = 1.0
"""Seconds in which a worker that came back has told what it had finished meanwhile."""

_LOST = ErrorInfo(code="WorkerLostError", message="its worker was lost", kind="system")


class Recovery:
    def __init__(
        self, store: Store, runs: Mapping[str, LiveRun], actions: Actions, clock: Clock, stopping: Path
    ) -> None:
        """`runs`: a live view of those that are not over. `stopping` is there after a `flyte down`."""
        self._why = STOPPED if stopping.exists() else _LOST
        stopping.unlink(missing_ok=True)
        self._store = store
        self._runs = runs
        self._actions = actions
        self._clock = clock
        self._began: dict[tuple[str, int], float | None] = {}
        """When each attempt that was running began, until it is known who came back."""

    # ------------------------------------------------------------------ what the disk says

    async def resume(self, action: LiveAction) -> None:
        if action.task is None:
            message = f"task {action.row.task} {action.row.version} is not registered any more; deploy it again"
            error = ErrorInfo(code="RemoteTaskNotFoundError", message=message, retryable=False)
            self._actions.end(action, _P.FAILED, message, error=error)
            return
        is_new = action.attempt == 1 and action.phase is not _P.RUNNING
        attempts = [] if is_new else await self._store.attempts(action.run.name, action.name)
        _resume_clock(action, attempts)
        if action.phase is _P.INITIALIZING:
            action.becomes(_P.QUEUED, time.time())
        if action.phase is _P.QUEUED:
            if await self._actions.has_pool(action):
                self._actions.queue_after(self._rest_of_pause(action, attempts), action, action.pool)
        elif action.phase is _P.RUNNING:
            await self._actions.make_pool(action)  # without one its worker may still come back
            self._began[action.id, action.attempt] = action.since
        action.since = None

    def _rest_of_pause(self, action: LiveAction, attempts: Sequence[AttemptRow]) -> float:
        """Seconds until the next attempt may begin, where the last one failed a moment ago."""
        last = next((attempt for attempt in attempts if attempt.number == action.attempt - 1), None)
        if last is None or last.ended is None or (error := error_of(last)) is None:
            return 0
        row = action.row
        verdict = after_failure(error, action.task_spec.retries, row.user_failures, row.system_failures)
        return min(verdict.delay, verdict.delay - self._clock.since(last.ended))

    # ------------------------------------------------------------------ what the workers say

    def held(self, worker: Worker, held: wire.InFlight) -> LiveAction | None:
        """The live action that a returning worker still has in flight, if it is still its own."""
        action = self._action(held)
        if action is None or action.worker not in (None, worker):
            return None
        if action.phase is not _P.RUNNING:  # it was given out, and the commit that says so was lost
            self._actions.runs_already(action)
        return action

    def pool_of(self, held: wire.InFlight) -> Pool | None:
        """The pool of an action that a worker held, if it is that attempt still, and nobody else's."""
        action = self._action(held)
        return None if action is None or action.worker is not None else action.pool

    def _action(self, held: wire.InFlight) -> LiveAction | None:
        run = self._runs.get(held.run)
        action = run.actions.get(held.action) if run else None
        return None if action is None or action.over or action.attempt != held.attempt else action

    # ------------------------------------------------------------------ what nobody came back with

    def lost(self, holding: wire.InFlightRecord) -> None:
        """A worker is gone, and this is what it had begun."""
        for held in holding.held:
            action = self._action(held)
            if action is not None and action.worker is None:
                self._actions.dispatch.forget(action)
                self._lose(action, holding.unit)

    def settled(self) -> None:
        """What was running and did not come back with its worker is tried again; the limits of the rest go on."""
        for run in list(self._runs.values()):
            for action in list(run.actions.values()):
                if action.phase is not _P.RUNNING or action.row.kind != "task":
                    continue
                if action.worker is None:
                    self._lose(action, action.unit)
                elif (action.id, action.attempt) in self._began:
                    self._limit(action)
        self._began.clear()

    def _limit(self, action: LiveAction) -> None:
        """Begin with what is left of the limits of an attempt that came back with its worker.

        A result that was ready before the control plane went away is told in the moments after the return.
        """
        action.since = self._began[action.id, action.attempt]
        for limit in ("max_runtime", "deadline"):
            self._actions.limits.start(action, limit, least=TOLD_WITHIN)
        action.since = None

    def _lose(self, action: LiveAction, unit: str | None) -> None:
        try:
            if unit:
                self._actions.keep_log(action, unit)
            self._actions.failed(action, self._why, counted=False)
        except Exception as error:  # noqa: BLE001 - `fault` logs it
            self._actions.fault(action, error)


def _resume_clock(action: LiveAction, attempts: Sequence[AttemptRow]) -> None:
    """When what the action is in the middle of began, as the disk has it."""
    current = next((attempt for attempt in attempts if attempt.number == action.attempt), None)
    if action.phase is _P.RUNNING:
        action.unit = current.unit if current else None
        action.attempt_started = action.since = current.started if current else action.row.started
    elif action.attempt == 1:
        action.since = action.row.created
    else:
        ends = [attempt.ended for attempt in attempts if attempt.ended is not None]
        action.since = max(ends) if ends else None
