"""The preload processes of each interpreter: that of the platform, and those of environments that are in use.

The platform's own are there from the start. Those of an environment are started when a pool runs in it, for the next
one: a new version of the code then starts in milliseconds. They end when nothing runs in the environment any more.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from flyte.wire import PoolSpec
from tarmac.agent.fork_server import environment
from tarmac.agent.preload import Preload
from tarmac.home import Home

log = logging.getLogger("tarmac.agent")

MOST_ENVIRONMENTS = 3
"""Environments that have preload processes at the same time; each takes 17 to 42 MB."""


class Interpreter:
    """The preload processes of one Python."""

    def __init__(self, python: str, env: Mapping[str, str], log: Path, worker: str) -> None:
        self.tasks = Preload(env, log, worker, python)
        self.apps = Preload(env, log, worker, python)
        """With the apps' server stack: a worker that is forked from that would be twice as large, and as slow."""
        self.keepers: dict[Preload, asyncio.Task[None]] = {}

    def suiting(self, pool: PoolSpec, for_app: bool) -> Preload | None:
        preloads = (self.apps, self.tasks) if for_app else (self.tasks,)
        return next((preload for preload in preloads if preload.suits(pool)), None)


class Preloads:
    """`common` is what the variables of all pools begin with."""

    def __init__(self, home: Home, worker: str, tasks: asyncio.TaskGroup, common: Mapping[str, str]) -> None:
        self._home = home
        self._worker = worker
        self._tasks = tasks
        self._common = common
        log_file = home.logs / "pools" / "preload.log"
        self._own = Interpreter(sys.executable, environment(str(home.path), common), log_file, worker)
        self._made: dict[str, Interpreter] = {}
        """By the key of the environment."""

    def suiting(self, pool: PoolSpec, for_app: bool) -> Preload | None:
        """What a fork server for `pool` may be forked from; None where it has to be an interpreter of its own."""
        interpreter = self._made.get(pool.image) if pool.image else self._own
        return interpreter.suiting(pool, for_app) if interpreter is not None else None

    def prepare(self) -> None:
        """Make the first starts of pools fast."""
        self._keep(self._own, self._own.tasks)

    def expect_apps(self) -> None:
        """Make the first starts of apps fast, too."""
        self._own.apps.warm()
        self._keep(self._own, self._own.apps)

    def expect_more(self, pool: PoolSpec, for_app: bool) -> None:
        """A pool runs in an environment: make the next one's start fast, unless too many environments have that."""
        if not pool.image:
            return
        if pool.image not in self._made:
            if len(self._made) >= MOST_ENVIRONMENTS:
                return
            env = environment(str(self._home.path), self._common, python=pool.python)
            log_file = self._home.logs / "pools" / f"preload process-{pool.image}.log"
            self._made[pool.image] = Interpreter(pool.python, env, log_file, self._worker)
        interpreter = self._made[pool.image]
        if for_app:
            interpreter.apps.warm()
        self._keep(interpreter, interpreter.apps if for_app else interpreter.tasks)

    def end_unused(self, images: Collection[str]) -> None:
        """End those of environments that are not among `images`, which are in use."""
        for key in set(self._made).difference(images):
            self._tasks.create_task(self._end(self._made.pop(key)))

    async def _end(self, interpreter: Interpreter) -> None:
        for keeper in interpreter.keepers.values():
            keeper.cancel()
        await asyncio.gather(*interpreter.keepers.values(), return_exceptions=True)
        for preload in interpreter.keepers:
            await asyncio.to_thread(preload.end)

    def _keep(self, interpreter: Interpreter, preload: Preload) -> None:
        if preload not in interpreter.keepers:
            interpreter.keepers[preload] = self._tasks.create_task(self._keep_running(preload))

    async def _keep_running(self, preload: Preload) -> None:
        try:
            await preload.keep()
        except Exception:  # it only makes starts faster
            log.exception("new pools start slowly from now on: their preload process cannot be kept running")

    def stop_keeping(self) -> None:
        """What is lost from now on is not to be had once more."""
        for interpreter in (self._own, *self._made.values()):
            for keeper in interpreter.keepers.values():
                keeper.cancel()

    def end_all(self) -> None:
        for interpreter in (self._own, *self._made.values()):
            interpreter.tasks.end()
            interpreter.apps.end()
