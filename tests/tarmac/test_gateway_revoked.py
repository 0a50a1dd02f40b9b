"""What a key or a browser's session has opened is ended when the key is revoked or the session signed out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from flyte import wire
from tarmac.gateway.open_requests import OpenRequest, noted, streams
from tests.tarmac.gateway_world import KEY, Upstream, World, until, world
from tests.tarmac.test_gateway_keys import bearer

OTHER = "tk_another-key"


@pytest.fixture
async def upstream() -> Upstream:
    return Upstream("one")


@pytest.fixture
async def gateway(upstream: Upstream) -> AsyncIterator[World]:
    """A gateway with the app `hello`, which is guarded, and two keys."""
    async with world() as made:
        await upstream.start()
        made.control.keys[hashlib.sha256(OTHER.encode()).hexdigest()] = "other"
        made.control.send(wire.Keys(keys=made.control.keys))
        await made.serve(upstream, requires_auth=True)
        yield made
        await upstream.stop()


def revoke(gateway: World, key: str) -> None:
    del gateway.control.keys[hashlib.sha256(key.encode()).hexdigest()]
    gateway.control.send(wire.Keys(keys=gateway.control.keys, ended=gateway.control.ended))


def cookie(gateway: World, sid: str) -> dict[str, str]:
    """A browser on a page of the app."""
    return {"cookie": f"tarmac_session={gateway.session(sid=sid)}", "origin": gateway.url("").rstrip("/")}


async def connect(gateway: World, headers: dict[str, str]) -> aiohttp.ClientWebSocketResponse:
    socket = await gateway.http.ws_connect(gateway.url("/ws"), headers=headers)
    await answers(socket)
    return socket


async def answers(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_str("hello")
    assert await socket.receive_str() == "one: hello"


async def is_cut_off(socket: aiohttp.ClientWebSocketResponse) -> None:
    async with asyncio.timeout(10):
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
    await socket.close()


async def test_a_revoked_key_takes_its_websockets_streams_and_requests_with_it_and_nobody_elses(
    gateway: World, upstream: Upstream
) -> None:
    mine = await connect(gateway, bearer(KEY))
    in_a_browser = await connect(gateway, cookie(gateway, "s1"))
    of_another = await connect(gateway, bearer(OTHER))
    of_a_task = await connect(gateway, bearer(gateway.token("r-7")))
    stream = await gateway.http.get(gateway.url("/stream?count=2&pause=0&turns=1"), headers=bearer(KEY))
    assert await stream.content.readline() == b"data: 0\n"
    waiting = asyncio.create_task(gateway.get("/slow?pause=25", headers=bearer(KEY)))
    await until(lambda: upstream.pausing, "the request is with the app")

    revoke(gateway, KEY)

    await is_cut_off(mine)
    await is_cut_off(in_a_browser)
    with pytest.raises(aiohttp.ClientPayloadError):
        await stream.content.read()
    stream.close()
    assert (await waiting)[0] == 502
    await until(lambda: {e["ended"][0] for e in gateway.access_entries()} == {"K"}, "the log says what ended them")
    for socket in (of_another, of_a_task):
        await answers(socket)
        await socket.close()


async def test_signing_out_ends_what_that_browser_has_open_and_no_other(gateway: World) -> None:
    mine, other = await connect(gateway, cookie(gateway, "s1")), await connect(gateway, cookie(gateway, "s2"))
    with_the_key = await connect(gateway, bearer(KEY))
    gateway.control.ended = ["s1"]
    gateway.control.send(wire.Keys(keys=gateway.control.keys, ended=["s1"]))
    await is_cut_off(mine)
    for socket in (other, with_the_key):
        await answers(socket)
        await socket.close()


async def test_what_an_haproxy_that_was_reloaded_still_has_open_is_ended_too(
    gateway: World, upstream: Upstream
) -> None:
    mine, other = await connect(gateway, bearer(KEY)), await connect(gateway, bearer(OTHER))
    old = (await gateway.worker()).pid
    await gateway.serve(upstream, app="flytesnacks/development/more", port=gateway.slot(-1) + 1)  # it has no backend
    assert (await gateway.worker()).pid != old
    revoke(gateway, KEY)
    await is_cut_off(mine)
    await answers(other)
    await other.close()


async def test_a_controller_that_is_started_anew_ends_what_was_revoked_meanwhile(gateway: World) -> None:
    mine, other = await connect(gateway, bearer(KEY)), await connect(gateway, bearer(OTHER))
    gateway.kill_controller()
    revoke(gateway, KEY)
    gateway.start_controller()
    await is_cut_off(mine)
    await answers(other)
    await other.close()


def test_haproxys_answers_are_read_as_open_requests() -> None:
    table = (
        "# table: callers, type: string, size:51200, used:3\n"
        "0x10333ed0: key=7/0aff/ use=1 exp=428 shard=0\n"
        "0x10333ed1: key=81/0aff/s_1.x-y use=1 exp=428 shard=0\n"
        "0x10333ed2: key=9/0aff/s1 use=0 exp=428 shard=0\n\n"
    )
    assert noted(table) == [OpenRequest(7, "0aff", ""), OpenRequest(81, "0aff", "s_1.x-y")]
    dump = (
        "0x102b5400: [30/Nov/2026:00:47:09.372562] id=7 proto=tcpv4 source=127.0.0.1:38668\n"
        "  frontend=f (id=3 mode=http), listener=? (id=1) addr=127.0.0.1:18771\n"
        "0x7f622803b090: [30/Nov/2026:00:47:09.945017] id=81 proto=unix_stream source=unix:1\n"
    )
    assert streams(dump) == {7: "0x102b5400", 81: "0x7f622803b090"}
