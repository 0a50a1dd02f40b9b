"""The agent: the parent of fork servers, workers and replicas on one machine.

It obeys the orders of the control plane (StartUnit, StopUnit, KeepPools, CheckPool, and PrepareImage and RemoveImages
for environments) and reports what becomes of the units. It knows nothing of runs and apps. It goes on when the control
plane is away, and takes everything down when it ends.

Each unit has one task, `_live`: wait for the pool's fork server, fork, for a replica wait until it answers, wait for
the end, report. Orders never wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from flyte import wire
from flyte.log_times import Times
from tarmac import process
from tarmac.agent import shortage
from tarmac.agent.fork_server import WORKER, ForkServer, PoolBroken, environment
from tarmac.agent.images import Images
from tarmac.agent.isolation import Ground
from tarmac.agent.last_lines import last_error, tail
from tarmac.agent.life import Lives
from tarmac.agent.link import ControlLink
from tarmac.agent.memory import Memory, find_groups
from tarmac.agent.pools import Pools
from tarmac.agent.readiness import until_ready
from tarmac.agent.unit import Unit, free_port, in_words, size
from tarmac.blobs import open_blobs
from tarmac.home import Home

log = logging.getLogger("tarmac.agent")

PORT_TAKEN = 98
"""Exit code of a replica that found its port taken (`flyte.runtime.apphost`)."""

LAST_WARNING = 1.0
"""Seconds before SIGKILL at which a replica gets SIGTERM once more: it then gives up on what is still open."""

_PORT_ATTEMPTS = 3
_SWEEP_PAUSE = 0.1
_LOG_PAUSE = 0.25
_MEMORY_PAUSE = 0.5
_SHORTAGE_PAUSE = 1.0


class Agent:
    """`grace`: seconds between SIGTERM and SIGKILL where the agent itself decides that a unit must end.

    `lease`: seconds without a heartbeat after which a fork server is killed, and for which others may be stopped.
    `worker`: the module whose `serve` is a worker's life. `common`: variables that the environments of all pools have.
    `isolation`: the setting. `image_timeout`: seconds that it may take to make one environment. `storage_url`: the
    object store that has the code bundles; empty for the platform's folder.
    """

    def __init__(
        self,
        home: Home,
        worker: str = WORKER,
        grace: float = 5,
        lease: float = 60,
        common: Mapping[str, str] | None = None,
        isolation: str = "open",
        image_timeout: float = 600,
        storage_url: str = "",
    ) -> None:
        self._home = home
        self._worker = worker
        self._grace = grace
        self._lease = lease
        self._common = common or {}
        self._isolation = isolation
        self._image_timeout = image_timeout
        self._storage_url = storage_url
        self._units: dict[str, Unit] = {}
        self._link = ControlLink(home.link_socket, home.token, self._states, self._obey, self._welcomed)
        self._tasks: asyncio.TaskGroup
        self._pools: Pools
        self._images: Images
        self._ground: Ground
        self._ended: dict[str, int] = {}
        """Units (name → pid) whose leftovers have not been looked for."""
        self._sweep_wanted = asyncio.Event()
        self._stopping = asyncio.Event()
        self._memory = Memory(functools.partial(find_groups, home.path))

    # ----------------------------------------------------------------------------------------------------- its life

    async def run(self) -> None:
        """Obey until `stop` is called; then end every unit and return."""
        process.kill(process.orphaned_units(self._home.path))
        self._clear_up()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._ground = Ground(self._home, self._isolation, environment(str(self._home.path), self._common))
            self._images = Images(self._home, self._link.send, tasks, self._image_timeout)
            self._pools = Pools(
                self._home,
                self._worker,
                self._link.send,
                tasks,
                self._common,
                self._ground,
                self._units,
                self._images.ensure,
                open_blobs(self._storage_url, self._home.blobs),
            )
            link = tasks.create_task(self._link.run())
            lives = Lives(self._lease, self._pools, self._units)
            looks = (self._ground.look, self._sweep, self._look_at_memory, lives.look, self._look_at_logs)
            others = [tasks.create_task(_over_and_over(look)) for look in looks]
            await self._stopping.wait()
            link.cancel()  # first: what ends from now on has not failed, and nothing new is to be started
            await self._end_all()
            for task in others:
                task.cancel()
        self._ground.end()

    def _clear_up(self) -> None:
        """Remove the files that workers of an earlier agent left and never wrote into."""
        for file in self._home.worker_logs.glob("*.log"):
            if size(file) == 0:
                with contextlib.suppress(OSError):  # then it stays
                    file.unlink()

    def stop(self) -> None:
        self._stopping.set()

    async def _end_all(self) -> None:
        for unit in self._units.values():
            self._stop_unit(wire.StopUnit(unit=unit.name, grace=self._grace, reason="the platform is going down"))
        deadline = asyncio.get_running_loop().time() + self._grace + 3
        while self._units and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait([unit.ended for unit in self._units.values()], timeout=0.1)
        self._images.end()
        self._pools.end_all()
        process.kill(process.orphaned_units(self._home.path))
        self._memory.close()

    # ------------------------------------------------------------------------------------------------------- orders

    def _obey(self, frame: wire.AnyFrame) -> None:
        """Carry out one order; one that cannot be carried out fails the unit that it is about, and nothing else."""
        try:
            self._carry_out(frame)
        except Exception as error:
            log.exception("a frame of the control plane cannot be handled: %s", type(frame).__name__)
            if isinstance(frame, wire.StartUnit | wire.StopUnit):
                self._link.send(wire.UnitExited(unit=frame.unit, reason=_fault(error)))

    def _carry_out(self, frame: wire.AnyFrame) -> None:
        match frame:
            case wire.StartUnit():
                self._start_unit(frame)
            case wire.StopUnit():
                self._stop_unit(frame)
            case wire.KeepPools():
                self._pools.keep(frame.pools)
                self._pools.end_idle()
            case wire.CheckPool():
                self._pools.check(frame)
            case wire.PrepareImage():
                self._images.prepare(frame)
            case wire.RemoveImages():
                self._images.remove(frame.keys)
            case _:
                log.warning("the control plane sent a %s", type(frame).__name__)

    def _states(self) -> list[wire.UnitState]:
        return [unit.state() for unit in self._units.values()]

    def _welcomed(self) -> None:
        """Between Hello and Welcome a unit may have got on: say where each stands."""
        self._pools.prepare()
        for unit in self._units.values():
            self._report(unit)

    def _report(self, unit: Unit) -> None:
        """How far the unit has come."""
        if unit.pid:
            self._link.send(wire.UnitStarted(unit=unit.name, pid=unit.pid))
        if unit.address:
            self._link.send(wire.UnitReady(unit=unit.name, address=unit.address))

    def _say_why(self, unit: Unit, message: str) -> None:
        """A replica is not ready: what it is asked and answers, and the error that it wrote last."""
        error = last_error(tail(unit.log, unit.log_start))
        self._link.send(wire.UnitWaits(unit=unit.name, message=f"{message}: {error}" if error else message))

    def _start_unit(self, order: wire.StartUnit) -> None:
        if known := self._units.get(order.unit):
            self._report(known)
        else:
            replica = order.replica
            log_file = Path(replica.log) if replica and replica.log else self._pools.log(order.pool)
            unit = self._units[order.unit] = Unit(order, log_file)
            unit.times = Times(str(log_file)) if replica and replica.log else None
            self._tasks.create_task(self._live(unit))

    def _stop_unit(self, order: wire.StopUnit) -> None:
        unit = self._units.get(order.unit)
        if unit is None:
            self._link.send(wire.UnitExited(unit=order.unit, reason="there is no such process"))
            return
        unit.stop = order
        if unit.fork_server is None:
            unit.finish(wire.UnitExited(unit=unit.name))
        else:
            self._tasks.create_task(self._see_ended(unit, unit.fork_server, order.grace))

    async def _see_ended(self, unit: Unit, fork_server: ForkServer, grace: float) -> None:
        try:
            await _end(unit, fork_server, grace)
        except Exception:  # the other units go on
            log.exception("%s does not stop on SIGTERM: killed", unit.name)
            process.signal_group(unit.pid, signal.SIGKILL)

    # ------------------------------------------------------------------------------------------------- a unit's life

    async def _live(self, unit: Unit) -> None:
        try:
            exited = await self._run(unit)
        except Exception as error:  # whatever it is: the other units go on
            log.exception("%s cannot be kept", unit.name)
            exited = self._give_up(unit, error)
        finally:
            del self._units[unit.name]
            unit.note_times()
            if unit.times is not None:
                unit.times.close()
        self._link.send(exited)
        self._ground.left(unit.name)
        if unit.pid and (unit.order.kind == "replica" or exited.code != 0):
            self._ended[unit.name] = unit.pid
            self._sweep_wanted.set()
        self._pools.end_idle()

    def _give_up(self, unit: Unit, error: Exception) -> wire.UnitExited:
        if unit.pid:
            process.signal_group(unit.pid, signal.SIGKILL)
        exited = wire.UnitExited(unit=unit.name, reason=_fault(error))
        try:
            return self._memory.release(exited, unasked=False)
        except Exception:
            log.exception("the memory group of %s stays", unit.name)
            return exited

    async def _run(self, unit: Unit) -> wire.UnitExited:
        """From the order to the end, put into words."""
        opening = self._pools.fork_server(unit.order.pool, for_app=unit.order.replica is not None)
        if not opening.done():
            await asyncio.wait((opening, unit.ended), return_when=asyncio.FIRST_COMPLETED)
        if unit.ended.done():
            return in_words(unit, unit.ended.result())
        try:
            unit.fork_server = opening.result()
        except PoolBroken as broken:
            reason = f"its code cannot be loaded: {broken}"
            return wire.UnitExited(unit=unit.name, reason=reason, tail=broken.failure.tail)
        unit.log_start = size(unit.log)
        for _ in range(_PORT_ATTEMPTS):
            why, exited = await self._run_once(unit, unit.fork_server)
            if exited.code != PORT_TAKEN or unit.address or unit.stop or unit.order.replica is None:
                break
            log.warning("%s: port %d was taken by somebody else; it gets another", unit.name, unit.port)
            await self._begin_again(unit)
        return in_words(unit, exited, why)

    async def _run_once(self, unit: Unit, fork_server: ForkServer) -> tuple[str, wire.UnitExited]:
        """One process: why we ended it, where we did, and its end. Where none can be made now, one is made later."""
        why, exited = await self._try_once(unit, fork_server)
        for pause in shortage.PAUSES:
            if exited.code is not None or exited.signal is not None or fork_server.gone.is_set():
                break  # there was one, or there will be none
            log.warning("%s: %s; tried again in %g s", unit.name, exited.reason, pause)
            await asyncio.sleep(pause)
            if unit.stop is not None:
                break
            await self._begin_again(unit)
            why, exited = await self._try_once(unit, fork_server)
        return why, exited

    async def _begin_again(self, unit: Unit) -> None:
        await self._ground.again(unit.name)
        unit.begin_again()

    async def _try_once(self, unit: Unit, fork_server: ForkServer) -> tuple[str, wire.UnitExited]:
        replica = unit.order.replica
        if replica is not None:
            try:
                unit.port = free_port({other.port for other in self._units.values()})
            except OSError as error:
                unit.finish(wire.UnitExited(unit=unit.name, reason=f"no port is available: {error}"))
                return "", unit.ended.result()
        fork_server.fork(unit, self._memory.admit(unit.name, unit.order.pool.memory))
        unit.started.add_done_callback(lambda _: self._report(unit))
        why = await self._make_ready(unit, fork_server, replica) if replica is not None else ""
        exited = await unit.ended
        why = why or unit.verdict
        return why, self._memory.release(exited, unasked=not why and unit.stop is None)

    async def _make_ready(self, unit: Unit, fork_server: ForkServer, replica: wire.ReplicaSpec) -> str:
        """Wait until the replica answers, or is over; if it takes too long, end it and say why."""
        asking = asyncio.ensure_future(until_ready(unit, replica, self._say_why))
        await asyncio.wait((asking, unit.ended), return_when=asyncio.FIRST_COMPLETED)
        if unit.ended.done() or unit.stop is not None:
            asking.cancel()
            return ""
        outcome = asking.result()
        if outcome.ready:
            unit.address = f"127.0.0.1:{unit.port}"
            self._report(unit)
            if replica.kind == "asgi":
                self._pools.expect_apps()
            return ""
        await _end(unit, fork_server, self._grace)
        return f"did not become ready in {replica.start_timeout:g} s: {outcome.message}"

    # ------------------------------------------------------------------------------------------------------ sweeping

    async def _sweep(self) -> None:
        """Kill what ended units left behind. To look through all processes takes a while, so it is done for many."""
        await self._sweep_wanted.wait()
        await asyncio.sleep(_SWEEP_PAUSE)
        self._sweep_wanted.clear()
        ended, self._ended = self._ended, {}
        try:
            left = await asyncio.to_thread(process.leftovers, ended)
        except BaseException:
            self._ended.update(ended)
            self._sweep_wanted.set()
            raise
        process.kill(left - {unit.pid for unit in self._units.values()})

    async def _look_at_logs(self) -> None:
        """Note when the logs of replicas grow: the times of their lines."""
        await asyncio.sleep(_LOG_PAUSE)
        for unit in self._units.values():
            unit.note_times()

    async def _look_at_memory(self) -> None:
        """The watchdog, for units whose memory the kernel does not limit."""
        await asyncio.sleep(_MEMORY_PAUSE)
        self._memory.pass_time()
        if not self._memory.watching:
            return
        sessions = [(unit.name, unit.pid) for unit in self._units.values() if unit.pid]
        for name in await asyncio.to_thread(self._memory.excess, sessions):
            unit = self._units.get(name)
            if unit is not None and unit.fork_server is not None:
                self._memory.condemn(name)
                unit.fork_server.signal(unit, signal.SIGKILL)


async def _over_and_over(look: Callable[[], Awaitable[None]]) -> None:
    """Look after the units, again and again; a look that fails is made up for by the next one."""
    while True:
        try:
            await look()
        except (OSError, RuntimeError) as error:  # the machine is short of threads or files
            log.warning("the units are looked after later: %s", error)
            await asyncio.sleep(_SHORTAGE_PAUSE)
        except Exception:
            log.exception("the units cannot be looked after; it is tried again")
            await asyncio.sleep(_SHORTAGE_PAUSE)


def _fault(error: Exception) -> str:
    """An error that nobody has foreseen, as the reason of a unit's end."""
    return f"the agent: {error}" if isinstance(error, OSError | RuntimeError) else f"the agent: {error!r}"


async def _end(unit: Unit, fork_server: ForkServer, grace: float) -> None:
    """SIGTERM to the unit's process group; SIGKILL if that has not ended it after `grace` seconds (0: at once)."""
    if grace > 0:
        fork_server.signal(unit, signal.SIGTERM)
        warning = min(LAST_WARNING, grace / 2) if unit.order.kind == "replica" else 0
        if not await _over(unit, grace - warning) and warning:
            fork_server.signal(unit, signal.SIGTERM)
            await _over(unit, warning)
    if not unit.ended.done():
        fork_server.signal(unit, signal.SIGKILL)
    if not await _over(unit, 2) and unit.pid:
        log.warning("the fork server of %s does not obey; its unit %s is killed", fork_server.pool.name, unit.name)
        process.signal_group(unit.pid, signal.SIGKILL)


async def _over(unit: Unit, seconds: float) -> bool:
    await asyncio.wait((unit.ended,), timeout=seconds)
    return unit.ended.done()
