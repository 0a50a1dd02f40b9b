"""How failed attempts of an action are counted, and how they are told in one line."""

from __future__ import annotations

from flyte.wire import ErrorInfo
from tarmac.store import ActionRow

STOPPED = ErrorInfo(code="PlatformStopped", message="stopped by `flyte down`", kind="system")
"""The reason of an attempt that `flyte down` ended; it does not count as a failure."""

UNCOUNTED = 100
"""Attempts up to which the loss of a worker that was not its own fault costs an action nothing."""


def failures_of(row: ActionRow, error: ErrorInfo, counted: bool) -> tuple[int, int]:
    """How often it has failed by the user's and by the platform's fault, this time included where it is `counted`."""
    user, system = row.user_failures, row.system_failures
    if error.kind != "system":
        user += 1
    elif counted or row.attempt > UNCOUNTED:
        system += 1
    return user, system


def sentence(error: ErrorInfo) -> str:
    first = error.message.strip().split("\n", 1)[0]
    return first if error.code in first else f"{error.code}: {first}"
