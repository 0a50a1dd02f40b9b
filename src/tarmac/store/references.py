"""Reads for the collector: which runs and task versions may go, and all text that may refer to a blob or a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from tarmac.store import tables
from tarmac.store.queries import Queries
from tarmac.store.reader import Reader
from tarmac.store.rows import RunRow, TaskRow

_PAGE = 200
"""Rows that are read at once: other reads wait no longer than for these."""

_NAMES = 500

_REFERRING: dict[str, tuple[str | int, ...]] = {
    "runs": ("",),
    "actions": ("", ""),
    "reports": ("", "", -1),
    "cache": ("",),
    "artifacts": ("", "", "", ""),
    "tasks": ("", "", "", ""),
    "app_versions": ("", "", "", ""),
    "apps": ("", "", ""),
    "deployments": ("",),
    "images": ("",),
    "triggers": ("", "", "", ""),
}
"""Table → a key that is before all others."""

NAME_NOTHING = ("run_keys", "attempts", "current_tasks", "secrets", "keys", "projects", "events")
"""The other tables: no blob and no file is in use because it is named there."""


class References:
    """These reads; `Store` is made of them and of `Reads`."""

    _reader: Reader
    _queries: Queries

    async def referring(self) -> AsyncIterator[tuple[str, tuple[Any, ...], bytes]]:
        """The table, the key and the text of all rows, in which whatever is in use is named."""
        for table, first in _REFERRING.items():
            after: Sequence[Any] = first
            while rows := await self._page(table, after):
                for row in rows:
                    yield table, tuple(row[: len(first)]), b"\n".join(map(_bytes, row))
                if len(rows) < _PAGE:
                    break
                after = rows[-1][: len(first)]

    async def _page(self, table: str, after: Sequence[Any]) -> list[Any]:
        sql = self._queries[f"referring_{table}"]
        values = {"limit": _PAGE, **{f"after{at}": value for at, value in enumerate(after)}}
        return await self._reader.read(lambda session: list(session.rows(sql, values)))

    async def runs_ended(self, before: float, limit: int) -> list[RunRow]:
        """The runs that ended before that time, those that ended first."""
        return await self._found(tables.RUNS, "runs_ended", before, limit)

    async def unused_tasks(self, before: float, limit: int) -> list[TaskRow]:
        """The versions from before that time that are not current, and that no run has run which ended after it."""
        return await self._found(tables.TASKS, "unused_tasks", before, limit)

    async def _found(self, table: tables.Table[tables.R], query: str, before: float, limit: int) -> list[tables.R]:
        sql, values = self._queries[query], {"before": before, "limit": limit}
        return await self._reader.read(lambda session: [table.row(row) for row in session.rows(sql, values)])

    async def run_names(self, names: Collection[str]) -> set[str]:
        """Those of the names that are names of stored runs."""
        found: set[str] = set()
        wanted = sorted(names)
        for at in range(0, len(wanted), _NAMES):
            some = {f"name{n}": tables.clean(name) for n, name in enumerate(wanted[at : at + _NAMES])}
            sql = self._queries.compose("run_names", names=", ".join(f":{name}" for name in some))
            rows = await self._reader.read(lambda session, sql=sql, some=some: session.rows(sql, some))  # type: ignore[misc]
            found.update(row[0] for row in rows)
        return found


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
