"""The fork servers of one agent: one for each pool in use, started at the first demand, ended when nobody names it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from flyte import wire
from flyte.errors import CodeBundleError, InvalidInputError, NotFoundError, StorageError, SystemUnavailableError
from flyte.wire import ErrorInfo, PoolSpec
from tarmac.agent import bundle
from tarmac.agent.fork_server import ForkServer, PoolBroken, environment, system_failure
from tarmac.agent.images import BuildFailed
from tarmac.agent.isolation import Ground
from tarmac.agent.preload import Preload
from tarmac.agent.preloads import Preloads
from tarmac.agent.shortage import is_shortage, patiently
from tarmac.agent.unit import Unit
from tarmac.blobs import Blobs
from tarmac.home import Home

log = logging.getLogger("tarmac.agent")


class Pools:
    """`report` gets PoolReady and PoolFailed for the control plane; `tasks` runs a task for each fork server.

    `common` is what the environments of all pools begin with. `units`: a live view of those that there are.
    `ensure` has an environment whole that a pool's Python is in, and raises BuildFailed. `blobs` has the code bundles.
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
        blobs: Blobs,
    ) -> None:
        self._blobs = blobs
        self._ground = ground
        self._ensure = ensure
        self._units = units
        self._home = home
        self._worker = worker
        self._preloads = Preloads(home, worker, tasks, common)
        self._report = report
        self._tasks = tasks
        self._fork_servers: dict[str, asyncio.Future[ForkServer]] = {}
        self._living: dict[str, ForkServer] = {}
        self._outdated: set[ForkServer] = set()
        """Those that fork no more, since what they have imported has changed; they live as long as their units."""
        self._raising: set[asyncio.Task[None]] = set()
        self._keep: set[str] | None = None
        """The pools that may live without units; None as long as the control plane has not said."""

    def fork_server(self, pool: PoolSpec, for_app: bool = False) -> asyncio.Future[ForkServer]:
        """The loaded fork server for `pool`, or PoolBroken. What failed is tried anew by the next call."""
        if self._keep is not None:
            self._keep.add(pool.id)
        future = self._fork_servers.get(pool.id)
        if future is None:
            future = self._fork_servers[pool.id] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may be that nobody waits
            raising = self._tasks.create_task(self._raise(pool, for_app, future))
            self._raising.add(raising)
            raising.add_done_callback(self._raising.discard)
        return future

    async def _raise(self, pool: PoolSpec, for_app: bool, future: asyncio.Future[ForkServer]) -> None:
        """A fork server's life, from its code's arrival to its end."""
        try:
            _check_environment(pool)
            await self._unpack(pool)
            await self._have_environment(pool)
            fork_server = await self._loaded(pool, for_app)
        except PoolBroken as broken:
            self._give_up(pool, future, broken)
            return
        except Exception as error:  # whatever it is: the other pools, and all units, go on
            log.exception("the pool %s (%s) cannot be started", pool.id, pool.name)
            self._give_up(pool, future, PoolBroken(_fault(pool, error)))
            return
        self._report(fork_server.loaded.result())
        future.set_result(fork_server)
        self._preloads.expect_more(pool, for_app)
        await fork_server.gone.wait()
        self._forget(pool.id, future)

    def _give_up(self, pool: PoolSpec, future: asyncio.Future[ForkServer], broken: PoolBroken) -> None:
        self._forget(pool.id, future)
        self._report(broken.failure)
        future.set_exception(broken)

    async def _unpack(self, pool: PoolSpec) -> None:
        if pool.bundle is None:
            return
        digest = pool.bundle
        folder = self._home.code / digest
        try:
            blob = await self._blob(digest)
            await patiently("unpacking", lambda: asyncio.to_thread(bundle.unpack, blob, digest, folder))
            await self._ground.protect(folder)
        except (CodeBundleError, OSError, RuntimeError) as error:
            raise _broken(pool, str(error), error) from error

    async def _blob(self, digest: str) -> Path:
        """The bundle's archive on this machine."""
        try:
            return await self._blobs.local(digest)
        except (NotFoundError, InvalidInputError):
            raise CodeBundleError(f"the code bundle {digest} is not on this machine; deploy again to send it") from None
        except (StorageError, SystemUnavailableError) as error:
            raise CodeBundleError(f"the code bundle {digest} cannot be fetched: {error}") from error

    async def _have_environment(self, pool: PoolSpec) -> None:
        if not pool.image:
            return
        try:
            await self._ensure(pool.image)
        except BuildFailed as failed:
            raise PoolBroken(wire.PoolFailed(pool=pool.id, error=failed.error)) from failed

    async def _loaded(self, pool: PoolSpec, for_app: bool) -> ForkServer:
        """A fork server that has imported the pool's code: forked from a preload process, or else an interpreter of its
        own.

        One that is lost before it was done tells nothing about the code, so there is a second one.
        """
        try:
            return await self._import(pool, self._preloads.suiting(pool, for_app))
        except PoolBroken as broken:
            if not broken.lost:
                raise
            log.warning("%s: %s; it is tried once more, in an interpreter of its own", pool.name, broken)
        return await self._import(pool, None)

    async def _import(self, pool: PoolSpec, preload: Preload | None) -> ForkServer:
        try:
            fork_server = await patiently(pool.name, lambda: self._start(pool, preload))
        except OSError as error:
            if preload is not None:
                message = f"its process cannot be forked from the preload process: {error}"
                raise PoolBroken(system_failure(pool, message), lost=True) from error
            raise _broken(pool, f"{pool.python} cannot be started: {error}", error) from error
        await fork_server.loaded
        return fork_server

    async def _start(self, pool: PoolSpec, preload: Preload | None) -> ForkServer:
        env = environment(str(self._home.path), pool.env, python=pool.python if pool.image else None)
        isolation = await self._ground.isolation(pool)
        fork_server = await ForkServer.start(pool, self.log(pool), env, self._worker, preload, isolation)
        fork_server.on_failed = self._report
        fork_server.on_checked = functools.partial(self._checked, fork_server)
        self._living[pool.id] = fork_server
        self._tasks.create_task(self._reap(fork_server))
        return fork_server

    async def _reap(self, fork_server: ForkServer) -> None:
        try:
            await fork_server.reap()
        except Exception:  # a zombie is left, and no more than that
            log.exception("the end of the fork server %d cannot be observed", fork_server.pid)
        if fork_server.isolation is not None:
            self._ground.left(Path(fork_server.isolation.own).name)

    def _forget(self, pool: str, future: asyncio.Future[ForkServer]) -> None:
        if self._fork_servers.get(pool) is future:
            del self._fork_servers[pool]
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
        """End the loaded fork servers of pools that are neither kept nor in use, and outdated ones without units."""
        self._end_outdated()
        self._end_kept_by_nobody()
        in_use = (*self._living.values(), *self._outdated)
        of_units = {unit.order.pool.image for unit in self._units.values()}
        self._preloads.end_unused({fork_server.pool.image for fork_server in in_use} | of_units)

    def _end_kept_by_nobody(self) -> None:
        if self._keep is None or self._keep.issuperset(self._living):
            return
        for pool in set(self._living) - self._keep - {unit.order.pool.id for unit in self._units.values()}:
            if self._fork_servers[pool].done():
                del self._fork_servers[pool]
                self._living.pop(pool).end()

    def _end_outdated(self) -> None:
        if self._outdated:
            for fork_server in self._outdated.difference(
                {unit.fork_server for unit in self._units.values() if unit.fork_server}
            ):
                self._outdated.discard(fork_server)
                fork_server.end()

    def check(self, order: wire.CheckPool) -> None:
        """Report whether the files that the pool's fork server has imported are unchanged; without one they are."""
        fork_server = self._living.get(order.pool)
        if fork_server is None or fork_server.gone.is_set():
            self._tell(wire.PoolChecked(pool=order.pool))
        else:
            fork_server.check(order)

    def _checked(self, fork_server: ForkServer, frame: wire.PoolChecked) -> None:
        """A fork server has answered: one that is outdated forks no more, and the pool's next unit gets another."""
        future = self._fork_servers.get(frame.pool)
        if frame.outdated and self._living.get(frame.pool) is fork_server and future is not None and future.done():
            log.info("%s is imported anew: %s", fork_server.pool.name, frame.outdated)
            self._outdated.add(fork_server)
            del self._fork_servers[frame.pool], self._living[frame.pool]
        self._tell(frame)
        self.end_idle()

    def _tell(self, frame: wire.PoolChecked) -> None:
        of_pool = (unit for unit in self._units.values() if unit.order.pool.id == frame.pool)
        units = [unit.name for unit in of_pool if unit.fork_server in self._outdated]
        self._report(wire.PoolChecked(pool=frame.pool, outdated=frame.outdated, units=units))

    def end_all(self) -> None:
        self._preloads.stop_keeping()
        for task in self._raising:
            task.cancel()
        for fork_server in (*self._living.values(), *self._outdated):
            fork_server.end()
        self._preloads.end_all()

    def loaded(self) -> dict[int, ForkServer]:
        """The fork servers that have done their import, by pid."""
        there = (*self._living.values(), *self._outdated)
        return {
            fork_server.pid: fork_server
            for fork_server in there
            if fork_server.loaded.done() and not fork_server.gone.is_set()
        }

    def importing(self) -> dict[int, ForkServer]:
        """The fork servers that have yet to do their import, by pid."""
        return {
            fork_server.pid: fork_server
            for fork_server in self._living.values()
            if fork_server.pid and not fork_server.loaded.done()
        }

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
