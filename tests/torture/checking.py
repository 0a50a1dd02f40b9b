"""What must hold after everything, read from the database itself once the platform is down."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby, pairwise
from pathlib import Path

from flyte.phases import TRANSITIONS
from flyte.wire import TERMINAL
from tests.torture.story import Rows

_OVER = frozenset(phase.value for phase in TERMINAL)
_LEGAL = frozenset((row.old.value, row.new.value) for row in TRANSITIONS)


@contextmanager
def rows_of(home: Path, url: str) -> Iterator[Rows]:
    """A function that asks the database."""
    if not url:
        with closing(sqlite3.connect(f"file:{home / 'tarmac.db'}?mode=ro", uri=True)) as connection:
            yield lambda sql: connection.execute(sql).fetchall()
        return
    import psycopg

    with psycopg.connect(url, autocommit=True) as server:
        yield lambda sql: server.execute(sql).fetchall()


def violations(rows: Rows, names: Iterable[str], is_sqlite: bool) -> list[str]:
    """Every promise that was broken, in words."""
    return [
        *_integrity(rows, is_sqlite),
        *_lost(rows, names),
        *_unfinished(rows),
        *_gaps(rows),
        *_terminal_twice(rows),
        *_illegal_moves(rows),
    ]


def _integrity(rows: Rows, is_sqlite: bool) -> list[str]:
    if not is_sqlite:
        return []
    found = [row[0] for row in rows("pragma integrity_check")]
    return [] if found == ["ok"] else [f"the database is damaged: {found[:3]}"]


def _lost(rows: Rows, names: Iterable[str]) -> list[str]:
    stored = Counter(row[0] for row in rows("select name from runs"))
    rooted = {row[0] for row in rows("select run from actions where name = 'a0'")}
    return [f"run {name} was acknowledged and is not stored" for name in names if name not in stored] + [
        f"run {name} has no root action" for name in stored if name not in rooted
    ]


def _unfinished(rows: Rows) -> list[str]:
    left = rows("select run, name, phase from actions")
    return [f"action {run}/{name} is {phase} for ever" for run, name, phase in left if phase not in _OVER]


def _gaps(rows: Rows) -> list[str]:
    numbers = [row[0] for row in rows("select seq from events order by seq")]
    missing = [f"{a + 1}-{b - 1}" for a, b in pairwise(numbers) if b != a + 1]
    return [f"the event log has gaps: {missing[:5]}"] if missing else []


def _histories(rows: Rows) -> Iterable[tuple[tuple[str, str], list[str]]]:
    events = rows("select stream, member, phase from events where stream like 'run/%' order by stream, member, seq")
    for subject, group in groupby(events, lambda row: (row[0], row[1])):
        yield subject, [phase for _, _, phase in group]


def _terminal_twice(rows: Rows) -> list[str]:
    found = []
    for (stream, member), phases in _histories(rows):
        ends = [phase for phase in phases if phase in _OVER]
        if len(ends) > 1 or (ends and phases[-1] not in _OVER):
            found.append(f"{stream}/{member} went through {phases}")
    return found


def transitions(rows: Rows) -> Counter[tuple[str, str]]:
    """How often an action went from one phase to another."""
    seen: Counter[tuple[str, str]] = Counter()
    for _, phases in _histories(rows):
        seen.update((old, new) for old, new in pairwise(phases) if old != new)
    return seen


def _illegal_moves(rows: Rows) -> list[str]:
    """Two moves that one commit holds leave one event each, so every pair of neighbours must be a row of the table.

    A control plane that restarts puts what was `initializing` back into the queue without a word.
    """
    quiet = {("initializing", "initializing"), ("queued", "queued")}
    return [
        f"an action went from {old} to {new}, {count} times"
        for (old, new), count in transitions(rows).items()
        if (old, new) not in _LEGAL | quiet
    ]
