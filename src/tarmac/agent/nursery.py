"""The zygotes of one agent: one for each pool in use, started at the first demand, ended when nobody names it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from flyte import wire
from flyte.errors import CodeBundleError
from flyte.wire import ErrorInfo, PoolSpec
from tarmac.agent import bundle
from tarmac.agent.base import Base
from tarmac.agent.images import BuildFailed
from tarmac.agent.isolation import Ground
from tarmac.agent.preloads import Preloads
from tarmac.agent.shortage import is_shortage, patiently
from tarmac.agent.unit import Unit
from tarmac.agent.zygote import PoolBroken, Zygote, environment, system_failure
from tarmac.home import Home

log = logging.getLogger("tarmac.agent")


class Nursery:
    """`report` gets PoolReady and PoolFailed for the control plane; `tasks` runs a task for each zygote.

    `common` is what the environments of all pools begin with. `units`: a live view of those that there are.
    `ensure` has an environment whole that a pool's Python is in, and raises BuildFailed.
    """

    def __init__(
        self,
        home: Home,
        worker: str,
        report: Callable[[wire.Frame], None],
        tasks: asyncio.TaskGroup,
        common: Mapping[str, str],
        ground: Ground,
        units: Mapping[str, Unit],
        ensure: Callable[[str], Awaitable[None]],
    ) -> None:
        self._ground = ground
        self._ensure = ensure
        self._units = units
        self._home = home
        self._worker = worker
        self._preloads = Preloads(home, worker, tasks, common)
        self._report = report
        self._tasks = tasks
        self._zygotes: dict[str, asyncio.Future[Zygote]] = {}
        self._living: dict[str, Zygote] = {}
        self._outdated: set[Zygote] = set()
        """Those that fork no more, since what they have imported has changed; they live as long as their units."""
        self._raising: set[asyncio.Task[None]] = set()
        self._keep: set[str] | None = None
        """The pools that may live without units; None as long as the control plane has not said."""

    def zygote(self, pool: PoolSpec, for_app: bool = False) -> asyncio.Future[Zygote]:
        """The loaded zygote for `pool`, or PoolBroken. What failed is tried anew by the next call."""
        if self._keep is not None:
            self._keep.add(pool.id)
        future = self._zygotes.get(pool.id)
        if future is None:
            future = self._zygotes[pool.id] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may be that nobody waits
            raising = self._tasks.create_task(self._raise(pool, for_app, future))
            self._raising.add(raising)
            raising.add_done_callback(self._raising.discard)
        return future

    async def _raise(self, pool: PoolSpec, for_app: bool, future: asyncio.Future[Zygote]) -> None:
        """A zygote's life, from its code's arrival to its end."""
        try:
            _check_environment(pool)
            await self._unpack(pool)
            await self._have_environment(pool)
            zygote = await self._loaded(pool, for_app)
        except PoolBroken as broken:
            self._give_up(pool, future, broken)
            return
        except Exception as error:  # whatever it is: the other pools, and all units, go on
            log.exception("the pool %s (%s) cannot be started", pool.id, pool.name)
            self._give_up(pool, future, PoolBroken(_fault(pool, error)))
            return
        self._report(zygote.loaded.result())
        future.set_result(zygote)
        self._preloads.expect_more(pool, for_app)
        await zygote.gone.wait()
        self._forget(pool.id, future)

    def _give_up(self, pool: PoolSpec, future: asyncio.Future[Zygote], broken: PoolBroken) -> None:
        self._forget(pool.id, future)
        self._report(broken.failure)
        future.set_exception(broken)

    async def _unpack(self, pool: PoolSpec) -> None:
        if pool.bundle is None:
            return
        digest = pool.bundle
        blob, folder = self._home.blobs / digest, self._home.code / digest
        try:
            await patiently("unpacking", lambda: asyncio.to_thread(bundle.unpack, blob, digest, folder))
            await self._ground.protect(folder)
        except (CodeBundleError, OSError, RuntimeError) as error:
            raise _broken(pool, str(error), error) from error

    async def _have_environment(self, pool: PoolSpec) -> None:
        if not pool.image:
            return
        try:
            await self._ensure(pool.image)
        except BuildFailed as failed:
            raise PoolBroken(wire.PoolFailed(pool=pool.id, error=failed.error)) from failed

    async def _loaded(self, pool: PoolSpec, for_app: bool) -> Zygote:
        """A zygote that has imported the pool's code: forked from a base, or else an interpreter of its own.

        One that is lost before it was done tells nothing about the code, so there is a second one.
        """
        try:
            return await self._import(pool, self._preloads.suiting(pool, for_app))
        except PoolBroken as broken:
            if not broken.lost:
                raise
            log.warning("%s: %s; it is tried once more, in an interpreter of its own", pool.name, broken)
        return await self._import(pool, None)

    async def _import(self, pool: PoolSpec, base: Base | None) -> Zygote:
        try:
            zygote = await patiently(pool.name, lambda: self._start(pool, base))
        except OSError as error:
            if base is not None:
                message = f"its process cannot be forked from the preload process: {error}"
                raise PoolBroken(system_failure(pool, message), lost=True) from error
            raise _broken(pool, f"{pool.python} cannot be started: {error}", error) from error
        await zygote.loaded
        return zygote

    async def _start(self, pool: PoolSpec, base: Base | None) -> Zygote:
        env = environment(str(self._home.path), pool.env, python=pool.python if pool.image else None)
        isolation = await self._ground.isolation(pool)
        zygote = await Zygote.start(pool, self.log(pool), env, self._worker, base, isolation)
        zygote.on_failed = self._report
        zygote.on_checked = functools.partial(self._checked, zygote)
        self._living[pool.id] = zygote
        self._tasks.create_task(self._reap(zygote))
        return zygote

    async def _reap(self, zygote: Zygote) -> None:
        try:
            await zygote.reap()
        except Exception:  # a zombie is left, and no more than that
            log.exception("the end of the fork server %d cannot be observed", zygote.pid)
        if zygote.isolation is not None:
            self._ground.left(Path(zygote.isolation.own).name)

    def _forget(self, pool: str, future: asyncio.Future[Zygote]) -> None:
        if self._zygotes.get(pool) is future:
            del self._zygotes[pool]
            self._living.pop(pool, None)

    def prepare(self) -> None:
        """Make the first starts of pools fast."""
        self._preloads.prepare()

    def expect_apps(self) -> None:
        """Make the first starts of apps fast, too."""
        self._preloads.expect_apps()

    def keep(self, pools: Collection[str]) -> None:
        self._keep = set(pools)

    def end_idle(self) -> None:
        """End the loaded zygotes of pools that are neither kept nor in use, and outdated ones without units."""
        self._end_outdated()
        self._end_kept_by_nobody()
        in_use = (*self._living.values(), *self._outdated)
        of_units = {unit.order.pool.image for unit in self._units.values()}
        self._preloads.end_unused({zygote.pool.image for zygote in in_use} | of_units)

    def _end_kept_by_nobody(self) -> None:
        if self._keep is None or self._keep.issuperset(self._living):
            return
        for pool in set(self._living) - self._keep - {unit.order.pool.id for unit in self._units.values()}:
            if self._zygotes[pool].done():
                del self._zygotes[pool]
                self._living.pop(pool).end()

    def _end_outdated(self) -> None:
        if self._outdated:
            for zygote in self._outdated.difference({unit.zygote for unit in self._units.values() if unit.zygote}):
                self._outdated.discard(zygote)
                zygote.end()

    def check(self, order: wire.CheckPool) -> None:
        """Report whether what the pool's zygote has imported is still what is on disk; without one, nothing is old."""
        zygote = self._living.get(order.pool)
        if zygote is None or zygote.gone.is_set():
            self._tell(wire.PoolChecked(pool=order.pool))
        else:
            zygote.check(order)

    def _checked(self, zygote: Zygote, frame: wire.PoolChecked) -> None:
        """A zygote has answered: one that is outdated forks no more, and the pool's next unit gets another."""
        future = self._zygotes.get(frame.pool)
        if frame.outdated and self._living.get(frame.pool) is zygote and future is not None and future.done():
            log.info("%s is imported anew: %s", zygote.pool.name, frame.outdated)
            self._outdated.add(zygote)
            del self._zygotes[frame.pool], self._living[frame.pool]
        self._tell(frame)
        self.end_idle()

    def _tell(self, frame: wire.PoolChecked) -> None:
        of_pool = (unit for unit in self._units.values() if unit.order.pool.id == frame.pool)
        units = [unit.name for unit in of_pool if unit.zygote in self._outdated]
        self._report(wire.PoolChecked(pool=frame.pool, outdated=frame.outdated, units=units))

    def end_all(self) -> None:
        self._preloads.stop_keeping()
        for task in self._raising:
            task.cancel()
        for zygote in (*self._living.values(), *self._outdated):
            zygote.end()
        self._preloads.end_all()

    def loaded(self) -> dict[int, Zygote]:
        """The zygotes that have done their import, by pid."""
        there = (*self._living.values(), *self._outdated)
        return {zygote.pid: zygote for zygote in there if zygote.loaded.done() and not zygote.gone.is_set()}

    def importing(self) -> dict[int, Zygote]:
        """The zygotes that have yet to do their import, by pid."""
        return {zygote.pid: zygote for zygote in self._living.values() if zygote.pid and not zygote.loaded.done()}

    def log(self, pool: PoolSpec) -> Path:
        """What the pool's modules write while they are imported, and workers before they have an action."""
        return self._home.logs / "pools" / f"{pool.id}.log"


def _check_environment(pool: PoolSpec) -> None:
    """Raise PoolBroken for variables that no process can be given."""
    for name, value in pool.env.items():
        if not name or "=" in name or "\0" in name:
            why = f"{name!r} is not a valid name of an environment variable"
        elif "\0" in value:
            why = f"the value of the environment variable {name} contains a NUL character"
        else:
            continue
        message = f"{why}; change the env_vars of {pool.name.partition('@')[0]!r} and deploy again"
        error = ErrorInfo(code="InvalidEnvironmentError", message=message, retryable=False)
        raise PoolBroken(wire.PoolFailed(pool=pool.id, error=error))


def _fault(pool: PoolSpec, error: Exception) -> wire.PoolFailed:
    """An error that nobody has foreseen, told as the platform's."""
    return system_failure(pool, f"the agent could not start it: {type(error).__name__}: {error}")


def _broken(pool: PoolSpec, message: str, error: Exception) -> PoolBroken:
    if is_shortage(error):
        return PoolBroken(system_failure(pool, message))
    info = ErrorInfo(code="CodeBundleError", message=message, type="flyte.errors:CodeBundleError")
    return PoolBroken(wire.PoolFailed(pool=pool.id, error=info))
