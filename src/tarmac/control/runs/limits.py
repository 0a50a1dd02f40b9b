"""The time limits of actions (`flyte.Timeout`), and the pause before a retry: what strikes by itself.

The clock is the loop's, which nobody sets; only what went before a restart is told by the time of day (`clock.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from flyte.wire import ErrorInfo
from tarmac.control.clock import Clock
from tarmac.control.live import LiveAction

Limit = Literal["max_runtime", "max_queued_time", "deadline"]

_WORDS: dict[Limit, tuple[str, str]] = {
    "max_runtime": ("MaxRuntimeExceededError", "it ran longer than"),
    "max_queued_time": ("MaxQueuedTimeExceededError", "it waited in the queue longer than"),
    "deadline": ("DeadlineExceededError", "it was not done within"),
}

TIMED_OUT = frozenset(code for code, _ in _WORDS.values())
"""Codes of the errors that a limit makes."""


class Limits:
    def __init__(self, clock: Clock, strike: Callable[[LiveAction, ErrorInfo], None]) -> None:
        """`strike`: what to do with an action whose time is over."""
        self._clock = clock
        self._strike = strike
        self._loop = asyncio.get_running_loop()

    def start(self, action: LiveAction, limit: Limit, least: float = 0) -> None:
        """Begin with one of the limits that the task has; after a restart with what is left, or `least` seconds."""
        whole = getattr(action.task_spec.timeout, limit)
        if whole is None:
            return
        self._clock.look()  # where it was set lately, that is noted as before this, not after it
        since = action.row.created if limit == "deadline" else action.since
        gone = 0.0 if since is None else self._clock.since(since)
        self.stop(action, limit)
        action.timers[limit] = self._loop.call_later(max(whole - max(gone, 0.0), least), self._over, action, limit)

    def stop(self, action: LiveAction, limit: Limit) -> None:
        if (handle := action.timers.pop(limit, None)) is not None:
            handle.cancel()

    def is_on(self, action: LiveAction, limit: Limit) -> bool:
        return limit in action.timers

    def _over(self, action: LiveAction, limit: Limit) -> None:
        if action.over:
            return
        seconds = getattr(action.task_spec.timeout, limit)
        code, words = _WORDS[limit]
        message = f"{words} {seconds:g} s ({limit})"
        self._strike(action, ErrorInfo(code=code, message=message, retryable=limit == "max_runtime"))

    def pause(self, action: LiveAction, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` after so many seconds."""
        if (before := action.timers.pop("retry", None)) is not None:
            before.cancel()
        action.timers["retry"] = self._loop.call_later(seconds, then)
