"""The sources of runs: each answers the calls of the SDK's client. Each has the same four tasks.

- `contract.add` returns x + 1.
- `contract.slow` returns x when the gate opens.
- `contract.fail` raises ValueError("no").
- `contract.tree` calls add(0), add(1) and fail(2), one after the other, and returns 3, whatever became of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

import flyte
from flyte import wire
from flyte._client.client import Client
from flyte._local import run as local_run
from flyte._local.client import LocalClient
from flyte.wire import ActionPhase, EnvironmentSpec, InputSpec, InterfaceSpec, OutputSpec, TaskSpec
from tarmac.auth import Authenticator, Identities
from tarmac.control.sessions import EndedSessions
from tests.contract.conftest import empty_place
from tests.flyte.fake_platform import TOKEN, FakePlatform, Refused
from tests.tarmac.api_server import OWNER, address_of, answering
from tests.tarmac.fake_agent import Act
from tests.tarmac.fake_control import FakeControl
from tests.tarmac.house import open_house

PLATFORMS = ("sqlite", "postgres", "fake_control", "fake_platform")
SOURCES = (*PLATFORMS, "local")

INTEGER = {"type": "integer"}
INTERFACE = InterfaceSpec(
    inputs=[InputSpec(name="x", schema=INTEGER, type="int")], outputs=[OutputSpec(name="o0", schema=INTEGER)]
)
CALLS = [("contract.add", 0), ("contract.add", 1), ("contract.fail", 2)]
"""The calls of `contract.tree`."""


def _spec(name: str) -> TaskSpec:
    environment = EnvironmentSpec(name="contract", kind="task")
    return TaskSpec(
        name=f"contract.{name}", short_name=name, entry=f"module:{name}", environment=environment, interface=INTERFACE
    )


TASKS = [_spec(name) for name in ("add", "slow", "fail", "tree")]


@dataclass
class Source:
    """A source of runs, and what a test does with it."""

    client: Client | LocalClient
    create: Callable[[wire.RunRequest], Awaitable[wire.Run]]
    gate: threading.Event = field(default_factory=threading.Event)
    """Opens `contract.slow`."""

    async def start(self, task: str, x: int = 1, **options: Any) -> wire.Run:
        inputs = msgspec.Raw(json.dumps({"x": x}).encode())
        return await self.create(wire.RunRequest(task=f"contract.{task}", inputs=inputs, **options))

    async def result(self, task: str, x: int = 1, **options: Any) -> wire.Run:
        run = await self.start(task, x, **options)
        return await self.client.get_run(run.name, wait=30)

    async def running(self, run: str) -> None:
        """Return when the root action runs."""
        async for kind, _, seen in self.client.run_events(run):
            phase = seen.phase if isinstance(seen, wire.Run | wire.Event) else None
            if phase == ActionPhase.RUNNING.value:
                return
            assert kind == "snapshot" or phase not in wire.TERMINAL


@contextlib.asynccontextmanager
async def source(name: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Source]:
    """The source of that name, with no runs."""
    opened = {"fake_control": _fake_control(folder), "fake_platform": _fake_platform(), "local": _local()}
    async with opened.get(name) or _control_plane(name, request, folder) as found:
        try:
            yield found
        finally:
            found.gate.set()


@contextlib.asynccontextmanager
async def _control_plane(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Source]:
    """The real control plane and its API; the workers are stand-ins."""
    async with (
        empty_place(kind, request, folder) as place,
        open_house(folder, TARMAC_DATABASE_URL=place.url, TARMAC_SLOTS="8") as house,
    ):
        control, token, gate = house.control, house.home.token(), threading.Event()
        await control.deployments.start(wire.DeployRequest(version="v1", root="/", tasks=TASKS), "owner")
        house.behave = _worker(gate)
        authenticator = Authenticator(
            token, control.identities, control.keys.by_digest, control.ended_sessions, control.keys.used
        )
        listener = socket.create_server(("127.0.0.1", 0))
        async with answering(listener, control, authenticator):
            client = Client(address_of(listener), token, patience=5, outage=5)
            yield Source(client, client.create_run, gate)


def _worker(gate: threading.Event) -> Callable[[Act], Awaitable[Any]]:
    async def behave(act: Act) -> Any:
        match act.assign.task.removeprefix("contract."):
            case "slow":
                await asyncio.to_thread(gate.wait, 30)
            case "fail":
                raise ValueError("no")
            case "tree":
                for task, x in CALLS:
                    await act.call(task, x=x)
                return 3
            case _:
                return act.inputs["x"] + 1
        return act.inputs["x"]

    return behave


@contextlib.asynccontextmanager
async def _fake_control(folder: Path) -> AsyncIterator[Source]:
    """The API in front of the control plane's stand-in, whose actions are moved here."""
    listener = socket.create_server(("127.0.0.1", 0))
    control, gate = FakeControl(folder, address_of(listener)), threading.Event()
    for task in TASKS:
        control.add_task(task)
    authenticator = Authenticator(
        OWNER, Identities(b"m" * 32), {}, EndedSessions(folder / "ended.json", lambda ended: None)
    )
    mover = asyncio.create_task(_move_along(control, gate))

    async def create(request: wire.RunRequest) -> wire.Run:
        control.now += 1
        return await client.create_run(request)

    async with answering(listener, control, authenticator):
        client = Client(address_of(listener), OWNER, patience=5, outage=5)
        yield Source(client, create, gate)
        gate.set()
        mover.cancel()
        await asyncio.wait([mover])
        assert mover.cancelled() or mover.exception() is None


