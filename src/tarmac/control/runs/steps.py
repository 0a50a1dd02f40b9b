"""Recorded steps (`flyte.trace`): what a function inside an action gave, kept so that a second attempt has it; and
what an action tells of its progress.
"""

from __future__ import annotations

import time
from typing import Any

from flyte import wire
from flyte.names import step_name
from flyte.wire import ActionPhase, AttemptRef
from tarmac.control.live import LiveAction, Worker, event_of, step
from tarmac.control.runs.actions import Actions
from tarmac.control.runs.failures import sentence
from tarmac.events import Journal
from tarmac.store import ActionRow, Change, ReportRow

_P = ActionPhase


class Steps:
    def __init__(self, journal: Journal, actions: Actions) -> None:
        self._journal = journal
        self._actions = actions

    def look_up(self, worker: Worker, frame: wire.TraceLookup) -> None:
        parent = self._actions.mine(worker, AttemptRef.of(frame))
        known = _recorded(parent, frame.step) if parent else None
        if known is None or not known.over:
            worker.send(wire.TraceResult(key=frame.key))
        else:
            worker.send(wire.TraceResult(key=frame.key, found=True, outputs=known.result(), error=known.error))

    def record(self, worker: Worker, frame: wire.TraceRecord) -> None:
        parent = self._actions.mine(worker, AttemptRef.of(frame))
        answer = wire.TraceResult(key=frame.key, found=True)
        if parent is None or _recorded(parent, frame.step) is not None:  # it may be on its way to the disk
            self._journal.post(Change(), lambda: worker.send(answer))
            return
        row = ActionRow(
            run=parent.run.name,
            name=step_name(parent.name, frame.step),
            parent=parent.name,
            task=frame.name,
            version=parent.row.version,
            phase=_P.RUNNING,
            created=frame.started,
            started=frame.started,
            kind="trace",
        )
        recorded = LiveAction(parent.run, row, None)
        parent.run.add(recorded)
        value = frame.outputs or wire.Value()
        phase, message = (_P.SUCCEEDED, "recorded") if frame.error is None else (_P.FAILED, sentence(frame.error))
        change = step(
            self._journal,
            recorded,
            phase,
            message,
            error=frame.error,
            outputs=value.inline,
            outputs_blob=value.blob,
        )

        def then() -> None:
            parent.run.stored += 1
            worker.send(answer)

        self._journal.post(change, then)

    def progress(self, worker: Worker, frame: wire.Progress) -> None:
        action = self._actions.mine(worker, AttemptRef.of(frame))
        if action is not None:
            body, reports = _apart(action, frame.body)
            event = event_of(self._journal, action, frame.message, {"progress": body})
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
    return found if found is not None and found.row.parent == parent.name else None
