"""What the store needs of a database: SQLite and PostgreSQL each have a module with these two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tarmac.store.queries import Queries

Row = Sequence[Any]


class NotNow(Exception):
    """The database is there and cannot be used at the moment; the text is the cause."""


class Session(Protocol):
    """One connection, used by one thread. Outside of `begin` and `commit` every query stands for itself."""

    def rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        """What a query answers; none for a statement that answers nothing."""

    def many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> int:
        """Run a statement for each of `values`: the number of rows that were written."""

    def begin(self) -> None: ...

    def begin_reading(self) -> None:
        """Begin a transaction in which every query sees the database as the first one finds it."""

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """End the transaction, if there is one. Raises one of `Database.errors` on a broken connection."""

    def close(self) -> None: ...


class Database(Protocol):
    """One database, seen from one process."""

    name: str
    """For messages: what it is and where, without a password."""
    queries: Queries
    errors: tuple[type[Exception], ...]
    """Everything that a session may raise."""

    def connect(self, read_only: bool = False) -> Session:
        """A new connection. Waits a few seconds at most."""

    def take_place(self, session: Session) -> bool:
        """Take the one place of the writer, or keep it; False where somebody else has it.

        The place is lost with the process and, on PostgreSQL, with the session.
        """

    def leave_place(self) -> None: ...

    def was_committed(self, session: Session, transaction: int) -> bool:
        """Whether a transaction whose commit was not answered is on disk after all. Raises NotNow if that is open."""

    def cause(self, error: Exception) -> str | None:
        """Why the database cannot be used now, and what helps; None if it is the statement that is at fault."""
