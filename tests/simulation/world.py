"""The real `Control` in a simulated world: a database in memory, a writer and a reader that are stepped, links without
sockets, an agent and workers that are the tests' stand-ins, and one seed for time and chance.

Simulated: time, the order of everything, the writer's and the reader's threads, links, agent, workers, gateway.
Real: all of tarmac.control, tarmac.events, tarmac.store with its SQL, batches and epochs, flyte.wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import random
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tarmac import settings as all_settings
from tarmac.control import Control
from tarmac.home import Home
from tarmac.store import Store, StoreUnavailable
from tarmac.store.commits import Entry
from tarmac.store.database import Database, Session
from tarmac.store.migrate import MIGRATIONS
from tarmac.store.reader import Question, Reader
from tarmac.store.sqlite import QUERIES, SqliteSession
from tarmac.store.writer import Writer, WriterThread
from tests.simulation.loop import NODE, Node, SimLoop
from tests.simulation.wires import Gate, SimAgent, SimGateway
from tests.tarmac.fake_agent import Act

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds that the writer waits for a full disk."""

BEGAN = 1_800_000_000.0
"""The time of day when every life begins."""

LATENCIES = {
    "commit": (0.0002, 0.004),
    "tell": (0.00001, 0.003),
    "read": (0.0001, 0.003),
    "link": (0.00005, 0.001),
    "call": (0.0001, 0.002),
}
"""Seconds that each kind of thing takes, at least and at most; now and then ten times as long."""

OF_THE_DISK = ("commit", "read")


class Down(Exception):
    """Raised to a client when the control plane died before it had answered."""


