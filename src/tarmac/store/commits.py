"""What the writer's thread does to the database: opening it, and one transaction after the other. No thread is in it.

- A change that does not fit (Conflict) fails alone: the batch is rolled back and written again change by change.
- A database that is full, locked or gone (StoreUnavailable) is tried again for `patience` seconds on a new connection
  before the batch fails. What the loop had put until it heard of that fails too, since it was decided on what the batch
  says; later changes are tried again. A commit that got no answer is looked up before it is repeated, since it may have
  succeeded.
- Every transaction notices that another control plane has taken the writer lock (WriterLockLost), which is final.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flyte.backoff import pause
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

STANDBY = 0.2
"""Seconds between two attempts to acquire the writer lock."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two tries to write to a database that cannot be used."""

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
    round: int
    """How many failures of the database the loop had heard of when it put this."""


Tell = Callable[[Sequence[Entry], Exception | None], None]


class Commits:
    """`tell` is called with what was written, or with what kept it from that, in the order of the entries."""

    def __init__(self, database: Database, migrations: Path, patience: float, tell: Tell) -> None:
        self._database = database
        self._broken = database.errors
        self._refused: tuple[type[Exception], ...] = (*database.errors, *_ENCODING)
        self._migrations = migrations
        self._patience = patience
        self._tell = tell
        self.session: Session | None = None
        self._epoch = 0
        self._doubt: int | None = None
        self.lost: WriterLockLost | None = None
        """Set when another control plane has taken the writer lock."""
        self._failure: StoreUnavailable | None = None
        self._failed_round = -1
        """What was put in this round or earlier comes after a change that failed."""
        self.commits = 0
        self.changes = 0

    # --------------------------------------------------------------------------------------------------- opening

    def open(self, wait: Callable[[float], bool] | None) -> Opened:
        """Acquire the writer lock, and migrate the tables.

        `wait` lets some seconds pass before the next attempt, and says whether nobody waits for it any more; with None
        WriterLockTaken is raised if another process has the lock. Raises StoreUnavailable and InitializationError too.
        """
        try:
            self._wait_for_lock(wait)
            return self._patiently("opened", self._begin)
        except self._broken as error:
            raise StoreUnavailable(f"{self._database.name} cannot be opened: {error}") from error

    def _wait_for_lock(self, wait: Callable[[float], bool] | None) -> None:
        while not self._patiently("opened", self._try_lock):
            if wait is None:
                raise WriterLockTaken(
                    f"another control plane is running on {self._database.name}; stop it with `flyte down`"
                )
            if wait(STANDBY):
                raise StoreUnavailable(f"nobody waits for {self._database.name} any more")

    def _try_lock(self) -> bool:
        self.session = self.session or self._database.connect()
        return self._database.acquire_writer_lock(self.session)

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

    def write(self, entries: Sequence[Entry]) -> None:
        """Write them in one transaction, or one by one where one of them does not fit."""
        if self._failure is not None:
            entries = self._without_late(entries, self._failure)
        if not entries:
            return
        try:
            self._commit([entry.change for entry in entries])
        except (Mismatch, Unwritable):
            self._isolate(entries)
        except StoreError as error:
            self._fail(entries, error)
        else:
            self._tell(entries, None)

    def _without_late(self, entries: Sequence[Entry], failure: StoreUnavailable) -> Sequence[Entry]:
        late = [entry for entry in entries if entry.round <= self._failed_round]
        if late:
            self._tell(late, failure)
        return entries[len(late) :]

    def _fail(self, entries: Sequence[Entry], error: StoreError) -> None:
        if isinstance(error, StoreUnavailable):
            self._failure, self._failed_round = error, entries[-1].round
        self._tell(entries, error)

    def _isolate(self, entries: Sequence[Entry]) -> None:
        """Write the changes one by one, each in a transaction of its own."""
        for at, entry in enumerate(entries):
            try:
                self._commit([entry.change])
            except Mismatch:
                self._tell([entry], self._conflict(entry.change))
            except Unwritable as error:
                self._tell([entry], error)
            except StoreError as error:
                self._fail(entries[at:], error)
                return
            else:
                self._tell([entry], None)

    def _commit(self, changes: Sequence[Change]) -> None:
        if self.lost is not None:
            raise self.lost
        try:
            batch = Batch(changes, self._database.queries)
            self._patiently("written", lambda: self._transact(batch))
        except WriterLockLost as error:
            self.lost = error
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
            self._check_epoch(session)
            number = self._database.number_transaction(session)
            batch.apply(session)
        except (*_ENCODING, Mismatch, WriterLockLost):
            self._end_transaction()
            raise
        self._doubt = number
        session.commit()
        self._doubt = None

    def _settle(self, session: Session, number: int) -> bool:
        """Whether the transaction whose commit got no answer was committed."""
        self._check_epoch(session)
        done = self._database.was_committed(session, number)
        self._doubt = None
        return done

    def _check_epoch(self, session: Session) -> None:
        """Raises WriterLockLost if another control plane has a later epoch."""
        epoch = session.rows(self._database.queries["epoch"])[0][0]
        if epoch != self._epoch:
            raise WriterLockLost(
                f"another control plane has taken over {self._database.name}: "
                f"the epoch there is {epoch}, this one's is {self._epoch}"
            )

    def _conflict(self, change: Change) -> Conflict:
        why = "it does not fit what is stored"
        try:
            if self.session is not None:
                why = reason(change, self.session, self._database.queries)
        except self._broken as error:
            self._end_transaction()
            why += f", which cannot be read now: {error}"
        return Conflict(why, change)

    # --------------------------------------------------------------------------------------------- the connection

    def _connected(self) -> Session:
        """The session; a new one after it was broken."""
        if self.session is None:
            session = self._database.connect()
            try:
                if not self._database.acquire_writer_lock(session):
                    if self._epoch:
                        self._check_epoch(session)
                    raise NotNow("another session has the writer lock")
            except BaseException:
                session.close()
                raise
            self.session = session
        return self.session

    def _end_transaction(self) -> None:
        """Roll back; a session that cannot roll back is closed. The others keep the writer lock."""
        if self.session is None:
            return
        try:
            self.session.rollback()
        except self._broken:
            self._drop_session()

    def close(self) -> None:
        """Close the connection, and release the writer lock."""
        try:
            self._drop_session()
        finally:
            self._database.release_writer_lock()

    def _drop_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def _patiently(self, verb: str, step: Callable[[], T]) -> T:
        """Run `step`, and again for `patience` seconds while the database cannot be used."""
        started = time.monotonic()
        failures = 0
        while True:
            try:
                return step()
            except self._broken as error:
                cause = self._database.cause(error)
                self._end_transaction()
                if cause is None:
                    raise
                failures += 1
                seconds = pause(failures, FIRST_PAUSE, LONGEST_PAUSE)
                if time.monotonic() - started + seconds > self._patience:
                    self._doubt = None
                    raise StoreUnavailable(f"{self._database.name} cannot be {verb}: {cause}") from error
            time.sleep(seconds)
