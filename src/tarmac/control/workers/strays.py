"""Strays: actions that a worker is still at and that are not its own any more.

The worker is told to cancel them, and is given nothing until it has. One that does not listen is ended, as soon as no
others run in its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flyte import wire
from flyte.wire import AttemptRef
from tarmac.control.live import Pool, Worker
from tarmac.control.workers.supply import Supply

PATIENCE = 1.0
"""Seconds a returning worker has to hand in what it holds of an action that is not its own any more."""


class Strays:
    """`on_room`: called with the pool of a worker that can be given work again."""

    def __init__(self, supply: Supply, on_room: Callable[[Pool], None]) -> None:
        self._supply = supply
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()

    def cut_off(self, worker: Worker, stray: AttemptRef, reason: str, patience: float) -> None:
        """Have the worker cancel what is not its own any more; until it has, it is given nothing."""
        worker.strays.add(stray)
        worker.takes_nothing()
        worker.send(wire.AbortAction(**stray._asdict(), reason=reason))
        self._loop.call_later(patience, self._end, worker, stray)

    def over(self, worker: Worker, stray: AttemptRef) -> None:
        """The worker is done with it."""
        worker.strays.discard(stray)
        if worker.pool.reuse and worker.takes_more():
            self._on_room(worker.pool)

    def _end(self, worker: Worker, stray: AttemptRef) -> None:
        """It is still at it, and does not listen: the process is ended as soon as no others run in it."""
        if stray not in worker.strays or worker.unit not in self._supply.workers:
            return
        if worker.actions:
            self._loop.call_later(PATIENCE, self._end, worker, stray)
        else:
            self._supply.stop(worker, 0, "it ran what is not its own any more")
