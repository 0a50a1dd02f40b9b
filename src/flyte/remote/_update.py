"""One update of a run, as `run.stream()` yields it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from flyte import wire
from flyte.remote._time_filter import moment
from flyte.wire import ActionPhase


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """A phase of the run, and the message of the event that led to it."""

    status: str
    """The phase as text, such as `running`."""
    message: str
    """A sentence for people."""
    phase: ActionPhase
    action: str
    """The name of the action; `a0` stands for the run itself."""
    at: datetime | None
    attempt: int
    seq: int
    """The event's number in the event log, after which a stream can resume."""
    body: dict[str, Any] = field(default_factory=dict)
    """The data that the task added to its own message."""

    @property
    def is_terminal(self) -> bool:
        """Whether the action has ended with this update."""
        return self.phase.is_terminal

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "phase": self.phase.value, "at": self.at.isoformat() if self.at else None}


def of_run(run: wire.Run) -> RunUpdate:
    """A run's record as an update."""
    at = moment(run.ended or run.started or run.created)
    return RunUpdate(
        run.phase.value, run.message or run.phase.value, run.phase, wire.ROOT_ACTION, at, run.attempt, run.seq
    )


def of_event(event: wire.Event) -> RunUpdate:
    phase = ActionPhase(event.phase)
    action = event.subject.rpartition("/")[2]
    text = event.message or event.phase
    return RunUpdate(phase.value, text, phase, action, moment(event.at), event.attempt, event.seq, event.body)


def moved(run: wire.Run, event: wire.Event) -> wire.Run:
    """The run's record after an event of its root action, without outputs and errors, which must be fetched."""
    import msgspec

    phase = ActionPhase(event.phase)
    return msgspec.structs.replace(
        run,
        phase=phase,
        message=event.message,
        attempt=event.attempt or run.attempt,
        started=run.started or (event.at if phase is ActionPhase.RUNNING else None),
        ended=event.at if phase.is_terminal else None,
        seq=event.seq,
    )
