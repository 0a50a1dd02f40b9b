"""Several changes, combined into the statements of one transaction.

Of an action's rows only the last is written; every event is written. An action's writes in one batch form a chain: the
`was` of the first is compared with the database, the `was` of each later one with the row before it. If anything does
not fit, Mismatch is raised and the transaction has to be rolled back; the writer then finds the change that caused it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from flyte.wire import TERMINAL
from tarmac.store.changes import ActionWrite, Change, Delete, Was
from tarmac.store.database import Session
from tarmac.store.queries import Queries
from tarmac.store.rows import ActionRow, AttemptRow, CacheRow, ReportRow, RunRow
from tarmac.store.tables import (
    ACTIONS,
    ATTEMPTS,
    CACHE,
    EVENTS,
    REPORTS,
    RUN_KEYS,
    RUNS,
    TABLES,
    TASKS,
    Values,
    clean,
)

_REPLACED = (
    "current_tasks",
    "apps",
    "app_versions",
    "deployments",
    "images",
    "secrets",
    "keys",
    "projects",
    "artifacts",
    "triggers",
)
"""Fields of Change, and tables, whose rows replace the stored row with the same key."""

_COUNTED = ("add_run", "add_label", "add_run_key", "add_task", "add_event")
"""Statements that must write every row they are given."""

_INDEXED = 200
"""Longest label, in bytes, that is indexed as text; PostgreSQL's indexes take no long text."""


class Mismatch(Exception):
    """A change does not fit what is stored, or another one of its batch."""


class Batch:
    def __init__(self, changes: Iterable[Change], queries: Queries) -> None:
        self._queries = queries
        self._actions: dict[tuple[str, str], tuple[Was | None, ActionRow]] = {}
        self._attempts: dict[tuple[str, str, int], AttemptRow] = {}
        self._reports: dict[tuple[str, str, int], ReportRow] = {}
        self._cache: dict[str, CacheRow] = {}
        self._counted: dict[str, list[Values]] = {name: [] for name in _COUNTED}
        self._rare: list[tuple[str, Values]] = []
        for change in changes:
            self._add(change)

    def _add(self, change: Change) -> None:
        for delete in change.deletes:
            self._delete(delete)
        for run in change.removed_runs:
            self._remove(run)
        for run in change.runs:
            self._counted["add_run"].append(RUNS.values(run))
            self._counted["add_label"] += labels(run)
        self._counted["add_run_key"] += map(RUN_KEYS.values, change.run_keys)
        for task in change.tasks:
            self._counted["add_task"].append({**TASKS.values(task), "function": clean(task.name.rpartition(".")[2])})
        for write in change.actions:
            self._chain(write)
        for attempt in change.attempts:
            self._attempts[attempt.run, attempt.action, attempt.number] = attempt
        for report in change.reports:
            self._reports[report.run, report.action, report.attempt] = report
        for result in change.cache:
            self._cache[result.key] = result
        self._counted["add_event"] += map(EVENTS.values, change.events)
        for table in _REPLACED:
            for row in getattr(change, table):
                self._rare.append((f"put_{table}", TABLES[table].values(row)))

    def _chain(self, write: ActionWrite) -> None:
        row, was = write.row, write.was
        key = (row.run, row.name)
        before = self._actions.get(key)
        if before is not None:
            first, last = before
            if was != (last.attempt, last.phase):
                raise Mismatch(key)
            self._actions[key] = (first, row)
        else:
            self._actions[key] = (was, row)
        if was is not None and was[1] in TERMINAL:
            raise Mismatch(key)

    def _delete(self, delete: Delete) -> None:
        key = {f"key{at}": clean(part) for at, part in enumerate(delete.key)}
        self._rare.append((f"delete_{delete.table}", key))
        if delete.table == "apps":
            self._rare.append(("delete_versions_of_app", key))

    def _remove(self, run: RunRow) -> None:
        name = clean(run.name)
        self._rare += [("delete_label", label) for label in labels(run)]
        self._rare += [(f"delete_{part}_of_run", {"name": name}) for part in ("keys", "actions", "attempts", "reports")]
        self._rare += [("delete_events_of_run", {"stream": f"run/{name}"}), ("delete_run", {"name": name})]

    def apply(self, session: Session) -> None:
        """Write everything, in the transaction that is open. Raises Mismatch."""
        queries = self._queries
        for name in _COUNTED:
            self._write(session, name, self._counted[name])
        inserts = [ACTIONS.values(row) for was, row in self._actions.values() if was is None]
        moves = [_moved(was, row) for was, row in self._actions.values() if was is not None]
        self._write(session, "add_action", inserts)
        self._write(session, "move_action", moves)
        if self._attempts:
            session.many(queries["put_attempt"], [ATTEMPTS.values(row) for row in self._attempts.values()])
        if self._reports:
            session.many(queries["put_report"], [REPORTS.values(row) for row in self._reports.values()])
        if self._cache:
            session.many(queries["put_cache"], [CACHE.values(row) for row in self._cache.values()])
        for name, values in self._rare:
            session.many(queries[name], [values])

    def _write(self, session: Session, name: str, values: Sequence[Values]) -> None:
        if values and session.many(self._queries[name], values) != len(values):
            raise Mismatch(name)


def _moved(was: Was, row: ActionRow) -> Values:
    values = ACTIONS.values(row)
    values["was_attempt"], values["was_phase"] = was[0], was[1].value
    return values


def scope_key(project: str, domain: str) -> str:
    """Project and domain as one indexed text."""
    return f"{project}/{domain}"


def labels(run: RunRow) -> list[Values]:
    """The rows by which a run is found by its labels."""
    place = {"scope": clean(scope_key(run.project, run.domain)), "created": run.created, "run": clean(run.name)}
    return [{**place, "label": indexed(label), "value": indexed(value)} for label, value in run.labels.items()]


def indexed(text: str) -> str:
    """The form of `text` in the index: long texts by their hash."""
    data = text.encode("utf-8", "replace")
    return (clean(text) or "") if len(data) <= _INDEXED else "sha256:" + hashlib.sha256(data).hexdigest()


def reason(change: Change, session: Session, queries: Queries) -> str:
    """Why a change does not fit; for the message of Conflict."""
    for write in change.actions:
        row, was = write.row, write.was
        stored = _stored(row, session, queries)
        wanted = "new" if was is None else f"{was[1]}, attempt {was[0]}"
        is_terminal = stored is not None and stored[1] in TERMINAL
        if stored != was or is_terminal:
            found = "not stored" if stored is None else f"{stored[1]}, attempt {stored[0]}"
            return f"action {row.run}/{row.name} should be {wanted} to become {row.phase}; it is {found}"
    names = [f"run {run.name}" for run in change.runs]
    names += [f"idempotency key {key.idempotency_key}" for key in change.run_keys]
    names += [f"task {task.name} {task.version}" for task in change.tasks]
    names += [f"event {event.seq}" for event in change.events]
    return f"one of these is stored already, with other content: {', '.join(names[:5]) or 'nothing'}"


def _stored(row: ActionRow, session: Session, queries: Queries) -> Was | None:
    found: list[Any] = session.rows(queries["action"], {"run": clean(row.run), "name": clean(row.name)})
    if not found:
        return None
    action = ACTIONS.row(found[0])
    return action.attempt, action.phase
