"""The platform's parts, and the runner that keeps one of them alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flyte.backoff import pause
from tarmac import process, starting
from tarmac.home import Home
from tarmac.process import Child
from tarmac.settings import Settings
from tarmac.supervisor.part_logs import rotate

log = logging.getLogger("tarmac.supervisor")

START_ATTEMPTS = 3
"""How often a part may end before the platform has answered for the first time; then the start is given up."""

SETTLED = 1.0
"""Seconds after which a part that sends no heartbeats counts as ready."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before the next start of a part that ended twice in a row; after the first end there is no pause."""

KILLED_WITHIN = 2.0
"""Seconds to wait for the end of a process that was killed."""

_SOFTLY = ((signal.SIGUSR1, 1.0), (signal.SIGTERM, 2.0))


@dataclass(frozen=True, slots=True)
class Part:
    """One of the platform's processes."""

    name: str
    command: Sequence[str]
    stop_signals: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 5.0),)
    """Signals that stop it, each with the seconds to wait before the next one; then comes SIGKILL."""
    module: str = ""
    """The module whose `main` it runs; empty for a program that is not ours, which the fork server cannot fork."""
    beats: bool = False
    """It sends heartbeats, which also say when it is ready."""
    asked: bool = False
    """The supervisor asks whether it answers, in place of heartbeats."""

    @property
    def stops_within(self) -> float:
        """Seconds that stopping it may take, SIGKILL included."""
        return sum(seconds for _, seconds in self.stop_signals) + KILLED_WITHIN


def parts(settings: Settings) -> tuple[Part, ...]:
    """The parts in the order in which `flyte up` starts them; they are stopped in the reverse order."""
    return (
        _python("control", "tarmac.server"),
        # it waits `grace` for its units, and then a moment for the end of those that it killed
        _python("agent", "tarmac.agent.__main__", ((signal.SIGTERM, settings.grace + 6),)),
        # SIGUSR1 lets HAProxy finish open requests, SIGTERM does not
        replace(_python("haproxy", "tarmac.gateway.haproxy", _SOFTLY), beats=False, asked=True),
        _python("gateway", "tarmac.gateway.__main__"),
    )


def _python(name: str, module: str, stop_signals: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 5.0),)) -> Part:
    command = (sys.executable, "-m", module.removesuffix(".__main__"))
    return Part(name, command, stop_signals, module, beats=True)


@dataclass(slots=True)
class PartRunner:
    """Keeps one part running. `start` starts its process; `on_end` is called at each end, with the return code."""

    part: Part
    home: Home
    start: Callable[[Part, Path], Awaitable[Child]]
    on_end: Callable[[Part, int], None] = lambda part, code: None
    child: Child | None = None
    since: float = 0.0
    restarts: int = 0
    deaths: int = 0
    """How many processes in a row ended before they were ready."""
    heard: float | None = None
    """When the present process sent its last heartbeat, on the monotonic clock; None before it is ready."""
    kill_reason: str = ""
    """Why the supervisor killed the present process."""
    last_end: str = ""
    stopping: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the part has no process."""
    start_failed: asyncio.Event = field(default_factory=asyncio.Event)
    _given_up: int = 0
    """How many records the part had set aside at the last check."""
    _restarts_then: int = 0
    """The number of restarts at that check."""

    @property
    def log(self) -> Path:
        return self.home.part_log(self.part.name)

    async def run(self) -> None:
        """Start the part, and start it again whenever it has ended, until `stop`."""
        while not self.stopping:
            began = time.monotonic()
            end = await self._one_life()
            if self.stopping:
                return
            had_come_up = self.heard is not None or time.monotonic() - began >= SETTLED
            self.deaths = 1 if had_come_up else self.deaths + 1
            self.last_end = end
            self.restarts += 1
            self._judge()
            log.warning("%s: %s; it is started again", self.part.name, end)
            await asyncio.sleep(pause(self.deaths - 1, FIRST_PAUSE, LONGEST_PAUSE))

    def _judge(self) -> None:
        """Give up a part that ended too often. A part that sets aside the record which ended it gets new attempts."""
        given_up = starting.given_up(self.home, self.part.name)
        if given_up > self._given_up:
            self._given_up, self._restarts_then = given_up, self.restarts
        if self.restarts - self._restarts_then >= START_ATTEMPTS:
            self.start_failed.set()

    async def _one_life(self) -> str:
        """Like `_once`; an error of the supervisor's own counts as an end, since it would stop the whole platform."""
        try:
            return await self._once()
        except Exception as error:
            log.error("%s: the supervisor failed to run it", self.part.name, exc_info=error)
            await self._abandon()
            return f"the supervisor failed to run it: {error!r}"

    async def _abandon(self) -> None:
        """Kill the present process, if there is one; another one is started afterwards."""
        child = self.child
        if child is not None:
            self._kill(child)
            deadline = time.monotonic() + KILLED_WITHIN
            while child.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        self.child = None
        self.over.set()

    async def _once(self) -> str:
        """Run one process from its start to its end; returns how it ended, in words."""
        self.heard, self.kill_reason = None, ""
        rotate(self.log)
        try:
            self.child = await self.start(self.part, self.log)
        except OSError as error:
            return f"it cannot be started: {error}"
        self.since = time.time()
        self.over.clear()
        code = await process.ended(self.child)
        process.signal_group(self.child.pid, signal.SIGKILL)
        self.child = None
        self.over.set()
        self.on_end(self.part, code)
        end = process.describe_exit(code, -code if code < 0 else None)
        return f"{end}: {self.kill_reason}" if self.kill_reason else end

    def kill(self, why: str) -> None:
        """Kill the present process, so that another one is started."""
        if self.child is not None:
            self.kill_reason = why
            self._kill(self.child)

    def _kill(self, child: Child) -> None:
        process.kill({child.pid})  # a process that was just forked leads no group yet
        process.signal_group(child.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Stop the part, by its stop signals and then by SIGKILL."""
        self.stopping = True
        running = self.child
        if running is None:
            return
        for number, seconds in self.part.stop_signals:
            process.kill({running.pid}, number)
            if await self._gone(seconds):
                return
        log.warning("%s does not end on its stop signals: killed", self.part.name)
        self._kill(running)
        await self._gone(KILLED_WITHIN)

    async def _gone(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()
        return self.over.is_set()

    def status(self) -> dict[str, object]:
        pid = self.child.pid if self.child else None
        state = "running" if pid else "stopped" if self.stopping else "down"
        row: dict[str, object] = {"name": self.part.name, "state": state, "pid": pid, "restarts": self.restarts}
        silent = None if self.heard is None or not pid else round(time.monotonic() - self.heard, 3)
        return {**row, "since": self.since, "silent": silent, "last_end": self.last_end}
