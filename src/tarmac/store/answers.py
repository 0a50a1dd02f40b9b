"""Answers from the store's threads to the loop that asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    """Have `callback` called on the loop; on one that is closed nobody is left to hear it."""
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
