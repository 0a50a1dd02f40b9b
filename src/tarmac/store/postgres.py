"""PostgreSQL, through psycopg's blocking connections: they live in the store's own threads.

The writer lock is a session advisory lock, so that a second control plane stands by. A first control plane that lost
its session is fenced by the epoch, which every transaction reads with a lock on its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict

from flyte.errors import InitializationError
from tarmac.store.database import NotNow, Session
from tarmac.store.queries import Queries

QUERIES = Queries(
    {
        "text": 'text collate "C"',
        "bytes": "bytea",
        "big": "bigint",
        "locked": "for share",
        # JSON may contain a NUL, which PostgreSQL refuses in text.
        "report": r"replace(e.body, '\u0000', '\ufffd')::json #>> '{progress,report}'",
        "size": "pg_database_size(current_database())",
    },
    "%({})s",
)

WRITER_LOCK = (0x7461726D, 1)
"""The advisory lock's two numbers: `tarm`, and 1 for the writer."""

CONNECT = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "tarmac",
}
"""Time limits for a server that does not answer, unless the URL has others."""

_NEXT_COMMIT = """
insert into meta (name, value) values ('commit', 1) on conflict (name) do update set value = meta.value + 1
returning value
"""

_LAST_COMMIT = "select value from meta where name = 'commit' for update"

_SETTINGS = (
    "set lock_timeout = '5s'",
    "set statement_timeout = '60s'",
    # An acknowledged commit must be on disk, whatever the server's default is.
    "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'",
)


class PostgresSession:
    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> int:
        with self._connection.cursor() as cursor:
            if len(values) == 1:  # spares the pipeline's round trip
                cursor.execute(sql, values[0])
            else:
                cursor.executemany(sql, values)
            return cursor.rowcount

    def begin(self) -> None:
        self._connection.execute("begin isolation level read committed")

    def begin_reading(self) -> None:
        self._connection.execute("begin isolation level repeatable read, read only")

    def commit(self) -> None:
        self._connection.execute("commit")

    def rollback(self) -> None:
        self._connection.execute("rollback")

    def close(self) -> None:
        self._connection.close()


class PostgresDatabase:
    queries = QUERIES
    errors: tuple[type[Exception], ...] = (psycopg.Error, OSError, NotNow)

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise InitializationError(
                "BadSetting", "user", f"TARMAC_DATABASE_URL cannot be read: {error}; write postgresql://USER@HOST/NAME"
            ) from None
        self._parameters = {**CONNECT, **given}
        where = given.get("host") or "this machine"
        self.name = f"PostgreSQL database {given.get('dbname') or 'of the default name'} at {where}"

    def connect(self, read_only: bool = False) -> PostgresSession:
        connection = psycopg.connect(autocommit=True, **cast(dict[str, Any], self._parameters))
        try:
            for setting in (*_SETTINGS, *(("set default_transaction_read_only = on",) if read_only else ())):
                connection.execute(setting)
        except psycopg.Error:
            connection.close()
            raise
        return PostgresSession(connection)

    def acquire_writer_lock(self, session: Session) -> bool:
        taken = session.rows(f"select pg_try_advisory_lock({WRITER_LOCK[0]}, {WRITER_LOCK[1]})")
        return bool(taken[0][0])

    def release_writer_lock(self) -> None:
        """PostgreSQL releases the lock with the session."""

    def number_transaction(self, session: Session) -> int:
        """The number is stored with what the transaction writes.

        The server's own numbers would not do: a standby that takes over gives those that it never heard of once more.
        """
        return int(session.rows(_NEXT_COMMIT)[0][0])

    def was_committed(self, session: Session, number: int) -> bool:
        """Waits for a transaction that the server has not yet ended: it has the row locked."""
        return session.rows(_LAST_COMMIT) == [(number,)]

    def cause(self, error: Exception) -> str | None:
        if isinstance(error, psycopg.errors.DiskFull):
            return f"the server's disk is full; make some room ({_line(error)})"
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return "the server takes no writes; is it a standby?"
        if isinstance(error, psycopg.OperationalError) and (error.sqlstate or "").startswith("54"):
            return None  # the statement is too large for the server in some way; that does not pass
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return f"the server does not answer, or ended the connection; see that it runs ({_line(error)})"
        return str(error) if isinstance(error, OSError | NotNow) else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
