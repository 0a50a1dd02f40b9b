"""The parent of one pool's units: it imports the user's modules once, and then forks.

A forked unit finds everything imported and is ready in milliseconds. The agent, at the other end of a socket pair,
sends LoadPool, then ForkUnit and SignalUnit; the fork server answers with PoolReady or PoolFailed, and for each unit
with UnitStarted, UnitReady and UnitExited. A Ping, which comes when the import is done, is answered by a Pong. It is
single-threaded and runs nothing of the user's but the import.

*Code that must not be forked.* Where the import leaves threads running (`fork_safety`), or the user says `fork=False`,
the fork server is a *launcher*: its units import the code themselves, ahead of need. A fork server that finds threads
becomes a launcher by executing itself anew; it keeps its pid and its socket, so nothing changes for the agent.

*Ends.* A unit leads a session of its own, so that one signal reaches all it started. It dies with the fork server
(Linux: PR_SET_PDEATHSIG). The fork server ends its units and itself when the agent's end of the socket pair is closed,
which is also what happens when the agent is killed. When both are killed at once, other systems than Linux are left
with units; the next agent finds them by their environment and ends them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import NoReturn

import msgspec

from flyte.runtime import imports, isolation, loader, output, shared, sources, unit_process
from flyte.runtime.children import branch, next_ended, signal_group
from flyte.runtime.fork_safety import unsafe_threads
from flyte.runtime.output_files import OutputFiles
from flyte.runtime.worker_module import WORKER, import_ours, warm, warm_up
from flyte.wire import (
    AnyFrame,
    CheckPool,
    ErrorInfo,
    ForkUnit,
    Frame,
    Isolation,
    LoadPool,
    Ping,
    Pong,
    PoolChecked,
    PoolFailed,
    PoolReady,
    PoolSpec,
    SignalUnit,
    UnitExited,
    UnitReady,
    UnitStarted,
    Unpacker,
    pack,
)

DECLARED = "its environment says fork=False"
FRESH = "every process is to import it anew (TARMAC_FRESH_IMPORT, TARMAC_WARM)"


class ForkServer:
    """`why_not`: the reason for leaving the import to the units, None to import here, before any fork.

    `given`: None in an interpreter of its own; else it was forked by a `Preload`, with these modules. Where there are
    any, that has warmed up. `installed`: the folders of packages as they were when that was started.
    """

    def __init__(
        self,
        link: socket.socket,
        worker: str = WORKER,
        why_not: str | None = None,
        given: shared.Shared | None = None,
        installed: Mapping[str, sources.Signature] | None = None,
    ) -> None:
        self._link = link
        self._worker = worker
        self._why_not = why_not
        self._given = given
        self._installed = installed or {}
        self._pool = PoolSpec(id="", name="", python="", root="")
        self._isolation: Isolation | None = None
        self._walls: isolation.Tidy | isolation.Links | None = None
        self._imports = imports.Imports()
        self._sources: dict[str, sources.Sources] = {}
        """What was read by the import here, which has no name, and by units that import for themselves."""
        self._unpacker = Unpacker()
        self._pids: dict[str, int] = {}
        self._units: dict[int, str] = {}
        self._pipes: dict[int, tuple[str, bytearray]] = {}
        """Reading end → unit, and what it said before it was ready."""
        self._outputs = OutputFiles()
        self._warmed_up = bool(self._given)
        self._wakeup, self._alarm = os.pipe()
        self._poll = select.poll()
        self._watch_children()

    def run(self) -> NoReturn:
        """Obey the agent until it is gone."""
        link = self._link.fileno()
        self._poll.register(link, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)
        while True:
            if self._walls is not None and self._walls.is_short and not self._poll.poll(0):
                self._walls.prepare()
            for fd, _ in self._poll.poll():
                if fd == link:
                    self._listen()
                elif fd == self._wakeup:
                    os.read(fd, 4096)
                    self._reap()
                elif fd in self._pipes:
                    self._hear(fd)

    def say_hello(self) -> None:
        """Tell the agent, which has not started this process itself, who it is: a unit without a name."""
        self._send(UnitStarted(unit="", pid=os.getpid()))

    def _listen(self) -> None:
        try:
            data = self._link.recv(262_144)
        except OSError:
            data = b""
        if not data:
            self._end()
        for frame in self._unpacker.feed(data):
            self._obey(frame)

    def _obey(self, frame: AnyFrame) -> None:
        match frame:
            case LoadPool():
                self.load(frame.pool, frame.isolation)
            case ForkUnit():
                self._fork(frame)
            case SignalUnit():
                if pid := self._pids.get(frame.unit):
                    signal_group(pid, frame.signal)
            case CheckPool():
                found = (each.outdated(frame.age) for each in self._sources.values())
                self._send(PoolChecked(pool=frame.pool, outdated=next(filter(None, found), "")))
            case Ping():
                self._send(Pong(at=frame.at))

    def _send(self, frame: Frame) -> None:
        try:
            self._link.sendall(pack(frame))
        except OSError:
            self._end()

    def _end(self) -> NoReturn:
        """The agent is gone, or wants this fork server gone: nothing that it started stays."""
        for pid in self._units:
            signal_group(pid, signal.SIGKILL)
        self._outputs.remove_unused()
        os._exit(0)

    def _watch_children(self) -> None:
        """Have the end of a child wake the loop. User code may have put its own handler there while it was imported."""
        os.set_blocking(self._alarm, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)

    # ------------------------------------------------------------------------------------------------------- loading

    def load(self, pool: PoolSpec, wanted: Isolation | None = None) -> None:
        """Import the pool's modules, or find out that its units must; tell the agent how that went."""
        self._pool, self._isolation = pool, wanted
        self._walls = isolation.of(wanted, pool)
        sys.argv = [""]
        if self._given is not None:
            os.environ.update(pool.env)
            if shared.changed(self._given, pool) or self._installed != sources.installed():
                self._begin_anew()
        if pool.fork is False and self._why_not is None:
            self._why_not = DECLARED
        elif pool.fresh:
            self._why_not = self._why_not or FRESH
        try:
            import_ours(self._worker)
            self._enter()
            if self._why_not is None:
                self._import_ahead()
            if self._walls is not None:
                self._walls.imported()
        except OSError as error:
            self._send(PoolFailed(pool=pool.id, error=isolation.failure(error)))
            return
        except loader.BrokenImport as broken:
            self._send(PoolFailed(pool=pool.id, error=broken.info))
            return
        gc.freeze()  # else the first collection in a child copies every page that it shares
        looked_at = self._imports.variables() if self._why_not is None else None
        self._send(
            PoolReady(pool=pool.id, forks=self._why_not is None, message=self._why_not or "", variables=looked_at)
        )

    def _enter(self) -> None:
        """Go where the code is; from now on this process and its units are isolated. Raises OSError, BrokenImport."""
        if self._walls is not None and self._isolation is not None:
            self._walls.enter()
            self._isolation = msgspec.structs.replace(self._isolation, entered=True)
        loader.enter(self._pool.root, self._pool.sys_path)

    def _import_ahead(self) -> None:
        before = dict(os.environ)
        read = sources.Sources()
        gc.disable()  # an import makes much that stays and little that goes
        try:
            with self._imports.watched(), read.watched():
                loader.import_modules(self._pool.modules)
            read.close(sources.shipped(self._pool))
            self._sources[""] = read
            if self._given is None:
                warm_up(self._worker)
            warm(self._worker)
        finally:
            gc.enable()
        self._watch_children()
        if threads := unsafe_threads():
            os.environ.clear()
            os.environ.update(before)
            self._begin_anew(f"its import leaves threads running: {', '.join(threads)}")

    def _begin_anew(self, why_not: str = "") -> NoReturn:
        """Go on as a process that has imported nothing yet, with the order that is at hand."""
        with tempfile.TemporaryFile() as order:  # not on the command line: it holds secrets
            order.write(pack(LoadPool(pool=self._pool, isolation=self._isolation)))
            order.flush()
            order.seek(0)
            arguments = ["--fd", str(self._link.fileno()), "--worker", self._worker]
            arguments += ["--order", str(order.fileno()), *(["--why-not", why_not] if why_not else [])]
            for fd in (self._link.fileno(), order.fileno()):
                os.set_inheritable(fd, True)
            unit_process.flush()
            os.execv(sys.executable, [sys.executable, "-P", "-m", "flyte.runtime.fork_server", *arguments])

    # --------------------------------------------------------------------------------------------------------- units

    def _fork(self, order: ForkUnit) -> None:
        parent = os.getpid()
        try:
            self._warm_up(order)
            if output.FILE in order.env:
                self._outputs.give(order.unit, order.env[output.FILE])
            if self._walls is not None:
                self._walls.lend(order.unit)
            pid, reading, writing = branch()
        except OSError as error:  # the machine is short of something: that is no reason to end the others
            self._let_go(order.unit)
            self._send(UnitExited(unit=order.unit, reason=f"no process can be made: {error}"))
            return
        if pid == 0:
            self._forget(reading)
            own = None if self._why_not is None else self._pool
            copied = None if self._why_not is not None else self._imports
            unit_process.live(order, own, self._worker, writing, parent, self._walls, copied)
        os.close(writing)
        if self._walls is not None:
            self._walls.forked(order.unit, returns=order.kind == "worker" and not order.reuse)
        self._pids[order.unit], self._units[pid] = pid, order.unit
        self._pipes[reading] = (order.unit, bytearray())
        self._poll.register(reading, select.POLLIN)
        self._send(UnitStarted(unit=order.unit, pid=pid))

    def _let_go(self, unit: str) -> None:
        """The unit has ended, or was never forked: what it had is handed on where that is safe."""
        self._outputs.take_back(unit)
        if self._walls is not None:
            self._walls.take_back(unit, self._units)

    def _forget(self, reading: int) -> None:
        """In the child: let go of what belongs to the fork server."""
        signal.set_wakeup_fd(-1)
        self._link.close()
        for fd in (self._wakeup, self._alarm, reading, *self._pipes):
            os.close(fd)

    def _warm_up(self, order: ForkUnit) -> None:
        """Before the first replica of an ASGI app: warm the server stack here, for it and for all that follow."""
        if self._warmed_up or order.replica is None or order.replica.kind != "asgi" or self._why_not is not None:
            return
        self._warmed_up = True
        from flyte.runtime import apphost

        try:
            apphost.warm_up()
        finally:
            self._watch_children()
            self._reap()  # units that ended meanwhile
        gc.freeze()

    def _hear(self, fd: int) -> None:
        """A unit is ready, or says why it will not be, or has closed its pipe without a word."""
        unit, said = self._pipes[fd]
        try:
            data = os.read(fd, 65_536)
        except BlockingIOError:
            return
        said += data
        if (read := unit_process.taken(said)) is not None:
            self._sources[unit] = read
        if said.startswith(unit_process.READY):
            self._send(UnitReady(unit=unit, address=""))
            self._hang_up(fd)
        elif not data:
            self._hang_up(fd)

    def _hang_up(self, fd: int) -> None:
        _, said = self._pipes.pop(fd)
        if said.startswith(unit_process.FAILED):
            error = msgspec.json.decode(bytes(said[1:]), type=ErrorInfo)
            self._send(PoolFailed(pool=self._pool.id, error=error))
        self._poll.unregister(fd)
        os.close(fd)

    def _reap(self) -> None:
        """Report every unit that has ended."""
        with contextlib.suppress(ChildProcessError):  # there is no child left
            while (ended := next_ended(self._units)) is not None:
                self._ended(*ended)

    def _ended(self, pid: int, status: int) -> None:
        unit = self._units.pop(pid, None)
        if unit is None:
            return  # a process that the user's import started, or an orphan of a unit
        del self._pids[unit]
        self._let_go(unit)
        self._sources.pop(unit, None)
        for fd in [fd for fd, (owner, _) in self._pipes.items() if owner == unit]:
            self._hear(fd)
            if fd in self._pipes:  # a child of the unit holds the other end
                self._hang_up(fd)
        code = os.waitstatus_to_exitcode(status)
        self._send(UnitExited(unit=unit, code=code) if code >= 0 else UnitExited(unit=unit, signal=-code))


# ------------------------------------------------------------------------------------------------------- as a program


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`python -P -m flyte.runtime.fork_server --fd N`, where N is one end of a socket pair; the agent has the other."""
    parser = argparse.ArgumentParser(prog="flyte.runtime.fork_server", description=main.__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--worker", default=WORKER, help="module whose serve() is a worker's life")
    parser.add_argument("--order", type=int, help="a file with the LoadPool to begin with")
    parser.add_argument("--why-not", help="why units import the code themselves")
    given = parser.parse_args(arguments)
    os.set_inheritable(given.fd, False)
    unit_process.die_with(os.getppid())
    unit_process.write_lines()
    fork_server = ForkServer(socket.socket(fileno=given.fd), given.worker, given.why_not)
    if given.order is not None:
        with open(given.order, "rb") as file:
            for frame in Unpacker().feed(file.read()):
                fork_server._obey(frame)
    fork_server.run()


if __name__ == "__main__":
    main()
