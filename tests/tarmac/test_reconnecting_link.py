"""A part's end of its link: it is made again whenever it is lost, and one bad frame does not end the part."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyte import wire
from tarmac.links.client import ReconnectingLink
from tests.tarmac.link_server import LinkServer


class Part:
    """What one part hears on its link; it fails at a Woken."""

    def __init__(self, path: Path) -> None:
        self.opened = 0
        self.frames: list[wire.AnyFrame] = []
        self.news = asyncio.Event()
        hello = wire.Hello(kind="gateway", name="gateway", token="t")
        self.link = ReconnectingLink(path, lambda: hello, self._opened, self._frame)

    def _opened(self) -> None:
        self.opened += 1
        self.news.set()

    def _frame(self, frame: wire.AnyFrame) -> None:
        self.frames.append(frame)
        self.news.set()
        if isinstance(frame, wire.Woken):
            raise RuntimeError("no")

    async def until_opened(self, times: int) -> None:
        async with asyncio.timeout(10):
            while self.opened < times:
                self.news.clear()
                await self.news.wait()


@contextlib.asynccontextmanager
async def linked(path: Path) -> AsyncIterator[Part]:
    part = Part(path)
    keeping = asyncio.create_task(part.link.keep())
    try:
        yield part
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def test_a_link_that_was_lost_is_made_again(tmp_path: Path) -> None:
    server = LinkServer(tmp_path / "link.sock")
    async with linked(tmp_path / "link.sock") as part:
        assert not part.link.send(wire.Applied(number=1)), "there is no link yet, so nothing is sent"
        for times in (1, 2):
            await server.open()
            await part.until_opened(times)
            assert part.link.send(wire.Applied(number=times))
            await server.wait(wire.Applied, lambda frame, times=times: frame.number == times)  # type: ignore[misc]
            await server.close()


async def test_a_frame_that_the_part_cannot_handle_does_not_end_its_link(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = LinkServer(tmp_path / "link.sock")
    await server.open()
    async with linked(tmp_path / "link.sock") as part:
        await part.until_opened(1)
        server.send(wire.Woken(key=1, ok=True))
        server.send(wire.Ping(at=7.0))
        assert (await server.wait(wire.Pong)).at == 7.0, "pings are answered, by the link itself"
        assert part.opened == 1
        assert part.frames == [wire.Woken(key=1, ok=True)]
    assert "a frame of the control plane cannot be handled: Woken" in caplog.text
    await server.close()


async def test_a_refusal_is_logged_once_however_often_it_is_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, refused = tmp_path / "link.sock", asyncio.Semaphore(0)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(wire.pack(wire.Refused(message="the token is wrong")))
        writer.close()
        refused.release()

    server = await asyncio.start_unix_server(refuse, path)
    with caplog.at_level(logging.WARNING, "tarmac.links"):
        async with linked(path) as part, asyncio.timeout(10):
            for _ in range(4):
                await refused.acquire()
            assert part.opened == 0
    server.close()
    assert caplog.text.count("it refuses this process: the token is wrong") == 1
