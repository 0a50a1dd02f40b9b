"""Whether what the processes of a pool have imported is still what is on disk.

A process is a copy of one that has imported the code, perhaps for an earlier run. Before an action is given to it, and
before a replica is started, the agent is asked whether a file that the import read has changed since. Where one has,
the pool's next process imports anew, and those that have the old code are told to end by their owners. Nothing is
asked while nothing is started, and an agent that does not answer holds nobody up for long: an action is given out after
PATIENCE seconds. A replica waits for REPLICA_PATIENCE, since the process that is slow to answer is the one that has to
start it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flyte import wire
from tarmac.control.agents import Agent

PATIENCE = 1.5
"""Seconds in which the agent answers; it takes milliseconds, unless the pool is importing its code just now."""

REPLICA_PATIENCE = 15.0
"""The same for replicas."""

Then = Callable[[wire.PoolChecked], None]


class Freshness:
    """`age`: seconds after which an import counts as outdated; 0: never. `on_units`: called with outdated units."""

    def __init__(self, agent: Agent, age: float) -> None:
        self._agent = agent
        self._age = age
        self._waiting: dict[str, list[Then]] = {}
        self._loop = asyncio.get_running_loop()
        self.on_units: Callable[[list[str]], None] = lambda units: None
        agent.on_pool_checked, agent.on_lost = self._heard, self._lost

    def look(self, pool: str, then: Then, *, ageless: bool = False, patience: float = PATIENCE) -> None:
        """Call `then` with the answer, or with one that knows of nothing where none comes within `patience` seconds.

        `ageless`: however long ago the import was.
        """
        if not self._agent.check_pool(pool, 0 if ageless else self._age):
            then(wire.PoolChecked(pool=pool))
            return
        self._waiting.setdefault(pool, []).append(then)
        self._loop.call_later(patience, self._expire, pool, then)

    async def found(self, pool: str, *, ageless: bool = False) -> wire.PoolChecked:
        """The answer for a replica, or one that knows of nothing where none comes within REPLICA_PATIENCE seconds."""
        answer: asyncio.Future[wire.PoolChecked] = self._loop.create_future()

        def take(frame: wire.PoolChecked) -> None:
            if not answer.done():
                answer.set_result(frame)

        self.look(pool, take, ageless=ageless, patience=REPLICA_PATIENCE)
        return await answer

    def _heard(self, frame: wire.PoolChecked) -> None:
        """An answer; one that comes too late still says which units are outdated."""
        if frame.units:
            self.on_units(frame.units)
        waiting = self._waiting.get(frame.pool)
        if waiting:
            self._take(frame.pool, waiting[0])(frame)

    def _lost(self) -> None:
        """The agent is gone, and with it all that it had imported."""
        waiting, self._waiting = self._waiting, {}
        for pool, all_of_pool in waiting.items():
            for then in all_of_pool:
                then(wire.PoolChecked(pool=pool))

    def _expire(self, pool: str, then: Then) -> None:
        if then in self._waiting.get(pool, ()):
            self._take(pool, then)(wire.PoolChecked(pool=pool))

    def _take(self, pool: str, then: Then) -> Then:
        waiting = self._waiting[pool]
        waiting.remove(then)
        if not waiting:
            del self._waiting[pool]
        return then
