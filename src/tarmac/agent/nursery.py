"""The zygotes of one agent: one for each pool in use, started at the first demand, ended when nobody names it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from flyte import wire
from flyte.errors import BaseRuntimeError, CodeBundleError
from flyte.wire import ErrorInfo, PoolSpec
from tarmac.agent import bundle
from tarmac.agent.zygote import Command, PoolBroken, Zygote, environment
from tarmac.home import Home


class Nursery:
    """`report` gets PoolReady and PoolFailed for the control plane; `tasks` runs a task for each zygote."""

    def __init__(
        self, home: Home, command: Command, report: Callable[[wire.Frame], None], tasks: asyncio.TaskGroup
    ) -> None:
        self._home = home
        self._command = command
        self._report = report
        self._tasks = tasks
        self._zygotes: dict[str, asyncio.Future[Zygote]] = {}
        self._living: dict[str, Zygote] = {}
        self._keep: set[str] | None = None
        """The pools that may live without units; None as long as the control plane has not said."""

    def zygote(self, pool: PoolSpec) -> asyncio.Future[Zygote]:
        """The loaded zygote for `pool`, or PoolBroken. What failed is tried anew by the next call."""
        if self._keep is not None:
            self._keep.add(pool.id)
        future = self._zygotes.get(pool.id)
        if future is None:
            future = self._zygotes[pool.id] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may be that nobody waits
            self._tasks.create_task(self._raise(pool, future))
        return future

    async def _raise(self, pool: PoolSpec, future: asyncio.Future[Zygote]) -> None:
        """A zygote's life, from its code's arrival to its end."""
        zygote = None
        try:
            zygote = await self._start(pool)
            self._report(await zygote.loaded)
            future.set_result(zygote)
        except PoolBroken as broken:
            self._forget(pool.id, future)
            self._report(broken.failure)
            future.set_exception(broken)
        if zygote is not None:
            await zygote.reap()
            self._forget(pool.id, future)

    async def _start(self, pool: PoolSpec) -> Zygote:
        try:
            if pool.bundle is not None:
                blob, folder = self._home.blobs / pool.bundle, self._home.code / pool.bundle
                await asyncio.to_thread(bundle.unpack, blob, pool.bundle, folder)
            env = environment(pool, str(self._home.path))
            zygote = await Zygote.start(pool, env, self.log(pool), self._command)
        except BaseRuntimeError as error:
            raise _broken(pool, error) from error
        except OSError as error:
            raise _broken(pool, CodeBundleError(f"{pool.python} cannot be started: {error}")) from error
        zygote.on_failed = self._report
        self._living[pool.id] = zygote
        return zygote

    def _forget(self, pool: str, future: asyncio.Future[Zygote]) -> None:
        if self._zygotes.get(pool) is future:
            del self._zygotes[pool]
            self._living.pop(pool, None)

    def keep(self, pools: Collection[str]) -> None:
        self._keep = set(pools)

    def end_idle(self, in_use: Callable[[], Collection[str]]) -> None:
        """End the loaded zygotes of pools that are neither kept nor in use."""
        if self._keep is None or self._keep.issuperset(self._living):
            return
        for pool in set(self._living) - self._keep - set(in_use()):
            if self._zygotes[pool].done():
                del self._zygotes[pool]
                self._living.pop(pool).end()

    def end_all(self) -> None:
        for zygote in self._living.values():
            zygote.end()

    def log(self, pool: PoolSpec) -> Path:
        """What the pool's modules write while they are imported, and workers before they have an action."""
        return self._home.logs / "pools" / f"{pool.id}.log"


def _broken(pool: PoolSpec, error: BaseRuntimeError) -> PoolBroken:
    info = ErrorInfo(
        code=error.code, message=error.message, kind=error.kind, type=f"flyte.errors:{type(error).__name__}"
    )
    return PoolBroken(wire.PoolFailed(pool=pool.id, error=info))
