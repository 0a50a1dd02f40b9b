"""One of the platform's processes, and what keeps it alive."""

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

from tarmac import process, starting
from tarmac.home import Home
from tarmac.process import Child
from tarmac.settings import Settings
from tarmac.supervisor.part_logs import rotate

log = logging.getLogger("tarmac.supervisor")

HOPELESS = 3
"""Ends before the platform has answered for the first time, after which the start is given up."""

SETTLED = 1.0
"""Seconds a part must live to count as come up, where it gives no sign of life."""

LONGEST_PAUSE = 2.0

KILLED_WITHIN = 2.0
"""Seconds that are waited for the end of what was killed."""

_SOFTLY = ((signal.SIGUSR1, 1.0), (signal.SIGTERM, 2.0))


@dataclass(frozen=True, slots=True)
class Part:
    """One of the platform's processes."""

    name: str
    command: Sequence[str]
    farewell: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 5.0),)
    """Signals to end it with, each with the seconds it may take; then comes SIGKILL."""
    module: str = ""
    """Its `main` is what the command runs; empty: it is a program of its own, which the stem cannot fork."""
    beats: bool = False
    """It gives signs of life by itself, and says when it has come up."""
    asked: bool = False
    """It is asked for signs of life."""

    @property
    def stops_within(self) -> float:
        """Seconds that its end may take, by farewell and then by SIGKILL."""
        return sum(seconds for _, seconds in self.farewell) + KILLED_WITHIN


def parts(settings: Settings) -> tuple[Part, ...]:
    """What `flyte up` starts; it is stopped the other way round."""
    return (
        _python("control", "tarmac.server"),
        # it gives its units `grace`, and then needs a moment to see them gone
        _python("agent", "tarmac.agent.__main__", ((signal.SIGTERM, settings.grace + 6),)),
        # first let open requests end, then do not
        replace(_python("haproxy", "tarmac.gateway.haproxy", _SOFTLY), beats=False, asked=True),
        _python("gateway", "tarmac.gateway.__main__"),
    )


def _python(name: str, module: str, farewell: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 5.0),)) -> Part:
    command = (sys.executable, "-m", module.removesuffix(".__main__"))
    return Part(name, command, farewell, module, beats=True)


def pause(deaths: int) -> float:
    """Seconds before the next start, after so many deaths in a row: none at first, then 0.1, doubled up to 2."""
    return 0.0 if deaths <= 1 else min(0.1 * 2.0 ** (deaths - 2), LONGEST_PAUSE)


@dataclass(slots=True)
class Keeper:
    """Keeps one part alive. `start` starts a process of it; `on_end` hears of each end, and its return code."""

    part: Part
    home: Home
    start: Callable[[Part, Path], Awaitable[Child]]
    on_end: Callable[[Part, int], None] = lambda part, code: None
    child: Child | None = None
    since: float = 0.0
    restarts: int = 0
    deaths: int = 0
    """In a row, of processes that had not come up."""
    heard: float | None = None
    """When the present process gave its last sign of life, on the monotonic clock; None before it has come up."""
    verdict: str = ""
    """Why we ended the present process ourselves."""
    last_end: str = ""
    stopping: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it has no process."""
    hopeless: asyncio.Event = field(default_factory=asyncio.Event)
    _given_up: int = 0
    """What the part had set aside when it was last looked for."""
    _hoped: int = 0
    """The number of restarts then."""

    @property
    def log(self) -> Path:
        return self.home.part_log(self.part.name)

    async def run(self) -> None:
        """Start it, and again whenever it has ended, until `stop`."""
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
            await asyncio.sleep(pause(self.deaths))

    def _judge(self) -> None:
        """Whether it will never come up. One that has set aside what had ended it is given as many starts again."""
        given_up = starting.given_up(self.home, self.part.name)
        if given_up > self._given_up:
            self._given_up, self._hoped = given_up, self.restarts
        if self.restarts - self._hoped >= HOPELESS:
            self.hopeless.set()

    async def _one_life(self) -> str:
        """As `_once`; a fault of ours in it is an end like any other, since it would end the whole platform."""
        try:
            return await self._once()
        except Exception as error:
            log.error("%s: the supervisor failed to run it", self.part.name, exc_info=error)
            await self._abandon()
            return f"the supervisor failed to run it: {error!r}"

    async def _abandon(self) -> None:
        """Be rid of the process that is there, if one is: another one follows it."""
        child = self.child
        if child is not None:
            self._kill(child)
            deadline = time.monotonic() + KILLED_WITHIN
            while child.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        self.child = None
        self.over.set()

    async def _once(self) -> str:
        """One process, from its start to its end; the end in words."""
        self.heard, self.verdict = None, ""
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
        return f"{end}: {self.verdict}" if self.verdict else end

    def kill(self, why: str) -> None:
        """End the process that is there, so that another one is started."""
        if self.child is not None:
            self.verdict = why
            self._kill(self.child)

    def _kill(self, child: Child) -> None:
        process.kill({child.pid})  # one that was just forked has no group yet
        process.signal_group(child.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End it, by its farewell and then by SIGKILL."""
        self.stopping = True
        running = self.child
        if running is None:
            return
        for number, seconds in self.part.farewell:
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
