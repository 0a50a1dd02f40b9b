"""Listings: class-level calls such as `Run.listall(…)`, for plain `for` and, as `.aio(…)`, for `async for`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, ParamSpec, TypeVar

from flyte._sync import Streamable

P = ParamSpec("P")
T = TypeVar("T")


class listing(Generic[P, T]):
    """A decorator for an async generator function, to be placed above `@staticmethod`."""

    def __init__(self, fn: Callable[P, AsyncIterator[T]]) -> None:
        self._fn = getattr(fn, "__func__", fn)
        self.__doc__ = fn.__doc__

    def __get__(self, obj: Any, owner: type) -> Streamable[P, T]:
        return Streamable(self._fn, f"{owner.__name__}.{self._fn.__name__}")
