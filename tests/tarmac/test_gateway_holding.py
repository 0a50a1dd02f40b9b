"""Requests to an app that sleeps: held, woken once, let through together, or told why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flyte import wire
from tarmac.gateway import wake
from tests.tarmac.gateway_world import APP, World, until, world


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    """A gateway with the app `hello`, which has no replica."""
    async with world() as made:
        await made.serve()
        yield made


async def woken(gateway: World, number: int = 1) -> wire.Wake:
    """The control plane's next question."""
    await until(lambda: len(gateway.control.wakes) >= number, "the control plane is asked")
    return gateway.control.wakes[number - 1]


async def test_a_request_to_a_sleeping_app_waits_and_is_served(gateway: World) -> None:
    request = asyncio.ensure_future(gateway.ask("POST", gateway.url("/path"), data="body"))
    question = await woken(gateway)
    assert question.app == APP
    gateway.control.send(wire.Woken(key=question.key, ok=True))
    await gateway.serve(await gateway.upstream())
    status, seen, _ = await request
    assert (status, seen["path"], seen["body"]) == (200, "/path", "body")


async def test_two_hundred_held_requests_ask_once_and_are_all_served(gateway: World) -> None:
    requests = [asyncio.ensure_future(gateway.get(f"/{number}")) for number in range(200)]
    socket = asyncio.ensure_future(gateway.http.ws_connect(gateway.url("/ws")))
    await woken(gateway)
    one = await gateway.upstream()
    gateway.control.put(gateway.route(one))
    answers = await asyncio.gather(*requests)
    assert {status for status, _, _ in answers} == {200}
    async with await socket as opened:
        await opened.send_str("hello")
        assert await opened.receive_str() == "one: hello"
    assert len(gateway.control.wakes) == 1
    assert one.requests == 201


async def test_other_apps_are_served_while_one_is_held(gateway: World) -> None:
    await gateway.serve(await gateway.upstream("two"), app="flytesnacks/development/other", number=1)
    request = asyncio.ensure_future(gateway.get())
    await woken(gateway)
    assert (await gateway.get(number=1))[1]["server"] == "two"
    assert not request.done()
    await gateway.serve(await gateway.upstream())
    assert (await request)[0] == 200


async def test_an_app_that_cannot_start_says_why_to_everyone_who_waits(gateway: World) -> None:
    requests = [asyncio.ensure_future(gateway.get()) for _ in range(5)]
    question = await woken(gateway)
    why = "app 'hello' did not start: exit code 1; the last lines it wrote:\nImportError: no module \"x\" % y"
    await until(lambda: gateway.held() == 5, "all five are held")
    await gateway.barrier()
    gateway.control.send(wire.Woken(key=question.key, ok=False, message=why))
    for status, body, headers in await asyncio.gather(*requests):
        assert (status, headers["retry-after"], headers["content-type"]) == (503, "5", "application/json")
        assert body["error"]["message"] == why
    again = asyncio.ensure_future(gateway.get())
    assert (await woken(gateway, 2)).key != question.key
    await gateway.serve(await gateway.upstream())
    assert (await again)[0] == 200


async def test_a_yes_is_no_answer_before_the_replica_is_there(gateway: World) -> None:
    request = asyncio.ensure_future(gateway.get())
    question = await woken(gateway)
    gateway.control.send(wire.Woken(key=question.key, ok=True))
    await gateway.barrier()
    assert gateway.held() == 1
    await gateway.serve(await gateway.upstream("two"), app="flytesnacks/development/other", number=1)
    assert (await gateway.get(number=1))[1]["server"] == "two"
    assert not request.done()
    await gateway.serve(await gateway.upstream())
    assert (await request)[0] == 200
    assert gateway.control.wakes == [question]


async def test_holding_ends_with_the_hold_timeout() -> None:
    async with world(hold_timeout=0.6) as gateway:
        await gateway.serve()
        status, body, _ = await gateway.get()
        assert status == 503
        assert "the app hello has no ready replica after 0.6 s" in body["error"]["message"]
        assert len(gateway.control.wakes) == 1
        await until(lambda: gateway.held() == 0, "the controller holds it no more")


async def test_an_app_that_is_stopped_while_requests_wait_says_so(gateway: World) -> None:
    request = asyncio.ensure_future(gateway.get())
    await woken(gateway)
    gateway.control.put(gateway.route(wanted="stopped"))
    status, body, _ = await request
    assert status == 503
    assert "flyte update app hello --activate" in body["error"]["message"]


async def test_an_app_that_is_deleted_while_requests_wait_says_so(gateway: World) -> None:
    request = asyncio.ensure_future(gateway.get())
    await woken(gateway)
    gateway.control.remove(APP)
    assert (await request)[0] == 404


async def test_a_control_plane_that_comes_back_is_asked_again(gateway: World) -> None:
    request = asyncio.ensure_future(gateway.get())
    question = await woken(gateway)
    await gateway.control.stop()
    await gateway.control.start()
    assert await woken(gateway, 2) == question
    await gateway.serve(await gateway.upstream())
    assert (await request)[0] == 200


async def test_held_requests_outlive_the_controller(gateway: World) -> None:
    requests = [asyncio.ensure_future(gateway.get()) for _ in range(20)]
    await woken(gateway)
    gateway.kill_controller()
    gateway.start_controller()
    await woken(gateway, 2)
    await gateway.serve(await gateway.upstream())
    assert {status for status, _, _ in await asyncio.gather(*requests)} == {200}


async def test_without_a_controller_a_request_is_refused_in_the_end() -> None:
    async with world() as gateway:
        await gateway.serve()
        gateway.kill_controller()
        gateway.controller = None
        status, body, headers = await gateway.get()
        assert (status, headers["retry-after"]) == (503, "1")
        assert "cannot wake the app now" in body["error"]["message"]


# --------------------------------------------------------------------------------------- the holding itself, no HAProxy


class Line(asyncio.Transport):
    """HAProxy's end of one question, for a test of the limit alone."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""

    def write(self, data: Any) -> None:
        self.said += bytes(data)

    def close(self) -> None:
        pass


async def test_more_requests_than_may_wait_are_refused_at_once() -> None:
    holds = wake.HeldRequests(lambda app: "asleep", lambda frame: True, lambda: None, 20)
    lines = []
    for _ in range(wake.HELD_LIMIT + 1):
        lines.append(Line())
        held = wake.HeldRequest(holds)
        held.connection_made(lines[-1])
        held.data_received(APP.encode() + b"\n")
    assert {line.said for line in lines[:-1]} == {b""}
    assert lines[-1].said.startswith(b'503 5 {"error":')
    assert b"1,000 requests wait already for the app hello" in lines[-1].said
