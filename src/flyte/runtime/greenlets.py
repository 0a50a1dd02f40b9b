"""Blocking SDK calls inside `async def` code that do not hold up the event loop.

A handler that says `run.wait()` where it should say `await run.wait.aio()` would stop every other request of its
process. So each task of the loop runs in a greenlet: a stack that can be left in the middle of an ordinary function.
A blocking call drives its awaitable right there, and hands every future that the awaitable waits for to the loop, just
as `await` does; until it is done, the loop runs other tasks. To asyncio the task looks as if it awaited.

What follows from driving the awaitable *inside* the task's own greenlet: cancellation and timeouts arrive as
exceptions in the blocking call, context variables are those of the caller (even within `Context.run`), and
`current_task()` is the handler's.

One greenlet serves a task for its whole life, not a step of it, because libraries keep the greenlet that they were
called in (SQLAlchemy's asyncio switches back to it in a later step). When the task ends, the next task takes it over.

A blocking call cannot wait where the current task is not driven: in a loop callback, in a task made before `install`
or past the loop's task factory, inside a greenlet of somebody else's. Then CannotBlock is raised, and the caller falls
back. And as with any await, other tasks run meanwhile: who holds a `threading.Lock` across a blocking call stalls them.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped, unused-ignore]

from flyte import _sync
from flyte._sync import CannotBlock

R = TypeVar("R")

_MOST_SPARE = 64
"""Greenlets without a task that a thread keeps for the next ones."""


class _Spare(threading.local):
    def __init__(self) -> None:
        self.greenlets: list[_Runner] = []


_spare = _Spare()


class _Ended:
    """How a coroutine ended. Reading it empties it, since a waiting greenlet keeps it on its stack."""

    __slots__ = ("error", "result")

    def __init__(self, result: Any, error: BaseException | None) -> None:
        self.result = result
        self.error = error

    def take(self) -> tuple[Any, BaseException | None]:
        taken = self.result, self.error
        self.result = self.error = None
        return taken


class _Runner(greenlet):  # type: ignore[misc, unused-ignore]
    """A greenlet that runs one task after another."""


def _take() -> _Runner:
    return _spare.greenlets.pop() if _spare.greenlets else _Runner(_run_tasks)


def _run_tasks(coro: Coroutine[Any, Any, Any]) -> _Ended:
    """A runner's body. Gets a coroutine, and gives each future that it waits for to its parent, then how it ended.

    It must not hold on to the runner itself: the garbage collector cannot look into a greenlet's stack.
    """
    while True:
        ended = _run(coro)
        del coro
        if len(_spare.greenlets) >= _MOST_SPARE:
            return ended
        _spare.greenlets.append(getcurrent())
        coro = _leave(ended)


def _leave(item: Any) -> Any:
    """Pass `item` to the greenlet that runs this one, and wait for the answer."""
    parent = getcurrent().parent
    assert parent is not None
    return parent.switch(item)


def _run(coro: Coroutine[Any, Any, Any]) -> _Ended:
    """Run the coroutine to its end."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waits_for = coro.send(value) if error is None else coro.throw(error)
        except StopIteration as stop:
            return _Ended(stop.value, None)
        except BaseException as failure:  # noqa: BLE001 - raised again, in the task's step
            return _Ended(None, failure)
        value, error = _wait(waits_for)


def _wait(waits_for: Any) -> tuple[Any, BaseException | None]:
    """Let the loop wait for a future: (what comes back, None) or (None, what is thrown in)."""
    try:
        return _leave(waits_for), None
    except BaseException as thrown:  # noqa: BLE001 - goes on into the coroutine
        return None, thrown.with_traceback(_without_ours(thrown.__traceback__))


