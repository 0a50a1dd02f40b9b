"""What workers say, and who deals with it.

Where a frame cannot be dealt with, the action that it speaks of fails, and nothing else.
"""

from __future__ import annotations

import logging

import msgspec

from flyte import wire
from flyte.wire import ActionPhase, AttemptRef, ErrorInfo
from tarmac.control.live import Worker
from tarmac.control.runs.actions import Actions
from tarmac.control.runs.children import Children
from tarmac.control.runs.steps import Steps
from tarmac.control.workers.dispatch import Dispatch
from tarmac.links.server import Link

log = logging.getLogger("tarmac.inbox")


class Inbox:
    def __init__(self, dispatch: Dispatch, actions: Actions, children: Children, steps: Steps) -> None:
        self.dispatch = dispatch
        self._actions = actions
        self._children = children
        self._steps = steps

    def take(self, worker: Worker, frame: wire.AnyFrame) -> None:
        try:
            self._take(worker, frame)
        except Exception as error:
            log.exception("%s sent a %s that cannot be handled", worker.unit, type(frame).__name__)
            ref = AttemptRef(getattr(frame, "run", ""), getattr(frame, "action", ""), getattr(frame, "attempt", 0))
            if (action := self._actions.mine(worker, ref)) is not None:
                self._actions.fault(action, error)

    def _take(self, worker: Worker, frame: wire.AnyFrame) -> None:
        match frame:
            case wire.Finished():
                self._actions.finished(worker, frame)
            case wire.Call():
                self._children.call(worker, frame)
            case wire.CancelCall():
                self._children.cancel(worker, frame)
            case wire.TraceLookup():
                self._steps.look_up(worker, frame)
            case wire.TraceRecord():
                self._steps.record(worker, frame)
            case wire.Progress():
                self._steps.progress(worker, frame)
            case _:
                log.warning("%s sent a %s", worker.unit, type(frame).__name__)

    def refuse(self, worker: Worker, frame: wire.AnyFrame, problem: str) -> None:
        """What a worker sent breaks a rule: that call, step or action fails with the reason, and nothing else."""
        message = f"what the task sent is refused: {problem}"
        error = ErrorInfo(code="InvalidInputError", message=message, retryable=False)
        match frame:
            case wire.Finished():
                self._actions.finished(worker, msgspec.structs.replace(frame, outputs=None, error=error))
            case wire.Call():
                worker.send(wire.CallResult(key=frame.key, action="", phase=ActionPhase.FAILED, error=error))
            case wire.TraceLookup() | wire.TraceRecord():
                worker.send(wire.TraceResult(key=frame.key, error=error))


class WorkerPeer:
    """The worker at the other end of a link."""

    def __init__(self, worker: Worker, inbox: Inbox) -> None:
        self._worker = worker
        self._inbox = inbox

    def frame(self, frame: wire.AnyFrame) -> None:
        self._inbox.take(self._worker, frame)
        if self._worker.strays and isinstance(frame, wire.Finished):
            self._inbox.dispatch.strays.over(self._worker, AttemptRef.of(frame))

    def unfit(self, frame: wire.AnyFrame, problem: str) -> None:
        self._inbox.refuse(self._worker, frame, problem)

    def lost(self, link: Link) -> None:
        self._inbox.dispatch.link_lost(self._worker, link)