async def _move_along(control: FakeControl, gate: threading.Event) -> None:
    async with asyncio.TaskGroup() as group:
        async for event in control.journal.after(0, lambda event: event.phase == "queued"):
            _, run, action = event.subject.split("/")
            if action == wire.ROOT_ACTION:
                group.create_task(_carry_out(control, gate, run))


async def _carry_out(control: FakeControl, gate: threading.Event, run: str) -> None:
    root = control.known_runs[run].actions[wire.ROOT_ACTION]
    task = root.action.task
    control.move(run, ActionPhase.RUNNING)
    if task == "contract.slow":
        await asyncio.to_thread(gate.wait, 30)
    if task == "contract.tree":
        for number, (name, x) in enumerate(CALLS):
            control.child(run, f"c{number}", task=name)
            control.known_runs[run].actions[f"c{number}"].inputs = b'{"x": %d}' % x
            control.move(run, ActionPhase.RUNNING, action=f"c{number}")
            _end(control, run, f"c{number}", name, x + 1)
    if not root.action.phase.is_terminal:
        x = json.loads(root.inputs)["x"]
        results = {"contract.add": x + 1, "contract.tree": 3, "contract.slow": x}
        _end(control, run, wire.ROOT_ACTION, task, results.get(task))


def _end(control: FakeControl, run: str, action: str, task: str, value: Any) -> None:
    if task == "contract.fail":
        info = wire.ErrorInfo(code="ValueError", message="no")
        control.move(run, ActionPhase.FAILED, "ValueError: no", action=action, error=info)
    else:
        control.move(run, ActionPhase.SUCCEEDED, action=action, outputs=[value])


@contextlib.asynccontextmanager
async def _fake_platform() -> AsyncIterator[Source]:
    """The platform's stand-in in the tests of the SDK."""

    def fail(x: int) -> int:
        raise Refused(wire.ErrorInfo(code="ValueError", message="no"))

    functions: list[Callable[[int], int]] = [lambda x: x + 1, lambda x: x, fail, lambda x: 3]
    platform = FakePlatform()
    platform.calls["contract.tree"] = [(task, {"x": x}) for task, x in CALLS]
    with platform.serving():
        for spec, function in zip(TASKS, functions, strict=True):
            platform.functions[spec.name] = function
            platform.register(spec, "v1")
        client = Client(platform.endpoint, TOKEN, patience=5, outage=5)
        yield Source(client, client.create_run, platform.gate)


env = flyte.TaskEnvironment(name="contract")
_gate = threading.Event()


@env.task
async def add(x: int) -> int:
    return x + 1


@env.task
def slow(x: int) -> int:
    _gate.wait(30)
    return x


@env.task
async def fail(x: int) -> int:
    raise ValueError("no")


@env.task
async def tree(x: int) -> int:
    for call, number in ((add, 0), (add, 1), (fail, 2)):
        with contextlib.suppress(ValueError):
            await call(number)
    return 3


@contextlib.asynccontextmanager
async def _local() -> AsyncIterator[Source]:
    """Local mode: the runs of this process."""
    tasks: dict[str, Any] = {task.name: task for task in (add, slow, fail, tree)}
    client = LocalClient()

    async def create(request: wire.RunRequest) -> wire.Run:
        inputs = tasks[request.task].interface.load_inputs(json.loads(bytes(request.inputs)))
        return await client.create_local(
            tasks[request.task], inputs, name=request.name, version=request.version or "v1", labels=request.labels
        )

    _gate.clear()
    local_run.runs.clear()
    try:
        yield Source(client, create, _gate)
    finally:
        _gate.set()
        for name in list(local_run.runs):
            await client.get_run(name, wait=30)
        local_run.runs.clear()
