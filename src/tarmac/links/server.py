"""The control plane's end of every link: one unix socket, frames in, frames out.

A link's first frame is Hello; the peer that `accept` returns for it gets every later frame and, once, the news that the
link is gone. Nothing here waits: a slow reader is cut off when too much is queued for it.

A peer may have very much to say, a parent that calls 100,000 children for instance. In one turn of the loop AT_ONCE
frames of a link are dealt with; what it says more is not even read until those are done, so that everybody else has
their turn.

Every write wakes a process, which costs more than all else that is done for a small action. So what is sent in one turn
of the loop goes out together, and what nobody waits for (`send_along`) goes with the next frame that somebody does.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast
from weakref import WeakSet

from flyte.rules import Problem
from flyte.wire import AnyFrame, Frame, FrameError, Hello, Ping, Pong, Refused, Unpacker, pack
from tarmac import checks

log = logging.getLogger("tarmac.links")

AT_ONCE = 64

ALONG = 0.05
"""Seconds that a frame which nobody waits for may stay behind."""

BACKLOG_LIMIT = 256 * 1024 * 1024
"""Bytes that may wait for a peer before it is cut off."""


class Peer(Protocol):
    """Who is at the other end: a worker, the agent, the gateway."""

    def frame(self, frame: AnyFrame) -> None: ...
    def unfit(self, frame: AnyFrame, problem: str) -> None:
        """The peer sent a frame that breaks a rule (`flyte.rules`); the frame is not heard."""

    def lost(self, link: Link) -> None:
        """This link is gone. The peer may have made another one before that was noticed."""


Accept = Callable[["Link", Hello], Peer]


class Link(asyncio.Protocol):
    def __init__(self, accept: Accept, now: Callable[[], float]) -> None:
        self._accept = accept
        self._now = now
        self._unpacker = Unpacker()
        self._peer: Peer | None = None
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._unheard: deque[AnyFrame] = deque()
        """Frames that have come and have not had their turn."""
        self._out: list[bytes] = []
        self._flushing = False
        self._later: asyncio.TimerHandle | None = None
        self.name = "?"
        self.heard = now()
        """When the peer last said anything, on the loop's clock (which no step of the wall clock moves)."""
        self.asked: float | None = None
        """When it was asked for a heartbeat that it has not given yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of another family

    def data_received(self, data: bytes) -> None:
        self.heard, self.asked = self._now(), None
        try:
            frames = self._unpacker.feed(data)
        except FrameError as error:
            log.warning("link to %s: %s", self.name, error)
            self.close()
            return
        if not self._unheard and len(frames) <= AT_ONCE:
            for frame in frames:
                self._receive(frame)
            return
        begins = not self._unheard
        self._unheard.extend(frames)
        if begins:
            if self.open and self._transport is not None:
                self._transport.pause_reading()
            self._take_turn()

    def _take_turn(self) -> None:
        for _ in range(min(AT_ONCE, len(self._unheard))):
            self._receive(self._unheard.popleft())
        if self._unheard:
            self._loop.call_soon(self._take_turn)
        elif self.open and self._transport is not None:
            self._transport.resume_reading()

    def _receive(self, frame: AnyFrame) -> None:
        if type(frame) is Pong:
            return
        problem = checks.problem(frame)
        if self._peer is not None:
            self._hand_on(self._peer, frame, problem)
        elif isinstance(frame, Hello):
            try:
                if problem is not None:
                    raise PermissionError(f"this Hello is not valid: {problem}")
                self.name = f"{frame.kind} {frame.name}"
                self._peer = self._accept(self, frame)
            except PermissionError as refused:
                self.send(Refused(message=str(refused)))
                self.close()
        else:
            self.close()

    def _hand_on(self, peer: Peer, frame: AnyFrame, problem: Problem | None) -> None:
        try:
            if problem is None:
                peer.frame(frame)
            else:
                log.warning("link to %s: a %s is ignored: %s", self.name, type(frame).__name__, problem)
                peer.unfit(frame, str(problem))
        except Exception:
            # What fails for one peer must not be the others' end. It will say Hello again, and what it has in flight.
            log.exception("link to %s: its %s failed", self.name, type(frame).__name__)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        while self._unheard:  # its last words
            self._receive(self._unheard.popleft())
        if self._peer is not None:
            self._peer.lost(self)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, frame: Frame) -> None:
        """Queue a frame; what is sent on a link that is gone is dropped, and `lost` has told the peer."""
        self._out.append(pack(frame))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def send_along(self, frame: Frame) -> None:
        """Queue a frame that may wait for the next one, or for ALONG seconds."""
        self._out.append(pack(frame))
        if not self._flushing and self._later is None:
            self._later = self._loop.call_later(ALONG, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        data, self._out = b"".join(self._out), []
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > BACKLOG_LIMIT:
            log.warning("link to %s: closed, since the other side does not read", self.name)
            self._transport.abort()

    def ping(self) -> None:
        """Ask for a heartbeat."""
        self.asked = self.asked or self._now()
        self.send(Ping())

    def close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()


class Links:
    """The socket that is listened on, and the links that were made there."""

    def __init__(self, server: asyncio.AbstractServer, made: WeakSet[Link]) -> None:
        self._server = server
        self._made = made

    def close(self) -> None:
        """Make no new links, and hear nothing more on those there are."""
        self._server.close()
        for link in list(self._made):
            link.close()


async def listen(path: Path, accept: Accept) -> Links:
    """Listen on `path` for links; a socket that an earlier control plane left is replaced."""
    loop = asyncio.get_running_loop()
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at the start
    made: WeakSet[Link] = WeakSet()

    def link() -> Link:
        new = Link(accept, loop.time)
        made.add(new)
        return new

    server = await loop.create_unix_server(link, str(path), backlog=1024)
    os.chmod(path, 0o600)
    return Links(server, made)
