"""The agent's link to the control plane, which may come and go; the agent stays.

What is sent while the link is down is dropped, except how units ended: that is kept a while and sent again after every
return, since nobody knows how much the control plane read before it went. It takes such news twice without harm.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from flyte import wire

log = logging.getLogger("tarmac.agent")

LONGEST_PAUSE = 0.05
"""Seconds between attempts to connect. To try costs microseconds, and a new control plane is there in 0.1 s."""

MEMORY = 30.0
"""Seconds before the loss of a link for which ends are sent again."""

_ENDS = (wire.UnitExited,)
"""PoolFailed is not among them: the next StartUnit for that pool reports it again."""


class ControlLink:
    """`state` tells which units are alive, for Hello; `obey` gets every order; `welcomed` runs after each Welcome."""

    def __init__(
        self,
        socket: Path,
        token: Callable[[], str],
        state: Callable[[], list[wire.UnitState]],
        obey: Callable[[wire.AnyFrame], None],
        welcomed: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._token = token
        self._state = state
        self._obey = obey
        self._welcomed = welcomed
        self._writer: asyncio.StreamWriter | None = None
        self._ends: deque[tuple[float, wire.Frame]] = deque(maxlen=2000)
        self._heard = 0.0
        """When the control plane was last there."""

    def send(self, frame: wire.Frame) -> None:
        if isinstance(frame, _ENDS):
            self._ends.append((asyncio.get_running_loop().time(), frame))
        if self._writer is not None:
            _write(self._writer, frame)

    async def run(self) -> None:
        """Connect, and again whenever the link is lost, until cancelled."""
        pause = 0.0
        while True:
            try:
                if await self._talk():
                    pause = 0.0
            except (OSError, wire.FrameError) as error:
                log.info("no link to the control plane: %s", error)
            except Exception:  # the units go on, and so does the agent
                log.exception("the link to the control plane was lost; reconnecting")
                pause = LONGEST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2 + 0.01, LONGEST_PAUSE)

    async def _talk(self) -> bool:
        """One link, from Hello to its end; whether the control plane welcomed us."""
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            hello = wire.Hello(kind="agent", name="agent", token=self._token(), pid=os.getpid(), units=self._state())
            _write(writer, hello)
            unpacker = wire.Unpacker()
            while data := await reader.read(262_144):
                for frame in unpacker.feed(data):
                    self._receive(frame, writer)
            return self._writer is not None
        finally:
            self._lost()
            writer.close()

    def _receive(self, frame: wire.AnyFrame, writer: asyncio.StreamWriter) -> None:
        match frame:
            case wire.Welcome():
                self._writer = writer
                self._resend()
                self._welcomed()
            case wire.Refused():
                log.error("the control plane refuses this agent: %s", frame.message)
            case wire.Ping():
                _write(writer, wire.Pong(at=frame.at))
            case _:
                self._obey(frame)

    def _resend(self) -> None:
        for at, frame in self._ends:
            if at >= self._heard - MEMORY and self._writer is not None:
                _write(self._writer, frame)

    def _lost(self) -> None:
        if self._writer is not None:
            self._heard = asyncio.get_running_loop().time()
            self._writer = None


def _write(writer: asyncio.StreamWriter, frame: wire.Frame) -> None:
    """Send on a link that may have broken a moment ago, before its reader has noticed; uvloop refuses that."""
    if not writer.is_closing():
        writer.write(wire.pack(frame))
