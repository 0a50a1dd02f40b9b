"""How many actions of one run are at work at the same time (`max_action_concurrency`), on a platform as in local mode.

An action counts from the moment when it may begin until it has ended. While it waits for its children it does not, so
no depth of nesting locks up. One that goes on after its children is not held up: for as long as it takes there may be
more at work than the limit says, and none begins meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from flyte.errors import InvalidInputError


def check_limit(most: int | None) -> None:
    """Raise InvalidInputError unless it may be a run's `max_action_concurrency`: None and 0 mean no limit."""
    if most is not None and (most < 0 or most == 1):
        raise InvalidInputError(
            f"max_action_concurrency is {most}; use 0 for no limit, or at least 2: "
            "Flyte refuses 1, where an action that waits for its children would keep them from running"
        )


class ActionLimit:
    """The actions of one run, by name. Not for several threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._at_work: set[str] = set()
        self._held: dict[str, Callable[[], None]] = {}
        """What begins those that wait for room, in the order in which they came."""

    def begin(self, name: str, start: Callable[[], None]) -> None:
        """Call `start` when there is room, which may be at once."""
        if name in self._at_work:
            start()
        else:
            self._held[name] = start
            self._start_held()

    def waits(self, name: str) -> None:
        """The action waits for its children."""
        self._at_work.discard(name)
        self._start_held()

    def goes_on(self, name: str) -> None:
        """The action is at work, also where there is no room."""
        self._held.pop(name, None)
        self._at_work.add(name)

    def ends(self, name: str) -> None:
        """The action, or this attempt of it, is over, whether or not it had begun."""
        self._held.pop(name, None)
        self._at_work.discard(name)
        self._start_held()

    def _start_held(self) -> None:
        while self._held and len(self._at_work) < self.most:
            name = next(iter(self._held))
            start = self._held.pop(name)
            self._at_work.add(name)
            start()


def limit_of(most: int | None) -> ActionLimit | None:
    """The limit of a run; None where it has none."""
    return ActionLimit(most) if most else None
