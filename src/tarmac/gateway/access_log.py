"""The apps' access logs: HAProxy sends a line for each request, and each app gets its own file of JSON lines.

A line comes as `project/domain/app {…}` and its JSON is stored as it is. HAProxy keeps the lines in a ring and sends
them over a stream, so that nothing is lost while this process is being restarted (but for a line or two that were on
their way), and a burst arrives as one read. Writing waits a moment for more to come, and is done on a thread.

The fields, as `config` has them: `time` (seconds), `method`, `path` (without the query, which may hold secrets),
`status`, `total_ms`, `upstream_ms` (-1: no answer), `held_ms`, `bytes` (sent to the client), `caller`, `client`,
`replica`, `websocket`, and `ended` (HAProxy's two letters for what ended it; `--` is well).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

import msgspec

from flyte.wire import AppId
from tarmac.gateway.sockets import listen
from tarmac.home import Home
from tarmac.workload_files import open_to_append

log = logging.getLogger("tarmac.gateway.access_log")

ROTATE_AT = 16 * 1024 * 1024
"""Bytes of an access log above which it becomes `access.jsonl.1`, and so on."""

KEEP = 3
"""Older files that are kept."""

PAUSE = 0.2
"""Seconds that lines may wait to be written."""

_LONGEST_LINE = 64 * 1024
_CALLER = re.compile(rb'"caller":("(?:[^"\\]|\\.)+")')
_APP = re.compile(rb"([A-Za-z0-9._-]+)/([A-Za-z0-9._-]+)/([A-Za-z0-9._-]+)")


class AccessLog:
    def __init__(self, home: Home, rotate_at: int = ROTATE_AT) -> None:
        self._home, self._rotate_at = home, rotate_at
        self._lines: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._some = asyncio.Event()
        self._callers: set[bytes] = set()
        """Who called an app since that was asked last, as the lines have it."""

    async def listen(self, path: Path) -> asyncio.AbstractServer:
        """Listen for HAProxy's lines at `path`, in place of an earlier controller."""
        return await listen(path, lambda: _Lines(self))

    def feed(self, lines: list[bytes]) -> None:
        """Take up complete lines; HAProxy's own news, which come the same way, are left out."""
        for line in lines:
            app, _, entry = line.partition(b" ")
            if entry.startswith(b"{"):
                self._lines[app].append(entry)
                if (caller := _CALLER.search(entry)) is not None:
                    self._callers.add(caller[1])
        if self._lines:
            self._some.set()

    async def keep(self) -> None:
        """Write what arrives; runs for as long as the gateway does, and writes the rest when it is cancelled."""
        try:
            while True:
                await self._some.wait()
                await asyncio.sleep(PAUSE)
                await asyncio.to_thread(self._write, self._taken())
        finally:
            self._write(self._taken())

    def callers(self) -> set[str]:
        """Who called an app since this was asked last."""
        found, self._callers = self._callers, set()
        return {unquote(msgspec.json.decode(caller, type=str)) for caller in found}

    def _taken(self) -> dict[bytes, list[bytes]]:
        self._some.clear()
        arrived, self._lines = self._lines, defaultdict(list)
        return arrived

    def _write(self, arrived: dict[bytes, list[bytes]]) -> None:
        """Append lines to the files. A file that cannot be written is logged, and its lines are lost."""
        for app, entries in arrived.items():
            named = _APP.fullmatch(app)
            if named is None:
                continue
            of = AppId(*(part.decode() for part in named.groups()))
            try:
                append(self._home.access_log(of), entries, self._rotate_at)
            except (OSError, ValueError) as error:
                log.warning("%d lines of the access log of %s are lost: %s", len(entries), of.name, error)


def append(path: Path, entries: list[bytes], rotate_at: int = ROTATE_AT) -> None:
    """Add lines to a log and rotate it when it has grown to `rotate_at` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_to_append(path) as file:
        file.write(b"\n".join(entries) + b"\n")
        size = file.tell()
    if size >= rotate_at:
        rotate(path)


def rotate(path: Path, keep: int = KEEP) -> None:
    """`path` becomes `path.1`, `path.1` becomes `path.2`; the oldest is gone."""
    for number in range(keep, 0, -1):
        older = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))


class _Lines(asyncio.Protocol):
    """One connection of HAProxy's ring."""

    def __init__(self, to: AccessLog) -> None:
        self._to = to
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            self._rest = b""
        self._to.feed(lines)
