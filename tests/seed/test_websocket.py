"""WebSockets through the gateway: the page's servers and its client, and what a protocol as old as this is used for."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.platform_fixture import Platform, wait_for
from tests.seed.page import INCLUDED, Page
from tests.seed.platform_calls import app_client, deploy, finished_run, opens_in_the_console
from tests.seed.preludes import program

PATTERN = "WebSocket"
CLIENT_HOST = "your-app-url"

MORE_NAMES = """
import random

import flyte.app
import flyte.remote as remote
"""

AFTER = f"""
env = FastAPIAppEnvironment(
    name="websocket-app",
    app=app,
    requires_auth=False,
    domain=flyte.app.Domain(custom_domain="{CLIENT_HOST}"),
)
task_env = flyte.TaskEnvironment(name="streamed")


@task_env.task
async def add(a: int, b: int) -> int:
    return a + b


@task_env.task
async def refuse(reason: str) -> None:
    raise ValueError(reason)


@task_env.task
async def hold(gate: str) -> str:
    import pathlib

    async with asyncio.timeout(90):
        while not pathlib.Path(gate).exists():
            await asyncio.sleep(0.05)
    return "let go"


@app.get("/serving")
async def serving() -> int:
    # how many tasks serve WebSockets, by the names of uvicorn's coroutines
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
    return sum(name.startswith("W") and name.endswith(".run_asgi") for name in names)


@app.websocket("/protocols")
async def protocols(websocket: WebSocket):
    await websocket.accept(subprotocol="chat.v2" if "chat.v2" in websocket.scope["subprotocols"] else None)
    await websocket.send_text("accepted")
    await websocket.close()


@app.websocket("/bytes")
async def echo_bytes(websocket: WebSocket):
    await websocket.accept()
    try:
        while True:
            await websocket.send_bytes(await websocket.receive_bytes())
    except WebSocketDisconnect:
        pass


@app.websocket("/close/{{code}}")
async def close(websocket: WebSocket, code: int):
    await websocket.accept()
    await websocket.close(code, "as was asked for")


@app.get("/rooms")
async def count_members() -> dict[str, int]:
    return {{name: len(room.connections) for name, room in rooms.items()}}


closed_with = []


@app.websocket("/notes-the-close")
async def notes_the_close(websocket: WebSocket):
    await websocket.accept()
    try:
        await websocket.receive_text()
    except WebSocketDisconnect as gone:
        closed_with.append(gone.code)


@app.get("/closed-with")
async def what_closed() -> list[int]:
    return closed_with


@app.websocket("/refuses")
async def refuses(websocket: WebSocket):
    await websocket.close(4000)
"""


@pytest.fixture(scope="module")
def sockets(platform: Platform, page: Page) -> str:
    """The page's WebSocket chapter as one app, behind the program that it includes; the address of the app."""
    before = (INCLUDED / "basic_websocket.py").read_text() + MORE_NAMES
    text = program(page, 420, 434, 448, 464, 505, before=before, after=AFTER)
    deploy(platform, "websocket_chapter", text, "--version", "v1")
    return platform.app_url("websocket-app").replace("http://", "ws://")


def _open(address: str, **options: Any) -> connect:
    return connect(address, proxy=None, max_size=8 * 1024 * 1024, **options)


async def _text(connection: ClientConnection, timeout: float = 30) -> str:
    async with asyncio.timeout(timeout):
        message = await connection.recv()
    assert isinstance(message, str)
    return message


async def _json(connection: ClientConnection, timeout: float = 30) -> Any:
    return json.loads(await _text(connection, timeout))


# ------------------------------------------------------------------------------------------- echo


@pytest.mark.snippet(PATTERN, 420)
async def test_a_thousand_messages_come_back_in_order(sockets: str) -> None:
    async with _open(f"{sockets}/echo") as connection, asyncio.timeout(30):
        for number in range(1000):
            await connection.send(str(number))
        answers = [await connection.recv() for _ in range(1000)]
    assert answers == [f"Echo: {number}" for number in range(1000)]


