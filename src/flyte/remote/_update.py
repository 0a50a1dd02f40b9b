"""One update of a run, as `run.stream()` gives it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from flyte import wire
from flyte.remote._time_filter import moment
from flyte.wire import ActionPhase


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """Where the run is now, and what was said when it came there."""

    status: str
    """The phase in a word, such as `running`."""
    message: str
    """A sentence for people."""
    phase: ActionPhase
    action: str
    """The action that it is about; `a0` is the run itself."""
    at: datetime | None
    attempt: int
    seq: int
    """The number in the event log; a stream can go on after it."""
    body: dict[str, Any] = field(default_factory=dict)
    """What the task added to a message of its own."""

    @property
    def is_terminal(self) -> bool:
        """Whether the action has ended with this."""
        return self.phase.is_terminal

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "phase": self.phase.value, "at": self.at.isoformat() if self.at else None}


def of_run(run: wire.Run) -> RunUpdate:
    """A run's snapshot as an update."""
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
    """The run's snapshot after an event of its root action. Outputs and errors come with the next look at it."""
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
