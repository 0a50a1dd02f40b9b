"""Answers from the store's threads to the event loop that asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    """Have `callback` called on the loop; on a closed loop it is dropped, since no caller is left."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        pass


def resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def reject(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
