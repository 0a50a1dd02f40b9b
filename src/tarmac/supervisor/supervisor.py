"""The whole platform: its parts together, from the first start to the last end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tarmac import __version__, aside, heartbeat, process
from tarmac.gateway import alive
from tarmac.home import Home
from tarmac.settings import Settings
from tarmac.supervisor import cleanup as cleanup_process
from tarmac.supervisor import fork_server
from tarmac.supervisor.address import START_LIMIT, Address, GivenUp, answers_health
from tarmac.supervisor.fork_server import ForkServer
from tarmac.supervisor.part import Part, PartRunner, parts
from tarmac.supervisor.part_logs import rotate, tail

_LOG_CHECK = 30.0

_CLEARED_WITHIN = 2.0
"""Seconds to wait for the end of leftovers, of an earlier start of the platform or of this one."""

CLEANUP = Part("cleanup", cleanup_process.COMMAND, ((signal.SIGKILL, 1.0),))


class Supervisor:
    """`healthy` tells whether the platform answers; `announce` is called once with None, or why the start failed.

    A part that sends no heartbeat for `lease` seconds, or for `heartbeat.FIRST_LIMIT` after its start, is killed and
    then started again. `cleanup` is the part that kills leftovers after the supervisor itself was killed.
    """

    def __init__(
        self,
        home: Home,
        address: Address,
        parts: Sequence[Part],
        healthy: Callable[[], Awaitable[bool]],
        announce: Callable[[GivenUp | None], None] = lambda failure: None,
        lease: float = 60,
        cleanup: Part | None = None,
    ) -> None:
        own = {"TARMAC_HOME": str(home.path), "TARMAC_PORT": str(address.port), process.LIFE: secrets.token_hex(8)}
        env = process.family_environment(home.path, {**os.environ, **own})
        self._home = home
        self._address = address
        spawn = fork_server.spawner(env, home.path)
        self._fork_server = ForkServer(spawn, lambda why: self._fork_server_runner.kill(why))
        self._fork_server_runner = PartRunner(
            fork_server.PART, home, self._fork_server.start, lambda part, code: self.reap()
        )
        self._forked = any(part.module for part in parts) and process.adopt_orphans()

        async def start(part: Part, log: Path) -> process.Child:
            if not self._forked or not part.module:
                return spawn(part, log, ())
            child = await self._fork_server.fork(part, log)
            asyncio.get_running_loop().call_soon(self.reap)  # orphans that ended while the fork server was busy
            return child

        self._runners = [PartRunner(part, home, start, self._ended) for part in parts]
        self._all = [self._fork_server_runner, *self._runners] if self._forked else self._runners
        """The runners on which a successful start depends."""

        async def start_cleanup(part: Part, log: Path) -> process.Child:
            return cleanup_process.start(env, home.path, log)

        self._cleanups = [PartRunner(cleanup, home, start_cleanup)] if cleanup is not None else []
        self._kept = [*self._cleanups, *self._all]
        self._lease = lease
        self._watch = heartbeat.Watch(lease, time.monotonic())
        self._healthy = healthy
        self._announce = announce
        self._stopping = asyncio.Event()
        self._started = time.time()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> bool:
        """Run the platform until `stop`; False when it could not be started."""
        self._home.state_file.unlink(missing_ok=True)  # an earlier one was killed
        process.end_marked(self._home.path, _CLEARED_WITHIN)
        self._home.supervisor_socket.unlink(missing_ok=True)
        aside.clear(self._home)
        async with asyncio.TaskGroup() as tasks:
            status = await asyncio.start_unix_server(self._send_status, self._home.supervisor_socket)
            kept = [tasks.create_task(runner.run()) for runner in self._kept]
            ears = await self._listen()
            others = [tasks.create_task(self._rotate_logs()), tasks.create_task(self._watch_always())]
            failure = await self._first_answer() or self._write_state()
            self._announce(failure)
            if failure is None:
                await self._stopping.wait()
            self._home.state_file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # on a full disk the actions say that their workers were lost
                self._home.stopping.touch()
            await self._stop_all()
            for task in (*kept, *others):
                task.cancel()
            self._fork_server.renew()
            ears.close()
            status.close()
        process.end_marked(self._home.path, _CLEARED_WITHIN)
        return failure is None

    async def _first_answer(self) -> GivenUp | None:
        """Wait until the platform answers and return None, or return why it will not."""
        start_failed = [asyncio.ensure_future(runner.start_failed.wait()) for runner in self._all]
        answer, stop = asyncio.ensure_future(self._answers()), asyncio.ensure_future(self._stopping.wait())
        waiting = (answer, stop, *start_failed)
        await asyncio.wait(waiting, timeout=START_LIMIT, return_when=asyncio.FIRST_COMPLETED)
        for future in waiting:
            future.cancel()
        if answer.done() and not answer.cancelled():
            return None
        if self._stopping.is_set():
            return GivenUp("it was stopped before it answered")
        for runner in self._all:
            if runner.start_failed.is_set():
                message = f"its part {runner.part.name!r} ended {runner.deaths} times in a row: {runner.last_end}"
                return GivenUp(message, runner.part.name, tail(runner.log))
        worst = max(self._all, key=lambda runner: runner.restarts)
        message = f"it did not answer at {self._address.endpoint} within {START_LIMIT:g} s"
        return GivenUp(message, worst.part.name, tail(worst.log))

    async def _answers(self) -> None:
        """Wait until every part is ready, so that HAProxy has every app, and until a request is answered."""
        while not (self._have_come_up() and await self._healthy()):  # noqa: ASYNC110 - only the answer itself tells
            await asyncio.sleep(0.02)

    def _have_come_up(self) -> bool:
        return all(runner.heard is not None for runner in self._runners if runner.part.beats)

    async def _stop_all(self) -> None:
        for runner in self._kept:
            runner.stopping = True  # none is started again while another is being stopped
        for runner in reversed(self._kept):
            await runner.stop()

    def _write_state(self) -> GivenUp | None:
        """Write the address of the platform into its state file; returns the reason when that fails."""
        address = self._address
        try:
            self._home.write_state(
                endpoint=address.endpoint,
                port=address.port,
                pid=os.getpid(),
                version=__version__,
                started=self._started,
                stops_within=sum(runner.part.stops_within for runner in self._kept),
            )
        except OSError as error:
            return GivenUp(f"{self._home.state_file} cannot be written: {error.strerror}")
        return None

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK)
            for file in (*(runner.log for runner in self._kept), self._home.part_log("supervisor")):
                rotate(file)

    async def _send_status(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send the state of every part as one JSON text to the client that has connected."""
        writer.write(json.dumps(self.status()).encode())
        writer.close()

    def status(self) -> dict[str, Any]:
        """The state of this platform and of each of its parts."""
        state = {"pid": os.getpid(), "started": self._started, "parts": [runner.status() for runner in self._runners]}
        if self._forked:
            state["fork_server"] = self._fork_server_runner.status()
        for runner in self._cleanups:
            state["cleanup"] = runner.status()
        return state

    # --------------------------------------------------------------------------------------------- ends, and silence

    def _ended(self, part: Part, code: int) -> None:
        """A part that ended in order is being upgraded: the next one must run the code that is installed now."""
        if code == 0 and part.module and not self._stopping.is_set():
            self._fork_server.renew()
        self.reap()

    def reap(self) -> None:
        """Reap the orphans that this process has adopted."""
        if self._forked and not self._fork_server.busy:
            process.reap_strangers({runner.child.pid for runner in self._kept if runner.child is not None})

    async def _listen(self) -> asyncio.BaseTransport:
        """Receive the parts' heartbeats."""
        self._home.heartbeat_socket.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _HeartbeatReceiver(self._hear), local_addr=str(self._home.heartbeat_socket), family=socket.AF_UNIX
        )
        return transport

    def _hear(self, pid: int, is_up: bool = True) -> None:
        now = time.monotonic()
        for runner in self._all:
            if runner.child is not None and runner.child.pid == pid:
                runner.heard = now if is_up else runner.heard
                self._watch.hear(pid, now)

    async def _watch_always(self) -> None:
        """Kill parts that are silent. HAProxy and the fork server are asked, the other parts send heartbeats."""
        while True:
            await asyncio.sleep(heartbeat.pause(self._lease))
            await asyncio.gather(
                self._ask("haproxy", alive.answers(self._home)), self._ask("fork-server", self._fork_server.lives())
            )
            self._end_silent(time.monotonic())
            self.reap()  # orphans that ended while the fork server was busy

    def _end_silent(self, now: float) -> None:
        running = {runner.child.pid: runner for runner in self._all if runner.child is not None}
        for pid, runner in running.items():
            if runner.part.beats or runner.part.asked:
                self._watch.expect(pid, now)
        for pid in self._watch.silent(now, running):
            running[pid].kill(f"it sent no heartbeat for {self._watch.patience(pid):g} s")

    async def _ask(self, name: str, asking: Awaitable[bool]) -> None:
        with contextlib.suppress(TimeoutError):
            if await asyncio.wait_for(asking, heartbeat.pause(self._lease)):
                for runner in self._all:
                    if runner.part.name == name and runner.child is not None:
                        self._hear(runner.child.pid)


class _HeartbeatReceiver(asyncio.DatagramProtocol):
    def __init__(self, hear: Callable[[int, bool], None]) -> None:
        self._hear = hear

    def datagram_received(self, data: bytes, addr: object) -> None:
        if (sign := heartbeat.understood(data)) is not None:
            self._hear(*sign)


async def supervise(home: Home, settings: Settings, announce: Callable[[GivenUp | None], None]) -> bool:
    """Run the platform in `home` until SIGTERM, SIGINT or SIGHUP; False when it could not be started.

    SIGHUP is what a terminal that is closed sends; one that is ignored (`nohup`) stays ignored.
    """
    process.open_many_files()
    address = Address(settings.host, settings.port)
    supervisor = Supervisor(
        home, address, parts(settings), lambda: answers_health(address), announce, settings.lease, CLEANUP
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, supervisor.reap)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, supervisor.stop)
    return await supervisor.run()
