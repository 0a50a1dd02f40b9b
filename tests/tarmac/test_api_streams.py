"""What goes on while it is read: events in order and once, logs to the last line, heartbeats in between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flyte._client.client import Client
from flyte._client.request import Request
from flyte._client.transport import Transport
from flyte.errors import NotAuthenticatedError
from flyte.log_times import RECORD, file_of
from flyte.wire import ActionPhase, DeploymentPhase
from tarmac.api import streams

from .api_server import KEY, OWNER, Server, add, messages, next_of, serving
from .gateway_world import until


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


def put(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def put_times(log: Path, records: Iterable[tuple[int, float]]) -> None:
    Path(file_of(str(log))).write_bytes(b"".join(RECORD.pack(*record) for record in records))


async def lines_of(server: Server, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = await server.client().get(path, params=query)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines() if line]


# ------------------------------------------------------------------------------------------------------------ events


async def test_a_stream_is_a_snapshot_then_every_event_and_ends_with_the_run(server: Server) -> None:
    name = await add(server)
    async with server.client().stream("GET", f"/v1/runs/{name}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = messages(response)
        snapshot = await next_of(found)
        assert (snapshot.event, snapshot.data["name"]) == ("snapshot", name)
        assert snapshot.id == snapshot.data["seq"]
        server.control.move(name, ActionPhase.RUNNING, "running")
        server.control.child(name, "c1")
        server.control.move(name, ActionPhase.SUCCEEDED, outputs=[42])
        events = [message async for message in found if message]
    assert [(message.event, message.data["phase"]) for message in events] == [
        ("event", "running"),
        ("event", "succeeded"),
    ]
    assert all(message.id == message.data["seq"] > snapshot.id for message in events)


async def test_a_stream_of_all_actions_tells_of_the_children_too(server: Server) -> None:
    name = await add(server)
    async with server.client().stream("GET", f"/v1/runs/{name}/events?actions=all") as response:
        found = messages(response)
        await next_of(found)
        server.control.child(name, "c1")
        assert (await next_of(found)).data["subject"] == f"run/{name}/c1"


@pytest.mark.parametrize("how", ["query", "header"])
async def test_a_stream_resumes_after_the_number_that_was_seen_last(server: Server, how: str) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    seen = server.control.journal.seq
    server.control.move(name, ActionPhase.SUCCEEDED)
    query = f"?after={seen}" if how == "query" else ""
    headers = {"Last-Event-ID": str(seen)} if how == "header" else {}
    async with server.client().stream("GET", f"/v1/runs/{name}/events{query}", headers=headers) as response:
        events = [message async for message in messages(response) if message]
    assert [(message.event, message.data["phase"]) for message in events] == [("event", "succeeded")]


async def test_a_silent_stream_gives_heartbeats(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.05)
    name = await add(server)
    async with server.client().stream("GET", f"/v1/runs/{name}/events") as response:
        found = messages(response)
        await next_of(found)
        assert [await asyncio.wait_for(anext(found), 10) for _ in range(3)] == [None, None, None]
        server.control.move(name, ActionPhase.ABORTED)
        assert (await next_of(found)).data["phase"] == "aborted"


async def test_a_reader_that_goes_away_ends_what_it_followed(server: Server) -> None:
    name = await add(server)
    ended = asyncio.Event()
    watch_run = server.control.watching.run

    async def watched(*args: Any) -> AsyncIterator[Any]:
        try:
            async for seen in watch_run(*args):
                yield seen
        finally:
            ended.set()

    server.control.watching.run = watched  # type: ignore[method-assign,assignment]
    async with server.client().stream("GET", f"/v1/runs/{name}/events") as response:
        await next_of(messages(response))
    await asyncio.wait_for(ended.wait(), 10)


def revoke(server: Server) -> None:
    server.authenticator._keys.clear()  # type: ignore[attr-defined]
    server.authenticator.key_revoked()


async def test_what_a_key_has_open_is_ended_when_the_key_is_revoked(server: Server) -> None:
    name = await add(server)
    async with (
        server.client(KEY).stream("GET", f"/v1/runs/{name}/events") as of_the_key,
        server.browser("github").stream("GET", f"/v1/runs/{name}/events") as of_its_session,
        server.client(KEY).stream("GET", f"/v1/runs/{name}/logs?follow=true") as log,
        server.client().stream("GET", f"/v1/runs/{name}/events") as of_the_owner,
    ):
        found, *others = (messages(each) for each in (of_the_owner, of_the_key, of_its_session))
        for stream in (found, *others):
            await next_of(stream)
        waiting = asyncio.create_task(server.client(KEY).get(f"/v1/runs/{name}?wait=60"))
        await until(lambda: len(server.authenticator.open_calls) == 5, "all five are under way")
        revoke(server)
        assert (await waiting).status_code == 401
        for broken in (*others, log.aiter_raw()):
            with pytest.raises(httpx.RemoteProtocolError):
                await asyncio.wait_for(anext(broken), 10)
        server.control.move(name, ActionPhase.SUCCEEDED, outputs=[42])
        assert (await next_of(found)).data["phase"] == "succeeded"


async def test_who_follows_a_run_with_a_key_that_is_revoked_is_told_so(server: Server) -> None:
    name = await add(server)
    client = Client(server.address, KEY)
    following = client.run_events(name)
    await anext(following)
    await until(lambda: len(server.authenticator.open_calls) == 1, "it is under way")
    revoke(server)
    with pytest.raises(NotAuthenticatedError):
        await asyncio.wait_for(anext(following), 10)


async def test_signing_out_ends_what_that_browser_has_open_and_no_other(server: Server) -> None:
    name = await add(server)
    browser, other = server.browser(), server.browser()
    async with (
        browser.stream("GET", f"/v1/runs/{name}/events") as mine,
        other.stream("GET", f"/v1/runs/{name}/events") as of_the_other,
    ):
        found, signed_out = messages(of_the_other), messages(mine)
        for stream in (signed_out, found):
            await next_of(stream)
        assert (await browser.post("/logout")).status_code == 303
        with pytest.raises(httpx.RemoteProtocolError):
            await asyncio.wait_for(anext(signed_out), 10)
        server.control.move(name, ActionPhase.SUCCEEDED, outputs=[42])
        assert (await next_of(found)).data["phase"] == "succeeded"


async def test_a_deployment_is_followed_to_its_end(server: Server) -> None:
    answer = await server.client().post("/v1/deployments", json={"version": "v2", "order": {"env": []}})
    assert answer.status_code == 202
    name = answer.json()["id"]
    async with server.client().stream("GET", f"/v1/deployments/{name}/events") as response:
        found = messages(response)
        assert (await next_of(found)).data["phase"] == "running"
        server.control.finish_deployment(name, DeploymentPhase.SUCCEEDED)
        assert [message.data["phase"] async for message in found if message] == ["succeeded"]
    assert (await server.client().get(f"/v1/deployments/{name}")).json()["phase"] == "succeeded"


# -------------------------------------------------------------------------------------------------------------- logs


async def test_a_log_is_read_by_tail_and_by_offset(server: Server) -> None:
    name = await add(server)
    put(server.control.log_file(name), "one\ntwo\nthree\n")
    path = f"/v1/runs/{name}/actions/a0/logs"
    every = await lines_of(server, path)
    assert [line["text"] for line in every] == ["one", "two", "three"]
    assert await lines_of(server, path, tail=1) == every[-1:]
    assert await lines_of(server, path, after=every[0]["offset"]) == every[1:]
    assert await lines_of(server, path, attempt=7) == []


async def test_a_log_is_followed_until_the_action_is_over(server: Server) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    file = server.control.log_file(name)
    async with server.client().stream("GET", f"/v1/runs/{name}/actions/a0/logs?follow=1") as response:
        found = response.aiter_lines()
        put(file, "first\n")
        assert json.loads(await asyncio.wait_for(anext(found), 10))["text"] == "first"
        put(file, "last, without an end")
        server.control.move(name, ActionPhase.SUCCEEDED)
        assert [json.loads(line)["text"] async for line in found if line] == ["last, without an end"]


async def test_following_a_log_goes_on_with_the_next_attempt(server: Server) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    put(server.control.log_file(name, attempt=1), "failed\n")
    async with server.client().stream("GET", f"/v1/runs/{name}/actions/a0/logs?follow=1") as response:
        found = response.aiter_lines()
        assert json.loads(await anext(found))["text"] == "failed"
        server.control.move(name, ActionPhase.RUNNING, attempt=2)
        put(server.control.log_file(name, attempt=2), "worked\n")
        second = json.loads(await asyncio.wait_for(anext(found), 10))
        assert (second["text"], second["attempt"]) == ("worked", 2)
        server.control.move(name, ActionPhase.SUCCEEDED)
        assert [line async for line in found if line] == []


async def test_following_a_log_passes_over_no_attempt_that_was_over_in_no_time(server: Server) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    put(server.control.log_file(name, attempt=1), "try 1\n")
    async with server.client().stream("GET", f"/v1/runs/{name}/actions/a0/logs?follow=1") as response:
        found = response.aiter_lines()
        assert json.loads(await anext(found))["text"] == "try 1"
        for attempt in (2, 3, 4):
            put(server.control.log_file(name, attempt=attempt), f"try {attempt}\n")
        server.control.move(name, ActionPhase.FAILED, attempt=4)
        rest = [json.loads(line) async for line in found if line]
    assert [(line["attempt"], line["text"]) for line in rest] == [(2, "try 2"), (3, "try 3"), (4, "try 4")]


@pytest.mark.parametrize("heard", [0, 1, 3])
async def test_our_own_follower_has_every_attempt_also_when_its_connection_broke(
    server: Server, heard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    put(server.control.log_file(name, attempt=1), "try 1\nagain 1\n")
    for attempt in (2, 3, 4):
        put(server.control.log_file(name, attempt=attempt), f"try {attempt}\n")
    server.control.move(name, ActionPhase.FAILED, attempt=4)
    connection = Transport.lines

    async def breaks_once(self: Transport, request: Request) -> AsyncGenerator[bytes, None]:
        monkeypatch.setattr(Transport, "lines", connection)
        async with contextlib.aclosing(connection(self, request)) as lines:
            for _ in range(heard):
                yield await anext(lines)
        raise ConnectionError("gone")

    monkeypatch.setattr(Transport, "lines", breaks_once)
    client = Client(server.address, OWNER)
    found = [(line.attempt, line.text) async for line in client.run_logs(name, follow=True)]
    assert found == [(1, "try 1"), (1, "again 1"), (2, "try 2"), (3, "try 3"), (4, "try 4")]


@pytest.mark.parametrize("query", ["from_attempt=1", "from_attempt=1&attempt=1&follow=1"])
async def test_an_attempt_to_begin_with_is_for_followers(server: Server, query: str) -> None:
    name = await add(server)
    answer = await server.client().get(f"/v1/runs/{name}/actions/a0/logs?{query}")
    assert answer.status_code == 422


async def test_following_one_attempt_ends_with_it(server: Server) -> None:
    name = await add(server)
    put(server.control.log_file(name, attempt=1), "failed\n")
    server.control.move(name, ActionPhase.RUNNING, attempt=2)
    found = await lines_of(server, f"/v1/runs/{name}/actions/a0/logs", follow=1, attempt=1)
    assert [line["text"] for line in found] == ["failed"]


async def test_a_silent_log_gives_heartbeats(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.05)
    name = await add(server)
    async with server.client().stream("GET", f"/v1/runs/{name}/actions/a0/logs?follow=1") as response:
        assert await asyncio.wait_for(anext(response.aiter_lines()), 10) == ""


async def test_no_stream_is_compressed(server: Server) -> None:
    name = await add(server)
    headers = {"Accept-Encoding": "gzip, br"}
    async with server.client().stream("GET", f"/v1/runs/{name}/events", headers=headers) as response:
        assert "content-encoding" not in response.headers
        assert response.headers["cache-control"] == "no-store"


async def test_streams_do_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, httpx.AsyncClient() as client:
        name = await add(server)
        request = client.build_request(
            "GET", f"{server.address}/v1/runs/{name}/events", headers={"Authorization": "Bearer tk_owner"}
        )
        response = await client.send(request, stream=True)
        assert response.status_code == 200
    await response.aclose()


async def test_the_log_of_a_run_is_that_of_all_its_actions_and_attempts(server: Server) -> None:
    name = await add(server)
    server.control.child(name, "c1")
    server.control.child(name, "c2")
    put(server.control.log_file(name), "parent\n")
    put(server.control.log_file(name, "c1"), "first\nsecond\n")
    lines = await lines_of(server, f"/v1/runs/{name}/logs")
    assert [(line.get("source", ""), line["text"]) for line in lines] == [
        ("a0", "parent"), ("c1", "first"), ("c1", "second"),
    ]  # fmt: skip
    last = await lines_of(server, f"/v1/runs/{name}/logs", tail=1)
    assert [line["text"] for line in last] == ["second"]


async def test_the_log_of_a_run_has_the_lines_of_its_actions_in_the_order_of_their_times(server: Server) -> None:
    name = await add(server)
    server.control.child(name, "c1")
    server.control.child(name, "c2")
    begun = time.time()
    written = {"a0": {"before": 10, "after": 40}, "c1": {"a": 20, "b": 30, "c": 35}, "c2": {"x": 25, "y": 50}}
    for action, lines in written.items():
        log = server.control.log_file(name, action)
        put(log, "".join(f"{text}\n" for text in lines))
        sizes = itertools.accumulate(len(text) + 1 for text in lines)
        put_times(log, zip(sizes, (begun + second for second in lines.values()), strict=True))
    found = await lines_of(server, f"/v1/runs/{name}/logs")
    assert [line["text"] for line in found] == ["before", "a", "x", "b", "c", "after", "y"]
    assert [round(line["time"] - begun) for line in found] == [10, 20, 25, 30, 35, 40, 50]
    last = await lines_of(server, f"/v1/runs/{name}/logs", tail=3)
    assert [line["text"] for line in last] == ["c", "after", "y"]


async def test_the_log_of_a_run_is_followed_to_its_end(server: Server) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    put(server.control.log_file(name), "parent\n")
    seen = []
    async with server.client().stream("GET", f"/v1/runs/{name}/logs?follow=1") as response:
        async for text in response.aiter_lines():
            line = json.loads(text) if text else None
            if line is not None:
                seen.append((line["source"], line["text"]))
            if seen == [("a0", "parent")] and line is not None:
                server.control.child(name, "c1")
                server.control.move(name, ActionPhase.RUNNING, action="c1")
                put(server.control.log_file(name, "c1"), "child\n")
            elif seen[-1:] == [("c1", "child")] and line is not None:
                server.control.move(name, ActionPhase.SUCCEEDED, action="c1")
                server.control.move(name, ActionPhase.SUCCEEDED)
    assert seen == [("a0", "parent"), ("c1", "child")]
