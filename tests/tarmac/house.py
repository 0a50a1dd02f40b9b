"""A control plane with a real store and real links, that can be started again; its workers are stand-ins."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from flyte import wire
from flyte.wire import EnvironmentSpec, InputSpec, InterfaceSpec, RetrySpec, TaskSpec, TimeoutSpec
from tarmac import settings as all_settings
from tarmac.control import Control
from tarmac.control.links import listen
from tarmac.home import Home
from tarmac.store import open_store
from tests.tarmac.fake_agent import Act, FakeAgent, FakeWorker

X = InterfaceSpec(inputs=[InputSpec(name="x", schema={"type": "integer"}, type="int")])


def task(name: str, **changes: Any) -> TaskSpec:
    environment = EnvironmentSpec(name="env", kind="task", **changes.pop("environment", {}))
    return TaskSpec(name=f"env.{name}", entry=f"module:{name}", environment=environment, interface=X, **changes)


TASKS = [
    task("add"),
    task("tree"),
    task("flaky", retries=RetrySpec(count=2)),
    task("slow", timeout=TimeoutSpec(max_runtime=0.05)),
    task("hasty", timeout=TimeoutSpec(max_queued_time=0.5, max_runtime=0.7)),
    task("limited", timeout=TimeoutSpec(max_runtime=0.5, deadline=30)),
    task("patient", retries=RetrySpec(count=1, base=60)),
    task("stubborn", retries=RetrySpec(count=1)),
    task("reused", environment={"reuse": wire.ReuseSpec(max_replicas=1)}),
    task("reused_again", environment={"reuse": wire.ReuseSpec(max_replicas=1)}, retries=RetrySpec(count=1)),
]


class House:
    """A control plane that can be stopped and started again over the same folder."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.prepare()
        self.environ = {"TARMAC_SLOTS": "2", "TARMAC_SPARE_WORKERS": "1"}
        self.failures: list[BaseException] = []
        self.restarts = 0
        self.agent = FakeAgent(self.home.link_socket, self.home.token(), self._behave)
        self.behave: Callable[[Act], Any] = add_one

    async def _behave(self, act: Act) -> Any:
        return await self.behave(act)

    async def up(self, *, busy: Collection[FakeWorker] = ()) -> Control:
        """`busy` workers do not connect by themselves."""
        self.store = await open_store("", self.home.database, "normal")
        settings = all_settings.load(self.home.path, self.environ)
        number = self.restarts

        def failed(error: BaseException) -> None:
            if self.restarts == number:  # else a timer of one that would be dead, were it a process
                self.failures.append(error)

        self.control = Control(self.store, self.home, settings, "http://127.0.0.1:1", 1, failed)
        await self.control.start()
        self.links = await listen(self.home.link_socket, self.control.accept)
        self.agent.run(self.agent.live())
        for worker in list(self.agent.workers.values()):
            if worker not in busy:
                self.agent.run(worker.live())
        return self.control

    async def down(self) -> None:
        self.restarts += 1
        self.links.close()
        for peer in [self.agent.link, *(worker.link for worker in self.agent.workers.values())]:
            if peer is not None:
                peer.close()
        await self.store.close()

    async def restart(self) -> Control:
        await self.down()
        return await self.up()

    def worker_of(self, act: Act) -> FakeWorker:
        """The worker that runs the action."""
        return next(w for w in self.agent.workers.values() if (act.assign.run, act.assign.action) in w.held)

    async def run(self, task_name: str, /, **options: Any) -> wire.Run:
        inputs = msgspec.Raw(json.dumps({"x": options.pop("x", 1)}).encode())
        run, _ = await self.control.create_run(wire.RunRequest(task=task_name, inputs=inputs, **options), "owner")
        return run

    async def result(self, task_name: str, /, **options: Any) -> wire.Run:
        run = await self.run(task_name, **options)
        return await self.control.wait(run.name, 10)

    async def history(self, run: str) -> list[tuple[int, str]]:
        """The root's (attempt, phase) pairs, as the event log has them."""
        events = await self.store.events(f"run/{run}/a0", 0, 1000)
        return [(event.attempt, event.phase) for event in events]


async def add_one(act: Act) -> Any:
    return act.inputs["x"] + 1


@contextlib.asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    house = House(folder / "home")
    control = await house.up()
    await control.deploy(wire.DeployRequest(version="v1", root="/", tasks=TASKS), "owner")
    yield house
    await house.agent.close()
    with contextlib.suppress(OSError):
        await house.down()
    assert house.failures == []


async def eventually(fact: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether the fact comes true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not fact():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True