@pytest.mark.parametrize("size", [64 * 1024, 1024 * 1024], ids=["64 KiB", "1 MiB"])
@pytest.mark.snippet(PATTERN, 420)
async def test_a_large_message_comes_back_whole(sockets: str, size: int) -> None:
    message = "ä" * (size // 2)
    async with _open(f"{sockets}/echo") as connection:
        await connection.send(message)
        assert await _text(connection) == f"Echo: {message}"


@pytest.mark.snippet(PATTERN, 420)
async def test_a_client_that_leaves_leaves_no_task_behind(sockets: str) -> None:
    await _answers(sockets, "/serving", 0)
    connection = await _open(f"{sockets}/echo")
    await connection.send("x")
    await _text(connection)
    await _answers(sockets, "/serving", 1)
    connection.transport.abort()  # without a word, as a laptop that is closed
    await _answers(sockets, "/serving", 0)


async def _answers(sockets: str, path: str, expected: Any) -> None:
    """Wait until the app answers `path` with what is expected."""
    with httpx.Client(base_url=sockets.replace("ws://", "http://"), trust_env=False) as http:
        await asyncio.to_thread(
            wait_for,
            lambda: http.get(path).json() == expected,
            f"{path} answers {expected!r}",
            10,
            lambda: http.get(path).text,
        )


# ------------------------------------------------------------------------------------------- /ws and broadcast


@pytest.mark.snippet(PATTERN, "basic_websocket.py")
async def test_the_included_app_greets_echoes_and_tells_everybody(sockets: str) -> None:
    async with _open(f"{sockets}/ws") as one, _open(f"{sockets}/ws") as two:
        assert (await _json(one))["message"] == "Welcome! You are connected."
        assert (await _json(two))["message"] == "Welcome! You are connected."
        await one.send("hi")
        assert (await _json(one))["message"] == "Echo: hi"
        assert (await _json(one))["message"] == "Broadcast: hi"
        heard = await _json(two)
        assert (heard["message"], heard["connections"]) == ("Broadcast: hi", 2)
        await one.close()
        assert (await _json(two))["message"] == "A client disconnected"


@pytest.mark.snippet(PATTERN, 434)
async def test_everybody_gets_each_message_also_after_one_has_left(sockets: str) -> None:
    async with AsyncExitStack() as stack:
        clients: list[ClientConnection] = []
        for number in range(3):
            clients.append(await stack.enter_async_context(_open(f"{sockets}/broadcast")))
            await clients[-1].send(f"{number} is here")
            assert [await _text(client) for client in clients] == [f"{number} is here"] * len(clients)
        leaving, *others = clients
        await leaving.close()
        await others[0].send("to those who stayed")
        assert [await _text(other) for other in others] == ["to those who stayed"] * 2


# ------------------------------------------------------------------------------------------- stream and rooms


@pytest.mark.snippet(PATTERN, 448)
async def test_the_stream_sends_a_value_each_second(sockets: str) -> None:
    async with _open(f"{sockets}/stream") as connection:
        values = [await _json(connection) for _ in range(3)]
    assert all(value.keys() == {"timestamp", "value"} and 0 <= value["value"] < 1 for value in values)
    sent = [datetime.fromisoformat(value["timestamp"]) for value in values]
    assert all(later - earlier >= timedelta(seconds=0.9) for earlier, later in itertools.pairwise(sent))


@pytest.mark.snippet(PATTERN, 464)
async def test_a_message_reaches_the_others_of_its_room_and_nobody_else(sockets: str) -> None:
    async with (
        _open(f"{sockets}/chat/tea") as ann,
        _open(f"{sockets}/chat/tea") as bob,
        _open(f"{sockets}/chat/coffee") as eve,
    ):
        await _answers(sockets, "/rooms", {"tea": 2, "coffee": 1})
        await ann.send("hello")
        assert await _text(bob) == "hello"
        await bob.send("and hello")
        assert await _text(ann) == "and hello"
        async with _open(f"{sockets}/chat/coffee") as fay:
            await _answers(sockets, "/rooms", {"tea": 2, "coffee": 2})
            await fay.send("of coffee")
            assert await _text(eve) == "of coffee", "the first that she hears"
        await ann.send("and goodbye")
        assert await _text(bob) == "and goodbye", "the next after his own, which he did not hear"


# ------------------------------------------------------------------------------------------- the task runner


def _request(task: str, **inputs: Any) -> str:
    place = {"project": "flytesnacks", "domain": "development", "task": task, "version": "v1"}
    return json.dumps({**place, "inputs": inputs})


async def _updates(connection: ClientConnection, timeout: float = 60) -> AsyncIterator[dict[str, str]]:
    """What the task runner sends after its first frame, up to the terminal status."""
    async with asyncio.timeout(timeout):
        while True:
            update = json.loads(await connection.recv())
            yield update
            if update["status"] in ("succeeded", "failed", "aborted", "timed_out"):
                return


@pytest.mark.snippet(PATTERN, 505)
async def test_the_task_runner_streams_a_run_to_its_end_and_takes_another(platform: Platform, sockets: str) -> None:
    async with _open(f"{sockets}/task-runner") as connection:
        for a in (1, 40):
            await connection.send(_request("add", a=a, b=2))
            first = await _json(connection, timeout=30)
            assert first.keys() == {"run_id", "url", "status"}
            assert first["status"] == "started"
            updates = [update async for update in _updates(connection)]
            assert all(update.keys() == {"status", "message"} for update in updates)
            assert updates[-1]["status"] == "succeeded"
            assert sum(update["status"] == "succeeded" for update in updates) == 1
            run = await asyncio.to_thread(finished_run, platform, first["run_id"])
            assert run["outputs"] == [a + 2]
            await asyncio.to_thread(opens_in_the_console, platform, first["url"], first["run_id"])


@pytest.mark.snippet(PATTERN, 505)
async def test_a_failed_run_is_the_last_update_and_says_why(sockets: str) -> None:
    async with _open(f"{sockets}/task-runner") as connection:
        await connection.send(_request("streamed.refuse", reason="as was asked for"))
        assert (await _json(connection, timeout=30))["status"] == "started"
        updates = [update async for update in _updates(connection)]
    assert updates[-1]["status"] == "failed"
    assert "as was asked for" in updates[-1]["message"]


@pytest.mark.snippet(PATTERN, 505)
async def test_inputs_that_do_not_fit_end_the_connection_and_the_next_one_is_served(sockets: str) -> None:
    """The page's code does not catch what `flyte.run` raises."""
    async with _open(f"{sockets}/task-runner") as connection:
        await connection.send(_request("add", a="three", b=2))
        with pytest.raises(ConnectionClosed):
            await _json(connection, timeout=30)
    async with _open(f"{sockets}/task-runner") as connection:
        await connection.send(_request("add", a=1.0, b=2))
        assert (await _json(connection, timeout=30))["status"] == "started"


@pytest.mark.snippet(PATTERN, "505 across a restart of the control plane")
async def test_the_stream_goes_on_after_the_control_plane_was_killed(
    platform: Platform, sockets: str, gate: Path
) -> None:
    async with _open(f"{sockets}/task-runner") as connection:
        await connection.send(_request("hold", gate=str(gate)))
        assert (await _json(connection, timeout=30))["status"] == "started"
        seen: list[str] = []
        reading = asyncio.create_task(_read_into(seen, connection))
        await asyncio.to_thread(wait_for, lambda: "running" in seen, "the run's start is streamed", 30)
        await asyncio.to_thread(_kill_the_control_plane, platform)
        await asyncio.to_thread(gate.touch)
        await reading
    assert seen[-1] == "succeeded"
    assert seen.count("succeeded") == 1


async def _read_into(seen: list[str], connection: ClientConnection) -> None:
    async for update in _updates(connection, timeout=90):
        seen.append(update["status"])


def _kill_the_control_plane(platform: Platform) -> None:
    """SIGKILL; returns when another one answers."""
    (old,) = _control_planes(platform)
    old.kill()
    wait_for(lambda: old.pid not in {p.pid for p in _control_planes(platform)}, "the control plane is gone")

    def answers() -> bool:
        try:
            with platform.client() as http:
                return bool(http.get("/v1/health", timeout=5).json().get("status", "ok") == "ok")
        except (httpx.HTTPError, ValueError):
            return False

    wait_for(lambda: _control_planes(platform) and answers(), "another control plane answers", 30, platform.log_tails)


def _control_planes(platform: Platform) -> list[psutil.Process]:
    return [process for process in platform.processes() if "tarmac.server" in process.cmdline()]


# ------------------------------------------------------------------------------------------- the page's client

MAPPED_NAMES = f"""
import socket

_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, port, *args, **kwargs):
    if host == "{CLIENT_HOST}" and port == 80:
        host, port = "127.0.0.1", {{port}}
    return _getaddrinfo(host, port, *args, **kwargs)


socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.snippet(PATTERN, 548)
async def test_the_pages_client_runs_byte_for_byte(
    platform: Platform, sockets: str, page: Page, tmp_path: Path
) -> None:
    """DNS is the reader's: here the name and its port 80 lead to the front door, which tells the app by its host."""
    port = httpx.URL(platform.endpoint).port
    (tmp_path / "sitecustomize.py").write_text(MAPPED_NAMES.format(port=port))
    (tmp_path / "s18.py").write_text(page.block(548))
    env = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "s18.py", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=tmp_path, env=env
    )
    async with asyncio.timeout(30):
        out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    assert out.decode().startswith("Received: ")
    assert json.loads(out.decode().removeprefix("Received: "))["message"] == "Welcome! You are connected."


