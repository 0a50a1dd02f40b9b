"""SQLite: one file in the platform's folder, in WAL mode, so that readers and the writer do not wait for each other."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flyte.errors import InitializationError
from tarmac.store.database import NotNow, Session
from tarmac.store.queries import Queries

SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}
"""Setting `fsync` → SQLite's word."""

BUSY_TIMEOUT = 1.0
"""Seconds that SQLite waits while another program has the file locked; the writer then tries again."""

QUERIES = Queries(
    {
        "text": "text",
        "bytes": "blob",
        "big": "integer",
        "locked": "",
        "report": "json_extract(e.body, '$.progress.report')",
        "size": "(select page_count * page_size from pragma_page_count(), pragma_page_size())",
    },
    ":{}",
)

_CAUSES = {
    sqlite3.SQLITE_FULL: "the disk is full; make some room",
    sqlite3.SQLITE_BUSY: "another program has it locked; close what else has the file open",
    sqlite3.SQLITE_LOCKED: "another program has it locked; close what else has the file open",
    sqlite3.SQLITE_READONLY: "it is read-only; give its owner the right to write",
    sqlite3.SQLITE_PERM: "it may not be written; give its owner the right to write",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; see that its folder exists and can be written",
    sqlite3.SQLITE_IOERR: "the disk reports an error; see the system's log",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_CORRUPT: "it is damaged; put a copy of it in its place",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; move it away, or put a copy in its place",
}


_NOT_UTF8 = "Could not decode to UTF-8"
"""How the message of Python's error begins where a text in the file is none."""


def _with_escapes(text: bytes) -> str:
    return text.decode(errors="backslashreplace")


class SqliteSession:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        try:
            return self._connection.execute(sql, values or {}).fetchall()
        except sqlite3.OperationalError as error:
            if not str(error).startswith(_NOT_UTF8):
                raise
        # Somebody else wrote to the file, or the disk did. One such text is not to hide all other rows.
        self._connection.text_factory = _with_escapes
        try:
            return self._connection.execute(sql, values or {}).fetchall()
        finally:
            self._connection.text_factory = str

    def many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> int:
        return self._connection.executemany(sql, values).rowcount

    def begin(self) -> None:
        self._connection.execute("begin immediate")

    def begin_reading(self) -> None:
        self._connection.execute("begin deferred")

    def commit(self) -> None:
        self._connection.execute("commit")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("rollback")

    def close(self) -> None:
        self._connection.close()


class SqliteDatabase:
    queries = QUERIES
    errors: tuple[type[Exception], ...] = (sqlite3.Error, OSError, NotNow)

    def __init__(self, path: Path, fsync: str = "full") -> None:
        if fsync not in SYNCHRONOUS:
            raise InitializationError("BadSetting", "user", f"fsync is {fsync!r}; it is `full` or `normal`")
        self.path = path.absolute()
        self.name = str(self.path)
        self._synchronous = SYNCHRONOUS[fsync]
        self._place: int | None = None

    def connect(self, read_only: bool = False) -> SqliteSession:
        uri = f"{self.path.as_uri()}?mode={'ro' if read_only else 'rwc'}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT)
        try:
            # 16 MiB of log between checkpoints: fewer of them under load, and a restart still reads it in no time.
            for pragma in ("journal_mode=wal", "wal_autocheckpoint=4000", "cache_size=-32000"):
                if not (read_only and pragma.startswith("journal")):
                    connection.execute(f"pragma {pragma}")
            connection.execute(f"pragma synchronous={self._synchronous}")
        except sqlite3.Error:
            connection.close()
            raise
        return SqliteSession(connection)

    def acquire_writer_lock(self, session: Session) -> bool:
        if self._place is not None:
            return True
        place = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(place)
            return False
        self._place = place
        return True

    def release_writer_lock(self) -> None:
        if self._place is not None:
            os.close(self._place)
            self._place = None

    def number_transaction(self, session: Session) -> int:
        return 0

    def was_committed(self, session: Session, number: int) -> bool:
        """False: a commit that SQLite reports as failed was rolled back."""
        return False

    def cause(self, error: Exception) -> str | None:
        if isinstance(error, OSError | NotNow):
            return str(error)
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return None
        cause = _CAUSES.get(code & 0xFF)
        return None if cause is None else f"{cause} ({error})"
