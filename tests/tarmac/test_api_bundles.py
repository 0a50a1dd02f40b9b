"""Bundles and blobs over HTTP: kept under the sha256 of their bytes, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tarmac.api.bundles import BUNDLE_LIMIT

from .api_server import OWNER, VALUE_LIMIT, Server, serving, told


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", ["bundles", "blobs"])
async def test_what_was_sent_is_there_and_comes_back_as_it_was(server: Server, kind: str) -> None:
    data = os.urandom(70_000)
    address, client = f"/v1/{kind}/{sha256(data)}", server.client()
    assert (await client.head(address)).status_code == 404
    assert (await client.get(address)).status_code == 404
    assert (await client.put(address, content=data)).status_code == 201
    assert (await client.head(address)).status_code == 200
    assert (await client.get(address)).content == data
    assert (await client.put(address, content=data)).status_code == 200


async def test_nothing_at_all_can_be_sent_too(server: Server) -> None:
    assert (await server.client().put(f"/v1/blobs/{sha256(b'')}", content=b"")).status_code == 201
    assert (await server.client().get(f"/v1/blobs/{sha256(b'')}")).content == b""


@pytest.mark.parametrize("kind", ["bundles", "blobs"])
async def test_bytes_with_another_digest_are_refused_and_not_kept(server: Server, kind: str) -> None:
    address = f"/v1/{kind}/{sha256(b'right')}"
    answer = await server.client().put(address, content=b"wrong")
    assert answer.status_code == 422
    assert sha256(b"wrong") in told(answer).message
    assert (await server.client().head(address)).status_code == 404


@pytest.mark.parametrize("name", ["abc", "A" * 64, "g" * 64, "0" * 65])
async def test_what_is_no_digest_is_refused(server: Server, name: str) -> None:
    for method in ("GET", "PUT"):
        answer = await server.client().request(method, f"/v1/blobs/{name}", content=b"x")
        assert answer.status_code == 422
        assert "digest" in told(answer).message


async def test_a_blob_above_the_limit_for_values_is_refused(server: Server) -> None:
    data = os.urandom(VALUE_LIMIT + 1)
    answer = await server.client().put(f"/v1/blobs/{sha256(data)}", content=data)
    assert (answer.status_code, told(answer).code) == (413, "TooLargeError")
    fits = data[:VALUE_LIMIT]
    assert (await server.client().put(f"/v1/blobs/{sha256(fits)}", content=fits)).status_code == 201


async def test_a_bundle_that_is_announced_as_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    reader, writer = await asyncio.open_connection(*server.address.removeprefix("http://").split(":"))
    writer.write(
        f"PUT /v1/bundles/{'0' * 64} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OWNER}\r\n"
        f"Content-Length: {BUNDLE_LIMIT + 1}\r\n\r\n".encode()
    )
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()


async def test_a_bundle_may_be_sent_in_pieces_without_a_length(server: Server) -> None:
    pieces = [os.urandom(10_000) for _ in range(30)]

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    digest = sha256(b"".join(pieces))
    assert (await server.client().put(f"/v1/bundles/{digest}", content=body())).status_code == 201
    assert server.control.blobs.content[digest] == b"".join(pieces)
