"""The gateway's sockets: its link to the control plane, which is restored for ever, and those for HAProxy."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from flyte.wire import AnyFrame, Frame, FrameError, Hello, Ping, Pong, Refused, Unpacker, Welcome, pack

log = logging.getLogger("tarmac.gateway.link")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.1
"""Seconds between two tries to reach the control plane."""

_HELLO_TIMEOUT = 10.0
_READ = 256 * 1024


class Link:
    """`on_open` is called when the control plane has said Welcome, `on_frame` for every later frame."""

    def __init__(
        self, path: Path, token: str, on_open: Callable[[], None], on_frame: Callable[[AnyFrame], None]
    ) -> None:
        self._path, self._token = path, token
        self._on_open, self._on_frame = on_open, on_frame
        self._writer: asyncio.StreamWriter | None = None
        self._complaint = ""
        self._pause = FIRST_PAUSE

    def send(self, frame: Frame) -> bool:
        """Queue a frame. False where there is no link: nothing was sent."""
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(pack(frame))
        return True

    async def keep(self) -> None:
        """Runs for as long as the gateway does."""
        while True:
            try:
                await self._once()
            except (OSError, EOFError, FrameError, PermissionError, TimeoutError) as error:
                self._complain(str(error) or type(error).__name__)
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _complain(self, what: str) -> None:
        """Log a problem once, for as long as it stays the same."""
        if what != self._complaint:
            self._complaint = what
            log.warning("no link to the control plane: %s", what)

    async def _once(self) -> NoReturn:
        """Run one link, from Hello to its end. Raises PermissionError when the control plane refuses it."""
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        try:
            writer.write(pack(Hello(kind="gateway", name="gateway", token=self._token, pid=os.getpid())))
            unpacker = Unpacker()
            async with asyncio.timeout(_HELLO_TIMEOUT):
                frames = await _read(reader, unpacker)
            self._open(frames[0], writer)
            for frame in frames[1:]:
                self._take(frame)
            while True:
                for frame in await _read(reader, unpacker):
                    self._take(frame)
        finally:
            self._writer = None
            writer.close()

    def _open(self, first: AnyFrame, writer: asyncio.StreamWriter) -> None:
        if isinstance(first, Refused):
            raise PermissionError(first.message)
        if not isinstance(first, Welcome):
            raise FrameError(f"the answer to Hello is a {type(first).__name__}")
        self._writer, self._complaint, self._pause = writer, "", FIRST_PAUSE
        log.info("linked to the control plane, epoch %d", first.epoch)
        self._on_open()

    def _take(self, frame: AnyFrame) -> None:
        if isinstance(frame, Ping):
            self.send(Pong(at=frame.at))
            return
        try:
            self._on_frame(frame)
        except Exception:  # a frame that cannot be handled must not end the controller
            log.exception("a frame of the control plane cannot be handled: %s", type(frame).__name__)


async def listen(path: Path, protocol: Callable[[], asyncio.Protocol], backlog: int = 100) -> asyncio.AbstractServer:
    """Listen at `path` for HAProxy alone, in place of an earlier controller."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    server = await asyncio.get_running_loop().create_unix_server(protocol, str(path), backlog=backlog)
    os.chmod(path, 0o600)
    return server


async def _read(reader: asyncio.StreamReader, unpacker: Unpacker) -> list[AnyFrame]:
    """The frames that have arrived, at least one. Raises EOFError at the link's end."""
    while True:
        data = await reader.read(_READ)
        if not data:
            raise EOFError("the control plane closed the link")
        if frames := unpacker.feed(data):
            return frames
