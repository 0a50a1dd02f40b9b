"""A part's end of its link to the control plane: connected whenever the control plane is there.

The control plane may come and go; the part stays, and its link is made anew. What is sent while there is no link is
dropped, and `send` says so: each part decides by itself what it sends again after a Welcome.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from flyte.backoff import Pauses
from flyte.wire import AnyFrame, Frame, FrameError, Hello, Ping, Pong, Refused, Unpacker, Welcome, pack

log = logging.getLogger("tarmac.links")

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.05
"""Seconds between two tries to connect. A try costs microseconds, and a new control plane is there in 0.2 s."""

WELCOME_TIMEOUT = 10.0
"""Seconds in which the control plane has to answer a Hello."""

_READ = 256 * 1024


class ReconnectingLink:
    """`hello` makes the first frame of each link; `on_open` runs after each Welcome, `on_frame` for every later frame.

    Pings are answered here.
    """

    def __init__(
        self,
        path: Path,
        hello: Callable[[], Hello],
        on_open: Callable[[], None],
        on_frame: Callable[[AnyFrame], None],
    ) -> None:
        self._path = path
        self._hello, self._on_open, self._on_frame = hello, on_open, on_frame
        self._writer: asyncio.StreamWriter | None = None
        self._pauses = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        self._complaint = ""
        self.lost_at = 0.0
        """When the last link was lost, on the loop's clock; 0 before the first one."""

    def send(self, frame: Frame) -> bool:
        """Queue a frame. False if there is no link: nothing was sent."""
        if self._writer is None or self._writer.is_closing():  # uvloop refuses to write on a link that has broken
            return False
        self._writer.write(pack(frame))
        return True

    async def keep(self) -> None:
        """Connect, and again whenever the link is lost, until cancelled."""
        while True:
            try:
                await self._once()
            except (OSError, EOFError, FrameError, TimeoutError) as error:  # PermissionError, of Refused, is an OSError
                self._complain(str(error) or type(error).__name__)
            except Exception:  # the part's own `hello` or `on_open`: its other work goes on
                log.exception("the link to the control plane was lost; reconnecting")
            await self._pauses.wait()

    def _complain(self, reason: str) -> None:
        """Log a problem once, for as long as it stays the same."""
        if reason != self._complaint:
            self._complaint = reason
            log.warning("no link to the control plane: %s", reason)

    async def _once(self) -> NoReturn:
        """Run one link, from Hello to its end. Raises PermissionError when the control plane refuses it."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(pack(self._hello()))
            unpacker = Unpacker()
            async with asyncio.timeout(WELCOME_TIMEOUT):
                first, *later = await _read(reader, unpacker)
            self._open(first, writer)
            while True:
                for frame in later:
                    self._receive(frame)
                later = await _read(reader, unpacker)
        finally:
            if self._writer is not None:
                self._writer, self.lost_at = None, asyncio.get_running_loop().time()
            writer.close()

    def _open(self, first: AnyFrame, writer: asyncio.StreamWriter) -> None:
        if isinstance(first, Refused):
            raise PermissionError(f"it refuses this process: {first.message}")
        if not isinstance(first, Welcome):
            raise FrameError(f"the answer to Hello is a {type(first).__name__}")
        self._writer, self._complaint = writer, ""
        self._pauses.reset()
        log.info("linked to the control plane, epoch %d", first.epoch)
        self._on_open()

    def _receive(self, frame: AnyFrame) -> None:
        if isinstance(frame, Ping):
            self.send(Pong(at=frame.at))
            return
        try:
            self._on_frame(frame)
        except Exception:  # one frame that cannot be handled must not end the part
            log.exception("a frame of the control plane cannot be handled: %s", type(frame).__name__)


async def _read(reader: asyncio.StreamReader, unpacker: Unpacker) -> list[AnyFrame]:
    """The frames that have arrived, at least one. Raises EOFError at the link's end."""
    while data := await reader.read(_READ):
        if frames := unpacker.feed(data):
            return frames
    raise EOFError("the control plane closed the link")
