"""The reader: one thread with a connection of its own that may only read, so that no read waits for a commit."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tarmac.store.answers import on_loop, reject, resolve
from tarmac.store.changes import StoreUnavailable
from tarmac.store.database import Database, Session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    ask: Callable[[Session], T]
    future: asyncio.Future[T]


class Reader(threading.Thread):
    def __init__(self, database: Database) -> None:
        super().__init__(name="store-reader", daemon=True)
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Question[Any] | None] = queue.SimpleQueue()
        self._session: Session | None = None
        self._ended = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    async def read(self, ask: Callable[[Session], T]) -> T:
        """Call `ask` with a session, in the thread. Raises StoreUnavailable when the database cannot be read."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.take(Question(ask, future))
        return await future

    def take(self, question: Question[Any]) -> None:
        """Have it answered."""
        self._queue.put(question)
        if self._ended:
            self._drain()

    def finish(self) -> None:
        """Answer all questions so far, then end; `closed` is then resolved."""
        self._queue.put(None)

    def run(self) -> None:
        try:
            while (question := self._queue.get()) is not None:
                if not question.future.cancelled():
                    self.answer(question)
        finally:
            self._ended = True
            self._drain()
            try:
                self._drop_session()
            finally:
                on_loop(self._loop, resolve, self.closed, None)

    def answer(self, question: Question[Any]) -> None:
        try:
            answer = self._read(question.ask)
        except Exception as error:  # noqa: BLE001 - an error of the question goes to its caller
            self.tell(reject, question.future, error)
        else:
            self.tell(resolve, question.future, answer)

    def tell(self, callback: Callable[..., None], *arguments: object) -> None:
        on_loop(self._loop, callback, *arguments)

    def _read(self, ask: Callable[[Session], T]) -> T:
        """Call `ask`, and once more on a new connection if the first one is broken."""
        try:
            return ask(self._connected())
        except self._database.errors:
            self._drop_session()
        try:
            return ask(self._connected())
        except self._database.errors as error:
            self._drop_session()
            cause = self._database.cause(error) or str(error)
            raise StoreUnavailable(f"{self._database.name} cannot be read: {cause}") from error

    def _connected(self) -> Session:
        self._session = self._session or self._database.connect(read_only=True)
        return self._session

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _drain(self) -> None:
        try:
            while True:
                if (question := self._queue.get_nowait()) is not None:
                    error = StoreUnavailable(f"the store on {self._database.name} is closed")
                    self.tell(reject, question.future, error)
        except queue.Empty:
            pass
