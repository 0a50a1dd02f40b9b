"""The writer: one thread, one connection, group commit.

The event loop passes its changes on once a turn, and goes on. The thread takes all waiting changes (at most BATCH),
writes them in one transaction and notifies the loop once for all of them, so that under load hundreds of changes share
the cost of a commit. A `lazy` change, for which nobody waits, does not begin a transaction: it is written with the next
change, or in a transaction of its own after LAZY seconds.

- A change that does not fit (Conflict) fails alone: the batch is rolled back and written again change by change.
- A database that is full, locked or gone (StoreUnavailable) is tried again for `patience` seconds on a new connection
  before the batch fails; later changes are tried again. A commit that got no answer is looked up before it is repeated,
  since it may have succeeded.
- Every transaction notices that another control plane has taken the writer lock (WriterLockLost), which is final.

Answers are given in the order of the changes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tarmac.store.answers import on_loop, reject, resolve
from tarmac.store.batch import Batch, Mismatch, reason
from tarmac.store.changes import (
    Change,
    Conflict,
    StoreError,
    StoreUnavailable,
    Unwritable,
    WriterLockLost,
    WriterLockTaken,
)
from tarmac.store.database import Database, NotNow, Session
from tarmac.store.migrate import migrate

T = TypeVar("T")

BATCH = 512
"""Changes in one transaction, at most."""

LAZY = 0.003
"""Seconds that a lazy change waits for another change before it is written alone."""

STANDBY = 0.2
"""Seconds between two attempts to acquire the writer lock."""

_ENCODING = (TypeError, ValueError, OverflowError, AttributeError, LookupError)
"""The errors of a row whose fields do not have their declared types."""


@dataclass(frozen=True, slots=True)
class Opened:
    epoch: int
    last_seq: int


Answer = Callable[[Exception | None], None]
"""Called on the loop with None when a change is on disk, or with the error that prevented it."""


@dataclass(frozen=True, slots=True)
class Entry:
    change: Change
    answer: Answer


class Writer(threading.Thread):
    def __init__(self, database: Database, migrations: Path, wait: bool, patience: float) -> None:
        super().__init__(name="store-writer", daemon=True)
        self._database = database
        self._broken = database.errors
        self._refused: tuple[type[Exception], ...] = (*database.errors, *_ENCODING)
        self._migrations = migrations
        self._wait = wait
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Entry] = []
        self._hurries = False
        """Whether the waiting changes are passed to the thread in this turn of the loop."""
        self._lingers: asyncio.TimerHandle | None = None
        self._queue: queue.SimpleQueue[list[Entry] | None] = queue.SimpleQueue()
        self._carried: list[Entry] = []
        """Changes that were taken from the queue and did not fit into the last batch."""
        self._session: Session | None = None
        self._epoch = 0
        self._doubt: int | None = None
        self._lost: WriterLockLost | None = None
        self._given_up = threading.Event()
        self._ended = False
        self.opened: asyncio.Future[Opened] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.commits = 0
        self.changes = 0

    # ------------------------------------------------------------------------------------------- the loop's side

    def put(self, change: Change, answer: Answer, lazy: bool = False) -> None:
        """Write `change`. Changes are written and answered in the order of the calls."""
        self._gathered.append(Entry(change, answer))
        if not lazy and not self._hurries:
            self._hurries = True
            self._loop.call_soon(self._hand_over)
        elif lazy and self._lingers is None:
            self._lingers = self._loop.call_later(LAZY, self._hand_over)

    def _hand_over(self) -> None:
        self._hurries = False
        if self._lingers is not None:
            self._lingers.cancel()
            self._lingers = None
        entries, self._gathered = self._gathered, []
        if entries:
            self._queue.put(entries)
        if self._ended:
            self._drain()

    def finish(self) -> None:
        """Write all changes so far, then end; `closed` is then resolved."""
        self._given_up.set()
        self._hand_over()
        self._queue.put(None)

    # ----------------------------------------------------------------------------------------- the thread's side

    def run(self) -> None:
        try:
            if self._open():
                self._serve()
        finally:
            self._ended = True
            self._drain()
            try:
                self._drop_session()
            finally:
                self._database.release_writer_lock()
                on_loop(self._loop, resolve, self.closed, None)

    def _serve(self) -> None:
        closing = False
        while not closing:
            entries, closing = self._gather()
            try:
                self._write(entries)
            except BaseException as error:
                self._fail(entries, StoreUnavailable(f"the writer of {self._database.name} ended: {error!r}"))
                raise

    def _gather(self) -> tuple[list[Entry], bool]:
        """Wait for a change; return all that are waiting, and whether the writer was told to finish."""
        entries, self._carried = self._carried, []
        item = [] if entries else self._queue.get()
        while item is not None:
            entries += item
            if len(entries) >= BATCH:
                entries, self._carried = entries[:BATCH], entries[BATCH:]
                return entries, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return entries, False
        return entries, True

    def _drain(self) -> None:
        """Fail the changes that are left in the queue, since the thread ends."""
        left, self._carried = self._carried, []
        try:
            while True:
                left += self._queue.get_nowait() or []
        except queue.Empty:
            pass
        self._fail(left, self._lost or StoreUnavailable(f"the store on {self._database.name} is closed"))

    # --------------------------------------------------------------------------------------------------- opening

    def _open(self) -> bool:
        try:
            self._wait_for_lock()
            opened = self._patiently("opened", self._begin)
        except self._broken as error:
            problem = StoreUnavailable(f"{self._database.name} cannot be opened: {error}")
            on_loop(self._loop, reject, self.opened, problem)
        except RuntimeError as error:  # ours: StoreError and flyte's InitializationError
            on_loop(self._loop, reject, self.opened, error)
        except BaseException as error:
            broken = StoreUnavailable(f"{self._database.name} cannot be opened: {error!r}")
            on_loop(self._loop, reject, self.opened, broken)
            raise
        else:
            on_loop(self._loop, resolve, self.opened, opened)
            return True
        return False

    def _wait_for_lock(self) -> None:
        while not self._patiently("opened", self._try_lock):
            if not self._wait:
                raise WriterLockTaken(
                    f"another control plane is running on {self._database.name}; stop it with `flyte down`"
                )
            if self._given_up.wait(STANDBY):
                raise StoreUnavailable(f"nobody waits for {self._database.name} any more")

    def _try_lock(self) -> bool:
        self._session = self._session or self._database.connect()
        return self._database.acquire_writer_lock(self._session)

    def _begin(self) -> Opened:
        """Migrate, and take the next epoch: from here on a process with an earlier epoch cannot write."""
        session, queries = self._connected(), self._database.queries
        migrate(session, self._database, self._migrations)
        session.begin()
        session.rows(queries["next_epoch"])
        epoch = session.rows(queries["epoch"])[0][0]
        last_seq = session.rows(queries["last_seq"])[0][0]
        session.commit()
        self._epoch = epoch
        return Opened(epoch, last_seq)

    # --------------------------------------------------------------------------------------------------- writing

    def _write(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            self._commit([entry.change for entry in entries])
        except (Mismatch, Unwritable):
            self._isolate(entries)
        except StoreError as error:
            self._fail(entries, error)
        else:
            self._succeed(entries)

    def _isolate(self, entries: Sequence[Entry]) -> None:
        """Write the changes one by one, each in a transaction of its own."""
        for at, entry in enumerate(entries):
            try:
                self._commit([entry.change])
            except Mismatch:
                self._fail([entry], self._conflict(entry.change))
            except Unwritable as error:
                self._fail([entry], error)
            except StoreError as error:
                self._fail(entries[at:], error)
                return
            else:
                self._succeed([entry])

    def _commit(self, changes: Sequence[Change]) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            batch = Batch(changes, self._database.queries)
            self._patiently("written", lambda: self._transact(batch))
        except WriterLockLost as error:
            self._lost = error
            raise
        except self._refused as error:
            raise Unwritable(f"{self._database.name} refuses a change: {error}", changes[0]) from error
        self.commits += 1
        self.changes += len(changes)

    def _transact(self, batch: Batch) -> None:
        session = self._connected()
        if self._doubt is not None and self._settle(session, self._doubt):
            return
        try:
            session.begin()
            transaction = self._check_epoch(session)
            batch.apply(session)
        except (*_ENCODING, Mismatch, WriterLockLost):
            self._end_transaction()
            raise
        self._doubt = transaction
        session.commit()
        self._doubt = None

    def _settle(self, session: Session, transaction: int) -> bool:
        """Whether the transaction whose commit got no answer was committed."""
        done = self._database.was_committed(session, transaction)
        self._doubt = None
        return done

    def _check_epoch(self, session: Session) -> int:
        """The transaction's number. Raises WriterLockLost if another control plane has a later epoch."""
        epoch, transaction = session.rows(self._database.queries["epoch"])[0]
        if epoch != self._epoch:
            raise WriterLockLost(
                f"another control plane has taken over {self._database.name}: "
                f"the epoch there is {epoch}, this one's is {self._epoch}"
            )
        return int(transaction)

    def _conflict(self, change: Change) -> Conflict:
        why = "it does not fit what is stored"
        try:
            if self._session is not None:
                why = reason(change, self._session, self._database.queries)
        except self._broken as error:
            self._end_transaction()
            why += f", which cannot be read now: {error}"
        return Conflict(why, change)

    # --------------------------------------------------------------------------------------------- the connection

    def _connected(self) -> Session:
        """The session; a new one after it was broken."""
        if self._session is None:
            session = self._database.connect()
            try:
                if not self._database.acquire_writer_lock(session):
                    if self._epoch:
                        self._check_epoch(session)
                    raise NotNow("another session has the writer lock")
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session

    def _end_transaction(self) -> None:
        """Roll back; a session that cannot roll back is closed. The others keep the writer lock."""
        if self._session is None:
            return
        try:
            self._session.rollback()
        except self._broken:
            self._drop_session()

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _patiently(self, verb: str, step: Callable[[], T]) -> T:
        """Run `step`, and again for `patience` seconds while the database cannot be used."""
        started = time.monotonic()
        pause = 0.05
        while True:
            try:
                return step()
            except self._broken as error:
                cause = self._database.cause(error)
                self._end_transaction()
                if cause is None:
                    raise
                if time.monotonic() - started + pause > self._patience:
                    self._doubt = None
                    raise StoreUnavailable(f"{self._database.name} cannot be {verb}: {cause}") from error
            time.sleep(pause)
            pause = min(pause * 2, 0.5)

    # --------------------------------------------------------------------------------------------------- answers

    def _succeed(self, entries: Sequence[Entry]) -> None:
        self._tell(entries, None)

    def _fail(self, entries: Sequence[Entry], error: Exception) -> None:
        if entries:
            self._tell(entries, error)

    def _tell(self, entries: Sequence[Entry], error: Exception | None) -> None:
        on_loop(self._loop, _answer, self._loop, entries, error)


def _answer(loop: asyncio.AbstractEventLoop, entries: Sequence[Entry], error: Exception | None) -> None:
    """Call each answer by itself, so that an error in one does not prevent the others."""
    for entry in entries:
        loop.call_soon(entry.answer, error)
