"""Calls to a platform on this machine over its link: the routes of the HTTP API as frames on a unix socket.

A call costs a few microseconds here, where HTTP through a client and a server library costs most of a millisecond; a
program that only makes calls never loads an HTTP client. What is large (the content of blobs, and a list that turns out
to be) and what goes on (streams) goes by HTTP. So does everything when nobody listens on the link, or who does refuses
us: the front door waits for a platform that is being restarted, and says what is wrong.

One connection carries all calls of an event loop at once; answers come in any order.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import cast

from flyte.wire import FRAME_LIMIT, Answer, AnyFrame, Ask, Frame, FrameError, Hello, Ping, Pong, Unpacker, Welcome, pack

LARGEST = FRAME_LIMIT // 2
"""Bytes of a body that may go this way."""

_HELLO_TIMEOUT = 5.0


class NoLine(ConnectionError):
    """Raised when a call was not sent: there is no link here, or not for us."""


class Line(asyncio.Protocol):
    """A connection, once it is welcome; see `connect`."""

    def __init__(self, token: str | None) -> None:
        self._token = token or ""
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None
        self._keys = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, path: str, token: str | None) -> Line:
        """Raises NoLine."""
        loop = asyncio.get_running_loop()
        line = cls(token)
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT):
                await loop.create_unix_connection(lambda: line, path)
                await line._welcome
        except BaseException as error:
            line._welcome.cancel()
            line.close()  # also when the caller gave up: nobody else has it
            if isinstance(error, OSError):  # a TimeoutError is one
                raise NoLine(str(error) or "no welcome in time") from error
            raise
        return line

    async def call(self, method: str, path: str, body: bytes, headers: dict[str, str], fresh: bool) -> Answer:
        """The answer. Raises NoLine where nothing was sent, ConnectionError when the connection broke meanwhile."""
        if self._transport is None or self._transport.is_closing():
            raise NoLine("the connection to the platform was closed")
        key = next(self._keys)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        self._send(Ask(key=key, method=method, path=path, body=body, headers=headers, fresh=fresh))
        try:
            return await answer
        finally:
            self._waiting.pop(key, None)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _send(self, frame: Frame) -> None:
        if self._transport is not None:
            self._transport.write(pack(frame))

    # ------------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send(Hello(kind="client", name=f"client-{os.getpid()}", token=self._token, pid=os.getpid()))

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._unpacker.feed(data)
        except FrameError:
            self.close()
            return
        for frame in frames:
            self._receive(frame)

    def _receive(self, frame: AnyFrame) -> None:
        match frame:
            case Answer():
                future = self._waiting.get(frame.key)
                if future is not None and not future.done():
                    future.set_result(frame)
            case Welcome():
                if not self._welcome.done():
                    self._welcome.set_result(None)
            case Ping():
                self._send(Pong(at=frame.at))
            case _:  # Refused
                self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._welcome.done():
            self._welcome.set_exception(NoLine("the platform does not take calls from us here"))
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the connection to the platform broke"))
