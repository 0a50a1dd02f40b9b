"""The address of the platform, the check that it answers, and the reason when its start is given up."""

from __future__ import annotations

from dataclasses import dataclass

START_LIMIT = 60.0
"""Seconds for the platform to answer for the first time."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Why the platform could not be started; `part` is the part that failed, if any, `tail` the end of its log."""

    message: str
    part: str = ""
    tail: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """The address on which HAProxy serves the API and the console."""

    host: str
    port: int

    @property
    def endpoint(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


async def answers_health(address: Address) -> bool:
    """Whether GET /v1/health answers 200, and no longer says that the platform is starting."""
    import asyncio  # here: the commands need the names above, and not the 30 ms

    try:
        async with asyncio.timeout(2):
            answer = await _get(address, "/v1/health")
    except (OSError, TimeoutError):
        return False
    head, _, body = answer.partition(b"\r\n\r\n")
    return b" 200 " in head.partition(b"\r\n")[0] and b'"starting"' not in body


async def _get(address: Address, path: str) -> bytes:
    import asyncio

    host = address.endpoint.removeprefix("http://")
    reader, writer = await asyncio.open_connection(host.rpartition(":")[0].strip("[]"), address.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()
