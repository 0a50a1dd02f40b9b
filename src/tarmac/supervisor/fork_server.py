"""The supervisor's side of the fork server (`tarmac.fork_server` is the process itself).

The fork server only makes starts fast. Without one, or when it does not answer, a part is an interpreter of its own.

A fork server that is being replaced may be slow, or stopped, with orders that it has not read yet. So the supervisor
shuts its end of the socket for reading first: from then on answers fail, and a part whose answer fails does not go on.
Answers that were sent before are read to the end. So there is no unknown child, and no part runs twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from tarmac import process
from tarmac.process import Adopted, Child
from tarmac.supervisor.part import Part

log = logging.getLogger("tarmac.supervisor")

PATIENCE = 10.0
"""Seconds for the fork server to fork a part; that takes milliseconds, or a second if it must import the code first."""

PART = Part("fork-server", (sys.executable, "-m", "tarmac.fork_server"), asked=True)

Start = Callable[[Part, Path, tuple[int, ...]], Child]


class Gone(ConnectionError):
    """The fork server has ended before it answered."""


class Link(asyncio.Protocol):
    """The connection to one fork server, over `sock`. `on_lost` is called when it ends."""

    def __init__(self, sock: socket.socket, on_lost: Callable[[], None]) -> None:
        self._sock = sock
        self._on_lost = on_lost
        self._answers: dict[str, asyncio.Future[int]] = {}
        self._unread = b""
        self._transport: asyncio.Transport

    @property
    def busy(self) -> bool:
        """Whether an order is unanswered, so that there may be a child whose pid is not known yet."""
        return bool(self._answers)

    async def order(self, part: str, module: str = "", log: str = "") -> int:
        """Fork `part` and return its pid; without a part, return 0. Raises OSError, or Gone at the link's end."""
        if self._transport.is_closing():
            raise Gone
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers[part] = answer
        order = {"part": part, "module": module, "log": log}
        self._transport.write(json.dumps(order).encode() + b"\n")
        try:
            return await answer
        finally:
            if self._answers.get(part) is answer:
                del self._answers[part]

    def close(self) -> None:
        """Read the answers that were sent; whatever the fork server sends later fails."""
        with contextlib.suppress(OSError):  # the socket is closed, or was read to its end
            self._sock.shutdown(socket.SHUT_RD)
            while data := self._sock.recv(65_536):
                self.data_received(data)
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, said: dict[str, object]) -> None:
        answer = self._answers.get(str(said["part"]))
        pid = int(str(said.get("pid", 0)))
        if answer is None or answer.done():
            process.kill({pid} - {0})  # the order was given up
        elif "error" in said:
            answer.set_exception(OSError(said["error"]))
        else:
            answer.set_result(pid)

    def connection_lost(self, exc: Exception | None) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Gone())
        self._on_lost()


class ForkServer:
    """`spawn` starts a part as an interpreter of its own; `end` ends the present fork server for the given reason."""

    def __init__(self, spawn: Start, end: Callable[[str], None]) -> None:
        self._spawn = spawn
        self._end = end
        self._link: Link | None = None
        self._there = asyncio.Event()

    @property
    def busy(self) -> bool:
        return self._link is not None and self._link.busy

    async def start(self, part: Part, log: Path) -> Child:
        """Start the fork server itself. Raises OSError.

        Nothing is awaited after the process was started: a cancellation there would leave an unknown child.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            link = Link(ours, lambda: self._lost(link))
            await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
            try:
                numbered = replace(part, command=(*part.command, str(theirs.fileno())))
                child = self._spawn(numbered, log, (theirs.fileno(),))
            except OSError:
                link.close()
                raise
        self._link = link
        self._there.set()
        return child

    def _lost(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            self._there.clear()

    def renew(self) -> None:
        """Replace the fork server, so that parts which are started from now on run the code that is installed now."""
        if self._link is not None:
            self._let_go(self._link)

    def _let_go(self, link: Link) -> None:
        link.close()
        self._lost(link)

    async def fork(self, part: Part, file: Path) -> Child:
        """Start a part: forked, or else as an interpreter of its own. Raises OSError when neither can be started."""
        link = None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    link = await self._linked()
                    with contextlib.suppress(Gone):
                        return Adopted(await link.order(part.name, part.module, str(file)))
        except TimeoutError:
            log.warning("%s is started as an interpreter of its own: the fork server does not answer", part.name)
        if link is not None and link is self._link:
            self._let_go(link)
            self._end(f"it did not fork within {PATIENCE:g} s")
        return self._spawn(part, file, ())

    async def _linked(self) -> Link:
        while self._link is None:
            await self._there.wait()
        return self._link

    async def lives(self) -> bool:
        """Whether the fork server answers."""
        with contextlib.suppress(Gone):
            if self._link is not None:
                return await self._link.order("") == 0
        return False


def spawner(env: dict[str, str], cwd: Path) -> Start:
    """A function that starts parts as interpreters of their own, in this environment and folder."""

    def spawn(part: Part, file: Path, fds: tuple[int, ...]) -> Child:
        with file.open("ab") as output:
            return process.start(part.command, env=env, output=output.fileno(), cwd=cwd, pass_fds=fds)

    return spawn
