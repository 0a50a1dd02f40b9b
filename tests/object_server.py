"""A server of the S3 protocol, and a door in front of it that can fail as stores and networks fail.

The server is moto's, in a thread of this process. `Door` passes requests on to it until a test sets `fault`.
"""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

import aiohttp
from aiohttp import web
from moto.server import ThreadedMotoServer

Fault = Literal["denied", "full", "silent", "broken upload", "broken download"]

BUCKET = "data"

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "FLYTE_STORAGE_RETRIES": "0",
}
"""What a program needs besides FLYTE_AWS_ENDPOINT."""

_ANSWERS = {"denied": (403, "AccessDenied"), "full": (507, "StorageFull")}
_numbers = itertools.count(1)


@contextmanager
def object_server() -> Iterator[str]:
    """The address of a running server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


async def make_bucket(endpoint: str, name: str | None = None) -> str:
    """A new bucket; returns its URL."""
    name = name or f"bucket-{next(_numbers)}"
    async with aiohttp.ClientSession() as session, session.put(f"{endpoint}/{name}") as answer:
        assert answer.status == 200, await answer.text()
    return f"s3://{name}"


class Door:
    """Passes requests on to the server; with a `fault`, every request for an object's content meets it."""

    def __init__(self, server: str) -> None:
        self._server = server
        self.fault: Fault | None = None
        self.endpoint = ""
        self.calls: list[str] = []
        self._ends = asyncio.Event()

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        if self.fault == "silent":
            await self._ends.wait()
        if self.fault in _ANSWERS:
            status, code = _ANSWERS[self.fault]
            return web.Response(status=status, text=f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")
        if self.fault == "broken upload" and request.method == "PUT":
            await request.content.readany()
            return self._cut(request)
        async with self._client.request(
            request.method,
            f"{self._server}{request.raw_path}",
            data=io.BytesIO(await request.read()),
            headers={name: value for name, value in request.headers.items() if name.lower() != "content-length"},
        ) as answer:
            body = await answer.read()
            headers = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in ("transfer-encoding", "content-encoding", "connection", "server", "date")
            }
            if self.fault == "broken download" and request.method == "GET" and len(body) > 1:
                return await self._half(request, headers, body)
            if request.method != "HEAD":
                headers["Content-Length"] = str(len(body))
            return web.Response(status=answer.status, headers=headers, body=body or None)

    async def _half(self, request: web.Request, headers: dict[str, str], body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        return self._cut(request, response)

    def _cut(self, request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return response or web.Response()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Door]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self.pass_on)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        async with aiohttp.ClientSession(auto_decompress=False) as self._client:
            await site.start()
            host, port = runner.addresses[0][:2]
            self.endpoint = f"http://{host}:{port}"
            try:
                yield self
            finally:
                self._ends.set()
                await runner.cleanup()
