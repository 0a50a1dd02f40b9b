"""The writer: one thread, one connection, group commit.

The event loop passes its changes on once a turn, and goes on. The thread takes all waiting changes (at most BATCH),
writes them in one transaction (`commits.py`) and notifies the loop once for all of them, so that under load hundreds of
changes share the cost of a commit. A `lazy` change, for which nobody waits, does not begin a transaction: it is written
with the next change, or in a transaction of its own after LAZY seconds.

Answers are given in the order of the changes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from pathlib import Path

from tarmac.store.answers import on_loop, reject, resolve
from tarmac.store.changes import Change, StoreUnavailable
from tarmac.store.commits import Answer, Commits, Entry, Opened
from tarmac.store.database import Database

BATCH = 512
"""Changes in one transaction, at most."""

LAZY = 0.003
"""Seconds that a lazy change waits for another change before it is written alone."""


class WriterThread(threading.Thread):
    """The thread, its queue, and what it tells the loop."""

    def __init__(self, database: Database, migrations: Path, wait: bool, patience: float) -> None:
        super().__init__(name="store-writer", daemon=True)
        self._name_of_database = database.name
        self._wait = wait
        self._loop = asyncio.get_running_loop()
        self.commits = Commits(database, migrations, patience, lambda entries, error: self.tell(entries, error))
        self.queue: queue.SimpleQueue[list[Entry] | None] = queue.SimpleQueue()
        self._carried: list[Entry] = []
        """Changes that were taken from the queue and did not fit into the last batch."""
        self.given_up = threading.Event()
        self.round = 0
        """How many failures of the database the loop has heard of."""
        self._ended = False
        self.opened: asyncio.Future[Opened] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # ------------------------------------------------------------------------------------------- the loop's side

    def take(self, entries: list[Entry] | None) -> None:
        """Have these written; None: end when all is written."""
        self.queue.put(entries)
        if self._ended:
            self._drain()

    # ----------------------------------------------------------------------------------------- the thread's side

    def run(self) -> None:
        try:
            if self._open():
                self._serve()
        finally:
            self._ended = True
            self._drain()
            try:
                self.commits.close()
            finally:
                on_loop(self._loop, resolve, self.closed, None)

    def _open(self) -> bool:
        try:
            opened = self.commits.open(self.given_up.wait if self._wait else None)
        except RuntimeError as error:  # ours: StoreError and flyte's InitializationError
            on_loop(self._loop, reject, self.opened, error)
            return False
        except BaseException as error:
            broken = StoreUnavailable(f"{self._name_of_database} cannot be opened: {error!r}")
            on_loop(self._loop, reject, self.opened, broken)
            raise
        on_loop(self._loop, resolve, self.opened, opened)
        return True

    def _serve(self) -> None:
        is_last = False
        while not is_last:
            entries, is_last = self.gather()
            try:
                self.commits.write(entries)
            except BaseException as error:
                self.tell(entries, StoreUnavailable(f"the writer of {self._name_of_database} ended: {error!r}"))
                raise

    def gather(self) -> tuple[list[Entry], bool]:
        """Wait for a change; return all that are waiting, and whether the writer was told to finish."""
        entries, self._carried = self._carried, []
        item = [] if entries else self.queue.get()
        while item is not None:
            entries += item
            if len(entries) >= BATCH:
                entries, self._carried = entries[:BATCH], entries[BATCH:]
                return entries, False
            try:
                item = self.queue.get_nowait()
            except queue.Empty:
                return entries, False
        return entries, True

    def _drain(self) -> None:
        """Fail the changes that are left in the queue, since the thread ends."""
        left, self._carried = self._carried, []
        try:
            while True:
                left += self.queue.get_nowait() or []
        except queue.Empty:
            pass
        closed = StoreUnavailable(f"the store on {self._name_of_database} is closed")
        self.tell(left, self.commits.lost or closed)

    def tell(self, entries: Sequence[Entry], error: Exception | None) -> None:
        if entries:
            on_loop(self._loop, self.heard, entries, error)

    def heard(self, entries: Sequence[Entry], error: Exception | None) -> None:
        """On the loop: each answer is a call of its own, so that what goes wrong in one keeps back no other."""
        if isinstance(error, StoreUnavailable):
            self.round += 1
        for entry in entries:
            self._loop.call_soon(entry.answer, error)


class Writer:
    """The loop's side: what is put in one turn of the loop is handed over together."""

    def __init__(self, thread: WriterThread) -> None:
        self.thread = thread
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Entry] = []
        self._hurries = False
        """Whether the waiting changes are passed to the thread in this turn of the loop."""
        self._lingers: asyncio.TimerHandle | None = None

    def put(self, change: Change, answer: Answer, lazy: bool = False) -> None:
        """Write `change`. Changes are written and answered in the order of the calls."""
        self._gathered.append(Entry(change, answer, self.thread.round))
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
            self.thread.take(entries)

    def finish(self) -> None:
        """Write all changes so far, then end; `thread.closed` is then resolved."""
        self.thread.given_up.set()
        self._hand_over()
        self.thread.take(None)
