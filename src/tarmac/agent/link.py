"""The agent's link to the control plane.

What is sent while the link is down is dropped, except how units ended: that is kept a while and sent again after every
reconnection, since nobody knows how much the control plane read before it went. The control plane accepts the same end
twice without harm.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from flyte import wire
from tarmac.links.client import ReconnectingLink

MEMORY = 30.0
"""Seconds before the loss of a link for which ends are sent again."""


class ControlLink:
    """`state` lists the living units, for Hello; `obey` gets every order; `welcomed` runs after each Welcome."""

    def __init__(
        self,
        socket: Path,
        token: Callable[[], str],
        state: Callable[[], list[wire.UnitState]],
        obey: Callable[[wire.AnyFrame], None],
        welcomed: Callable[[], None],
    ) -> None:
        self._token, self._state, self._welcomed = token, state, welcomed
        self._link = ReconnectingLink(socket, self._hello, self._opened, obey)
        self._ends: deque[tuple[float, wire.UnitExited]] = deque(maxlen=2000)
        """How units ended, and when. PoolFailed is not kept: the next StartUnit for that pool reports it again."""

    async def run(self) -> None:
        """Keep the link until cancelled."""
        await self._link.keep()

    def send(self, frame: wire.Frame) -> None:
        if isinstance(frame, wire.UnitExited):
            self._ends.append((asyncio.get_running_loop().time(), frame))
        self._link.send(frame)

    def _hello(self) -> wire.Hello:
        return wire.Hello(kind="agent", name="agent", token=self._token(), pid=os.getpid(), units=self._state())

    def _opened(self) -> None:
        since = self._link.lost_at - MEMORY
        for at, frame in self._ends:
            if at >= since:
                self._link.send(frame)
        self._welcomed()
