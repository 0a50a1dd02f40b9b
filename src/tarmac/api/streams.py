"""Streamed answers: server-sent events and newline-delimited JSON, both with a heartbeat when nothing happens.

`run.stream()`, the command line and the console read the event stream; `get_logs` reads the log stream. A stream ends
when its run, app or deployment is over, or when the client disconnects.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import anyio
import msgspec
from litestar.response import Stream

from flyte.wire import LogLine
from tarmac.api.plane import Seen

HEARTBEAT = 15.0
"""Seconds of silence after which a heartbeat is sent, so that no proxy on the way closes the connection."""

_encode = msgspec.json.Encoder().encode
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Item = TypeVar("Item")


def events(watched: AsyncIterator[Seen]) -> Stream:
    """Server-sent events: `id: <seq>`, `event: snapshot|event`, `data: <record>`; `: ping` every HEARTBEAT seconds."""
    return Stream(_messages(watched), media_type="text/event-stream", headers=_HEADERS)


def lines(batches: AsyncIterator[list[LogLine]]) -> Stream:
    """A LogLine as JSON on each line; an empty line every HEARTBEAT seconds of silence."""
    return Stream(_json_lines(batches), media_type="application/x-ndjson", headers=_HEADERS)


async def _messages(watched: AsyncIterator[Seen]) -> AsyncIterator[bytes]:
    yield b": hello\n\n"  # so that the head of the answer is sent at once, not with the first event
    async for seen in alive(watched, HEARTBEAT):
        if seen is None:
            yield b": ping\n\n"
        else:
            kind, seq, record = seen
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, kind.encode(), _encode(record))


async def _json_lines(batches: AsyncIterator[list[LogLine]]) -> AsyncIterator[bytes]:
    async for batch in alive(batches, HEARTBEAT):
        yield b"\n" if batch is None else b"".join(_encode(line) + b"\n" for line in batch)


async def alive(items: AsyncIterator[Item], every: float) -> AsyncIterator[Item | None]:
    """The items as they come, and None after every `every` seconds without one. Closes `items` when it is closed."""
    upcoming: asyncio.Future[Item] | None = None
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(items))
            while not upcoming.done():
                await asyncio.wait((upcoming,), timeout=every)
                if not upcoming.done():
                    yield None
            try:
                item = upcoming.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        with anyio.CancelScope(shield=True):
            if upcoming is not None and not upcoming.done():
                upcoming.cancel()
                await asyncio.wait((upcoming,))
            if (close := getattr(items, "aclose", None)) is not None:
                await close()
