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

from tarmac import __version__, aside, process, pulse
from tarmac.gateway import alive
from tarmac.home import Home
from tarmac.settings import Settings
from tarmac.supervisor import stem, will
from tarmac.supervisor.door import START_LIMIT, Door, GivenUp, answers_health
from tarmac.supervisor.part import Keeper, Part, parts
from tarmac.supervisor.part_logs import rotate, tail
from tarmac.supervisor.stem import Stem

_LOG_CHECK = 30.0

_CLEARED_WITHIN = 2.0
"""Seconds that are waited for what another life of the platform, or this one, left behind."""

HEIR = Part("will", will.COMMAND, ((signal.SIGKILL, 1.0),))


class Supervisor:
    """`healthy` says whether the platform answers; `announce` hears once how the start went: None, or why it failed.

    A part that gives no sign of life for `lease` seconds, or for `pulse.BIRTH` since its start, is killed, and so
    started again; of one that neither beats nor is asked none is expected. `heir` cleans up after a supervisor that is
    killed.
    """

    def __init__(
        self,
        home: Home,
        door: Door,
        parts: Sequence[Part],
        healthy: Callable[[], Awaitable[bool]],
        announce: Callable[[GivenUp | None], None] = lambda failure: None,
        lease: float = 60,
        heir: Part | None = None,
    ) -> None:
        own = {"TARMAC_HOME": str(home.path), "TARMAC_PORT": str(door.port), process.LIFE: secrets.token_hex(8)}
        env = process.family_environment(home.path, {**os.environ, **own})
        self._home = home
        self._door = door
        spawn = stem.spawner(env, home.path)
        self._stem = Stem(spawn, lambda why: self._stem_keeper.kill(why))
        self._stem_keeper = Keeper(stem.PART, home, self._stem.start, lambda part, code: self.reap())
        self._forked = any(part.module for part in parts) and process.adopt_orphans()

        async def start(part: Part, log: Path) -> process.Child:
            if not self._forked or not part.module:
                return spawn(part, log, ())
            child = await self._stem.fork(part, log)
            asyncio.get_running_loop().call_soon(self.reap)  # who ended meanwhile
            return child

        self._keepers = [Keeper(part, home, start, self._ended) for part in parts]
        self._all = [self._stem_keeper, *self._keepers] if self._forked else self._keepers
        """What a start depends on."""

        async def start_heir(part: Part, log: Path) -> process.Child:
            return will.start(env, home.path, log)

        self._heirs = [Keeper(heir, home, start_heir)] if heir is not None else []
        self._kept = [*self._heirs, *self._all]
        self._lease = lease
        self._watch = pulse.Watch(lease, time.monotonic())
        self._healthy = healthy
        self._announce = announce
        self._stopping = asyncio.Event()
        self._started = time.time()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> bool:
        """Keep the platform running until `stop`; False when it could not be started."""
        self._home.state_file.unlink(missing_ok=True)  # an earlier one was killed
        process.end_marked(self._home.path, _CLEARED_WITHIN)
        self._home.supervisor_socket.unlink(missing_ok=True)
        aside.clear(self._home)
        async with asyncio.TaskGroup() as tasks:
            status = await asyncio.start_unix_server(self._tell, self._home.supervisor_socket)
            kept = [tasks.create_task(keeper.run()) for keeper in self._kept]
            ears = await self._listen()
            others = [tasks.create_task(self._rotate_logs()), tasks.create_task(self._watch_always())]
            failure = await self._first_answer() or self._write_state()
            self._announce(failure)
            if failure is None:
                await self._stopping.wait()
            self._home.state_file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # on a full disk actions are told that their workers were lost
                self._home.stopping.touch()
            await self._stop_all()
            for task in (*kept, *others):
                task.cancel()
            self._stem.renew()
            ears.close()
            status.close()
        process.end_marked(self._home.path, _CLEARED_WITHIN)
        return failure is None

    async def _first_answer(self) -> GivenUp | None:
        """Wait until the platform answers; else why that is not to be expected."""
        hopeless = [asyncio.ensure_future(keeper.hopeless.wait()) for keeper in self._all]
        answer, stop = asyncio.ensure_future(self._answers()), asyncio.ensure_future(self._stopping.wait())
        waiting = (answer, stop, *hopeless)
        await asyncio.wait(waiting, timeout=START_LIMIT, return_when=asyncio.FIRST_COMPLETED)
        for future in waiting:
            future.cancel()
        if answer.done() and not answer.cancelled():
            return None
        if self._stopping.is_set():
            return GivenUp("it was stopped before it answered")
        for keeper in self._all:
            if keeper.hopeless.is_set():
                message = f"its part {keeper.part.name!r} ended {keeper.deaths} times in a row: {keeper.last_end}"
                return GivenUp(message, keeper.part.name, tail(keeper.log))
        worst = max(self._all, key=lambda keeper: keeper.restarts)
        message = f"it did not answer at {self._door.endpoint} within {START_LIMIT:g} s"
        return GivenUp(message, worst.part.name, tail(worst.log))

    async def _answers(self) -> None:
        """Every part has come up, so that HAProxy knows every app; and a request is answered."""
        while not (self._have_come_up() and await self._healthy()):  # noqa: ASYNC110 - only the answer itself tells
            await asyncio.sleep(0.02)

    def _have_come_up(self) -> bool:
        return all(keeper.heard is not None for keeper in self._keepers if keeper.part.beats)

    async def _stop_all(self) -> None:
        for keeper in self._kept:
            keeper.stopping = True  # none is started again while another is being stopped
        for keeper in reversed(self._kept):
            await keeper.stop()

    def _write_state(self) -> GivenUp | None:
        """Say where the platform is; else why that cannot be said."""
        door = self._door
        try:
            self._home.write_state(
                endpoint=door.endpoint,
                port=door.port,
                pid=os.getpid(),
                version=__version__,
                started=self._started,
                stops_within=sum(keeper.part.stops_within for keeper in self._kept),
            )
        except OSError as error:
            return GivenUp(f"{self._home.state_file} cannot be written: {error.strerror}")
        return None

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK)
            for file in (*(keeper.log for keeper in self._kept), self._home.part_log("supervisor")):
                rotate(file)

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whoever connects gets the state of every part as one JSON text."""
        writer.write(json.dumps(self.told()).encode())
        writer.close()

    def told(self) -> dict[str, Any]:
        """The state of this platform and of each of its parts."""
        state = {"pid": os.getpid(), "started": self._started, "parts": [keeper.status() for keeper in self._keepers]}
        if self._forked:
            state["stem"] = self._stem_keeper.status()
        for keeper in self._heirs:
            state["will"] = keeper.status()
        return state

    # --------------------------------------------------------------------------------------------- ends, and silence

    def _ended(self, part: Part, code: int) -> None:
        """An orderly end is how a part is renewed: what follows it must be the code that is installed now."""
        if code == 0 and part.module and not self._stopping.is_set():
            self._stem.renew()
        self.reap()

    def reap(self) -> None:
        """Reap the orphans that became ours."""
        if self._forked and not self._stem.busy:
            process.reap_strangers({keeper.child.pid for keeper in self._kept if keeper.child is not None})

    async def _listen(self) -> asyncio.BaseTransport:
        """Hear the parts' signs of life."""
        self._home.pulse_socket.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Ear(self._hear), local_addr=str(self._home.pulse_socket), family=socket.AF_UNIX
        )
        return transport

    def _hear(self, pid: int, is_up: bool = True) -> None:
        now = time.monotonic()
        for keeper in self._all:
            if keeper.child is not None and keeper.child.pid == pid:
                keeper.heard = now if is_up else keeper.heard
                self._watch.hear(pid, now)

    async def _watch_always(self) -> None:
        """Kill what is silent. HAProxy and the stem are asked, the others speak by themselves."""
        while True:
            await asyncio.sleep(pulse.pause(self._lease))
            await asyncio.gather(self._ask("haproxy", alive.answers(self._home)), self._ask("stem", self._stem.lives()))
            self._end_silent(time.monotonic())
            self.reap()  # who ended while the stem had not answered

    def _end_silent(self, now: float) -> None:
        running = {keeper.child.pid: keeper for keeper in self._all if keeper.child is not None}
        for pid, keeper in running.items():
            if keeper.part.beats or keeper.part.asked:
                self._watch.expect(pid, now)
        for pid in self._watch.silent(now, running):
            running[pid].kill(f"it sent no heartbeat for {self._watch.patience(pid):g} s")

    async def _ask(self, name: str, asking: Awaitable[bool]) -> None:
        with contextlib.suppress(TimeoutError):
            if await asyncio.wait_for(asking, pulse.pause(self._lease)):
                for keeper in self._all:
                    if keeper.part.name == name and keeper.child is not None:
                        self._hear(keeper.child.pid)


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, hear: Callable[[int, bool], None]) -> None:
        self._hear = hear

    def datagram_received(self, data: bytes, addr: object) -> None:
        if (sign := pulse.understood(data)) is not None:
            self._hear(*sign)


async def supervise(home: Home, settings: Settings, announce: Callable[[GivenUp | None], None]) -> bool:
    """Run the platform in `home` until SIGTERM, SIGINT or SIGHUP; False when it could not be started.

    SIGHUP is what a terminal that is closed sends; one that is ignored (`nohup`) stays ignored.
    """
    process.open_many_files()
    door = Door(settings.host, settings.port)
    supervisor = Supervisor(home, door, parts(settings), lambda: answers_health(door), announce, settings.lease, HEIR)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, supervisor.reap)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, supervisor.stop)
    return await supervisor.run()
