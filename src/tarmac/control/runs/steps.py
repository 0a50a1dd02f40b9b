"""Recorded steps (`flyte.trace`): what a function inside an action gave, kept so that a second attempt has it; and
what an action tells of its progress.
"""

from __future__ import annotations

import time
from typing import Any

from flyte import wire
from flyte.names import step_name
from flyte.wire import ActionPhase
from tarmac.control.live import LiveAction, Worker
from tarmac.control.runs.actions import Actions, sentence
from tarmac.events import Journal
from tarmac.store import Change, ReportRow

_P = ActionPhase


class Steps:
    def __init__(self, journal: Journal, actions: Actions) -> None:
        self._journal = journal
        self._actions = actions

    def look_up(self, worker: Worker, frame: wire.TraceLookup) -> None:
        parent = self._actions.mine(worker, frame.run, frame.action, frame.attempt)
        step = _recorded(parent, frame.step) if parent else None
        if step is None or not step.over:
            worker.send(wire.TraceResult(key=frame.key))
        else:
            worker.send(wire.TraceResult(key=frame.key, found=True, outputs=step.result(), error=step.error))

    def record(self, worker: Worker, frame: wire.TraceRecord) -> None:
        parent = self._actions.mine(worker, frame.run, frame.action, frame.attempt)
        answer = wire.TraceResult(key=frame.key, found=True)
        if parent is None or _recorded(parent, frame.step) is not None:  # it may be on its way to the disk
            self._journal.post(Change(), lambda: worker.send(answer))
            return
        step = _step(parent, frame)
        parent.run.add(step)
        change = Change(actions=(step.write(),), events=(self._actions.event(step, step.message),))

        def then() -> None:
            parent.run.stored += 1
            worker.send(answer)

        self._journal.post(change, then)

    def progress(self, worker: Worker, frame: wire.Progress) -> None:
        action = self._actions.mine(worker, frame.run, frame.action, frame.attempt)
        if action is not None:
            body, reports = _apart(action, frame.body)
            event = self._actions.event(action, frame.message, {"progress": body})
            self._journal.post(Change(events=(event,), reports=reports))


def _apart(action: LiveAction, body: dict[str, Any]) -> tuple[dict[str, Any], tuple[ReportRow, ...]]:
    """What an event tells of progress, and the report that came with it. The event only says how large that is.

    A report is a whole page, and only the last one of an attempt is ever asked for.
    """
    html = body.get("report")
    if not isinstance(html, str):
        return body, ()
    row = ReportRow(action.run.name, action.name, action.attempt, time.time(), html)
    return {**body, "report": {"characters": len(html)}}, (row,)


def _recorded(parent: LiveAction, step: str) -> LiveAction | None:
    """What this action recorded of the step; version 0.1 named steps without their action."""
    found = parent.run.actions.get(step_name(parent.name, step)) or parent.run.actions.get(step)
    return found if found is not None and found.parent == parent.name else None


def _step(parent: LiveAction, frame: wire.TraceRecord) -> LiveAction:
    name = step_name(parent.name, frame.step)
    step = LiveAction(parent.run, name, parent.name, None, frame.name, parent.version, frame.started, kind="trace")
    step.go(_P.RUNNING, frame.started)
    step.error = frame.error
    if frame.outputs is not None:
        step.outputs, step.outputs_blob = frame.outputs.inline, frame.outputs.blob
    step.go(_P.SUCCEEDED if frame.error is None else _P.FAILED, time.time())
    step.message = "recorded" if frame.error is None else sentence(frame.error)
    return step
