"""One asynchronous implementation, callable two ways: `fn(...)` blocks, `await fn.aio(...)` does not.

`.aio` *is* the coroutine function that was written: cancellation, context and tracebacks stay the caller's own. Only
the blocking form does something, and what it does depends on the thread it is called from:

1. no event loop runs there: the coroutine runs on the *portal*, an event loop on a daemon thread that the first
   blocking call starts (never an import) and that a forked child forgets, since it inherits no threads;
2. a loop runs there, and the process installed a *blocker* (`runtime.greenlets`): the calling task awaits, so that
   the loop goes on with other tasks; this is how every process of the platform works;
3. a loop runs there and there is no blocker: the call works, but holds up that loop. It says so once for each line.

A blocking call on the portal's own thread would wait for itself, so it gets a loop and a thread of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import linecache
import re
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from flyte._calling import calling_frame
from flyte._loop_thread import LoopThread

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


class BlockingCallWarning(UserWarning):
    """A blocking flyte call was made on a thread whose event loop is running, and holds that loop up."""


class CannotBlock(Exception):
    """Raised by a blocker that cannot make the current task wait; nothing was awaited."""


_portal = LoopThread("flyte")

Blocker = Callable[[Awaitable[Any]], Any]
"""Makes the current task wait for the awaitable and returns its result; raises CannotBlock where it cannot."""

_blocker: Blocker | None = None


def set_blocker(blocker: Blocker | None) -> None:
    """Install what lets a blocking call wait inside a running task; None removes it."""
    global _blocker
    _blocker = blocker


def blocking_in_task(awaitable: Awaitable[R]) -> R:
    """Wait for `awaitable` as the current task would, from code that is not `async`.

    Raises CannotBlock, with nothing awaited, where no blocker is installed or it cannot work.
    """
    if _blocker is None:
        raise CannotBlock
    return cast("R", _blocker(awaitable))


def in_event_loop() -> bool:
    """Whether an event loop is running on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def at_once(coro: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that has nothing to wait for. Raises RuntimeError for one that has."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return cast("R", stop.value)
    coro.close()
    raise RuntimeError(f"{coro!r} waits")


Outcome = tuple[R | None, BaseException | None]
"""A result, or what was raised instead."""


def outcome(func: Callable[[], R]) -> Outcome[R]:
    """Call a stranger's function; what it raises comes as a value, because no future takes a StopIteration."""
    try:
        return func(), None
    except BaseException as error:  # noqa: BLE001 - a stranger's code
        return None, error


async def to_thread(func: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """`asyncio.to_thread`, which in Python 3.11 waits for ever for a function that raises StopIteration."""
    result, error = await asyncio.to_thread(outcome, functools.partial(func, *args, **kwargs))
    if error is not None:
        raise error
    return cast("R", result)


def block(make: Callable[[], Coroutine[Any, Any, R]], name: str) -> R:
    """Run the coroutine that `make` makes, and wait for it, on whatever thread this is.

    `name` is what the caller wrote, for the warning that a loop is held up.
    """
    if not in_event_loop():
        return _portal.call(make())
    coro = make()
    try:
        return blocking_in_task(coro)
    except CannotBlock:
        pass
    try:
        if _portal.is_current():
            return on_a_thread_of_its_own(coro)
        _warn_once(name)
    except BaseException:
        coro.close()
        raise
    return _portal.call(coro)


def on_a_thread_of_its_own(coro: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine, for a thread whose own loop must not be waited for."""
    context = contextvars.copy_context()
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="flyte-nested") as executor:
        return executor.submit(context.run, asyncio.run, coro).result()


_warned: set[tuple[str, int]] = set()


def _warn_once(name: str) -> None:
    frame = calling_frame()
    if frame is None:
        return
    place = (frame.f_code.co_filename, frame.f_lineno)
    if place in _warned:
        return
    _warned.add(place)
    message = f"{place[0]}:{place[1]}: `{name}()` holds up the event loop; write `{_rewrite(name, *place)}`"
    warnings.warn_explicit(message, BlockingCallWarning, *place, module=frame.f_globals.get("__name__"))


def _rewrite(name: str, file: str, line: int) -> str:
    """The source line's call as it should read; a general form where the line does not show it."""
    last = name.rpartition(".")[2]
    found = re.search(rf"[\w.]*\b{re.escape(last)}(?=\()", linecache.getline(file, line))
    return f"await {found.group() if found else name}.aio(...)"


class Syncable(Generic[P, R]):
    """What `@syncable` leaves in place of a coroutine function: call it to wait, `await` its `.aio` not to."""

    def __init__(
        self, fn: Callable[P, Coroutine[Any, Any, R]], name: str, ready: Callable[P, bool] | None = None
    ) -> None:
        self.aio = fn
        self._ready = ready
        self.__name__ = name
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._ready is not None and self._ready(*args, **kwargs):
            return at_once(self.aio(*args, **kwargs))
        return block(lambda: self.aio(*args, **kwargs), self.__name__)

    @overload
    def __get__(self, obj: None, owner: type) -> Syncable[P, R]: ...
    @overload
    def __get__(self: Syncable[Concatenate[S, Q], R], obj: S, owner: type) -> Syncable[Q, R]: ...
    def __get__(self, obj: Any, owner: type) -> Syncable[..., R]:
        if obj is None:
            return self
        ready = None if self._ready is None else functools.partial(self._ready, obj)
        return Syncable(_bound(self.aio, obj), f"{owner.__name__.lower()}.{self.__name__}", ready)

    def __repr__(self) -> str:
        return f"<syncable {self.__name__}>"


def _bound(fn: Callable[..., R], obj: Any) -> Callable[..., R]:
    bound = functools.partial(fn, obj)
    bound.__doc__ = fn.__doc__
    return bound


def syncable(fn: Callable[P, Coroutine[Any, Any, R]]) -> Syncable[P, R]:
    """Give the coroutine function `fn` a blocking form: `fn(...)` waits, `fn.aio(...)` is what was written."""
    return Syncable(fn, fn.__name__)


def syncable_when(
    ready: Callable[P, bool],
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Syncable[P, R]]:
    """The same; where `ready`, called with the same arguments, says that there is nothing to wait for, no other thread
    is asked: to go there and back takes longer than most answers that are at hand.
    """
    return lambda fn: Syncable(fn, fn.__name__, ready)


class SyncableClassMethod(Generic[P, R]):
    """`@syncable_classmethod` over `@classmethod` over `async def`: a class method with both forms."""

    def __init__(self, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> None:
        self._fn: Any = fn
        self.__doc__ = fn.__doc__

    def __get__(self, obj: Any, owner: type) -> Syncable[P, R]:
        function = self._fn.__func__
        return Syncable(_bound(function, owner), f"{owner.__name__}.{function.__name__}")


def syncable_classmethod(fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> SyncableClassMethod[P, R]:
    """Both forms for a class method; write it above `@classmethod`."""
    return SyncableClassMethod(fn)


class Stream(Generic[T]):
    """An iterator for `async for` and, in code that is not async, for plain `for`: `next` and `anext` go on where the
    last one stopped. Nothing begins before the first of them.

    Who leaves early may `close()` it, or `await` its `aclose()`; that happens by itself when nobody holds it any more.
    """

    def __init__(self, source: Callable[[], AsyncIterator[T]], name: str = "stream") -> None:
        self._open = source
        self._name = name

    @functools.cached_property
    def _source(self) -> AsyncIterator[T]:
        return self._open()

    @functools.cached_property
    def _reader(self) -> Generator[T, None, None]:
        return _read(self._source, self._name)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await self._source.__anext__()

    async def aclose(self) -> None:
        """End it, and let its source clean up, for at most a minute."""
        await _close(self._source)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return next(self._reader)

    def close(self) -> None:
        """As `aclose()`, in code that is not async."""
        self._reader.close()


def _read(source: AsyncIterator[T], name: str) -> Generator[T, None, None]:
    """What plain `for` reads. No method of Stream: it must not hold the stream, whose end is its own."""
    try:
        while True:
            try:
                yield block(lambda: _next(source), name)
            except StopAsyncIteration:
                return
    finally:
        if not sys.is_finalizing():  # then no other thread runs any more, and nobody could clean up
            block(lambda: _close(source), name)


async def _next(source: AsyncIterator[T]) -> T:
    return await source.__anext__()


async def _close(source: AsyncIterator[Any]) -> None:
    """Run the source's own clean-up, for at most a minute, when its reader leaves early."""
    close = getattr(source, "aclose", None)
    if close is not None:
        async with asyncio.timeout(60):
            await close()


class Streamable(Generic[P, T]):
    """What `@streamable` leaves in place of an async generator function: a `Stream` when called, itself as `.aio`."""

    def __init__(self, fn: Callable[P, AsyncIterator[T]], name: str) -> None:
        self.aio = fn
        self.__name__ = name
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        return Stream(lambda: self.aio(*args, **kwargs), self.__name__)

    @overload
    def __get__(self, obj: None, owner: type) -> Streamable[P, T]: ...
    @overload
    def __get__(self: Streamable[Concatenate[S, Q], T], obj: S, owner: type) -> Streamable[Q, T]: ...
    def __get__(self, obj: Any, owner: type) -> Streamable[..., T]:
        if obj is None:
            return self
        return Streamable(_bound(self.aio, obj), f"{owner.__name__.lower()}.{self.__name__}")


def streamable(fn: Callable[P, AsyncIterator[T]]) -> Streamable[P, T]:
    """Give the async generator function `fn` a form for plain `for`."""
    return Streamable(fn, fn.__name__)
