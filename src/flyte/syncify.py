"""`syncify`: a coroutine function, or an async generator function, of yours in both forms, as Flyte's own have them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast, overload

from flyte._sync import Streamable, Syncable, streamable, syncable, syncable_classmethod

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

__all__ = ["syncify"]


@overload
def syncify(fn: Callable[P, Coroutine[Any, Any, R]]) -> Syncable[P, R]: ...
@overload
def syncify(fn: Callable[P, AsyncIterator[T]]) -> Streamable[P, T]: ...
@overload
def syncify(fn: classmethod[Any, Any, Any] | staticmethod[Any, Any]) -> Any: ...
def syncify(fn: Any) -> Any:
    """`fn(...)` waits and `fn.aio(...)` is to be awaited; what an async generator yields is for `for` and `async for`.

    Also for methods, and above `@classmethod` and `@staticmethod`. Raises TypeError for what is not async.
    """
    if isinstance(fn, classmethod):
        return syncable_classmethod(cast("Any", fn))
    if isinstance(fn, staticmethod):
        return staticmethod(syncify(fn.__func__))
    if inspect.isasyncgenfunction(fn):
        return streamable(fn)
    if not inspect.iscoroutinefunction(fn):
        raise TypeError(f"syncify takes async functions; {getattr(fn, '__qualname__', fn)} is none")
    return syncable(fn)
