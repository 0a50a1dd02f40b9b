"""Failures of runs and actions: which action failed first, which error stands for a run, what replaces its outputs."""

from __future__ import annotations

from flyte import wire
from flyte._failure import to_error
from flyte.errors import ActionAbortedError, TaskTimeoutError
from flyte.remote._io import NoOutputs, Runs
from flyte.remote._pages import ACTIONS, actions_of
from flyte.wire import ActionPhase


async def first_failed(runs: Runs, run: str) -> str | None:
    """The name of the action that failed first; None if none has failed."""
    first: wire.Action | None = None
    failed = wire.ActionFilter(phases=(ActionPhase.FAILED, ActionPhase.TIMED_OUT), limit=ACTIONS)
    async for action in actions_of(runs, run, failed):
        first = action if first is None else min(first, action, key=_failed_at)
    return first.name if first is not None else None


def _failed_at(action: wire.Action) -> tuple[float, float]:
    """The order of failures; of actions that failed at the same moment the deepest is first."""
    return action.ended or 0, -action.created


def error_of(run: wire.Run) -> Exception | None:
    """The error of a run that has ended: its root task's, or the one that its phase stands for; None for a success."""
    if run.phase.is_success:
        return None
    if run.error is not None:
        return to_error(run.error)
    if run.phase is ActionPhase.TIMED_OUT:
        return TaskTimeoutError(run.message or f"the run {run.name} timed out")
    return ActionAbortedError(run.message or f"the run {run.name} was aborted")


def no_outputs(what: str, phase: ActionPhase, error: wire.ErrorInfo | None) -> NoOutputs:
    """The placeholder for the outputs of an action that ended without any. Raises RuntimeError before the end."""
    if not phase.is_terminal:
        raise RuntimeError(f"{what} has no outputs yet: it is {phase}; wait for its end first")
    why = f" ({error.code}: {error.message})" if error else ""
    return NoOutputs(f"{what} has no outputs: it {_ENDED.get(phase, f'is {phase}')}{why}")


_ENDED = {
    ActionPhase.FAILED: "failed",
    ActionPhase.ABORTED: "was aborted",
    ActionPhase.TIMED_OUT: "timed out",
}
