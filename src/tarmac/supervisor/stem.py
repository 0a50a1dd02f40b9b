"""The stem as the supervisor sees it (`tarmac.stem` is the process itself): it has parts forked.

It only makes starts fast. Where there is none, or it does not answer, a part is an interpreter of its own.

A stem that we let go of may be slow, or stopped, and have orders that it has not read yet. So our end is closed for
reading first: from then on its answers fail, and a child whose answer fails does not go on. What it had answered before
is read to the end. So there is no child that we do not know of, and no part twice.
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
"""Seconds for the stem to fork a part; it takes milliseconds, or a second where it has to import the part's code."""

PART = Part("stem", (sys.executable, "-m", "tarmac.stem"), asked=True)

Start = Callable[[Part, Path, tuple[int, ...]], Child]


class Gone(ConnectionError):
    """The stem has ended before it answered."""


class Link(asyncio.Protocol):
    """The line to one stem, over `sock`. `on_lost` is called when it is gone."""

    def __init__(self, sock: socket.socket, on_lost: Callable[[], None]) -> None:
        self._sock = sock
        self._on_lost = on_lost
        self._answers: dict[str, asyncio.Future[int]] = {}
        self._unread = b""
        self._transport: asyncio.Transport

    @property
    def busy(self) -> bool:
        """Whether there may be a child that we do not know yet."""
        return bool(self._answers)

    async def order(self, part: str, module: str = "", log: str = "") -> int:
        """The pid of the child that is this part; 0 for no part. Raises OSError, Gone where the stem has ended."""
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
        """Hear what the stem has said, and let whatever else it says fail."""
        with contextlib.suppress(OSError):  # it is closed, or has been read to its end
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
            process.kill({pid} - {0})  # nobody waits for it any more
        elif "error" in said:
            answer.set_exception(OSError(said["error"]))
        else:
            answer.set_result(pid)

    def connection_lost(self, exc: Exception | None) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Gone())
        self._on_lost()


class Stem:
    """`spawn` starts a part as an interpreter of its own; `end` ends the stem that is there, and hears why."""

    def __init__(self, spawn: Start, end: Callable[[str], None]) -> None:
        self._spawn = spawn
        self._end = end
        self._link: Link | None = None
        self._there = asyncio.Event()

    @property
    def busy(self) -> bool:
        return self._link is not None and self._link.busy

    async def start(self, part: Part, log: Path) -> Child:
        """Start the stem itself. Raises OSError.

        Nothing is awaited after the process was started: cancelled there, it would be a child that nobody knows of.
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
        """What is started from now on is to be new code: let go of the stem, so that another one is started."""
        if self._link is not None:
            self._let_go(self._link)

    def _let_go(self, link: Link) -> None:
        link.close()
        self._lost(link)

    async def fork(self, part: Part, file: Path) -> Child:
        """Start a part: forked, or else as an interpreter of its own. Raises OSError where not even that can be."""
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
        """Whether it answers."""
        with contextlib.suppress(Gone):
            if self._link is not None:
                return await self._link.order("") == 0
        return False


def spawner(env: dict[str, str], cwd: Path) -> Start:
    """Starts parts as processes of their own, in this environment and folder."""

    def spawn(part: Part, file: Path, fds: tuple[int, ...]) -> Child:
        with file.open("ab") as output:
            return process.start(part.command, env=env, output=output.fileno(), cwd=cwd, pass_fds=fds)

    return spawn
