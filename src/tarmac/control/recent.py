"""Memory of what came last: a dict that grows to a limit and then forgets what has been in it longest."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(memory: dict[K, V], key: K, value: V, at_most: int) -> None:
    """Put `value` into `memory`, which holds no more than `at_most` entries afterwards."""
    memory[key] = value
    if len(memory) > at_most:
        del memory[next(iter(memory))]