# ------------------------------------------------------------------------------------------- the protocol


@pytest.mark.parametrize(("offered", "chosen"), [(["chat.v1", "chat.v2"], "chat.v2"), (["chat.v1"], None), ([], None)])
@pytest.mark.snippet(PATTERN, "sub-protocols")
async def test_client_and_app_agree_on_a_subprotocol(sockets: str, offered: list[str], chosen: str | None) -> None:
    names = [Subprotocol(name) for name in offered] or None
    async with _open(f"{sockets}/protocols", subprotocols=names) as connection:
        assert await _text(connection) == "accepted"
        assert connection.subprotocol == chosen


@pytest.mark.parametrize("code", [1000, 1001, 1008, 3000, 4321])
@pytest.mark.snippet(PATTERN, "close codes")
async def test_the_apps_close_code_and_reason_reach_the_client(sockets: str, code: int) -> None:
    async with _open(f"{sockets}/close/{code}") as connection:
        with pytest.raises(ConnectionClosed) as closed:
            await _text(connection)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as was asked for")


@pytest.mark.snippet(PATTERN, "close codes")
async def test_the_clients_close_code_reaches_the_app(sockets: str) -> None:
    connection = await _open(f"{sockets}/notes-the-close")
    await connection.close(4777)
    await _answers(sockets, "/closed-with", [4777])


