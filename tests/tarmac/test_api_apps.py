"""Apps over HTTP: looked at, switched on and off, their logs and requests read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flyte.wire import App, AppStatus, Replica

from .api_server import KEY, Server, messages, next_of, serving, told

ONE = Replica(name="r-1", version="v1", phase="ready")
TWO = Replica(name="r-2", version="v1", phase="starting")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        app = App(
            project="flytesnacks",
            domain="development",
            name="adder",
            version="v1",
            status=AppStatus.ACTIVE,
            url="http://127.0.0.1:30100",
            replicas=[ONE],
        )
        running.control.add_app(app)
        yield running


def put(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


async def lines_of(server: Server, **query: Any) -> list[tuple[str, str]]:
    answer = await server.client().get("/v1/apps/adder/logs", params=query)
    lines = [json.loads(line) for line in answer.text.splitlines() if line]
    return [(line["source"], line["text"]) for line in lines]


async def test_apps_are_listed_and_looked_at(server: Server) -> None:
    assert [app["name"] for app in (await server.client().get("/v1/apps")).json()] == ["adder"]
    assert (await server.client().get("/v1/apps?domain=staging")).json() == []
    app = (await server.client().get("/v1/apps/adder")).json()
    assert (app["status"], app["replicas"][0]["name"]) == ("active", "r-1")


async def test_an_app_that_does_not_exist_is_not_found(server: Server) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/events"),
        ("GET", "/logs"),
        ("GET", "/requests"),
        ("POST", "/activate"),
        ("POST", "/deactivate"),
    ):
        answer = await server.client().request(method, f"/v1/apps/nope{path}")
        assert answer.status_code == 404
        assert told(answer).code == "AppNotFoundError"


async def test_an_app_is_deactivated_and_activated_in_the_callers_name(server: Server) -> None:
    stopped = await server.client(KEY).post("/v1/apps/adder/deactivate?wait=5")
    assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")
    active = await server.client().post("/v1/apps/adder/activate")
    assert active.json()["status"] == "active"
    assert server.control.did == [("deactivate adder", "github"), ("activate adder", "owner")]


async def test_a_deleted_app_is_gone(server: Server) -> None:
    answer = await server.client().delete("/v1/apps/adder")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await server.client().get("/v1/apps/adder")).status_code == 404


async def test_an_apps_events_go_on_and_resume(server: Server) -> None:
    async with server.client().stream("GET", "/v1/apps/adder/events") as response:
        found = messages(response)
        assert (await next_of(found)).data["status"] == "active"
        server.control.app_status("adder", AppStatus.SLEEPING)
        first = await next_of(found)
        assert (first.event, first.data["phase"]) == ("event", "sleeping")
    server.control.app_status("adder", AppStatus.ACTIVE)
    async with server.client().stream("GET", f"/v1/apps/adder/events?after={first.id}") as response:
        assert (await next_of(messages(response))).data["phase"] == "active"


async def test_the_logs_of_all_replicas_say_whose_each_line_is(server: Server) -> None:
    server.control.app_status("adder", AppStatus.ACTIVE, replicas=[ONE, TWO])
    put(server.control.replica_log("adder", "r-1"), "a\nb\n")
    put(server.control.replica_log("adder", "r-2"), "c\n")
    assert await lines_of(server) == [("r-1", "a"), ("r-1", "b"), ("r-2", "c")]
    assert await lines_of(server, tail=1) == [("r-1", "b"), ("r-2", "c")]
    assert await lines_of(server, replica="r-2") == [("r-2", "c")]
    assert await lines_of(server, replica="r-1", after=2) == [("r-1", "b")]


async def test_an_offset_into_two_logs_at_once_is_refused(server: Server) -> None:
    server.control.app_status("adder", AppStatus.ACTIVE, replicas=[ONE, TWO])
    answer = await server.client().get("/v1/apps/adder/logs?after=2")
    assert answer.status_code == 422
    assert "name a replica" in told(answer).message


async def test_the_log_of_an_unknown_replica_is_not_found(server: Server) -> None:
    answer = await server.client().get("/v1/apps/adder/logs?replica=r-9&follow=1")
    assert answer.status_code == 404
    assert "r-9" in told(answer).message


async def test_a_followed_log_takes_in_the_replica_that_is_started_meanwhile(server: Server) -> None:
    put(server.control.replica_log("adder", "r-1"), "old\n")
    async with server.client().stream("GET", "/v1/apps/adder/logs?follow=1&tail=1") as response:
        found = response.aiter_lines()
        assert json.loads(await asyncio.wait_for(anext(found), 10))["text"] == "old"
        put(server.control.replica_log("adder", "r-2"), "first of the second\n")
        server.control.app_status("adder", AppStatus.ACTIVE, replicas=[ONE, TWO])
        line = json.loads(await asyncio.wait_for(anext(found), 10))
        assert (line["source"], line["text"]) == ("r-2", "first of the second")


async def test_following_one_replica_ends_with_it(server: Server) -> None:
    put(server.control.replica_log("adder", "r-1"), "a\n")
    async with server.client().stream("GET", "/v1/apps/adder/logs?follow=1&replica=r-1") as response:
        found = response.aiter_lines()
        assert json.loads(await anext(found))["text"] == "a"
        server.control.app_status("adder", AppStatus.SLEEPING, replicas=[])
        assert [line async for line in found if line] == []


async def test_requests_are_told_newest_first_without_the_line_that_is_being_written(server: Server) -> None:
    assert (await server.client().get("/v1/apps/adder/requests")).json() == []
    entries = [{"time": n, "method": "GET", "path": f"/{n}", "status": 200} for n in range(5)]
    put(server.control.access_file("adder"), "".join(json.dumps(entry) + "\n" for entry in entries) + '{"time": 5, "me')
    answer = await server.client().get("/v1/apps/adder/requests?limit=3")
    assert answer.json() == [entries[4], entries[3]]
    assert (await server.client().get("/v1/apps/adder/requests")).json() == entries[::-1]
