"""Requests that are held while their app wakes: one question to the control plane for each app, however many wait.

HAProxy's Lua connects here for each request it holds, writes the app's id and waits for a line. A request is let
through as soon as HAProxy has a replica to send it to, for whatever reason that replica was started. It is refused when
the control plane says that none will start, when the app is stopped or deleted, or when the time limit passes. Until
then it waits; a control plane that is restarted meanwhile is asked again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flyte.wire import Wake, Woken
from tarmac.gateway import answers
from tarmac.gateway.answers import Answer
from tarmac.gateway.sockets import listen

log = logging.getLogger("tarmac.gateway.wake")

HELD_LIMIT = 1000
"""Requests that may wait for one app; more are refused at once."""

_LONGEST_QUESTION = 1024
_BACKLOG = 2048
_LET_THROUGH = b"ok\n"

Outlook = Literal["served", "asleep", "stopped", "gone", "unsure"]
"""The state of an app, as it decides on held requests. `unsure`: HAProxy's state was not read yet."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """The held requests of one app."""

    key: int
    held: set[HeldRequest] = field(default_factory=set)
    asked: bool = False
    """Whether the control plane was asked on this link, and since the app's replicas changed last."""


class HeldRequests:
    """All held requests.

    `look` returns the state of an app; `ask` sends a question to the control plane and returns whether there was a link
    to send it on; `check` has the controller compare HAProxy with the wanted state, after which it calls `settle`.
    """

    def __init__(
        self, look: Callable[[str], Outlook], ask: Callable[[Wake], bool], check: Callable[[], None], timeout: float
    ) -> None:
        self._look, self._ask, self._check = look, ask, check
        self._timeout = timeout
        self._waiting: dict[str, _Waiting] = {}
        self._keys = itertools.count(time.time_ns() // 1_000_000)

    async def listen(self, path: Path) -> asyncio.AbstractServer:
        """Listen for HAProxy's questions at `path`, in place of an earlier controller."""
        return await listen(path, lambda: HeldRequest(self), _BACKLOG)

    def waiting(self) -> Iterable[str]:
        """The apps that requests are held for."""
        return self._waiting.keys()

    def hold(self, request: HeldRequest) -> None:
        """Hold a request; it is answered after the next comparison with HAProxy at the earliest."""
        waiting = self._waiting.get(request.app)
        if waiting is None:
            waiting = self._waiting[request.app] = _Waiting(next(self._keys))
        if len(waiting.held) >= HELD_LIMIT:
            request.refuse(answers.crowded(_name(request.app), HELD_LIMIT))
            return
        waiting.held.add(request)
        request.expires(self._timeout)
        self._check()
        if self._look(request.app) == "asleep":
            self._question(request.app, waiting)

    def let_go(self, request: HeldRequest) -> None:
        """Forget the request: it is answered, or its connection is closed."""
        waiting = self._waiting.get(request.app)
        if waiting is not None:
            waiting.held.discard(request)
            if not waiting.held:
                del self._waiting[request.app]

    def settle(self) -> None:
        """Answer the requests that can be answered, now that HAProxy has the wanted state."""
        for app in list(self._waiting):
            match self._look(app):
                case "served":
                    self._release(app, _LET_THROUGH)
                case "stopped":
                    self._release(app, answers.not_active(_name(app)).line)
                case "gone":
                    self._release(app, answers.unknown(_name(app)).line)
                case "asleep":
                    self._question(app, self._waiting[app])
                case "unsure":
                    pass

    def woken(self, frame: Woken) -> None:
        """Handle the control plane's answer. After a yes the requests wait until HAProxy has the replica."""
        app = next((app for app, waiting in self._waiting.items() if waiting.key == frame.key), None)
        if app is not None and not frame.ok:
            log.warning("%s was not woken: %s", app, frame.message)
            self._release(app, answers.not_awake(_name(app), frame.message).line)

    def link_made(self) -> None:
        """There is a new link: ask again for every app."""
        for waiting in self._waiting.values():
            waiting.asked = False

    def ask_again(self, app: str) -> None:
        """The app's replicas have changed: if these end as well, the control plane is asked again."""
        if app in self._waiting:
            self._waiting[app].asked = False

    def _question(self, app: str, waiting: _Waiting) -> None:
        if not waiting.asked:
            waiting.asked = self._ask(Wake(key=waiting.key, app=app))

    def _release(self, app: str, answer: bytes) -> None:
        for request in self._waiting.pop(app).held:
            request.answer(answer)


class HeldRequest(asyncio.Protocol):
    """One held request: HAProxy's connection, from the question to the answer."""

    def __init__(self, requests: HeldRequests) -> None:
        self._requests = requests
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.app = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.app:
            return
        line, found, _ = self._buffer.partition(b"\n")
        if found:
            self.app = line.decode(errors="replace").strip()
            self._requests.hold(self)
        elif len(self._buffer) > _LONGEST_QUESTION and self._transport is not None:
            self._transport.close()

    def expires(self, seconds: float) -> None:
        """Refuse the request if it still waits after `seconds`."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        self._requests.let_go(self)
        self.refuse(answers.slow_to_wake(_name(self.app), seconds))

    def refuse(self, answer: Answer) -> None:
        self.answer(answer.line)

    def answer(self, line: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.write(line)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self.app:
            self._requests.let_go(self)


def _name(app: str) -> str:
    return app.rpartition("/")[2]
