"""The nouns' states and the tables that say how they move. Pure: no I/O, no clock, no randomness.

A phase moves only along a row of TRANSITIONS. Everything that moves one goes through `move`, which refuses the rest,
so the table *is* the state machine; `docs/states.md` is generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyte.wire import TERMINAL, ActionPhase, AppStatus, ErrorInfo, RetrySpec

P = ActionPhase


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: an action may go from `old` to `new`; `why` is what makes it."""

    old: ActionPhase
    new: ActionPhase
    why: str


TRANSITIONS: tuple[Transition, ...] = (
    Transition(P.QUEUED, P.WAITING_FOR_RESOURCES, "no slot is free"),
    Transition(P.QUEUED, P.INITIALIZING, "a process is being started for it"),
    Transition(P.QUEUED, P.RUNNING, "a ready worker took it"),
    Transition(P.QUEUED, P.SUCCEEDED, "its result was in the cache"),
    Transition(P.QUEUED, P.RECOVERED, "its result was copied from an earlier run"),
    Transition(P.QUEUED, P.FAILED, "its code cannot be loaded, or its inputs cannot be read"),
    Transition(P.QUEUED, P.ABORTED, "it, or what is above it, was aborted"),
    Transition(P.QUEUED, P.TIMED_OUT, "max_queued_time or deadline passed"),
    Transition(P.WAITING_FOR_RESOURCES, P.INITIALIZING, "a process is being started for it"),
    Transition(P.WAITING_FOR_RESOURCES, P.RUNNING, "a ready worker took it"),
    Transition(P.WAITING_FOR_RESOURCES, P.FAILED, "its code cannot be loaded"),
    Transition(P.WAITING_FOR_RESOURCES, P.ABORTED, "it, or what is above it, was aborted"),
    Transition(P.WAITING_FOR_RESOURCES, P.TIMED_OUT, "max_queued_time or deadline passed"),
    Transition(P.INITIALIZING, P.QUEUED, "the process it waited for died before it took the action"),
    Transition(P.INITIALIZING, P.RUNNING, "the worker took it"),
    Transition(P.INITIALIZING, P.FAILED, "its code cannot be loaded"),
    Transition(P.INITIALIZING, P.ABORTED, "it, or what is above it, was aborted"),
    Transition(P.INITIALIZING, P.TIMED_OUT, "max_queued_time or deadline passed"),
    Transition(P.RUNNING, P.QUEUED, "the attempt failed, or its worker was lost, and it is tried again"),
    Transition(P.RUNNING, P.PAUSED, "it waits for a condition"),
    Transition(P.RUNNING, P.SUCCEEDED, "the function returned"),
    Transition(P.RUNNING, P.FAILED, "the function raised, or its process died, and no attempt is left"),
    Transition(P.RUNNING, P.ABORTED, "it, or what is above it, was aborted"),
    Transition(P.RUNNING, P.TIMED_OUT, "max_runtime or deadline passed, and no attempt is left"),
    Transition(P.PAUSED, P.RUNNING, "the condition was answered"),
    Transition(P.PAUSED, P.QUEUED, "its worker was lost, and it is tried again"),
    Transition(P.PAUSED, P.FAILED, "the condition failed"),
    Transition(P.PAUSED, P.ABORTED, "it, or what is above it, was aborted"),
    Transition(P.PAUSED, P.TIMED_OUT, "the condition or the deadline timed out"),
)

_ALLOWED = frozenset((row.old, row.new) for row in TRANSITIONS)


class ForbiddenMove(RuntimeError):
    """A phase was to move where no row of the table leads."""


def move(old: ActionPhase, new: ActionPhase) -> ActionPhase:
    """`new`, if an action may go there from `old`. Raises ForbiddenMove otherwise; terminal is terminal."""
    if (old, new) not in _ALLOWED:
        raise ForbiddenMove(f"an action does not go from {old} to {new}")
    return new


def is_terminal(phase: ActionPhase) -> bool:
    return phase in TERMINAL


def retry_delay(retries: RetrySpec, failed_attempts: int) -> float:
    """Seconds before the next attempt, after `failed_attempts` failures of the user's code (Flyte's `Backoff`)."""
    delay = retries.base * retries.factor ** (failed_attempts - 1)
    return delay if retries.cap is None else min(delay, retries.cap)


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
        again = Verdict(P.QUEUED, min(0.1 * 2**system_failures, 5))
        return again if system_failures <= SYSTEM_RETRIES else Verdict(final)
    if not error.retryable or error.code == "NonRecoverableError" or user_failures > retries.count:
        return Verdict(final)
    return Verdict(P.QUEUED, retry_delay(retries, user_failures))


@dataclass(frozen=True, slots=True)
class AppTransition:
    old: AppStatus
    new: AppStatus
    why: str


A = AppStatus

APP_TRANSITIONS: tuple[AppTransition, ...] = (
    AppTransition(A.DEPLOYING, A.ACTIVE, "a replica of the new version is ready and the gateway was switched to it"),
    AppTransition(A.DEPLOYING, A.FAILED, "the first version did not become ready"),
    AppTransition(A.DEPLOYING, A.STOPPED, "it was deactivated"),
    AppTransition(A.ACTIVE, A.DEPLOYING, "a new version is being started; the old one goes on serving"),
    AppTransition(A.ACTIVE, A.SLEEPING, "no request came for long, or its last replica is gone; the next one wakes it"),
    AppTransition(A.ACTIVE, A.STOPPED, "it was deactivated"),
    AppTransition(A.ACTIVE, A.FAILED, "its replicas die as soon as they start"),
    AppTransition(A.SLEEPING, A.ACTIVE, "a request or an activation started a replica"),
    AppTransition(A.SLEEPING, A.DEPLOYING, "a new version is being started"),
    AppTransition(A.SLEEPING, A.STOPPED, "it was deactivated"),
    AppTransition(A.SLEEPING, A.FAILED, "no replica could be started"),
    AppTransition(A.STOPPED, A.ACTIVE, "it was activated"),
    AppTransition(A.STOPPED, A.DEPLOYING, "a new version is being started"),
    AppTransition(A.STOPPED, A.FAILED, "it was activated and no replica could be started"),
    AppTransition(A.FAILED, A.ACTIVE, "a replica became ready after all"),
    AppTransition(A.FAILED, A.DEPLOYING, "a new version is being started"),
    AppTransition(A.FAILED, A.SLEEPING, "the old version is kept for the next request"),
    AppTransition(A.FAILED, A.STOPPED, "it was deactivated"),
)


def subject_of_action(run: str, action: str) -> str:
    return f"run/{run}/{action}"


def subject_of_app(project: str, domain: str, name: str) -> str:
    return f"app/{project}/{domain}/{name}"


def subject_of_deployment(deployment: str) -> str:
    return f"deployment/{deployment}"
