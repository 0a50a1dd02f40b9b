"""The store: rows and events, written together by one writer, on SQLite or PostgreSQL.

    loop ── write(change) ──► writer thread ──► one transaction for all waiting changes ────► futures resolve
    loop ── await runs(…) ──► reader thread ──► a connection of its own that may only read

A process with an open Store is the only one that can write: it has the writer lock on the database, and an epoch that
is checked inside every transaction (promise 1). The store's other promises are kept in `queries.sql`, `batch.py` and
`commits.py`, and tests/contract/test_store.py proves them on both databases. The differences between the two databases
are in `sqlite.py` and `postgres.py`; everything else, the SQL included, is written once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from flyte.errors import InitializationError
from tarmac.store.answers import reject, resolve
from tarmac.store.changes import (
    ActionWrite,
    Change,
    Conflict,
    Delete,
    StoreError,
    StoreUnavailable,
    Unwritable,
    Was,
    WriterLockLost,
    WriterLockTaken,
)
from tarmac.store.commits import Answer, Opened
from tarmac.store.database import Database, Session
from tarmac.store.migrate import MIGRATIONS
from tarmac.store.reader import Reader
from tarmac.store.reads import Reads
from tarmac.store.references import References
from tarmac.store.rows import (
    ActionRow,
    AppRow,
    AppVersionRow,
    ArtifactRow,
    AttemptRow,
    CacheRow,
    CurrentTaskRow,
    DeploymentRow,
    ImageRow,
    KeyRow,
    ProjectRow,
    ReportRow,
    RunKeyRow,
    RunRow,
    SecretRow,
    Snapshot,
    Statistics,
    TaskRow,
    TriggerRow,
    WholeAction,
    WholeRun,
)
from tarmac.store.sqlite import SqliteDatabase
from tarmac.store.writer import Writer, WriterThread

__all__ = [
    "ActionRow",
    "ActionWrite",
    "AppRow",
    "AppVersionRow",
    "ArtifactRow",
    "AttemptRow",
    "CacheRow",
    "Change",
    "Conflict",
    "CurrentTaskRow",
    "Delete",
    "DeploymentRow",
    "ImageRow",
    "KeyRow",
    "ProjectRow",
    "ReportRow",
    "RunKeyRow",
    "RunRow",
    "SecretRow",
    "Snapshot",
    "Statistics",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "TaskRow",
    "TriggerRow",
    "Unwritable",
    "Was",
    "WholeAction",
    "WholeRun",
    "WriterLockLost",
    "WriterLockTaken",
    "open_store",
]


class Store(Reads, References):
    """An open store. Made by `open_store`; belongs to the loop that it was opened in."""

    def __init__(self, database: Database, writer: Writer, reader: Reader, opened: Opened) -> None:
        self._queries = database.queries
        self._writer = writer
        self._reader = reader
        self.unreadable = []
        self.name = database.name
        """For messages: the file, or the database and its host."""
        self.epoch = opened.epoch
        """The number of this control plane: how often the store has been opened for writing."""
        self.last_seq = opened.last_seq
        """The number of the last event when the store was opened."""

    def write(self, change: Change) -> asyncio.Future[None]:
        """Write a change; the future is resolved when the change is on disk, in the order of the calls.

        Fails with Conflict when the change does not fit what is stored, Unwritable when the database cannot take it,
        StoreUnavailable when the database cannot be used, WriterLockLost when another control plane has taken over.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.put(change, lambda error: _settle(future, error))
        return future

    def put(self, change: Change, answer: Answer, lazy: bool = False) -> None:
        """Like `write`, without a future: `answer` is called with None, or with the error that `write` would raise.

        A `lazy` change, for which nobody waits, is written with the next change, or a few milliseconds later.
        """
        self._writer.put(change, answer, lazy)

    async def statistics(self) -> Statistics:
        runs, counts, seq = (self._queries[name] for name in ("runs_by_phase", "counts", "last_seq"))

        def ask(session: Session) -> tuple[dict[str, int], tuple[int, int, int], int]:
            return dict(session.rows(runs)), session.rows(counts)[0], session.rows(seq)[0][0]

        phases, (tasks, apps, size), events = await self._reader.read(ask)
        commits = self._writer.thread.commits
        return Statistics(phases, tasks, apps, events, size, commits.commits, commits.changes)

    async def close(self) -> None:
        """Write all changes that were given so far, then close the database; later changes fail."""
        self._reader.finish()
        await asyncio.shield(self._reader.closed)
        self._writer.finish()
        await asyncio.shield(self._writer.thread.closed)


async def open_store(
    url: str,
    path: Path,
    fsync: str = "full",
    *,
    wait: bool = True,
    patience: float = 5.0,
    migrations: Path = MIGRATIONS,
) -> Store:
    """Open the database at `url` (`postgresql://…`), or the SQLite file at `path` when `url` is empty.

    Migrates its tables and acquires the writer lock. With `wait` this waits until the process that has the lock is
    gone, else WriterLockTaken is raised. `patience` is how many seconds a database that cannot be used is tried again
    before StoreUnavailable is raised, here and by `write`. Raises InitializationError for a database that is newer than
    this version, or settings that cannot be used.
    """
    database = _database(url, path, fsync)
    thread = WriterThread(database, migrations, wait, patience)
    writer = Writer(thread)
    thread.start()
    try:
        opened = await thread.opened
    except BaseException:
        writer.finish()
        await asyncio.shield(thread.closed)
        raise
    reader = Reader(database)
    reader.start()
    return Store(database, writer, reader, opened)


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if error is None:
        resolve(future, None)
    else:
        reject(future, error)


def _database(url: str, path: Path, fsync: str) -> Database:
    if not url:
        return SqliteDatabase(path, fsync)
    if not url.startswith(("postgresql://", "postgres://")):
        raise InitializationError(
            "BadSetting", "user", f"TARMAC_DATABASE_URL is {url.split(':')[0]}:…; write postgresql://USER@HOST/NAME"
        )
    try:
        from tarmac.store.postgres import PostgresDatabase
    except ImportError as error:
        raise InitializationError(
            "MissingPackage",
            "user",
            f"PostgreSQL needs psycopg ({error}); install it: pip install 'psycopg[binary]>=3.2'",
        ) from None
    return PostgresDatabase(url)
