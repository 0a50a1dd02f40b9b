"""Tasks that are so quick that the request which starts a run may wait for its end."""

from __future__ import annotations

from flyte import wire

HASTE = 0.01
"""Seconds that a quick run takes at most."""


class _Haste:
    """The quick tasks of this process.

    A task counts as quick if its last run in this process was waited for and took no longer than HASTE; the request for
    its next run then returns at the end of the run, and `wait` needs no second request. A task that takes longer is not
    quick any more, so that a start is delayed by HASTE at most once.
    """

    def __init__(self) -> None:
        self._quick: set[str] = set()

    def of(self, task: str) -> float | None:
        """Seconds for which the request for a run of `task` waits for its end."""
        return HASTE if task in self._quick else None

    def learn(self, run: wire.Run, *, waited: bool) -> None:
        """Learn from a run that was `waited` for, or from the answer to the request that started it."""
        if waited and run.ended is not None and run.ended - run.created <= HASTE:
            self._quick.add(run.task)
        elif not run.phase.is_terminal or waited:
            self._quick.discard(run.task)


haste = _Haste()
