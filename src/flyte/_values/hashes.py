"""Hashes of values, for cache keys: two values with the same hash share a cached result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self, runtime_checkable


@runtime_checkable
class HashMethod(Protocol):
    """What computes a hash: `update` is given the value, `result` returns the hash as text."""

    def update(self, data: Any, /) -> None: ...

    def result(self) -> str: ...


class HashFunction:
    """A HashMethod made of a function that is given the whole value: a frame, or the bytes of a file."""

    def __init__(self, fn: Callable[[Any], str]) -> None:
        self._fn = fn
        self._value = ""

    @classmethod
    def from_fn(cls, fn: Callable[[Any], str]) -> Self:
        return cls(fn)

    def update(self, data: Any) -> None:
        self._value = self._fn(data)

    def result(self) -> str:
        """The hash of the value that `update` was given last."""
        return self._value


def hash_of(value: Any, method: HashMethod | str | None) -> str | None:
    """The hash of `value`: text is a hash already, and without a method there is none."""
    if method is None or isinstance(method, str):
        return method
    method.update(value)
    return method.result()
