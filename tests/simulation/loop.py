"""An event loop whose time is virtual and whose order follows from a seed: no sockets, no threads, no clock.

Every callback belongs to a *node*, by its context. A node that has died runs nothing any more, so a crash falls between
any two callbacks: at any point where a coroutine awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("node", default=None)


class Stuck(Exception):
    """Raised when nothing is ready and nothing is scheduled while somebody waits."""


class Node:
    """What dies as a whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.context = contextvars.Context()
        self.context.run(NODE.set, self)


class SimLoop(asyncio.base_events.BaseEventLoop):
    def __init__(self, seed: str) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        """Callbacks that were run so far."""
        self.on_step: Callable[[], None] | None = None
        """Called before each callback of a node."""
        self.outside = contextvars.Context()
        """The context of what belongs to no node."""
        self._chance = random.Random(f"loop {seed}")
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._kept: list[asyncio.Task[Any]] = []
        """Tasks of nodes: those of the dead are not to be finalized at a moment that the garbage collector chooses."""

    def time(self) -> float:
        return self.now

    def _check_closed(self) -> None:
        """What is left when a life is over may still ask for a turn; it gets none."""

    def _write_to_self(self) -> None: ...

    def call_at(self, when: float, callback: Any, *arguments: Any, context: Any = None) -> Any:  # type: ignore[override]
        """Timers of one moment run in the order in which they were set."""
        timer = asyncio.TimerHandle(when, callback, arguments, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _run_once(self) -> None:
        """Run everything that is ready; where nothing is, let time pass until something is due.

        In place of BaseEventLoop's: there is no selector to ask, and a callback of a dead node is left out.
        """
        ready: deque[asyncio.Handle] = getattr(self, "_ready")  # noqa: B009 - asyncio's own, of which mypy knows nothing
        timers = self._timers
        while timers and (timers[0][2].cancelled() or timers[0][0] <= self.now or not ready):
            when, _, timer = heapq.heappop(timers)
            if not timer.cancelled():
                self.now = max(self.now, when)
                ready.append(timer)
        if not ready:
            raise Stuck(f"nothing more happens after {self.now}")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                self._step(handle)

    def _step(self, handle: Any) -> None:
        node = handle._context.get(NODE)
        if node is not None:
            if node.dead:
                return
            if self.on_step is not None:
                self.on_step()
                if node.dead:
                    return
        self.steps += 1
        handle._run()

    def call_in(self, node: Node | None, delay: float, callback: Any, *arguments: Any) -> Any:
        """Have a node do something, whoever asks for it; None: what belongs to no node."""
        return self.call_later(delay, callback, *arguments, context=node.context if node else self.outside)

    def run_in_executor(self, executor: Any, function: Any, *arguments: Any) -> Any:  # type: ignore[override]
        """A thread's work is done at one moment, a little later."""
        future = self.create_future()

        def work() -> None:
            try:
                value = function(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it raises is for who awaits it
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(value)

        self.call_later(self._chance.uniform(0.0001, 0.002), work)
        return future

    def create_task(self, coroutine: Any, *, name: Any = None, context: Any = None) -> Any:
        task = super().create_task(coroutine, name=name, context=context)
        if (context.get(NODE) if context is not None else NODE.get()) is not None:
            self._kept.append(task)
        return task

    def end(self) -> None:
        """Let go of everything that still waits."""
        for task in [*asyncio.all_tasks(self), *self._kept]:
            if not task.done():
                setattr(task, "_log_destroy_pending", False)  # noqa: B010 - it is nobody's business but asyncio's
                coroutine = task.get_coro()
                if isinstance(coroutine, Coroutine):
                    with contextlib.suppress(BaseException):
                        coroutine.close()
        self._kept.clear()
        self.close()
