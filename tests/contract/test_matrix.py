"""Nothing that a caller sends can hurt anybody else: every field with every bad value, on both stores.

The control plane and its API are real, workers and the agent are stand-ins. After each batch the platform answers, a
bystander's app and run are unhurt, nothing failed behind the scenes, and the platform starts again over what it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest

from flyte import wire
from flyte.wire import ActionPhase, AppStatus
from tarmac import settings as all_settings
from tarmac.api import make_app
from tarmac.auth import Authenticator
from tests.contract import matrix
from tests.contract.conftest import Place
from tests.tarmac.fake_agent import Act, Peer
from tests.tarmac.house import House, add_one, eventually, open_house


class World:
    """A platform with a bystander in it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.numbers = itertools.count(1)
        self.wrong: list[str] = []
        """What was answered with a status of 500 or more, or was never answered."""
        self.taken = 0

    async def up(self) -> None:
        """After the control plane has started: the API in front of it, and the gateway's end of its link."""
        house = self.house
        control = house.control
        authenticator = Authenticator(
            house.home.token(), control.identities, control.keys.by_digest, control.ended_sessions, control.keys.used
        )
        settings = all_settings.load(house.home.path, house.environ)
        app = make_app(house.control, authenticator, settings)
        transport = httpx.ASGITransport(app=cast(Any, app), raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {house.home.token()}", "Content-Type": "application/json"}
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)

    async def send(self, what: str, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """The status of a call; one that is wrong is noted."""
        try:
            async with asyncio.timeout(20):
                answer = await self.client.request(method, path, content=body, headers=headers)
        except TimeoutError:
            self.wrong.append(f"{method} {path[:80]}, {what}: no answer")
            return 0
        if answer.status_code >= 500:
            self.wrong.append(f"{method} {path[:80]}, {what}: {answer.status_code} {answer.text[:200]}")
        self.taken += answer.status_code < 300
        return answer.status_code

    async def deploy_victim(self) -> dict[str, Any]:
        body = matrix.deployment("flytesnacks", "victim")
        assert await self.send("the victim", "POST", "/v1/deployments", msgspec.json.encode(body)) == 202
        await self.settled()
        return body

    async def settled(self) -> None:
        """Wait until nothing that was taken is under way."""
        runs = self.house.control.runs.live
        assert await eventually(lambda: not self.house.control.deployments._tasks)
        for run in list(runs.values()):
            await self.house.control.runs.abort(run.row.name, "", "owner")
        assert await eventually(lambda: not runs)

    async def check(self) -> None:
        """The platform answers, and the bystander is unhurt."""
        assert self.wrong == []
        assert self.house.failures == []
        control = self.house.control
        run = await self.result("bystander.add", project="bystander")
        assert run.phase is ActionPhase.SUCCEEDED
        app = await control.apps.get(wire.AppId("bystander", "development", "bystander-app"))
        assert app.status is AppStatus.ACTIVE, app
        assert [replica.phase for replica in app.replicas] == ["ready"]
        for path in ("health", "runs", "tasks", "apps", "secrets", "keys", "projects", "me"):
            assert await self.send("a list", "GET", f"/v1/{path}") == 200

    async def result(self, task: str, **options: Any) -> wire.Run:
        return await self.house.result(task, **options)

    async def restart(self) -> None:
        """`flyte down; flyte up`: it comes up, and the bystander is there."""
        await self.client.aclose()
        await self.house.restart()
        await self.up()
        app = await self.house.control.apps.get(wire.AppId("bystander", "development", "bystander-app"))
        assert await eventually(lambda: self.house.control.agent.present)
        assert await eventually(lambda: bool(self.house.control._apps.live))
        await self.house.control.apps.activate(wire.AppId("bystander", "development", "bystander-app"), 5, "owner")
        assert app.name == "bystander-app"
        await self.check()


@pytest.fixture
async def world(place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[World]:
    """A platform over each store; at the end nothing failed unseen."""
    caplog.set_level(logging.ERROR)
    unseen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(str(context)))
    async with open_house(tmp_path, TARMAC_DATABASE_URL=place.url) as house:
        found = World(house)
        await found.up()
        body = msgspec.json.encode(matrix.deployment("bystander", "bystander"))
        assert await found.send("the bystander", "POST", "/v1/deployments", body) == 202
        await found.settled()
        await found.check()
        yield found
        await found.check()
        await found.restart()
        await found.client.aclose()
    assert unseen == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_no_deployment_hurts_anybody(world: World) -> None:
    base = matrix.deployment("flytesnacks", "victim")
    taken: dict[str, str] = {}
    for what, body in matrix.messages(base, wire.DeployRequest):
        project = f"p{next(world.numbers)}"  # those of one project wait for each other
        body = body.replace(b'"project":"flytesnacks"', f'"project":"{project}"'.encode(), 1)
        if await world.send(what, "POST", "/v1/deployments", body) == 202:
            taken[project] = what
    await world.settled()
    assert len(taken) > 100
    for project, what in taken.items():
        wanted = {"task": "add", "project": project, "inputs": {"x": 1}}
        await world.send(f"a run after {what}", "POST", "/v1/runs", msgspec.json.encode(wanted))
    await world.settled()
    assert world.taken > 1.5 * len(taken)


async def test_no_run_hurts_anybody(world: World) -> None:
    base = await world.deploy_victim()
    overrides = {
        ("task",): "victim.add",
        ("version",): None,
        ("inputs",): {"x": 1},
        ("name",): None,
        ("overrides",): base["tasks"][0],
    }
    for what, body in matrix.messages(matrix.message(wire.RunRequest, overrides), wire.RunRequest):
        await world.send(what, "POST", "/v1/runs", body)
    await world.settled()
    assert world.taken > 50


RECORDS: list[tuple[str, str, type[wire.Record]]] = [
    ("POST", "/v1/secrets", wire.SecretRequest),
    ("POST", "/v1/keys", wire.KeyRequest),
    ("POST", "/v1/projects", wire.Project),
    ("POST", "/v1/triggers", wire.TriggerRequest),
    ("POST", "/v1/images/prune", wire.PruneRequest),
    ("PUT", "/v1/projects/flytesnacks", wire.Project),
    ("POST", "/v1/runs/none/abort", wire.AbortRequest),
    ("POST", "/v1/runs/none/actions/a0/abort", wire.AbortRequest),
]


async def test_no_other_record_hurts_anybody(world: World) -> None:
    for method, path, record in RECORDS:
        for what, body in matrix.messages(matrix.good(record), record):
            await world.send(what, method, path, body)


WHOLE = (b"", b"null", b"[]", b"0", b'"x"', b"{", b"\xff", b"[" * 5_000, b'{"a":' * 5_000, b"\0")

GOOD_PARTS = {
    "run": "RUN",
    "action": "a0",
    "app": "victim-app",
    "digest": "0" * 64,
    "name": "victim.add",
    "task": "victim.add",
    "version": "v1",
    "id": "none",
}
VALUES = (
    "", "%00", "a%00b", "=", "%2F", "..", "%2E%2E", "x" * 3_000, "%ED%A0%80", "%FF", "%0A", "0", "-1", "1e308", "NaN",
    "inf", "~", "~00", "~2e2e", "~ff", "9223372036854775807", "9223372036854775808", "1" * 400,
)  # fmt: skip
GOES_ON = {"/v1/apps/{app}/events"}
"""Routes whose answer has no end."""


def addresses(document: dict[str, Any], run: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Method, address and headers, for every parameter of every route with every bad value."""
    for route, operations in document["paths"].items():
        for method, operation in operations.items():
            parts = {name: run if good == "RUN" else good for name, good in GOOD_PARTS.items()}
            plain = route.format(**parts)
            for parameter, value in itertools.product(operation["parameters"], VALUES):
                name = parameter["name"]
                if parameter["in"] == "path":
                    yield method, route.format(**parts | {name: value}), {}
                elif parameter["in"] == "query" and route not in GOES_ON:
                    yield method, f"{plain}?{name}={value}", {}
                elif parameter["in"] == "header" and route not in GOES_ON and "%" not in value:
                    yield method, plain, {name: value}


async def test_no_address_hurts_anybody(world: World) -> None:
    await world.deploy_victim()
    run = (await world.result("victim.add")).name
    document = (await world.client.get("/v1/openapi.json")).json()
    for method, address, headers in addresses(document, run):
        await world.send(str(headers)[:80], method.upper(), address, b"" if method != "get" else None, **headers)
    for route in document["paths"]:
        await world.send("OPTIONS", "OPTIONS", f"{route.format(**GOOD_PARTS)}?x=1")
    for method, path, _ in [*RECORDS, ("POST", "/v1/runs", None), ("POST", "/v1/deployments", None)]:
        for body in WHOLE:
            await world.send(repr(body[:20]), method, path, body)


FROM_WORKERS = (wire.Finished, wire.Call, wire.CancelCall, wire.TraceLookup, wire.TraceRecord, wire.Progress)
FROM_AGENTS = (
    wire.UnitStarted,
    wire.UnitReady,
    wire.UnitWaits,
    wire.UnitExited,
    wire.PoolFailed,
    wire.PoolReady,
    wire.PoolChecked,
)
FROM_GATEWAYS = (wire.Wake, wire.Quiet, wire.Parted, wire.KeysUsed, wire.GatewayStatus, wire.Applied)


def decodable(frames: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Those that are frames at all: the others end the link that they came on."""
    for what, packed in frames:
        with contextlib.suppress(wire.FrameError):
            wire.Unpacker().feed(packed)
            yield what, packed


async def test_no_frame_of_a_worker_hurts_anybody(world: World) -> None:
    await world.deploy_victim()
    sent: list[str] = []

    async def behave(act: Act) -> Any:
        if act.assign.task != "victim.add":
            return await add_one(act)
        link = act._worker.link
        assert link is not None
        mine = {("run",): act.assign.run, ("action",): act.assign.action, ("attempt",): act.assign.attempt}
        for frame in FROM_WORKERS[1:]:
            good = {**mine, ("key",): 10_000} if "key" in frame.__struct_fields__ else mine
            for what, packed in decodable(matrix.frames(matrix.message(frame, good), frame)):
                link._writer.write(packed)
                sent.append(what)
                await link._writer.drain()
        for what, packed in decodable(matrix.frames(matrix.message(wire.Finished, mine), wire.Finished)):
            link._writer.write(packed)
            sent.append(what)
        return 1

    world.house.behave = behave
    await world.result("victim.add")
    assert len(sent) > 200


async def test_no_end_that_a_worker_tells_hurts_anybody(world: World) -> None:
    """Each bad Finished is the first that is heard of its action: the action ends, one way or another."""
    await world.deploy_victim()
    ways = dict(matrix.ways(wire.Finished))
    ends = matrix.frames(matrix.good(wire.Finished), wire.Finished)
    fields = {"run", "action", "attempt"}
    bad = [what for what, _ in decodable(ends) if what.partition(".")[2].partition(":")[0] not in fields]
    assert "Finished.outputs.inline: half a surrogate pair, as JSON" in bad
    waiting = iter(bad)

    async def behave(act: Act) -> Any:
        if act.assign.task != "victim.add":
            return await add_one(act)
        wanted = next(waiting)
        mine = {("run",): act.assign.run, ("action",): act.assign.action, ("attempt",): act.assign.attempt}
        link = act._worker.link
        assert link is not None
        link._writer.write(ways[wanted](matrix.message(wire.Finished, mine)))
        return 1

    world.house.behave = behave
    for what in bad:
        run = await world.result("victim.add")
        assert run.phase.is_terminal, what
        assert await world.send(what, "GET", f"/v1/runs/{run.name}/actions/a0") == 200
        assert await world.send(what, "GET", "/v1/runs") == 200


async def test_no_frame_of_an_agent_a_gateway_or_a_stranger_hurts_anybody(world: World) -> None:
    house = world.house
    token = house.home.token()
    gateway = await house.agent.connect(wire.Hello(kind="gateway", name="gateway", token=token))
    for link, kinds in ((house.agent.link, FROM_AGENTS), (gateway, FROM_GATEWAYS)):
        assert link is not None
        for frame in kinds:
            for _, packed in decodable(matrix.frames(matrix.good(frame), frame)):
                link._writer.write(packed)
    hello = matrix.message(wire.Hello, {("kind",): "worker", ("held",): [], ("units",): []})
    for _, packed in matrix.frames(hello, wire.Hello):
        stranger = Peer(*await asyncio.open_unix_connection(str(house.home.link_socket)))
        stranger._writer.write(packed)
        answer = await asyncio.wait_for(stranger.next(), 10)
        assert answer is None or isinstance(answer, wire.Refused)
        await stranger.closed()
    assert house.agent.is_linked
