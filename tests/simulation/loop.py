"""An event loop whose time is virtual and whose order follows from a seed: no sockets, no threads, no clock.

Every callback belongs to a *node*, by its context. A node that has died runs nothing any more, so a crash falls between
any two callbacks: at any point where a coroutine awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
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


class _Selector:
    """Has nothing to select from: it lets time pass."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck(f"nothing more happens after {self._loop.now}")
        if timeout > 0:
            self._loop.now += timeout
        return []

    def close(self) -> None: ...


class SimLoop(asyncio.base_events.BaseEventLoop):
    def __init__(self, seed: str) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        """Callbacks of nodes that were run so far."""
        self.on_step: Callable[[], None] | None = None
        """Called before each of them."""
        self.outside = contextvars.Context()
        """The context of what belongs to no node."""
        self._chance = random.Random(f"loop {seed}")
        self._selector = _Selector(self)
        self._clock_resolution = 1e-9
        self._kept: list[asyncio.Task[Any]] = []
        """Tasks of nodes: those of the dead are not to be finalized at a moment that the garbage collector chooses."""

    def time(self) -> float:
        return self.now

    def _process_events(self, events: Any) -> None: ...

    def _check_closed(self) -> None:
        """What is left when a life is over may still ask for a turn; it gets none."""

    def _write_to_self(self) -> None: ...

    def _guarded(self, callback: Callable[..., Any], context: contextvars.Context | None) -> Callable[..., Any]:
        node = NODE.get() if context is None else context.get(NODE)
        if node is None:
            return callback

        def run(*arguments: Any) -> None:
            if node.dead:
                return
            self.steps += 1
            if self.on_step is not None:
                self.on_step()
            if not node.dead:
                callback(*arguments)

        return run

    def _call_soon(self, callback: Any, arguments: Any, context: Any) -> Any:
        make: Any = super()
        return make._call_soon(self._guarded(callback, context), arguments, context)

    def call_at(self, when: float, callback: Any, *arguments: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_at(when, self._guarded(callback, context), *arguments, context=context)

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
