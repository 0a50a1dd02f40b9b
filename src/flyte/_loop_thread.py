"""An event loop on a thread of its own, for code that is not asynchronous."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class LoopThread:
    """An event loop on a daemon thread of its own, started by the first call and forgotten by a forked child."""

    def __init__(self, name: str, prepare: Callable[[asyncio.AbstractEventLoop], None] | None = None) -> None:
        self._name = name
        self._prepare = prepare
        self._watches_forks = False
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None

    def submit(self, coro: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
        """Run `coro` there, in a copy of the caller's context. To cancel the future cancels it.

        Raises RuntimeError while the interpreter ends: no daemon thread runs any more, and the wait would have no end.
        """
        if sys.is_finalizing():
            coro.close()
            name = getattr(coro, "__qualname__", "a blocking form")
            raise RuntimeError(f"{name} was called while the interpreter ends; call it before")
        context, loop = contextvars.copy_context(), self._running()
        outcome: concurrent.futures.Future[R] = concurrent.futures.Future()

        def begin() -> None:
            if outcome.cancelled():
                coro.close()
                return
            task = loop.create_task(coro, context=context)
            task.add_done_callback(lambda task: _hand_over(task, outcome))
            outcome.add_done_callback(lambda done: _cancel(task, done))

        loop.call_soon_threadsafe(begin)
        return outcome

    def call(self, coro: Coroutine[Any, Any, R]) -> R:
        """Run `coro` there, and wait for it."""
        future = self.submit(coro)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C in the caller cancels the work instead of abandoning it
            raise

    async def aio(self, coro: Coroutine[Any, Any, R]) -> R:
        """Run `coro` there, and await it from any loop."""
        if asyncio.get_running_loop() is self._loop:
            return await coro
        return await asyncio.wrap_future(self.submit(coro))

    def is_current(self) -> bool:
        """Whether this code runs on that thread."""
        return threading.current_thread() is self.thread

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = self._started()
            return self._loop

    def _started(self) -> asyncio.AbstractEventLoop:
        if not self._watches_forks:
            os.register_at_fork(after_in_child=self._forget)
            self._watches_forks = True
        loop = asyncio.new_event_loop()
        if self._prepare is not None:
            self._prepare(loop)
        self.thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
        self.thread.start()
        return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """The thread's life. A task that calls `sys.exit` ends, and who waits for it is told; but asyncio lets the
    SystemExit out of the loop as well, which all the other tasks still need.
    """
    while True:
        try:
            return loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            continue


def _hand_over(task: asyncio.Task[R], outcome: concurrent.futures.Future[R]) -> None:
    """What came of the task, for the thread that waits for it."""
    if not outcome.set_running_or_notify_cancel():
        return
    if task.cancelled():
        outcome.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


def _cancel(task: asyncio.Task[R], outcome: concurrent.futures.Future[R]) -> None:
    if outcome.cancelled():
        task.get_loop().call_soon_threadsafe(task.cancel)
