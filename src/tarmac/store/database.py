"""The interface to a database: SQLite and PostgreSQL each have a module with these two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tarmac.store.queries import Queries

Row = Sequence[Any]


class NotNow(Exception):
    """Raised when the database exists and cannot be used at the moment; the text is the cause."""


class Session(Protocol):
    """One connection, used by one thread. Outside of `begin` and `commit` every query is a transaction of its own."""

    def rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        """The rows that a query returns; empty for a statement that returns none."""

    def many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> int:
        """Run a statement for each of `values`; returns the number of rows that were written."""

    def begin(self) -> None: ...

    def begin_reading(self) -> None:
        """Begin a transaction in which every query sees the same state of the database."""

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """End the transaction, if there is one. Raises one of `Database.errors` on a broken connection."""

    def close(self) -> None: ...


class Database(Protocol):
    """One database, seen from one process."""

    name: str
    """The database's kind and location for messages, without a password."""
    queries: Queries
    errors: tuple[type[Exception], ...]
    """Everything that a session may raise."""

    def connect(self, read_only: bool = False) -> Session:
        """A new connection. Waits a few seconds at most."""

    def acquire_writer_lock(self, session: Session) -> bool:
        """Acquire the writer lock, or keep it; False when another process has it.

        The lock is released at the end of the process and, on PostgreSQL, of the session.
        """

    def release_writer_lock(self) -> None: ...

    def number_transaction(self, session: Session) -> int:
        """Give a number to the transaction that is open, by which `was_committed` knows it."""

    def was_committed(self, session: Session, number: int) -> bool:
        """Whether the last transaction of this control plane, whose commit got no answer, was committed.

        Raises one of `errors` while that is undecided.
        """

    def cause(self, error: Exception) -> str | None:
        """Why the database cannot be used now, and the remedy; None if the statement itself is at fault."""
