"""How an action's phase moves, and when it is tried again: one table for the platform and for local mode.

A phase moves only along a row of TRANSITIONS. Everything that moves one calls `move`, which refuses the rest, so the
table *is* the state machine; `docs/states.md` is generated from it. Pure: no I/O, no clock, no randomness.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyte.backoff import pause
from flyte.wire import ActionPhase, ErrorInfo, RetrySpec

P = ActionPhase


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: an action may go from `old` to `new`; `why` is what makes it."""

    old: ActionPhase
    new: ActionPhase
    why: str


TRANSITIONS: tuple[Transition, ...] = (
    Transition(P.QUEUED, P.INITIALIZING, "a process is being started for it"),
    Transition(P.QUEUED, P.RUNNING, "a ready worker took it"),
    Transition(P.QUEUED, P.SUCCEEDED, "its result was in the cache"),
    Transition(P.QUEUED, P.FAILED, "its code cannot be loaded, or its inputs cannot be read"),
    Transition(P.QUEUED, P.ABORTED, "it, or what is above it, was aborted"),
    Transition(P.QUEUED, P.TIMED_OUT, "max_queued_time or deadline passed"),
    Transition(P.INITIALIZING, P.QUEUED, "the process it waited for died before it took the action"),
    Transition(P.INITIALIZING, P.RUNNING, "the worker took it"),
    Transition(P.INITIALIZING, P.FAILED, "its code cannot be loaded"),
    Transition(P.INITIALIZING, P.ABORTED, "it, or what is above it, was aborted"),
    Transition(P.INITIALIZING, P.TIMED_OUT, "max_queued_time or deadline passed"),
    Transition(P.RUNNING, P.QUEUED, "the attempt failed, or its worker was lost, and it is tried again"),
    Transition(P.RUNNING, P.SUCCEEDED, "the function returned"),
    Transition(P.RUNNING, P.FAILED, "the function raised, or its process died, and no attempt is left"),
    Transition(P.RUNNING, P.ABORTED, "it, or what is above it, was aborted"),
    Transition(P.RUNNING, P.TIMED_OUT, "max_runtime or deadline passed, and no attempt is left"),
)

RESERVED = frozenset({P.WAITING_FOR_RESOURCES, P.PAUSED, P.RECOVERED})
"""Phases that Flyte's API names and that no action is ever in here."""

_ALLOWED = frozenset((row.old, row.new) for row in TRANSITIONS)


class ForbiddenMove(RuntimeError):
    """Raised when something was to move where no row of its table leads."""


def move(old: ActionPhase, new: ActionPhase) -> ActionPhase:
    """`new`, if an action may go there from `old`. Raises ForbiddenMove otherwise; terminal is terminal."""
    if (old, new) not in _ALLOWED:
        raise ForbiddenMove(f"an action does not go from {old} to {new}")
    return new


LONGEST_DELAY = 86_400.0
"""Seconds that the pause before an attempt has at most: a backoff without a cap grows beyond any date."""


def retry_delay(retries: RetrySpec, failed_attempts: int) -> float:
    """Seconds before the next attempt, after `failed_attempts` failures of the user's code (Flyte's `Backoff`)."""
    longest = LONGEST_DELAY if retries.cap is None else min(retries.cap, LONGEST_DELAY)
    return pause(failed_attempts, retries.base, longest, retries.factor)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an action whose attempt ended badly."""

    phase: ActionPhase
    delay: float = 0


SYSTEM_RETRIES = 3
"""Attempts that the platform adds by itself after losing a worker, apart from the user's `retries`."""


def after_failure(
    error: ErrorInfo, retries: RetrySpec, user_failures: int, system_failures: int, timed_out: bool = False
) -> Verdict:
    """Try again or end: the user's failures count against `retries`, lost workers against SYSTEM_RETRIES."""
    final = P.TIMED_OUT if timed_out else P.FAILED
    if error.kind == "system":
        again = Verdict(P.QUEUED, pause(system_failures, 0.2, 5))
        return again if system_failures <= SYSTEM_RETRIES else Verdict(final)
    if not error.retryable or error.code == "NonRecoverableError" or user_failures > retries.count:
        return Verdict(final)
    return Verdict(P.QUEUED, retry_delay(retries, user_failures))