@pytest.mark.snippet(PATTERN, "close codes")
async def test_an_app_that_refuses_the_handshake_answers_403(sockets: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await _open(f"{sockets}/refuses")
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("size", [0, 1, 65536, 1024 * 1024], ids=["empty", "1 B", "64 KiB", "1 MiB"])
@pytest.mark.snippet(PATTERN, "binary frames")
async def test_binary_frames_come_back_byte_for_byte(sockets: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with _open(f"{sockets}/bytes") as connection, asyncio.timeout(20):
        await connection.send(data)
        assert await connection.recv() == data


@pytest.mark.snippet(PATTERN, "silence")
@pytest.mark.timeout(360)
async def test_silence_does_not_end_a_connection(platform: Platform, sockets: str, silence: float) -> None:
    """Nobody sends anything, not even pings of the client's."""
    async with _open(f"{sockets}/echo", ping_interval=None) as connection:
        await connection.send("before")
        assert await _text(connection) == "Echo: before"
        await asyncio.sleep(silence)
        await connection.send("after")
        assert await _text(connection) == "Echo: after"


@pytest.mark.snippet(PATTERN, "HTTP beside it")
def test_the_same_app_answers_plain_http_beside_its_sockets(platform: Platform, sockets: str) -> None:
    with app_client(platform, "websocket-app") as http:
        assert http.get("/serving").status_code == 200
