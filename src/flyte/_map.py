"""Many calls of a task at once: `flyte.map`."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

from flyte._context import group
from flyte._declare.task import TaskTemplate
from flyte._sync import streamable, to_thread

MAX_IN_FLIGHT = 1000
"""Calls of one `map` that run at once when it sets no limit of its own."""


@streamable
async def map(
    func: Callable[..., Any],
    *iterables: Iterable[Any],
    group_name: str | None = None,
    concurrency: int = 0,
    return_exceptions: bool = True,
) -> AsyncIterator[Any]:
    """Call a task with each tuple of `zip(*iterables)`, many at once, and give the results in that order.

    `func` is a task, or a `functools.partial` of one that leaves one parameter open. `concurrency` 0 sets no limit
    (there are never more than a thousand in flight). With `return_exceptions` a failure is given in place of its
    result; without, the first one in order is raised and what is still running is cancelled.
    """
    call, name, arity = _target(func)
    if arity is not None and len(iterables) != arity:
        raise TypeError(f"{name}: the partial leaves {arity} parameter open, and {len(iterables)} iterables were given")
    label = f"{name}_{group_name or 'map'}"
    rows = zip(*iterables, strict=False)
    pending: deque[asyncio.Task[Any]] = deque()
    limit = asyncio.Semaphore(concurrency or MAX_IN_FLIGHT)
    try:
        for row in rows:
            pending.append(asyncio.create_task(_called(call, row, label, limit)))
        while pending:
            task = pending[0]
            await asyncio.wait([task])
            pending.popleft()
            yield _outcome(task, return_exceptions)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def _outcome(task: asyncio.Task[Any], return_exceptions: bool) -> Any:
    error = task.exception()
    if error is None:
        return task.result()
    if return_exceptions and isinstance(error, Exception):
        return error
    raise error


async def _called(call: Callable[..., Any], row: tuple[Any, ...], label: str, limit: asyncio.Semaphore) -> Any:
    async with limit:
        with group(label):
            return await call(*row)


def _target(func: Callable[..., Any]) -> tuple[Callable[..., Any], str, int | None]:
    """How to await one call, the task's name, and how many parameters are open (None where any number is right)."""
    if not isinstance(func, functools.partial):
        return _awaitable(func), _name(func), None
    task: Any = func.func
    signature = task.interface.signature if isinstance(task, TaskTemplate) else inspect.signature(task)
    bound = signature.bind_partial(*func.args, **func.keywords)
    free = [
        name
        for name, parameter in signature.parameters.items()
        if name not in bound.arguments and parameter.default is parameter.empty
    ]
    if len(free) != 1:
        raise TypeError(f"{_name(task)}: a partial for map must leave exactly one parameter open, not {free or 'none'}")
    inner = _awaitable(task)

    async def call(item: Any) -> Any:
        return await inner(*func.args, **{**func.keywords, free[0]: item})

    return call, _name(task), 1


def _awaitable(func: Any) -> Callable[..., Any]:
    if isinstance(func, TaskTemplate):
        return func.aio
    if inspect.iscoroutinefunction(func):
        return cast("Callable[..., Any]", func)
    return functools.partial(to_thread, func)


def _name(func: Any) -> str:
    return func.short_name if isinstance(func, TaskTemplate) else getattr(func, "__name__", "map")
