"""The control plane's end of the link for one agent, in the test's own event loop: it notes what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flyte import wire

F = TypeVar("F", bound=wire.Frame)


class LinkServer:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server
        self._writers: list[asyncio.StreamWriter] = []
        self._news = asyncio.Event()
        self.hellos: list[wire.Hello] = []
        self.frames: list[wire.AnyFrame] = []

    async def open(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def close(self) -> None:
        """As if the control plane had been killed."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unpacker = wire.Unpacker()
        try:
            while data := await reader.read(65536):
                for frame in unpacker.feed(data):
                    self._hear(frame, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _hear(self, frame: wire.AnyFrame, writer: asyncio.StreamWriter) -> None:
        if isinstance(frame, wire.Hello):
            self.hellos.append(frame)
            self._writers.append(writer)
            writer.write(wire.pack(wire.Welcome(epoch=1)))
        else:
            self.frames.append(frame)
        self._news.set()

    def send(self, frame: wire.Frame) -> None:
        self._writers[-1].write(wire.pack(frame))

    async def wait(self, kind: type[F], fits: Callable[[F], bool] = lambda frame: True, limit: float = 30) -> F:
        """The first frame of `kind` that fits; fails after `limit` seconds with all that was heard."""
        found = [frame for frame in self.frames if isinstance(frame, kind) and fits(frame)]
        try:
            async with asyncio.timeout(limit):
                while not found:
                    await self._news.wait()
                    self._news.clear()
                    found = [frame for frame in self.frames if isinstance(frame, kind) and fits(frame)]
        except TimeoutError:
            raise AssertionError(f"no such {kind.__name__} within {limit} s; heard: {self.frames}") from None
        return found[0]

    async def hello(self, count: int = 1, limit: float = 30) -> wire.Hello:
        """The hello number `count`."""
        async with asyncio.timeout(limit):
            while len(self.hellos) < count:
                await self._news.wait()
                self._news.clear()
        return self.hellos[count - 1]

    async def started(self, unit: str) -> int:
        return (await self.wait(wire.UnitStarted, lambda frame: frame.unit == unit)).pid

    async def ready(self, unit: str, limit: float = 30) -> str:
        return (await self.wait(wire.UnitReady, lambda frame: frame.unit == unit, limit)).address

    async def exited(self, unit: str, limit: float = 30) -> wire.UnitExited:
        return await self.wait(wire.UnitExited, lambda frame: frame.unit == unit, limit)
