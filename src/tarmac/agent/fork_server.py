"""A fork server as its parent sees it: the process that imports a pool's code and forks the pool's units.

`flyte.runtime.fork_server` is the process itself. The two talk over a socket pair; the end of either is the end of that
conversation, so each notices when the other is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from flyte import wire
from flyte.object_store import STORE_VARIABLES
from flyte.wire import ErrorInfo, PoolSpec
from tarmac import process
from tarmac.agent import interpreter
from tarmac.agent.last_lines import tail
from tarmac.agent.preload import Preload, PreloadProcess
from tarmac.agent.unit import Unit
from tarmac.workload_files import open_to_append

log = logging.getLogger("tarmac.agent")

IMPORT_LIMIT = 300.0
"""Seconds a pool's modules may take to be imported."""

HELLO_LIMIT = 5.0
"""Seconds in which a fork server that is forked from a preload process must send its pid. It takes milliseconds, unless
the preload process hangs."""

_LOST = "the process that forks this environment's processes was lost"

WORKER = "flyte.runtime.worker"


class PoolBroken(Exception):
    """Raised when a pool has no fork server and will not have one; `failure` is what the control plane is told.

    `lost`: nobody has said that the code is to blame, so that another attempt may do better.
    """

    def __init__(self, failure: wire.PoolFailed, lost: bool = False) -> None:
        super().__init__(failure.error.message)
        self.failure = failure
        self.lost = lost


def system_failure(pool: PoolSpec, message: str) -> wire.PoolFailed:
    """The platform is to blame, or nobody knows who: what waits for the pool is tried again."""
    return wire.PoolFailed(pool=pool.id, error=ErrorInfo(code="WorkerLostError", message=message, kind="system"))


