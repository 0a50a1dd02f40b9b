"""The supervisor: it starts the platform's parts, starts again what dies, stops them in order, and that is all.

A part that dies is started again at once; one that dies again and again, after ever longer pauses. As long as the
platform has not answered for the first time, such a part is a reason to give up and to say why: a start that fails
must not look like one that takes long. Later it never gives up.

Everything beneath ends with the supervisor, however that ends (see `process`). Two supervisors of one platform are
kept apart by a lock on a file, which the system releases when its holder is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flyte.errors import BaseRuntimeError
from tarmac import __version__, process
from tarmac import home as homes
from tarmac import settings as all_settings
from tarmac.home import Home
from tarmac.settings import Settings
from tarmac.supervisor.lock import locked
from tarmac.supervisor.part_logs import rotate, tail

log = logging.getLogger("tarmac.supervisor")

START_LIMIT = 60.0
"""Seconds for the platform to answer for the first time."""

HOPELESS = 3
"""Deaths in a row, before the platform has answered for the first time, after which the start is given up."""

SETTLED = 10.0
"""Seconds a part must live for its earlier deaths to be forgotten."""

LONGEST_PAUSE = 2.0
_LOG_CHECK = 30.0
HAPROXY = "haproxy"
"""The argument with which this program becomes HAProxy."""

_SOFTLY = ((signal.SIGUSR1, 1.0), (signal.SIGTERM, 2.0))


@dataclass(frozen=True, slots=True)
class Part:
    """One of the platform's processes."""

    name: str
    command: Sequence[str]
    farewell: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 5.0),)
    """Signals to end it with, each with the seconds it may take; then comes SIGKILL."""


