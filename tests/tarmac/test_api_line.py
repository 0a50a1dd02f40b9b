"""The API as frames on the link: the same answers as by HTTP, to the SDK's own client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from flyte import wire
from flyte._client import local_socket as _line
from flyte._client.client import Client
from flyte._client.local_socket import Line, NoLine
from flyte.errors import RemoteTaskNotFoundError, RunNotFoundError
from flyte.wire import ActionPhase
from tarmac.api.line import Caller
from tarmac.links.server import Link, Peer, listen

from .api_server import KEY, OWNER, Server, add, serving
from .gateway_world import until


@contextlib.asynccontextmanager
async def linked(server: Server, folder: Path) -> AsyncIterator[str]:
    """The same API, on a link; its path."""

    def accept(link: Link, hello: wire.Hello) -> Peer:
        return Caller(link, hello.token, server.app, server.control, server.authenticator)

    path = folder / "link.sock"
    listening = await listen(path, accept)
    try:
        yield str(path)
    finally:
        listening.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def link(server: Server, tmp_path: Path) -> AsyncIterator[str]:
    async with linked(server, tmp_path) as path:
        yield path


async def ask(line: Line, method: str, path: str, body: Any = None, **headers: str) -> wire.Answer:
    data = b"" if body is None else msgspec.json.encode(body)
    return await line.call(method, path, data, {"Content-Type": "application/json", **headers}, False)


CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/runs/RUN", None),
    ("GET", "/v1/runs/RUN?wait=0.05", None),
    ("GET", "/v1/runs/RUN?wait=soon", None),
    ("GET", "/v1/runs/RUN?wait=-1", None),
    ("GET", "/v1/runs/RUN?unknown=1", None),
    ("GET", "/v1/runs/nothing", None),
    ("GET", "/v1/runs?project=flytesnacks&limit=5", None),
    ("GET", "/v1/runs?limit=0", None),
    ("GET", "/v1/runs/RUN/actions/a0", None),
    ("GET", "/v1/tasks/env.add", None),
    ("GET", "/v1/tasks/add?project=flytesnacks&domain=development", None),
    ("GET", "/v1/tasks/env.add?version=v1", None),
    ("GET", "/v1/tasks/env.add?version=", None),
    ("GET", "/v1/tasks/env.add?version=none", None),
    ("GET", "/v1/tasks/env.add?project=other", None),
    ("GET", "/v1/tasks/nothing", None),
    ("GET", "/v1/tasks/", None),
    ("GET", "/v1/tasks", None),
    ("GET", "/v1/runs/", None),
    ("GET", "/v1/nowhere", None),
    ("PUT", "/v1/runs", {}),
    ("POST", "/v1/runs", {"task": "env.nothing", "inputs": {}}),
    ("POST", "/v1/runs", {"task": "env.add", "inputs": {"x": "one"}}),
    ("POST", "/v1/runs", {"task": 7}),
    ("POST", "/v1/runs", {"task": "env.add", "inputs": {"x": 1}, "name": "RUN"}),
    ("POST", "/v1/secrets", {"name": "", "value": ""}),
    ("GET", "/v1/me", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=lambda value: str(value)[:60])
async def test_a_call_is_answered_as_by_http(server: Server, link: str, method: str, path: str, body: Any) -> None:
    run = await add(server)
    path = path.replace("RUN", run)
    body = msgspec.json.decode(msgspec.json.encode(body).replace(b"RUN", run.encode()))
    by_http = await server.client().request(method, path, json=body)
    line = await Line.connect(link, OWNER)
    by_line = await ask(line, method, path, body)
    assert by_line.status == by_http.status_code
    assert _comparable(by_line.body) == _comparable(by_http.content)
    line.close()


def _comparable(body: bytes) -> Any:
    """Without what is new each time that a run is looked at."""
    found = msgspec.json.decode(body) if body else None
    if isinstance(found, dict):
        found.pop("seq", None)
    return found


async def test_a_run_is_started_waited_for_and_found_by_its_key(server: Server, link: str) -> None:
    client = Client(server.address, OWNER, shortcut=link)
    request = wire.RunRequest(task="env.add", inputs=msgspec.Raw(b'{"x": 1}'))
    first = await client.create_run(request)
    assert (await client.get_run(first.name)).name == first.name
    line = await Line.connect(link, OWNER)
    keyed = {"task": "env.add", "inputs": {"x": 2}}
    answers = [await ask(line, "POST", "/v1/runs", keyed, **{"Idempotency-Key": "again"}) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 200]
    line.close()


async def test_many_calls_share_one_connection(server: Server, link: str) -> None:
    client = Client(server.address, OWNER, shortcut=link)
    run = await add(server)
    found, me = await asyncio.gather(asyncio.gather(*(client.get_run(run) for _ in range(50))), client.me())
    assert {each.name for each in found} == {run}
    assert me.kind == "owner"


async def test_errors_come_back_as_themselves(server: Server, link: str) -> None:
    client = Client(server.address, OWNER, shortcut=link)
    with pytest.raises(RunNotFoundError, match="nothing"):
        await client.get_run("nothing")
    with pytest.raises(RemoteTaskNotFoundError):
        await client.create_run(wire.RunRequest(task="env.nothing", inputs=msgspec.Raw(b"{}")))


async def test_a_stranger_is_refused_and_is_told_so_by_the_front_door(server: Server, link: str) -> None:
    with pytest.raises(NoLine):
        await Line.connect(link, "tk_wrong")
    answer = await server.client("tk_wrong").get("/v1/me")
    assert answer.status_code == 401


@pytest.mark.parametrize("how", ["times out", "is cancelled"])
async def test_a_line_that_nobody_welcomes_is_closed(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted, ended = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        while await reader.read(65_536):
            pass
        ended.set()
        writer.close()

    async with await asyncio.start_unix_server(silent, tmp_path / "silent.sock"):
        monkeypatch.setattr(_line, "_HELLO_TIMEOUT", 0.05 if how == "times out" else 60)
        connecting = asyncio.ensure_future(Line.connect(str(tmp_path / "silent.sock"), OWNER))
        await accepted.wait()
        if how == "is cancelled":
            connecting.cancel()
        with pytest.raises(NoLine if how == "times out" else asyncio.CancelledError):
            await connecting
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_list_that_is_too_large_for_a_line_comes_by_http(server: Server, link: str) -> None:
    for _ in range(300):
        server.control.move(await add(server), ActionPhase.SUCCEEDED, outputs=["x" * 64_000])
    client = Client(server.address, OWNER, shortcut=link)
    assert len(await client.list_runs(wire.RunFilter(limit=1000))) == 300


async def test_a_key_that_is_deleted_starts_nothing_any_more(server: Server, link: str) -> None:
    line = await Line.connect(link, KEY)
    body = {"task": "env.add", "inputs": {"x": 1}}
    assert (await ask(line, "POST", "/v1/runs", body)).status == 201
    server.authenticator._keys.clear()  # type: ignore[attr-defined]
    assert (await ask(line, "POST", "/v1/runs", body)).status == 401
    for path in ("/v1/runs", "/v1/runs/any", "/v1/tasks/env.add"):
        assert (await ask(line, "GET", path)).status == 401
    line.close()


async def test_a_call_that_waits_is_ended_when_its_key_is_revoked(server: Server, link: str) -> None:
    line, run = await Line.connect(link, KEY), await add(server)
    waiting = asyncio.create_task(ask(line, "GET", f"/v1/runs/{run}?wait=60"))
    await until(lambda: len(server.authenticator.open_calls) == 1, "it is under way")
    server.authenticator._keys.clear()  # type: ignore[attr-defined]
    server.authenticator.key_revoked()
    assert (await waiting).status == 401
    line.close()


async def test_without_a_link_calls_go_by_http(server: Server, tmp_path: Path) -> None:
    client = Client(server.address, OWNER, shortcut=str(tmp_path / "nobody.sock"))
    assert (await client.me()).kind == "owner"


async def test_a_call_whose_connection_breaks_is_made_again(server: Server, tmp_path: Path) -> None:
    """The control plane dies with the call in its hands: the next one is asked, by the front door."""
    listening: list[asyncio.StreamWriter] = []
    unpacker = wire.Unpacker()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.pack(wire.Welcome(epoch=0)))
        listening.append(writer)
        while data := await reader.read(65_536):
            if any(isinstance(frame, wire.Ask) for frame in unpacker.feed(data)):
                dying.close()
                writer.close()

    path = tmp_path / "dying.sock"
    dying = await asyncio.start_unix_server(swallow, path)
    client = Client(server.address, OWNER, shortcut=str(path))
    run = await client.create_run(wire.RunRequest(task="env.add", inputs=msgspec.Raw(b'{"x": 1}')))
    assert (await httpx_get(server, run.name)).status_code == 200
    assert len(listening) == 1


async def httpx_get(server: Server, run: str) -> httpx.Response:
    return await server.client().get(f"/v1/runs/{run}")


async def test_what_a_caller_began_to_change_is_changed_though_it_is_gone(
    server: Server, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off between memory and disk it would leave them apart."""
    begun, goes_on, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    create = server.control.runs.create

    async def slowly(*args: Any, **options: Any) -> Any:
        begun.set()
        await goes_on.wait()
        result = await create(*args, **options)
        over.set()
        return result

    gone, lost = asyncio.Event(), Caller.lost

    def noticed(caller: Caller, link: Link) -> None:
        lost(caller, link)
        gone.set()

    monkeypatch.setattr(server.control.runs, "create", slowly)
    monkeypatch.setattr(Caller, "lost", noticed)
    line = await Line.connect(link, OWNER)
    body = {"task": "env.add", "inputs": {"x": 1}, "name": "left-alone"}
    asked = asyncio.ensure_future(ask(line, "POST", "/v1/runs", body))
    await begun.wait()
    line.close()
    with pytest.raises(OSError):
        await asked
    async with asyncio.timeout(5):
        await gone.wait()
        goes_on.set()
        await over.wait()
    assert (await server.control.runs.get("left-alone")).name == "left-alone"
