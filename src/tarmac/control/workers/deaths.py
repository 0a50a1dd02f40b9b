"""How workers end, in words: what an action is told whose process ended under it."""

from __future__ import annotations

from flyte import wire
from flyte.wire import ErrorInfo
from tarmac.control.live import Pool
from tarmac.control.suspects import ENOUGH


def never_started(pool: Pool, exit: wire.UnitExited) -> str:
    tail = f"\n{exit.tail}" if exit.tail else ""
    return f"no worker of {pool.spec.name} lives long enough to take an action: {exit.reason or 'unknown'}{tail}"


def fatal(pool: Pool) -> str:
    return f"the agent died {ENOUGH} times in a row while it started a process for {pool.spec.name}"


TOLD_TO_STOP = 128 + 15
"""Exit code of a worker that SIGTERM cut off (`flyte.runtime.worker.ABORTED`)."""

_CRASHES = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV", 31: "SIGSYS"}


def death(exit: wire.UnitExited) -> ErrorInfo:
    """The error of an action whose process ended under it: the user's when it ended itself, else the platform's."""
    tail = f"\nthe last lines it wrote:\n{exit.tail}" if exit.tail else ""
    if exit.oom:
        return ErrorInfo(code="OOMError", message=f"{exit.reason or 'the process used more memory than it may'}{tail}")
    if exit.signal in _CRASHES:
        return ErrorInfo(code="ProcessCrashed", message=f"the process crashed ({_CRASHES[exit.signal]}){tail}")
    if exit.code is not None and exit.code != TOLD_TO_STOP:
        message = f"the process exited with code {exit.code} before the task returned{tail}"
        return ErrorInfo(code="ProcessExited", message=message)
    reason = exit.reason or "its process was lost"
    return ErrorInfo(code="WorkerLostError", message=f"the worker was lost: {reason}{tail}", kind="system")