def parts(settings: Settings) -> tuple[Part, ...]:
    """What `flyte up` starts, in the order of starting; it is stopped the other way round."""
    return (
        Part("control", (sys.executable, "-m", "tarmac.server")),
        # it gives its units `grace`, and then needs a moment to see them gone
        Part("agent", (sys.executable, "-m", "tarmac.agent"), ((signal.SIGTERM, settings.grace + 6),)),
        # first let open requests end, then do not
        Part("haproxy", (sys.executable, "-m", "tarmac.supervisor", HAPROXY), _SOFTLY),
        Part("gateway", (sys.executable, "-m", "tarmac.gateway")),
    )


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Why the platform could not be started; `part` is what failed, if it was one part, `tail` the end of its log."""

    message: str
    part: str = ""
    tail: str = ""


# -------------------------------------------------------------------------------------------------------------- a part


def pause(deaths: int) -> float:
    """Seconds before the next start, after so many deaths in a row: none at first, then 0.1, doubled up to 2."""
    return 0.0 if deaths <= 1 else min(0.1 * 2.0 ** (deaths - 2), LONGEST_PAUSE)


@dataclass(slots=True)
class Keeper:
    """Keeps one part alive."""

    part: Part
    home: Home
    env: dict[str, str]
    child: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    restarts: int = 0
    deaths: int = 0
    """In a row, none of which came after SETTLED seconds of life."""
    last_end: str = ""
    stopping: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it has no process."""
    hopeless: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def log(self) -> Path:
        return self.home.part_log(self.part.name)

    async def run(self) -> None:
        """Start it, and again whenever it has ended, until `stop`."""
        while not self.stopping:
            began = time.monotonic()
            end = await self._once()
            if self.stopping:
                return
            self.deaths = self.deaths + 1 if time.monotonic() - began < SETTLED else 1
            self.last_end = end
            self.restarts += 1
            if self.deaths >= HOPELESS:
                self.hopeless.set()
            log.warning("%s: %s; it is started again", self.part.name, end)
            await asyncio.sleep(pause(self.deaths))

    async def _once(self) -> str:
        """One process, from its start to its end; the end in words."""
        try:
            self.child = self._start()
        except OSError as error:
            return f"it cannot be started: {error}"
        self.since = time.time()
        self.over.clear()
        code = await process.ended(self.child)
        process.signal_group(self.child.pid, signal.SIGKILL)
        self.child = None
        self.over.set()
        return process.describe_exit(code, -code if code < 0 else None)

    def _start(self) -> subprocess.Popen[bytes]:
        rotate(self.log)
        with self.log.open("ab") as output:
            return process.start(self.part.command, env=self.env, output=output.fileno(), cwd=self.home.path)

    async def stop(self) -> None:
        """End it, by its farewell and then by SIGKILL."""
        self.stopping = True
        running = self.child
        if running is None:
            return
        for number, seconds in self.part.farewell:
            with contextlib.suppress(ProcessLookupError):
                running.send_signal(number)
            if await self._gone(seconds):
                return
        log.warning("%s does not end: killed", self.part.name)
        process.signal_group(running.pid, signal.SIGKILL)
        await self._gone(2.0)

    async def _gone(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()
        return self.over.is_set()

    def status(self) -> dict[str, object]:
        pid = self.child.pid if self.child else None
        state = "running" if pid else "stopped" if self.stopping else "down"
        row: dict[str, object] = {"name": self.part.name, "state": state, "pid": pid, "restarts": self.restarts}
        return {**row, "since": self.since, "last_end": self.last_end}


# ---------------------------------------------------------------------------------------------------------- the whole


@dataclass(frozen=True, slots=True)
class Door:
    """Where the platform answers."""

    host: str
    port: int

    @property
    def endpoint(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


class Supervisor:
    """`healthy` says whether the platform answers; `announce` hears once how the start went: None, or why it failed."""

    def __init__(
        self,
        home: Home,
        door: Door,
        parts: Sequence[Part],
        healthy: Callable[[], Awaitable[bool]],
        announce: Callable[[GivenUp | None], None] = lambda failure: None,
    ) -> None:
        environ = {**os.environ, "TARMAC_HOME": str(home.path), "TARMAC_PORT": str(door.port)}
        env = process.family_environment(home.path, environ)
        self._home = home
        self._door = door
        self._keepers = [Keeper(part, home, env) for part in parts]
        self._healthy = healthy
        self._announce = announce
        self._stopping = asyncio.Event()
        self._started = time.time()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> bool:
        """Keep the platform running until `stop`; False when it could not be started."""
        process.kill(process.marked(self._home.path))
        self._home.supervisor_socket.unlink(missing_ok=True)
        async with asyncio.TaskGroup() as tasks:
            status = await asyncio.start_unix_server(self._tell, self._home.supervisor_socket)
            kept = [tasks.create_task(keeper.run()) for keeper in self._keepers]
            logs = tasks.create_task(self._rotate_logs())
            failure = await self._first_answer()
            if failure is None:
                self._write_state()
            self._announce(failure)
            if failure is None:
                await self._stopping.wait()
            self._home.state_file.unlink(missing_ok=True)
            await self._stop_all()
            for task in (*kept, logs):
                task.cancel()
            status.close()
        process.kill(process.marked(self._home.path))
        return failure is None

    async def _first_answer(self) -> GivenUp | None:
        """Wait until the platform answers; else why that is not to be expected."""
        hopeless = [asyncio.ensure_future(keeper.hopeless.wait()) for keeper in self._keepers]
        answer, stop = asyncio.ensure_future(self._answers()), asyncio.ensure_future(self._stopping.wait())
        waiting = (answer, stop, *hopeless)
        await asyncio.wait(waiting, timeout=START_LIMIT, return_when=asyncio.FIRST_COMPLETED)
        for future in waiting:
            future.cancel()
        if answer.done() and not answer.cancelled():
            return None
        if self._stopping.is_set():
            return GivenUp("it was stopped before it answered")
        for keeper in self._keepers:
            if keeper.hopeless.is_set():
                message = f"its part {keeper.part.name!r} ended {keeper.deaths} times in a row: {keeper.last_end}"
                return GivenUp(message, keeper.part.name, tail(keeper.log))
        worst = max(self._keepers, key=lambda keeper: keeper.restarts)
        message = f"it did not answer at {self._door.endpoint} within {START_LIMIT:g} s"
        return GivenUp(message, worst.part.name, tail(worst.log))

    async def _answers(self) -> None:
        while not await self._healthy():  # noqa: ASYNC110 - nothing tells but the answer itself
            await asyncio.sleep(0.02)

    async def _stop_all(self) -> None:
        for keeper in reversed(self._keepers):
            keeper.stopping = True  # none is started again while another is being stopped
        for keeper in reversed(self._keepers):
            await keeper.stop()

    def _write_state(self) -> None:
        door = self._door
        self._home.write_state(
            endpoint=door.endpoint, port=door.port, pid=os.getpid(), version=__version__, started=self._started
        )

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK)
            for file in (*(keeper.log for keeper in self._keepers), self._home.part_log("supervisor")):
                rotate(file)

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whoever connects gets the state of every part as one JSON text."""
        state = {"pid": os.getpid(), "started": self._started, "parts": [keeper.status() for keeper in self._keepers]}
        writer.write(json.dumps(state).encode())
        writer.close()


async def answers_health(door: Door) -> bool:
    """Whether GET /v1/health says that all is well."""
    try:
        async with asyncio.timeout(2):
            answer = await _get(door, "/v1/health")
    except (OSError, TimeoutError):
        return False
    head, _, body = answer.partition(b"\r\n\r\n")
    return b" 200 " in head.partition(b"\r\n")[0] and b'"starting"' not in body


async def _get(door: Door, path: str) -> bytes:
    place = door.endpoint.removeprefix("http://")
    reader, writer = await asyncio.open_connection(place.rpartition(":")[0].strip("[]"), door.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()


# -------------------------------------------------------------------------------------------------------- as a program


async def supervise(home: Home, settings: Settings, announce: Callable[[GivenUp | None], None]) -> bool:
    """Run the platform in `home` until SIGTERM or SIGINT; False when it could not be started."""
    door = Door(settings.host, settings.port)
    supervisor = Supervisor(home, door, parts(settings), lambda: answers_health(door), announce)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    return await supervisor.run()


def _announce_to(fd: int) -> Callable[[GivenUp | None], None]:
    def announce(failure: GivenUp | None) -> None:
        news = asdict(failure) if failure else {}
        with contextlib.suppress(BrokenPipeError):  # nobody waits any more
            os.write(fd, json.dumps(news).encode())
        os.close(fd)

    return announce


def become_haproxy() -> int:
    """Put HAProxy's files in order and become HAProxy. In a process of its own: what fails here ends nothing else."""
    from tarmac import gateway

    home = homes.find()
    try:
        command = gateway.prepare(home, all_settings.load(home.path))
        os.execv(command[0], command)
    except (BaseRuntimeError, OSError) as error:
        print(f"HAProxy cannot be started: {error}", file=sys.stderr)
    return 1


def main(arguments: Sequence[str]) -> int:
    """`python -m tarmac.supervisor [FD]`: FD is a pipe whose other end hears how the start went, as JSON."""
    if arguments == [HAPROXY]:
        return become_haproxy()
    home = homes.find()
    home.prepare()
    settings = all_settings.load(home.path)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    announce = _announce_to(int(arguments[0])) if arguments else lambda failure: None
    if arguments:
        os.set_inheritable(int(arguments[0]), False)
    try:
        with locked(home):
            return 0 if asyncio.run(supervise(home, settings, announce)) else 1
    except BlockingIOError as error:
        announce(GivenUp(str(error)))
        return 1
