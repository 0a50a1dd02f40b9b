"""A control plane with a real store and real links, that can be started again; its workers are stand-ins."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import CoroutineType
from typing import Any, Literal

import msgspec

import tarmac.control
from flyte import wire
from flyte.wire import EnvironmentSpec, InputSpec, InterfaceSpec, RetrySpec, TaskSpec, TimeoutSpec
from tarmac import settings as all_settings
from tarmac.control import Control
from tarmac.home import Home
from tarmac.links.server import Link, Peer, listen
from tarmac.store import open_store
from tarmac.store.database import Session
from tarmac.store.reader import Reader
from tarmac.store.writer import WriterThread
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
    task("limited", timeout=TimeoutSpec(max_runtime=50, deadline=3000)),
    task("patient", retries=RetrySpec(count=1, base=60)),
    task("stubborn", retries=RetrySpec(count=1)),
    task("reused", environment={"reuse": wire.ReuseSpec(max_replicas=1)}),
    task("reused_again", environment={"reuse": wire.ReuseSpec(max_replicas=1)}, retries=RetrySpec(count=1)),
]


class Disk:
    """The writer's connection, whose commits can be made to wait, or prevented as a process's end prevents them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._is_dead = False
        self._goes_on = threading.Event()
        self._goes_on.set()

    def rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        return self._session.rows(sql, values)

    def many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> int:
        return self._session.many(sql, values)

    def begin(self) -> None:
        self._session.begin()

    def begin_reading(self) -> None:
        self._session.begin_reading()

    def rollback(self) -> None:
        self._session.rollback()

    def close(self) -> None:
        self._session.close()

    def hold(self) -> None:
        """Let no commit be done before `go_on`, or the end."""
        self._goes_on.clear()

    def go_on(self) -> None:
        self._goes_on.set()

    def die(self) -> None:
        """A commit that is done is done; there will be no other."""
        with self._lock:
            self._is_dead = True
        self._goes_on.set()

    def commit(self) -> None:
        assert self._goes_on.wait(30), "a held commit was forgotten"
        with self._lock:
            if self._is_dead:
                raise sqlite3.OperationalError("the process is dead")
            self._session.commit()


class Reads:
    """The store's reads, of which those of a task can be made to wait, and be counted."""

    def __init__(self, reader: Reader) -> None:
        self._read = reader.read
        self._gates: dict[tuple[asyncio.Task[Any], str], asyncio.Event] = {}
        self.waiting = 0
        """Reads that wait at this moment."""
        setattr(reader, "read", self.read)  # noqa: B010 - or mypy would have a say in it

    def hold(self, task: asyncio.Task[Any], when: Literal["before", "after"]) -> asyncio.Event:
        """Let the reads of `task` wait for the event, before the database is asked or before the answer is given."""
        return self._gates.setdefault((task, when), asyncio.Event())

    async def read(self, ask: Callable[[Session], Any]) -> Any:
        await self._pass("before")
        answer = await self._read(ask)
        await self._pass("after")
        return answer

    async def _pass(self, when: str) -> None:
        task = asyncio.current_task()
        gate = self._gates.get((task, when)) if task else None
        if gate is not None:
            self.waiting += 1
            await gate.wait()
            self.waiting -= 1


class News:
    """What the writer's thread tells the loop of its commits, which can be kept back."""

    def __init__(self, thread: WriterThread) -> None:
        self._tell = thread.tell
        self._lock = threading.Lock()
        self._kept: list[tuple[Any, ...]] | None = None
        setattr(thread, "tell", self.tell)  # noqa: B010 - or mypy would have a say in it

    def hold(self) -> None:
        """From now on commits are done, and the loop does not hear of them before `go_on`."""
        with self._lock:
            self._kept = []

    def go_on(self) -> None:
        with self._lock:
            kept, self._kept = self._kept or [], None
            for each in kept:
                self._tell(*each)

    def tell(self, *arguments: Any) -> None:
        with self._lock:
            if self._kept is None:
                self._tell(*arguments)
            else:
                self._kept.append(arguments)


Loses = Literal["gathered", "handed over"]
"""What a crash takes with it: what the loop had gathered for the writer's thread and not yet handed over, or also what
the thread had and had not committed."""


