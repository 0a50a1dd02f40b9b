"""Every request to an app is one line in the app's own log, and nothing secret is in it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tarmac.gateway import access_log
from tests.tarmac.gateway_world import KEY, World, until, world


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def entries(gateway: World, count: int, app: str = "hello") -> list[dict[str, Any]]:
    await until(lambda: len(gateway.access_entries(app)) >= count, f"{count} entries in the log of {app}")
    return gateway.access_entries(app)


async def test_an_entry_says_who_asked_for_what_and_how_it_went(gateway: World) -> None:
    await gateway.serve(await gateway.upstream(), requires_auth=True)
    before, began = time.time(), time.monotonic()
    headers = {"authorization": f"Bearer {KEY}"}
    await gateway.ask("POST", gateway.url('/a%22b/"quoted"]?secret=1&pause=0.05'), headers=headers, data="x")
    took = 1000 * (time.monotonic() - began)
    (entry,) = await entries(gateway, 1)
    assert before - 1 < entry["time"] < time.time() + 1
    assert (entry["method"], entry["status"]) == ("POST", 200)
    assert (entry["caller"], entry["client"]) == ("key/tests", "127.0.0.1")
    assert entry["path"].startswith("/a%22b/")
    assert entry["replica"] == "one"
    assert 50 <= entry["upstream_ms"] <= entry["total_ms"] <= took + 1
    assert (entry["held_ms"], entry["websocket"], entry["ended"]) == (0, False, "--")
    assert entry["bytes"] > 100
    assert "secret" not in json.dumps(entry)
    assert KEY not in json.dumps(entry)


async def test_refused_requests_are_in_the_log_too(gateway: World) -> None:
    await gateway.serve(await gateway.upstream(), requires_auth=True)
    await gateway.get()
    (entry,) = await entries(gateway, 1)
    assert (entry["status"], entry["upstream_ms"]) == (401, -1)


async def test_the_time_that_a_request_was_held_is_in_the_log(gateway: World) -> None:
    await gateway.serve()
    one, began = await gateway.upstream(), time.monotonic()
    request = asyncio.ensure_future(gateway.get())
    await until(lambda: gateway.control.wakes, "the control plane is asked")
    asked = time.monotonic()
    await until(lambda: time.monotonic() - asked > 0.05, "a time goes by that is told from none")
    held = 1000 * (time.monotonic() - asked)
    await gateway.serve(one)
    await request
    took = 1000 * (time.monotonic() - began)
    (entry,) = await entries(gateway, 1)
    assert held - 1 <= entry["held_ms"] <= entry["total_ms"] <= took + 1


async def test_a_websocket_is_one_entry_when_it_ends(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    async with gateway.http.ws_connect(gateway.url("/ws")) as socket:
        await socket.send_str("bye")
        await socket.receive()
    (entry,) = await entries(gateway, 1)
    assert (entry["status"], entry["path"], entry["websocket"]) == (101, "/ws", True)


async def test_each_app_has_its_own_log_and_the_control_plane_has_none(gateway: World) -> None:
    await gateway.serve(await gateway.upstream("one"))
    await gateway.serve(await gateway.upstream("two"), app="flytesnacks/development/other", number=1)
    await gateway.control.api.start(path=str(gateway.home.api_socket))
    await gateway.ask("GET", gateway.door("/v1/health"))
    await gateway.get("/mine")
    await gateway.get("/theirs", number=1)
    await gateway.ask("GET", gateway.door("/by-name"), headers={"host": "hello.flyte.localhost"})
    assert [entry["path"] for entry in await entries(gateway, 2)] == ["/mine", "/by-name"]
    assert [entry["path"] for entry in await entries(gateway, 1, "other")] == ["/theirs"]
    assert sorted(path.name for path in (gateway.home.logs / "apps").iterdir()) == [
        "flytesnacks.development.hello",
        "flytesnacks.development.other",
    ]


async def test_a_burst_is_logged_whole_and_in_order(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    for number in range(300):
        await gateway.get(f"/{number}")
    await asyncio.gather(*(gateway.get("/together") for _ in range(300)))
    paths = [entry["path"] for entry in await entries(gateway, 600)]
    assert paths == [f"/{number}" for number in range(300)] + ["/together"] * 300


async def test_requests_that_come_while_the_controller_is_away_are_logged_later(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    gateway.kill_controller()
    for number in range(20):
        await gateway.get(f"/{number}")
    gateway.start_controller()
    logged = await entries(gateway, 19)  # the one that told HAProxy that nobody reads may be lost
    assert {entry["path"] for entry in logged} <= {f"/{number}" for number in range(20)}


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_log_that_has_grown_is_rotated_and_three_old_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "apps" / "a.b.c" / "access.jsonl"
    for number in range(6):
        access_log.append(path, [b'{"number":%d}' % number, b'{"more":1}'], rotate_at=10)
    assert not path.exists()
    kept = {file.name: json.loads(file.read_text().splitlines()[0])["number"] for file in path.parent.iterdir()}
    assert kept == {"access.jsonl.1": 5, "access.jsonl.2": 4, "access.jsonl.3": 3}
