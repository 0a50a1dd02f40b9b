"""Clients that ask as fast as they are answered: wrk where it is on the machine, else aiohttp in this process.

On two cores aiohttp costs more than the proxy that is measured; which of the two it was stands in the result.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop

from benchmarks.sample import Sample

_LUA = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and what every answer has to contain."""

    expect: str
    method: str = "GET"
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    check_all: bool = True
    """False: one answer is looked at before, and of the others only the status. For rates where looking costs."""


def ask(url: str, request: Request, connections: int, seconds: int, latency: Sample, rate: Sample) -> None:
    """As many requests as `connections` clients can make in `seconds`, one after the other each.

    Adds a value to `rate`, and the latencies (with wrk: 201 quantiles of them) to `latency`. Raises RuntimeError where
    one answer was not as it should be.
    """
    asyncio.run(_look(url, request))
    if shutil.which("wrk"):
        _ask_with_wrk(url, request, connections, seconds, latency, rate)
    else:
        uvloop.run(_ask_with_aiohttp(url, request, connections, seconds, latency, rate))


def _options(request: Request) -> dict:
    content = {"Content-Type": "application/json"} if request.body else {}
    return {"data": request.body, "headers": {**request.headers, **content}}


async def _look(url: str, request: Request) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(request.method, url, **_options(request)) as answer,
    ):
        text = await answer.text()
        if answer.status != 200 or request.expect not in text:
            raise RuntimeError(f"{request.method} {url}: {answer.status} {text[:500]}; expected {request.expect}")


def _ask_with_wrk(url: str, request: Request, connections: int, seconds: int, latency: Sample, rate: Sample) -> None:
    told = {
        "BENCH_METHOD": request.method,
        "BENCH_BODY": request.body,
        "BENCH_EXPECT": request.expect if request.check_all else None,
        "BENCH_AUTHORIZATION": request.headers.get("Authorization"),
    }
    env = {**os.environ, **{name: value for name, value in told.items() if value is not None}}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(_LUA), url]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    told_last = json.loads(done.stdout.splitlines()[-1])
    if told_last["bad"] or not told_last["requests"]:
        raise RuntimeError(f"{url}: {told_last['bad']} of {told_last['requests']} answers were not as expected")
    latency.values += told_last["quantiles"]
    rate.values.append(told_last["requests"] / told_last["seconds"])


async def _ask_with_aiohttp(
    url: str, request: Request, connections: int, seconds: int, latency: Sample, rate: Sample
) -> None:
    stop = time.perf_counter() + seconds
    count = 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal count
        while time.perf_counter() < stop:
            with latency.timed():
                async with session.request(request.method, url, **_options(request)) as answer:
                    text = await answer.text()
            if answer.status != 200 or request.expect not in text:
                raise RuntimeError(f"{request.method} {url}: {answer.status} {text[:500]}")
            count += 1

    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        await asyncio.gather(*(client(session) for _ in range(connections)))
    rate.values.append(count / (time.perf_counter() - began))


# ------------------------------------------------------------------------------------------------------- WebSockets

_PING = b"\x81\x84\x00\x00\x00\x00ping"
_PONG = b"\x81\x04ping"
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)


class _Player(asyncio.Protocol):
    """One WebSocket that sends "ping" whenever it was answered, until `stop`. As little Python as can be."""

    def __init__(self, hello: bytes, stop: float, latency: Sample) -> None:
        self.over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._hello, self._stop, self._latency = hello, stop, latency
        self._got = b""
        self._is_open = False
        self._sent = 0.0
        self._count = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._is_open:
            head, end, self._got = self._got.partition(b"\r\n\r\n")
            if not end:
                self._got = head
                return
            if b" 101 " not in head.splitlines()[0]:
                self._fail(head)
                return
            self._is_open = True
            self._ping()
        elif self._got == _PONG:
            self._got = b""
            self._count += 1
            self._latency.values.append((time.perf_counter() - self._sent) * 1e3)
            self._ping()
        elif len(self._got) >= len(_PONG):
            self._fail(self._got)

    def _ping(self) -> None:
        self._sent = time.perf_counter()
        if self._sent < self._stop:
            self._transport.write(_PING)
        elif not self.over.done():
            self.over.set_result(self._count)
            self._transport.close()

    def _fail(self, answer: bytes) -> None:
        if not self.over.done():
            self.over.set_exception(RuntimeError(f"the answer was {answer!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(b"" if error is None else str(error).encode())


def ping_pong(url: str, headers: dict[str, str], sockets: int, seconds: int, latency: Sample, rate: Sample) -> None:
    """Messages to and fro, on so many WebSockets at once."""
    uvloop.run(_ping_pong(url, headers, sockets, seconds, latency, rate))


async def _ping_pong(
    url: str, headers: dict[str, str], sockets: int, seconds: int, latency: Sample, rate: Sample
) -> None:
    address = urllib.parse.urlsplit(url)
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    hello = _UPGRADE.format(path=address.path, host=address.netloc, headers=extra).encode()
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    players = [
        await loop.create_connection(lambda: _Player(hello, began + seconds, latency), address.hostname, address.port)
        for _ in range(sockets)
    ]
    async with asyncio.timeout(seconds + 60):
        counts = await asyncio.gather(*(player.over for _, player in players))
    rate.values.append(sum(counts) / (time.perf_counter() - began))


# --------------------------------------------------------------------------------------------------- large and slow


def down(url: str, headers: dict[str, str], size: int, rate: Sample) -> None:
    """Megabytes a second of an answer of `size` bytes."""
    buffer = bytearray(1024 * 1024)
    began = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/down/{size}", headers=headers), timeout=120) as answer:
        got = 0
        while count := answer.readinto(buffer):
            got += count
    if got != size:
        raise RuntimeError(f"{url}: {got} bytes came instead of {size}")
    rate.values.append(size / 1e6 / (time.perf_counter() - began))


def up(url: str, headers: dict[str, str], size: int, rate: Sample) -> None:
    """Megabytes a second of a body of `size` bytes, until the app says how many it got."""
    address = urllib.parse.urlsplit(url)
    chunk = bytes(1024 * 1024)
    lines = [f"POST /up HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\nContent-Length: {size}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    began = time.perf_counter()
    with socket.create_connection((address.hostname or "", address.port or 80), 120) as connection:
        connection.sendall("".join([*lines, "\r\n"]).encode())
        for first in range(0, size, len(chunk)):
            connection.sendall(memoryview(chunk)[: size - first])
        answer = connection.makefile("rb").read()
    if b" 200 " not in answer.splitlines()[0] or not answer.endswith(b"%d" % size):
        raise RuntimeError(f"{url}: {answer[-500:]!r} instead of {size}")
    rate.values.append(size / 1e6 / (time.perf_counter() - began))


def first_bytes(url: str, headers: dict[str, str], count: int, latency: Sample) -> None:
    """The first part of an answer whose second part follows 50 ms later; a proxy that keeps it back takes that long."""
    asyncio.run(_first_bytes(url, headers, count, latency))


async def _first_bytes(url: str, headers: dict[str, str], count: int, latency: Sample) -> None:
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(count):
            with latency.timed():
                answer = await session.get(f"{url}/slow")
                first = await answer.content.readany()
            rest = await answer.read()
            if first + rest != b"firstsecond":
                raise RuntimeError(f"{url}: the answer came as {first!r}, {rest!r}")