class Clock:
    """The loop's own, which can be put forward: what waits for a time is due by so much sooner."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._time = loop.time
        self._ahead = 0.0
        setattr(loop, "time", self.time)  # noqa: B010 - or mypy would have a say in it

    def time(self) -> float:
        return self._time() + self._ahead

    def forward(self, seconds: float) -> None:
        self._ahead += seconds


class House:
    """A control plane that can be stopped, or killed, and started again over the same folder."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.prepare()
        self.environ = {"TARMAC_SLOTS": "2", "TARMAC_SPARE_WORKERS": "1"}
        self.clock = Clock(asyncio.get_running_loop())
        self.failures: list[BaseException] = []
        self.restarts = 0
        self.agent = FakeAgent(self.home.link_socket, self.home.token(), self._behave)
        self.behave: Callable[[Act], Any] = add_one

    async def _behave(self, act: Act) -> Any:
        return await self.behave(act)

    async def up(self, *, busy: Collection[FakeWorker] = ()) -> Control:
        """`busy` workers do not connect by themselves."""
        settings = all_settings.load(self.home.path, self.environ)
        self.store = await open_store(settings.database_url, self.home.database, "normal")
        thread = self.store._writer.thread
        assert thread.commits.session is not None
        thread.commits.session = self.disk = Disk(thread.commits.session)
        self.reads, self.news = Reads(self.store._reader), News(thread)
        number = self.restarts

        def failed(error: BaseException) -> None:
            if self.restarts == number:  # else a timer of one that would be dead, were it a process
                self.failures.append(error)

        self.control = Control(self.store, self.home, settings, "http://127.0.0.1:1", 1, failed)
        await self.control.start()

        def accept(link: Link, hello: wire.Hello) -> Peer:
            if self.restarts != number:
                raise PermissionError("the control plane is dead")
            return control.accept(link, hello)

        control = self.control
        self.links = await listen(self.home.link_socket, accept)
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

    async def crash(self, loses: Loses = "gathered") -> None:
        """End as by SIGKILL: nothing more is written, sent, heard or told, from this moment on.

        Workers and agent go on. They read what had been sent to them, and notice; `up` brings them back.
        """
        self.restarts += 1
        writer = self.store._writer
        for thing, name in ((self.store, "put"), (writer, "put"), (writer.thread, "tell")):
            setattr(thing, name, _nothing)
        writer._gathered.clear()
        if loses == "handed over":
            self.disk.die()
            with contextlib.suppress(queue.Empty):
                while True:
                    writer.thread.queue.get_nowait()
        for job in asyncio.all_tasks():
            if is_ours(job):
                job.cancel()
        await self._break_links()
        await self.store.close()

    async def _break_links(self) -> None:
        """What was written to a socket is with the other end; what was not is lost. Until all have noticed."""
        loop, server = asyncio.get_running_loop(), self.links._server
        assert isinstance(server, asyncio.Server)
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        for _ in range(2):  # asyncio forgets, and leaves open, what it had accepted when a server is closed at once
            self._abort_links()
            await asyncio.sleep(0)
        server.close()
        deadline = loop.time() + 10
        while self.agent.is_linked:
            assert loop.time() < deadline, "somebody does not notice that the link is lost"
            self._abort_links()
            await asyncio.sleep(0)

    def _abort_links(self) -> None:
        for link in list(self.links._made):
            link._peer = None
            link._out.clear()
            link._unheard.clear()
            if link._transport is not None:
                link._transport.abort()

    def worker_of(self, act: Act) -> FakeWorker:
        """The worker that runs the action."""
        return next(w for w in self.agent.workers.values() if (act.assign.run, act.assign.action) in w.held)

    async def run(self, task_name: str, /, **options: Any) -> wire.Run:
        inputs = msgspec.Raw(json.dumps({"x": options.pop("x", 1)}).encode())
        run, _ = await self.control.runs.create(wire.RunRequest(task=task_name, inputs=inputs, **options), "owner")
        return run

    async def result(self, task_name: str, /, **options: Any) -> wire.Run:
        run = await self.run(task_name, **options)
        return await self.control.runs.wait(run.name, 10)

    async def history(self, run: str) -> list[tuple[int, str]]:
        """The root's (attempt, phase) pairs, as the event log has them."""
        events = await self.store.events(f"run/{run}/a0", 0, 1000)
        return [(event.attempt, event.phase) for event in events]


def is_ours(job: asyncio.Task[Any]) -> bool:
    """Whether it is the control plane's own."""
    coroutine = job.get_coro()
    code = coroutine.cr_code.co_filename if isinstance(coroutine, CoroutineType) else ""
    return code.startswith(str(Path(tarmac.control.__file__).parent))


def _nothing(*_: object, **__: object) -> None:
    """What a dead process does."""


async def add_one(act: Act) -> Any:
    return act.inputs["x"] + 1


@contextlib.asynccontextmanager
async def open_house(folder: Path, **environ: str) -> AsyncIterator[House]:
    """`environ`: settings besides the house's own."""
    house = House(folder / "home")
    house.environ |= environ
    control = await house.up()
    await control.deployments.start(wire.DeployRequest(version="v1", root="/", tasks=TASKS), "owner")
    yield house
    await house.agent.close()
    with contextlib.suppress(OSError):
        await house.down()
    assert house.failures == []
    assert house.agent.failures == []


async def eventually(fact: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether the fact comes true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not fact():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True