class MemorySession(SqliteSession):
    """The database is its connection, and outlives the session; a commit may find the disk full."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database.connection)
        self._database = database

    def commit(self) -> None:
        if self._connection.in_transaction and self._database.is_full():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        super().commit()

    def close(self) -> None: ...


class MemoryDatabase:
    """What outlives a control plane."""

    queries = QUERIES
    errors: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
    name = "memory"

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.is_full: Callable[[], bool] = lambda: False
        self.slowness: Callable[[], float] = lambda: 1
        """How many times as long as usual it takes."""
        self._owner: Node | None = None

    def connect(self, read_only: bool = False) -> SqliteSession:
        return MemorySession(self)

    def acquire_writer_lock(self, session: Session) -> bool:
        node = NODE.get()
        if self._owner is not None and self._owner is not node and not self._owner.dead:
            return False
        self._owner = node
        return True

    def release_writer_lock(self) -> None:
        self._owner = None

    def number_transaction(self, session: Session) -> int:
        return 0

    def was_committed(self, session: Session, number: int) -> bool:
        return False

    def cause(self, error: Exception) -> str | None:
        return str(error) if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL else None


class SteppedWriter(WriterThread):
    """What is handed over is written a moment later, by a step on the loop; what is told comes a moment after that."""

    def __init__(self, world: World, database: Database) -> None:
        super().__init__(database, MIGRATIONS, True, 0.1)
        self._world = world
        self._is_due = False
        self._told = 0.0
        self._batch: list[Entry] = []
        """What is being written."""
        self._since = 0.0
        self.left: list[Entry] = []

    def take(self, entries: list[Entry] | None) -> None:
        super().take(entries)
        self._plan()

    def _plan(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(self._world.latency("commit"), self._step)

    def _step(self) -> None:
        self._is_due = False
        if not self._batch and (not self.queue.empty() or self._carried):
            self._batch, _ = self.gather()
            self._since = self._loop.time()
        if self._batch and self._is_patient():
            self._is_due = True
            self._loop.call_later(0.1, self._step)
        elif self._batch:
            entries, self._batch = self._batch, []
            self._world.commits += 1
            self.commits.write(entries)
            self._world.note("commit", len(entries))
            self._plan()

    def _is_patient(self) -> bool:
        """Whether the disk is full, and the thread still waits for room while the loop goes on.

        The last of its waiting is done by `Commits`, in which a thread that sleeps keeps everything else waiting here.
        """
        return self._world.disk.is_full() and self._loop.time() - self._since < PATIENCE

    def stop(self) -> None:
        """The process has ended: `left` is what was handed over and not written."""
        self.left = [*self._batch, *self._carried]
        while not self.queue.empty():
            self.left += self.queue.get() or []

    def tell(self, entries: Sequence[Entry], error: Exception | None) -> None:
        """One after the other, as one thread tells."""
        self._told = max(self._told + 1e-7, self._loop.time() + self._world.latency("tell"))
        self._loop.call_at(self._told, self.heard, entries, error)


class SteppedReader(Reader):
    """One moment for the question, another one for its answer; both in the order of the questions."""

    def __init__(self, world: World, database: Database) -> None:
        super().__init__(database)
        self._world = world
        self._asked = self._told = 0.0

    def take(self, question: Question[Any]) -> None:
        self._asked = max(self._asked + 1e-7, self._loop.time() + self._world.latency("read"))
        self._loop.call_at(self._asked, self.answer, question)

    def tell(self, callback: Callable[..., None], *arguments: object) -> None:
        self._told = max(self._told + 1e-7, self._loop.time() + self._world.latency("tell"))
        self._loop.call_at(self._told, callback, *arguments)

    def let_go(self) -> None:
        self._drop_session()


class World:
    """One seed, one life. In a `calm` one everything takes the same short time, and chance decides nothing."""

    def __init__(
        self,
        loop: SimLoop,
        folder: Path,
        seed: str,
        *,
        slots: int = 64,
        spare: int = 1,
        calm: bool = False,
        database: Database | None = None,
    ) -> None:
        self.loop = loop
        self.chance = random.Random(f"world {seed}")
        self.home = Home(folder)
        self.home.prepare()
        self.disk = MemoryDatabase()
        self.database: Database = database or self.disk
        self.node: Node | None = None
        self.listening = False
        self.crashed = asyncio.Event()
        self.failures: list[BaseException] = []
        self.commits = self.crashes = self.lost_writes = 0
        self.story: list[tuple[float, str]] | None = None
        """What happened and when, where somebody wants to read it."""
        self.behave: Callable[[Act], Awaitable[Any]]
        self.agent = SimAgent(self, self._behave)
        self.gateway = SimGateway(self)
        self._calm = calm
        self._environ = {"TARMAC_SLOTS": str(slots), "TARMAC_SPARE_WORKERS": str(spare)}
        self._number = 0

    async def _behave(self, act: Act) -> Any:
        return await self.behave(act)

    def note(self, *what: object) -> None:
        if self.story is not None:
            self.story.append((self.loop.now, " ".join(map(str, what))))

    def latency(self, of: str) -> float:
        if self._calm:
            return 0.0001
        seconds = self.chance.uniform(*LATENCIES[of]) * (self.disk.slowness() if of in OF_THE_DISK else 1)
        return seconds * (10 if self.chance.random() < 0.03 else 1)

    def taken_at_death(self, written: int) -> int:
        """How many of the bytes that a dying control plane had written to a link the kernel had taken.

        Most often all. Where a buffer was full the rest was the process' own, and the cut may be within a frame.
        """
        return written if self._calm or self.chance.random() < 0.5 else self.chance.randrange(written + 1)

    # ------------------------------------------------------------------ the control plane's life

    async def up(self) -> None:
        """Start a control plane; return when it listens, or is dead."""
        self._number += 1
        node = self.node = Node(f"control {self._number}")
        self.crashed = asyncio.Event()
        start = self.loop.create_task(self._start(node), context=node.context)
        crashed = self.loop.create_task(self.crashed.wait(), context=self.loop.outside)
        await asyncio.wait([start, crashed], return_when=asyncio.FIRST_COMPLETED)
        crashed.cancel()
        if node.dead:
            return
        if isinstance(start.exception(), StoreUnavailable):  # it ends, and the supervisor starts another one
            self.crash()
            await asyncio.sleep(0.5)
            await self.up()
            return
        start.result()
        self.note("control plane", self._number, "is up")
        self.listening = True
        self.gate.accept = self.control.accept
        self.agent.come_back()
        self.agent.run(self.gateway.live())

    async def _start(self, node: Node) -> None:
        self._thread = SteppedWriter(self, self.database)
        self._reader = SteppedReader(self, self.database)
        self.gate = Gate(self, node)
        store = Store(self.database, Writer(self._thread), self._reader, self._thread.commits.open(None))
        settings = all_settings.load(self.home.path, self._environ)

        def failed(error: BaseException) -> None:
            """As the server does: it ends, and another one is started."""
            if not node.dead:
                self.note("the control plane ends:", error)
                self.failures.append(error)
                self.crash()

        self.control = Control(store, self.home, settings, "http://127.0.0.1:1", 1, failed)
        await self.control.start()
        self.loop.create_task(self.control.keep_tidy(), context=node.context)

    def crash(self) -> None:
        """As by SIGKILL: from this moment on nothing of the control plane runs."""
        node = self.node
        if node is None or node.dead:
            return
        self.note("CRASH")
        node.dead, self.listening = True, False
        self.crashes += 1
        self.lost_writes += self.gate.break_all()
        self._thread.stop()
        for let_go in (self._thread.commits.close, self._reader.let_go):
            with contextlib.suppress(*self.database.errors):
                let_go()
        self.crashed.set()

    def let_the_last_batch_come_late(self, seconds: float) -> None:
        """What a control plane had handed to its writer reaches the database when another one has the writer lock.

        As on a connection that was open all the while, of a machine that had stood still.
        """
        late, commits, node = self._thread.left, self._thread.commits, self.node

        def write() -> None:
            if self.listening and late and node is not None:
                self.note("a late batch of", node.name)
                commits.session = self.database.connect()
                node.context.run(commits.write, late)

        self.loop.call_in(None, seconds, write)

    async def call(self, make: Callable[[Control], Awaitable[T]]) -> T:
        """A client's call, which takes a while to arrive as its answer does. Raises Down where the answer is lost."""
        await asyncio.sleep(self.latency("call"))
        node, crashed = self.node, self.crashed
        if node is None or node.dead or not self.listening:
            raise Down

        async def asked() -> T:
            return await make(self.control)

        job: asyncio.Task[T] = self.loop.create_task(asked(), context=node.context)
        gone = self.loop.create_task(crashed.wait(), context=self.loop.outside)
        await asyncio.wait([job, gone], return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise Down
        gone.cancel()
        await asyncio.sleep(self.latency("call"))
        if node.dead:
            raise Down
        return job.result()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        session = self.database.connect(read_only=True)
        try:
            return [tuple(row) for row in session.rows(sql)]
        finally:
            session.close()


class WallClock:
    """The time of day in a simulated world. It can be set."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.ahead = 0.0

    def time(self) -> float:
        return BEGAN + self._loop.now + self.ahead


@contextlib.contextmanager
def one_time_and_chance(loop: SimLoop, seed: str) -> Iterator[WallClock]:
    """Nothing in this process knows another time or another chance; the process does nothing else meanwhile."""
    chance, wall = random.Random(f"names {seed}"), WallClock(loop)
    pauses = random.Random(f"pauses {seed}")

    def steady(_: int = 0) -> float:
        return 1000 + loop.now

    def text(count: int = 16) -> str:
        return f"{chance.getrandbits(8 * count):0{2 * count}x}"

    def skip(seconds: float) -> None:
        """A thread that sleeps: here all the others wait for it."""
        loop.now += seconds

    patched: list[tuple[Any, str, Any]] = [
        (time, "time", wall.time),
        (time, "time_ns", lambda: int(wall.time() * 1e9)),
        (time, "monotonic", steady),
        (time, "clock_gettime", steady),
        (time, "sleep", skip),
        (os, "urandom", pauses.randbytes),
        (secrets, "token_hex", text),
        (secrets, "token_urlsafe", text),
        (secrets, "randbits", chance.getrandbits),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in patched]
    try:
        for module, name, value in patched:
            setattr(module, name, value)
        yield wall
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def simulate(seed: str, life: Callable[[World, WallClock], Awaitable[T]], **options: Any) -> T:
    """What `life` comes to, lived in the world of this seed."""
    loop = SimLoop(seed)
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    gc.disable()
    gc.freeze()  # or each collection below would look at all modules again
    try:
        with one_time_and_chance(loop, seed) as wall:

            async def whole() -> T:
                return await life(World(loop, folder / "h", seed, **options), wall)

            try:
                return loop.run_until_complete(whole())
            finally:
                loop.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        gc.enable()
        gc.collect()


def digest(world: World) -> str:
    """Of all events, to the last byte."""
    events = world.rows("select seq, at, stream, member, attempt, phase, message, body from events order by seq")
    return hashlib.sha256(repr(events).encode()).hexdigest()


def health(world: World) -> list[str]:
    """What must hold when all is quiet, whatever happened before."""
    wrong = []
    numbers = [number for (number,) in world.rows("select seq from events order by seq")]
    if numbers != list(range(1, len(numbers) + 1)):
        wrong.append("the numbers of the events have a gap")
    if world.agent.failures:
        wrong.append(f"failures of the stand-ins: {world.agent.failures}")
    return wrong
