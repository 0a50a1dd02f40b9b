"""The open requests and WebSockets that were let in by a key, and their end when the key is revoked.

HAProxy checks a key when a request arrives. A WebSocket or an event stream may stay open for hours after that. So
HAProxy notes each request that a key or a browser's session let in, in the table CALLERS, for as long as it is open.
When the keys have changed, `Withdrawn` reads that table, and ends the requests whose key or session no longer counts.

A request is ended when two readings in a row have found it: most requests end by themselves within PAUSE, and by then
HAProxy may have given their place in its memory to another request.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tarmac.gateway import runtime_api
from tarmac.gateway.shape import CALLERS

log = logging.getLogger("tarmac.gateway.open_requests")

PAUSE = 0.25
"""Seconds between two readings."""

READINGS = 40
"""The most readings after one change of the keys."""

Ask = Callable[[str], Awaitable[str]]
"""Sends one command to an HAProxy process and returns its answer."""

_NOTE = re.compile(r" key=([0-9]+)/([0-9a-f]+)/([A-Za-z0-9_.-]*) use=([0-9]+) ")
_STREAM = re.compile(r"^(0x[0-9a-f]+): .* id=([0-9]+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class OpenRequest:
    number: int
    """HAProxy's number of the request; no two requests of one process have the same."""
    key: str
    """sha256 (hex) of the key that let it in."""
    session: str
    """Id of the browser's session; empty when the key itself was sent."""


def noted(table: str) -> list[OpenRequest]:
    """The open requests in an answer to `show table`; entries of requests that have ended are left out."""
    return [OpenRequest(int(number), key, session) for number, key, session, use in _NOTE.findall(table) if use != "0"]


def streams(dump: str) -> dict[int, str]:
    """Number of a request → its address in HAProxy's memory, from an answer to `show sess all`."""
    return {int(number): address for address, number in _STREAM.findall(dump)}


class Withdrawn:
    """The requests of keys and sessions that no longer count, as one series of readings finds and ends them."""

    def __init__(self, runtime: Path, master: Path, counts: Callable[[OpenRequest], bool]) -> None:
        """`counts`: whether a request's key and session count now."""
        self._runtime, self._master, self._counts = runtime, master, counts
        self._seen: set[tuple[int, int]] = set()
        """HAProxy process and number of the requests that the last reading found."""

    async def end(self) -> int:
        """End their requests; returns how many. Raises HAProxyAway."""
        count = quiet = 0
        for _ in range(READINGS):
            ended, found = await self._read()
            count += ended
            quiet = 0 if found else quiet + 1
            if quiet == 2:  # a request that was checked just before the key was removed may be noted just after it
                return count
            await asyncio.sleep(PAUSE)
        log.warning("%d requests of keys that were revoked are still open", len(self._seen))
        return count

    async def _read(self) -> tuple[int, bool]:
        """Read all HAProxy processes once. Returns how many requests were ended, and whether there are any."""
        count, seen = 0, self._seen
        self._seen = set()
        async with runtime_api.session(self._runtime) as session:
            count += await self._read_process((await session.info()).pid, session.ask, seen)
        for worker in await runtime_api.old_workers(self._master):
            count += await self._read_process(worker, runtime_api.asking_old(self._master, worker), seen)
        return count, bool(self._seen)

    async def _read_process(self, pid: int, ask: Ask, seen: set[tuple[int, int]]) -> int:
        stale = [each for each in noted(await ask(f"show table {CALLERS}")) if not self._counts(each)]
        self._seen |= {(pid, each.number) for each in stale}
        due = [each.number for each in stale if (pid, each.number) in seen]
        if not due:
            return 0
        places = streams(await ask("show sess all"))
        for number in due:
            if number in places:
                await ask(f"shutdown session {places[number]}")
        return len(due)