class Driven(collections.abc.Coroutine[Any, Any, R]):
    """A coroutine whose steps run in a greenlet. To asyncio, and in tracebacks and task lists, it is the coroutine."""

    __slots__ = ("__weakref__", "_context", "_coro", "_runner", "_thread")

    def __init__(self, coro: Coroutine[Any, Any, R], context: contextvars.Context) -> None:
        self._coro = coro
        self._context = context
        self._runner: _Runner | None = None
        self._thread = 0

    def send(self, value: Any, /) -> Any:
        runner = self._runner
        if runner is None:
            runner = self._started()
            value = self._coro
        runner.parent = getcurrent()  # the loop, or the task that starts this one eagerly
        return self._outcome(runner, runner.switch(value))

    def throw(self, *error: Any) -> Any:
        runner = self._runner
        if runner is None:
            return self._coro.throw(*error)
        runner.parent = getcurrent()
        if len(error) == 1 and isinstance(error[0], BaseException):  # alone it would lose its traceback on the way
            error = (type(error[0]), error[0], _without_ours(error[0].__traceback__))
        return self._outcome(runner, runner.throw(*error))

    def _started(self) -> _Runner:
        self._thread = threading.get_ident()
        self._runner = runner = _take()
        runner.gr_context = self._context
        return runner

    def _outcome(self, runner: _Runner, item: Any) -> Any:
        if type(item) is not _Ended:
            return item  # a future, or the None of a bare yield
        self._runner = None
        if not runner.dead:
            runner.gr_context = None
        result, error = item.take()
        if error is None:
            raise StopIteration(result)
        try:
            raise error.with_traceback(_without_ours(error.__traceback__))
        finally:
            del error

    def close(self) -> None:
        if self._runner is None:
            self._coro.close()
            return
        if self._thread != threading.get_ident():
            return  # a greenlet cannot be entered from another thread; its own drops it
        try:
            self.throw(GeneratorExit)
        except (GeneratorExit, StopIteration):
            return
        raise RuntimeError("coroutine ignored GeneratorExit")

    def __del__(self) -> None:
        if self._runner is not None:
            self.close()

    def __await__(self) -> Generator[Any, Any, R]:
        return self._coro.__await__()

    def __repr__(self) -> str:
        return repr(self._coro)

    def __getattr__(self, name: str) -> Any:
        """`cr_frame`, `cr_running`, `__qualname__`, …: what asyncio, debuggers and libraries look at."""
        if name.startswith("_") and not name.endswith("__"):
            raise AttributeError(name)
        return getattr(self._coro, name)


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the coroutine on."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback


def blocking(awaitable: Awaitable[R]) -> R:
    """Wait for `awaitable` as the current task, from a function that is not `async`.

    Raises CannotBlock, with nothing awaited, where the current task is not driven or another greenlet runs.
    """
    task = asyncio.current_task()
    driven = task.get_coro() if task is not None else None
    if not isinstance(driven, Driven) or driven._runner is not getcurrent():
        raise CannotBlock
    del task, driven
    steps = awaitable.__await__()
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waits_for = _step(steps, value, error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        value, error = _wait(waits_for)


def _step(steps: Any, value: Any, error: BaseException | None) -> Any:
    """One step of what `__await__` gave: a generator, or any iterator."""
    if error is not None:
        throw = getattr(steps, "throw", None)
        if throw is None:
            raise error
        return throw(error)
    return next(steps) if value is None else steps.send(value)


TaskFactory = Callable[..., Any]


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Let blocking SDK calls wait inside the tasks that `loop` makes from now on. A factory it has is kept."""
    inner: TaskFactory | None = loop.get_task_factory()
    if getattr(inner, "drives_greenlets", False):
        return

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        context = options.pop("context", None) or contextvars.copy_context()
        driven = Driven(coro, context)
        if inner is None:
            return asyncio.Task(driven, loop=loop, context=context, **options)
        return inner(loop, driven, context=context, **options)

    factory.drives_greenlets = True  # type: ignore[attr-defined]
    loop.set_task_factory(factory)
    _sync.set_blocker(blocking)