class ForkServer(asyncio.Protocol):
    """Start one with `start`; `loaded` is done when its import is, and raises PoolBroken where that failed."""

    def __init__(self, pool: PoolSpec, log: Path, isolation: wire.Isolation | None = None) -> None:
        self.pool = pool
        self.isolation = isolation
        self.log = log
        self.units: dict[str, Unit] = {}
        loop = asyncio.get_running_loop()
        self.loaded: asyncio.Future[wire.PoolReady] = loop.create_future()
        self.on_failed: Callable[[wire.PoolFailed], None] = lambda frame: None
        """Called when a unit of a pool that is not forked cannot import its code."""
        self.on_checked: Callable[[wire.PoolChecked], None] = lambda frame: None
        """Called with the answer to `check`."""
        self._checks = 0
        """How many are not answered."""
        self.spoke = False
        """It has said something since this was looked at."""
        self.gone = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """0 until one that is forked from the preload process has said who it is."""
        self._transport: asyncio.Transport
        self._unpacker = wire.Unpacker()
        self._preload_process: PreloadProcess | None = None
        """What it is forked from, where it is."""
        self._deadline = loop.call_later(IMPORT_LIMIT, self._too_slow)

    # ----------------------------------------------------------------------------------------------------- its life

    @staticmethod
    async def start(
        pool: PoolSpec,
        log: Path,
        env: Mapping[str, str],
        worker: str,
        preload: Preload | None = None,
        isolation: wire.Isolation | None = None,
    ) -> ForkServer:
        """Start the process; it is not ready before `loaded` is done. Raises OSError where it cannot be started.

        It is forked from `preload`, or else an interpreter of its own with the environment `env`.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(log) as output:
            ours, theirs = socket.socketpair()
            fork_server = ForkServer(pool, log, isolation)
            with theirs:
                try:
                    if preload is not None:
                        fork_server._wait_for_hello(preload.fork(theirs.fileno(), output.fileno()))
                    else:
                        fork_server._spawn(env, worker, theirs.fileno(), output.fileno())
                except Exception:
                    ours.close()
                    fork_server._deadline.cancel()
                    raise
        await asyncio.get_running_loop().create_connection(lambda: fork_server, sock=ours)
        fork_server._send(wire.LoadPool(pool=pool, isolation=isolation))
        return fork_server

    def _spawn(self, env: Mapping[str, str], worker: str, fd: int, output: int) -> None:
        self._process = interpreter.start(self.pool.python, "flyte.runtime.fork_server", worker, env, fd, output)
        self.pid = self._process.pid

    def _wait_for_hello(self, preload_process: PreloadProcess) -> None:
        self._preload_process = preload_process
        self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(HELLO_LIMIT, self._never_forked)

    def _never_forked(self) -> None:
        """What it was to be forked from hangs. Should that go on one day, the fork server finds nobody and exits."""
        if self._preload_process is not None:
            self._preload_process.retire()
        self._transport.abort()

    def _greet(self, pid: int) -> None:
        self.pid = pid
        self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(IMPORT_LIMIT, self._too_slow)

    def end(self) -> None:
        """Hang up: the fork server kills what units it has and exits."""
        self._deadline.cancel()
        self._transport.close()

    async def reap(self) -> None:
        """Wait for the end of the conversation and then of the process; kill it should it not take the hint."""
        await self.gone.wait()
        if self.pid and not await process.gone(self.pid, 2) and process.is_unit_of(self.pid, os.getpid()):
            process.signal_group(self.pid, signal.SIGKILL)
        if self._process is not None:
            await process.ended(self._process)
        if self._preload_process is not None:
            self._preload_process.lost_one()

    # -------------------------------------------------------------------------------------------------------- orders

    def fork(self, unit: Unit, group: str = "") -> None:
        """Ask for a process for `unit`, in the memory group that is entered at `group`.

        Should the fork server be gone, the unit ends at once.
        """
        order = unit.order
        if self.gone.is_set():
            unit.finish(wire.UnitExited(unit=unit.name, reason=_LOST))
            return
        self.units[unit.name] = unit
        self._send(
            wire.ForkUnit(
                unit=unit.name,
                kind=order.kind,
                env=order.env,
                log=order.replica.log if order.replica else "",
                reuse=order.reuse,
                concurrency=order.concurrency,
                replica=order.replica,
                port=unit.port,
                group=group,
            )
        )

    def ping(self) -> None:
        """Ask for a heartbeat, which is anything that it says. It gives none while it imports."""
        self._send(wire.Ping())

    def check(self, order: wire.CheckPool) -> None:
        """Ask whether what it has imported is still what is on disk; it says so when its import is done."""
        self._checks += 1
        self._send(order)

    def kill(self) -> None:
        """It hangs: end it at once, and so its units."""
        process.signal_group(self.pid, signal.SIGKILL)
        self._transport.abort()

    def signal(self, unit: Unit, number: int) -> None:
        self._send(wire.SignalUnit(unit=unit.name, signal=number))

    def _send(self, frame: wire.Frame) -> None:
        if not self._transport.is_closing():
            self._transport.write(wire.pack(frame))

    # ------------------------------------------------------------------------------------------------------- answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by descent

    def data_received(self, data: bytes) -> None:
        self.spoke = True
        try:
            frames = self._unpacker.feed(data)
        except wire.FrameError as error:
            log.error("the fork server of %s: %s", self.pool.name, error)
            self._transport.close()
            return
        for frame in frames:
            self._hear(frame)

    def _hear(self, frame: wire.AnyFrame) -> None:
        match frame:
            case wire.PoolReady():
                self._deadline.cancel()
                if not self.loaded.done():
                    self.loaded.set_result(frame)
            case wire.PoolFailed():
                self._failed(frame)
            case wire.UnitStarted(unit=""):
                self._greet(frame.pid)
            case wire.UnitStarted():
                if (unit := self.units.get(frame.unit)) and not unit.started.done():
                    unit.started.set_result(frame.pid)
            case wire.UnitReady():
                if unit := self.units.get(frame.unit):
                    unit.may_be_probed.set()
            case wire.PoolChecked():
                self._checks -= 1
                self.on_checked(frame)
            case wire.Pong():
                pass  # that it spoke is noted
            case wire.UnitExited():
                if unit := self.units.pop(frame.unit, None):
                    unit.finish(frame)
            case _:
                log.warning("the fork server of %s sent a %s", self.pool.name, type(frame).__name__)

    def _failed(self, frame: wire.PoolFailed, lost: bool = False) -> None:
        failure = wire.PoolFailed(pool=frame.pool, error=frame.error, tail=tail(self.log))
        if self.loaded.done():
            self.on_failed(failure)
        else:
            self.loaded.set_exception(PoolBroken(failure, lost))
            self.end()

    def _too_slow(self) -> None:
        message = f"importing {', '.join(self.pool.modules)} took longer than {IMPORT_LIMIT:.0f} s"
        self._failed(wire.PoolFailed(pool=self.pool.id, error=ErrorInfo(code="ModuleLoadError", message=message)))

    def connection_lost(self, exc: Exception | None) -> None:
        """The fork server has ended, or was told to: what it had forked is dead, or dies now."""
        self._deadline.cancel()
        self.gone.set()
        if not self.loaded.done():
            how = "ended before it was done" if self.pid else "was not forked"
            message = f"the process that imports {', '.join(self.pool.modules) or 'nothing'} {how}"
            self._failed(system_failure(self.pool, message), lost=True)
        for _ in range(self._checks):  # the pool's next fork server imports anew
            self.on_checked(wire.PoolChecked(pool=self.pool.id))
        self._checks = 0
        for unit in list(self.units.values()):
            if unit.pid:
                process.signal_group(unit.pid, signal.SIGKILL)
            unit.finish(wire.UnitExited(unit=unit.name, reason=_LOST))
        self.units.clear()


def environment(
    mark: str,
    own: Mapping[str, str] | None = None,
    environ: Mapping[str, str] = os.environ,
    python: str | None = None,
) -> dict[str, str]:
    """The environment of a pool's processes: the agent's without the platform's variables, and the pool's `own` on top.

    The settings of object stores stay: tasks read and write the stores that the platform does.

    `mark` is the platform's folder. `python`: that of an environment, which is entered; what is meant for the
    platform's own Python (PYTHONPATH) is left out.
    """
    own = own or {}
    not_theirs = ("TARMAC_", "FLYTE_") if python is None else ("TARMAC_", "FLYTE_", "PYTHON", "VIRTUAL_ENV")
    inherited = {
        name: value for name, value in environ.items() if not name.startswith(not_theirs) or name in STORE_VARIABLES
    }
    inherited = process.with_absolute_path(inherited)
    if python is not None:
        programs = os.path.dirname(python)
        inherited["VIRTUAL_ENV"] = os.path.dirname(programs)
        inherited["PATH"] = os.pathsep.join(filter(None, (programs, inherited.get("PATH", os.defpath))))
    env = {**inherited, **own, process.MARK: mark, process.UNIT_MARK: str(os.getpid())}
    if "PYTHONPATH" in own and "PYTHONPATH" in inherited:
        env["PYTHONPATH"] = own["PYTHONPATH"] + os.pathsep + inherited["PYTHONPATH"]
    if sys.platform == "darwin":  # else Apple's libraries end a forked process at its first use of them
        env.setdefault("OBJC_DISABLE_INITIALIZE_FORK_SAFETY", "YES")
    return env
