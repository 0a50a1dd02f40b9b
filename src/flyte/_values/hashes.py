"""Hashes of values, for cache keys: two values with the same hash share a cached result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

_AT_ONCE = 1 << 20
"""Bytes of a file that a HashMethod is given at a time."""


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


def hash_of_file(path: Path, method: HashMethod | str | None) -> str | None:
    """The hash of a file's content, as `hash_of`.

    A HashFunction is given the bytes of the whole file, every other method one part after the other. A method that has
    `reset` begins anew with each file.
    """
    if method is None or isinstance(method, str):
        return method
    if isinstance(method, HashFunction):
        return hash_of(path.read_bytes(), method)
    if reset := getattr(method, "reset", None):
        reset()
    with path.open("rb", buffering=0) as file:
        while part := file.read(_AT_ONCE):
            method.update(part)
    return method.result()
