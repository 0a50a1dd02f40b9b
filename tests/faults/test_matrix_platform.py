"""What the API takes of the matrix, on a real platform: workers, replicas and the gateway bear every such value, too.

A refused body goes no further than the API, which tests/contract/test_matrix.py sends all of them. Here every accepted
one is sent, and what it asks for is started: each task runs once, each app is called once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from flyte import wire
from tests.contract import matrix
from tests.faults.world import OVER, PARTS
from tests.platform_fixture import Platform
from tests.platform_fixture import place as new_place

Case = tuple[matrix.Place, matrix.Bad]

AT_ONCE = 6
"""Calls that are under way at the same time."""

PATIENCE = 60
"""Seconds in which everything that a batch began is over."""

PROGRAM = """
import flyte

env = flyte.TaskEnvironment(name="victim")


@env.task
def add(x: int) -> int:
    return x + 1
"""

SERVER = """
import os, socket

with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as server:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\nConnection: close\\r\\n\\r\\nwell")
"""


class Swept:
    """A platform with a bystander's task and app, and what was sent to it."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.code = platform.work / "code"
        self.code.mkdir()
        (self.code / "victim.py").write_text(PROGRAM)
        (self.code / "server.py").write_text(SERVER)
        self.numbers = itertools.count(1)
        self.wrong: list[str] = []

    async def begin(self) -> None:
        self.client = self.platform.async_client()
        self.turns = asyncio.Semaphore(AT_ONCE)

    def deployment(self, project: str, name: str) -> dict[str, Any]:
        """A good one of a task and of an app that sleeps soon."""
        tree = matrix.deployment(project, name)
        command = ["python3", "-SE", str(self.code / "server.py")]
        changes: list[tuple[tuple[str | int, ...], Any]] = [
            (("root",), str(self.code)),
            (("tasks", 0, "entry"), "victim:add"),
            (("apps", 0, "argv"), command),
            (("apps", 0, "requires_auth"), False),
            (("apps", 0, "scaling", "scaledown_after"), 2.0),
        ]
        for at, value in changes:
            tree = matrix.put(tree, at, value)
        return tree

    async def send(self, what: str, method: str, path: str, body: bytes | None = None) -> Any:
        """The answer's JSON, None for a refusal; what is neither is noted."""
        async with self.turns:
            answer = await self.client.request(
                method, path, content=body, headers={"Content-Type": "application/json"}, timeout=40
            )
        if answer.status_code >= 500:
            self.wrong.append(f"{what}: {method} {path[:80]} was answered {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.status_code < 300 and answer.content else None

    async def until(self, what: str, path: str, is_over: Callable[[Any], bool]) -> Any:
        """What the path shows once it is over."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.send(what, "GET", path)
                if found is not None and is_over(found):
                    return found
                await asyncio.sleep(0.05)

    async def deploy(self, what: str, body: bytes) -> Any:
        """The deployment when it is over; None where it was refused."""
        begun = await self.send(what, "POST", "/v1/deployments", body)
        if begun is None:
            return None
        return await self.until(what, f"/v1/deployments/{begun['id']}", lambda found: found["phase"] != "running")

    async def run(self, what: str, **request: Any) -> Any:
        """The run when it is over; None where it was refused."""
        begun = await self.send(what, "POST", "/v1/runs", json.dumps({"inputs": {"x": 1}, **request}).encode())
        return None if begun is None else await self.over(what, begun["name"])

    async def over(self, what: str, run: str) -> Any:
        return await self.until(what, f"/v1/runs/{run}", lambda found: found["phase"] in OVER)

    async def call(self, project: str, name: str) -> int:
        """The status of the app's answer; 0 where there is no such app."""
        found = await self.send(name, "GET", f"/v1/apps/{name}?project={project}")
        if found is None:
            return 0
        async with self.turns, httpx.AsyncClient(trust_env=False, timeout=40) as stranger:
            return (await stranger.get(found["url"])).status_code

    async def check(self) -> None:
        """The platform answers, the bystander is unhurt, and nothing was started again."""
        assert self.wrong == []
        assert await self.call("bystander", "bystander-app") == 200
        run = await self.run("the bystander", task="bystander.add", project="bystander")
        assert run["phase"] == "succeeded", run
        for path in ("health", "runs", "tasks", "apps", "secrets", "keys", "projects", "me"):
            assert await self.send("a list", "GET", f"/v1/{path}") is not None
        self.check_parts()

    def check_parts(self) -> None:
        done = self.platform.cli("status", "-o", "json")
        assert done.code == 0, done.both
        told = json.loads(done.out)
        parts = {part["name"]: part for part in told["parts"]}
        assert {name: parts[name]["restarts"] for name in PARTS} == dict.fromkeys(PARTS, 0), self.platform.log_tails()
        assert told["left_out"] == []


async def all_of(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """What they give; the first error ends the others."""
    async with asyncio.TaskGroup() as group:
        begun = [group.create_task(_of(call)) for call in calls]
    return [task.result() for task in begun]


async def _of(call: Awaitable[Any]) -> Any:
    return await call


@pytest.fixture
async def swept() -> AsyncIterator[Swept]:
    async with contextlib.AsyncExitStack() as stack:
        platform = stack.enter_context(new_place({"spare_workers": "1"}))
        platform.up()
        world = Swept(platform)
        await world.begin()
        stack.push_async_callback(lambda: world.client.aclose())
        body = msgspec.json.encode(world.deployment("bystander", "bystander"))
        assert (await world.deploy("the bystander", body))["phase"] == "succeeded"
        await world.check()
        yield world
        platform.down()


async def test_nothing_that_is_accepted_hurts_anybody(swept: Swept) -> None:
    for batch in (whole_deployments, tasks, apps, runs, other_records):
        assert await batch(swept) > 10
        await swept.check()
    await swept.client.aclose()
    swept.platform.down()
    swept.platform.up()
    await swept.begin()
    await swept.check()


async def whole_deployments(world: Swept) -> int:
    """What stands beside tasks and apps in a deployment, each in a project of its own."""

    async def one(place: matrix.Place, bad: matrix.Bad) -> None:
        what, project = matrix.described(place, bad), f"whole-{next(world.numbers)}"
        body = matrix.text_with({**base, "project": project}, place, bad)
        assert (await world.deploy(what, body))["phase"] == "succeeded", what
        ran = await world.run(what, task="victim.add", project=project)
        assert ran["phase"] == ("failed" if place == ("root",) else "succeeded"), (what, ran)

    base = {**world.deployment("flytesnacks", "victim"), "apps": []}
    parts = ("bundle", "root", "sys_path", "env_vars")
    chosen = [case for case in matrix.accepted(base, wire.DeployRequest) if case[0][0] in parts]
    await all_of(one(*case) for case in chosen)
    return len(chosen)


TASKS_THAT_CANNOT_END = {
    "tasks.0.environment.resources.memory: zero",
    "tasks.0.timeout.max_runtime: zero",
    "tasks.0.timeout.max_queued_time: zero",
    "tasks.0.timeout.deadline: zero",
}
TASKS_THAT_ARE_NOT_STARTED = ("tasks.0.environment.image.packages.0", "tasks.0.interface.inputs.0.name")
"""A package that is not there, and an input that the call does not give."""


async def tasks(world: Swept) -> int:
    """All in one deployment, each under a name of its own; each runs once.

    A trigger that could start no run is refused with the whole deployment: the contract's matrix has each by itself.
    """

    async def one(name: str, what: str) -> None:
        ran = await world.run(what, task=name, project="tasks")
        assert (ran is None) == what.startswith(TASKS_THAT_ARE_NOT_STARTED), (what, ran)
        if ran is not None:
            assert (ran["phase"] != "succeeded") == (what in TASKS_THAT_CANNOT_END), (what, ran)

    base = {**world.deployment("tasks", "victim"), "apps": []}
    specs, named = [], {}
    for number, (place, bad) in enumerate(matrix.accepted(base, wire.DeployRequest)):
        if place[0] == "tasks" and "triggers" not in place:
            name = f"victim.t{number}"
            specs.append({**json.loads(matrix.text_with(base, place, bad))["tasks"][0], "name": name, "triggers": []})
            named[name] = matrix.described(place, bad)
    done = await world.deploy("tasks", msgspec.json.encode({**base, "tasks": specs}))
    assert done["phase"] == "succeeded", done
    await all_of(one(*each) for each in named.items())
    return len(specs)


async def apps(world: Swept) -> int:
    """Those that cannot start each by itself, and of the others as many values as can be had in one app."""

    async def starts(what: str, tree: Any) -> None:
        project = f"apps-{next(world.numbers)}"
        done = await world.deploy(what, msgspec.json.encode({**tree, "project": project}))
        assert done["phase"] == "succeeded", (what, done["error"])
        assert await world.call(project, "victim-app") == 200, what

    async def fails(what: str, tree: Any) -> None:
        project = f"apps-{next(world.numbers)}"
        done = await world.deploy(what, msgspec.json.encode({**tree, "project": project}))
        assert done is None or done["phase"] == "failed", (what, done)

    base = {**world.deployment("flytesnacks", "victim"), "tasks": []}
    cases = matrix.accepted(base, wire.DeployRequest)
    chosen = [case for case in cases if case[0][0] in ("apps", "parameter_values")]
    bad = [case for case in chosen if cannot_start(*case)]
    calls = [fails(matrix.described(*case), matrix.put(base, case[0], case[1].data)) for case in bad]
    calls += [starts(*each) for each in together(base, [case for case in chosen if case not in bad])]
    await all_of(calls)
    return len(chosen)


def cannot_start(place: matrix.Place, bad: matrix.Bad) -> bool:
    """No program, a package that is not there, and no memory."""
    no_memory = place[-1] == "memory" and bad.data == 0
    return no_memory or place[:3] == ("apps", 0, "argv") or "packages" in place


def together(base: Any, chosen: list[Case]) -> Iterator[tuple[str, Any]]:
    """Few messages that hold all cases, each place with one value; a parameter is mounted only where it has its own."""
    columns: dict[matrix.Place, list[matrix.Bad]] = {}
    for place, bad in chosen:
        columns.setdefault(place, []).append(bad)
    mounts = [columns.pop(place) for place in list(columns) if place[-1] == "mount"]
    for bad in mounts[0]:
        yield f"mount: {bad.name}", matrix.put(base, ("apps", 0, "parameters", 0, "mount"), bad.data)
    for row in itertools.zip_longest(*columns.values()):
        tree = base
        for place, bad in zip(columns, row, strict=True):
            tree = tree if bad is None else matrix.put(tree, place, bad.data)
        yield " and ".join(f"{place[-1]}: {bad.name}" for place, bad in zip(columns, row, strict=True) if bad), tree


async def runs(world: Swept) -> int:
    """What a run is given beside a whole task, of which the batch of tasks has had each field."""

    async def one(place: matrix.Place, bad: matrix.Bad) -> None:
        what = matrix.described(place, bad)
        begun = await world.send(what, "POST", "/v1/runs", matrix.text_with(base, place, bad))
        assert (begun is None) == (place == ("inputs",)), what
        if begun is not None:
            assert (await world.over(what, begun["name"]))["phase"] == "succeeded", what

    good = {("task",): "bystander.add", ("project",): "bystander", ("inputs",): {"x": 1}}
    unset = {(name,): None for name in ("version", "name", "idempotency_key", "overrides")}
    base = matrix.message(wire.RunRequest, {**good, **unset})
    chosen = [case for case in matrix.accepted(base, wire.RunRequest) if case[0][:1] != ("overrides",)]
    await all_of(one(*case) for case in chosen)
    return len(chosen)


RECORDS: list[tuple[str, type[wire.Record]]] = [
    ("/v1/secrets", wire.SecretRequest),
    ("/v1/keys", wire.KeyRequest),
    ("/v1/projects", wire.Project),
]


async def other_records(world: Swept) -> int:
    """Secrets, keys and projects, refused ones too."""
    sent = 0
    for path, record in RECORDS:
        for what, body in matrix.messages(matrix.good(record), record):
            await world.send(what, "POST", path, body)
            sent += 1
    return sent
