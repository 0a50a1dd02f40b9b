"""The connections of this process: one aiohttp session and one line for each event loop and platform.

A session serves all callers of an event loop; it is closed when its loop ends (an asynchronous generator holds it, and
a loop closes those before it stops) or when the interpreter exits. A forked child forgets all of them without touching
them: the sockets and the poll set still belong to its parent. Where the platform is on this machine, a `Line` takes the
calls, and the session is opened only for calls that cannot go that way.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import ssl
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flyte._client.local_socket import Line

if TYPE_CHECKING:
    import aiohttp


Held = TypeVar("Held")


@dataclass(frozen=True, slots=True)
class Route:
    """How to get to one platform; everything that a session depends on."""

    endpoint: str
    """`http://…`, `https://…` or `unix:///path`."""
    ca_file: str | None = None
    verify: bool = True
    proxy: str | None = None
    shortcut: str | None = None
    """The platform's link, where it is on this machine; see `local_socket`."""

    @property
    def base(self) -> str:
        return "http://localhost" if self.endpoint.startswith("unix://") else self.endpoint

    def connector(self) -> aiohttp.BaseConnector:
        import aiohttp

        if self.endpoint.startswith("unix://"):
            return aiohttp.UnixConnector(self.endpoint.removeprefix("unix://"), limit=0)
        return aiohttp.TCPConnector(limit=0, ssl=self._tls())

    def _tls(self) -> ssl.SSLContext | bool:
        if not self.endpoint.startswith("https://") or (self.verify and self.ca_file is None):
            return True
        context = ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


class _PerLoop(Generic[Held]):
    """What this process has open, one for each event loop and key; closed with its loop, or at exit.

    `hold` opens one for a key and closes it: a generator, so that a loop closes it before the loop itself ends.
    """

    def __init__(self, hold: Callable[[Any], AsyncGenerator[Held, None]], usable: Callable[[Held], bool]) -> None:
        self._hold = hold
        self._usable = usable
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._open: dict[tuple[asyncio.AbstractEventLoop, Any], tuple[Held, AsyncGenerator[Held, None]]] = {}
        self._closes_at_exit = False

    async def of(self, key: Any) -> Held:
        if self._pid != os.getpid():
            _never_free(self._open)
            self._start()
        loop = asyncio.get_running_loop()
        there = self._open.get((loop, key))
        if there is None or not self._usable(there[0]):
            holder = self._hold(key)
            there = self._keep(loop, key, (await anext(holder), holder))
            if there[1] is not holder:
                await holder.aclose()
        return there[0]

    def _keep(
        self, loop: asyncio.AbstractEventLoop, key: Any, made: tuple[Held, AsyncGenerator[Held, None]]
    ) -> tuple[Held, AsyncGenerator[Held, None]]:
        """Keep what was made, unless somebody was faster; returns what is kept."""
        with self._lock:
            other = self._open.get((loop, key))
            if other is not None and self._usable(other[0]):
                return other
            for old in [old for old in self._open if old[0].is_closed()]:
                del self._open[old]
            self._open[loop, key] = made
            if not self._closes_at_exit:
                self._closes_at_exit = True
                atexit.register(self._close)
        return made

    def _close(self) -> None:
        """At exit: close what hangs on loops that still run, on threads of their own; the others have closed theirs."""
        if self._pid != os.getpid():
            return
        for (loop, _), (_, holder) in list(self._open.items()):
            if loop.is_running():
                with contextlib.suppress(TimeoutError, RuntimeError):
                    asyncio.run_coroutine_threadsafe(holder.aclose(), loop).result(1)


class _Sessions(_PerLoop["aiohttp.ClientSession"]):
    def __init__(self) -> None:
        super().__init__(_hold_session, lambda session: not session.closed)

    async def get(self, route: Route) -> aiohttp.ClientSession:
        return await self.of(route)


class _Lines(_PerLoop[Line]):
    def __init__(self) -> None:
        super().__init__(_hold_line, lambda line: line.open)

    async def get(self, link: str, token: str | None) -> Line:
        """Raises NoLine."""
        return await self.of((link, token))


async def _hold_session(route: Route) -> AsyncGenerator[aiohttp.ClientSession, None]:
    import aiohttp

    session = aiohttp.ClientSession(
        connector=route.connector(), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True, trust_env=False
    )
    try:
        yield session
    finally:
        await session.close()


async def _hold_line(key: tuple[str, str | None]) -> AsyncGenerator[Line, None]:
    line = await Line.connect(*key)
    try:
        yield line
    finally:
        line.close()


def _never_free(thing: object) -> None:
    """Keep `thing` for ever: its destructors would reach through the fork into the parent's poll set."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


sessions = _Sessions()


lines = _Lines()
