"""The writer: one thread, one connection, group commit.

The loop hands over, once a turn, what changes there are, and goes on. The thread takes what has gathered (at most
BATCH), writes it in one transaction and tells the loop once for all of them, so that under load the price of a commit
is shared by hundreds. A change that nobody waits for (`lazy`) does not begin a transaction: it goes into the next one,
or into one of its own after LAZY seconds.

- A change that does not fit (Conflict) fails alone: the batch is rolled back and written again change by change.
- A database that is full, locked or gone (StoreUnavailable) is tried again for `patience` seconds on a new connection
  before the batch fails; what comes later is tried anew. A commit that was not answered is looked up before it is
  repeated, for it may have been done.
- Another control plane that took the place (LostPlace) is noticed in every transaction, and is final.

Answers are given in the order in which the changes came.
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
from tarmac.store.changes import Change, Conflict, LostPlace, PlaceTaken, StoreError, StoreUnavailable, Unwritable
from tarmac.store.database import Database, NotNow, Session
from tarmac.store.migrate import migrate

T = TypeVar("T")

BATCH = 512
"""Changes in one transaction, at most."""

LAZY = 0.003
"""Seconds that a change nobody waits for may wait for company."""

STANDBY = 0.2
"""Seconds between two looks at a place that somebody else has."""

_ENCODING = (TypeError, ValueError, OverflowError, AttributeError, LookupError)
"""What a row whose fields are not of their type raises on its way to the database."""


@dataclass(frozen=True, slots=True)
class Opened:
    epoch: int
    last_seq: int


Answer = Callable[[Exception | None], None]
"""Called on the loop when a change is on disk, or with what kept it from being written."""


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
        """What is gathered is handed over in this turn of the loop."""
        self._lingers: asyncio.TimerHandle | None = None
        self._queue: queue.SimpleQueue[list[Entry] | None] = queue.SimpleQueue()
        self._carried: list[Entry] = []
        """What was taken from the queue and did not go into the last batch."""
        self._session: Session | None = None
        self._epoch = 0
        self._doubt: int | None = None
        self._lost: LostPlace | None = None
        self._given_up = threading.Event()
        self._ended = False
        self.opened: asyncio.Future[Opened] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.commits = 0
        self.changes = 0

    # ------------------------------------------------------------------------------------------- the loop's side

    def put(self, change: Change, answer: Answer, lazy: bool = False) -> None:
        """Have `change` written; what is put first is written first, and answered first."""
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
        """Write what was handed over so far, then end; `closed` says when."""
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
                self._database.leave_place()
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
        """What is there now, waiting for the first; and whether that was the last."""
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
        """Nobody serves the queue any more: whoever is in it hears so."""
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
            self._wait_for_place()
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

    def _wait_for_place(self) -> None:
        while not self._patiently("opened", self._try_place):
            if not self._wait:
                raise PlaceTaken(
                    f"another control plane is running on {self._database.name}; stop it with `flyte down`"
                )
            if self._given_up.wait(STANDBY):
                raise StoreUnavailable(f"nobody waits for {self._database.name} any more")

    def _try_place(self) -> bool:
        self._session = self._session or self._database.connect()
        return self._database.take_place(self._session)

    def _begin(self) -> Opened:
        """Migrate, and take the next epoch: from here on nobody with an earlier one can write."""
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
        """Write one by one, each in a transaction of its own."""
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
        except LostPlace as error:
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
            transaction = self._check_place(session)
            batch.apply(session)
        except (*_ENCODING, Mismatch, LostPlace):
            self._end_transaction()
            raise
        self._doubt = transaction
        session.commit()
        self._doubt = None

    def _settle(self, session: Session, transaction: int) -> bool:
        """Whether the transaction whose commit was not answered was done after all."""
        done = self._database.was_committed(session, transaction)
        self._doubt = None
        return done

    def _check_place(self, session: Session) -> int:
        """The transaction's number. Raises LostPlace when the epoch is another's."""
        epoch, transaction = session.rows(self._database.queries["epoch"])[0]
        if epoch != self._epoch:
            raise LostPlace(
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
        """The session, made anew after it broke."""
        if self._session is None:
            session = self._database.connect()
            try:
                if not self._database.take_place(session):
                    if self._epoch:
                        self._check_place(session)
                    raise NotNow("another session has the writer lock")
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session

    def _end_transaction(self) -> None:
        """Roll back; a session that cannot do that is of no use any more. One that can keeps its place."""
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
        """`step`, tried again for `patience` seconds while the database cannot be used."""
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
    """Each answer is a call of its own: what goes wrong in one does not keep the others from being heard."""
    for entry in entries:
        loop.call_soon(entry.answer, error)
