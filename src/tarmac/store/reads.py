"""All reads of the store. Each method is one question to the reader's thread.

Lists are newest first, except actions, attempts and events, which are oldest first.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from flyte.errors import InvalidInputError
from flyte.wire import EVERY_ACTION, ActionFilter, AppId, DeploymentPhase, Event, RunFilter, Scope
from tarmac.store import run_lists, tables
from tarmac.store.database import Session
from tarmac.store.queries import Queries, part
from tarmac.store.reader import Reader
from tarmac.store.rows import (
    ActionRow,
    AppRow,
    AppVersionRow,
    ArtifactRow,
    AttemptRow,
    CacheRow,
    CurrentTaskRow,
    DeploymentRow,
    ImageRow,
    KeyRow,
    ProjectRow,
    ReportRow,
    RunRow,
    SecretRow,
    Snapshot,
    TaskRow,
    TriggerRow,
    WholeAction,
    WholeRun,
)
from tarmac.store.tables import R, Table, Values, plain

log = logging.getLogger("tarmac.store")

_WHOLE_RUN = re.compile(r"run/[^/]+/")

_KEYS = 500
"""Results of the cache that are asked for in one query."""

T = TypeVar("T")


def _asking(table: Table[R], sql: str, values: Values) -> Callable[[Session], list[R]]:
    return lambda session: [table.row(row) for row in session.rows(sql, values)]


class Reads:
    """The reads; `Store` adds the writes."""

    _reader: Reader
    _queries: Queries
    unreadable: list[tuple[str, str]]
    """The rows that could not be read at the start of the platform: what each is, and why."""

    async def _all(self, table: Table[R], query: str, filters: Iterable[str] = (), **values: Any) -> list[R]:
        """The rows that a query returns; `filters` are names of filters in queries.sql."""
        sql = self._queries.compose(query, map(part, filters))
        chosen = plain(values)
        return await self._reader.read(lambda session: [table.row(row) for row in session.rows(sql, chosen)])

    async def _readable(self, table: Table[R], query: str, what: str) -> list[R]:
        """The rows that a query returns. Rows that cannot be read are left out and added to `unreadable`.

        For the start of the platform, which one damaged row must not prevent.
        """
        sql, unreadable = self._queries[query], self.unreadable

        def read(session: Session) -> list[R]:
            found = []
            for row in session.rows(sql):
                try:
                    found.append(table.row(row))
                except Exception as error:
                    log.exception("a row cannot be read: %s %s", what, row[0])
                    unreadable.append((f"{what} {row[0]}", f"its row cannot be read: {error!r}"))
            return found

        return await self._reader.read(read)

    async def _one(self, table: Table[R], query: str, **values: Any) -> R | None:
        rows = await self._all(table, query, **values)
        return rows[0] if rows else None

    async def _snapshot(self, ask: Callable[[Session], T]) -> Snapshot[T]:
        """The result of `ask` in one read transaction."""
        last_seq = self._queries["last_seq"]

        def read(session: Session) -> Snapshot[T]:
            session.begin_reading()
            try:
                return Snapshot(ask(session), session.rows(last_seq)[0][0])
            finally:
                session.rollback()

        return await self._reader.read(read)

    async def _run(self, query: str, **values: Any) -> Snapshot[WholeRun | None]:
        sql, chosen = self._queries[query], plain(values)
        found = await self._snapshot(lambda session: [run_lists.whole_run(row) for row in session.rows(sql, chosen)])
        return Snapshot(found.found[0] if found.found else None, found.seq)

    # ------------------------------------------------------------------------------------------------------- runs

    async def live_runs(self) -> list[tuple[RunRow, list[ActionRow]]]:
        """The runs that have not ended, oldest first, each with all of its actions; for the start of the platform."""
        runs = await self._readable(tables.RUNS, "live_runs", "run")
        actions = await self._readable(tables.ACTIONS, "live_actions", "an action of run")
        of_run = {name: list(group) for name, group in itertools.groupby(actions, attrgetter("run"))}
        return [(run, of_run.get(run.name, [])) for run in runs]

    async def run(self, name: str) -> Snapshot[WholeRun | None]:
        return await self._run("run", name=name)

    async def run_by_key(self, project: str, domain: str, idempotency_key: str) -> Snapshot[WholeRun | None]:
        return await self._run("run_by_key", project=project, domain=domain, idempotency_key=idempotency_key)

    async def runs(self, scope: Scope, chosen: RunFilter) -> Snapshot[list[WholeRun]]:
        """Raises RunNotFoundError when no run is called `before_run`."""
        queries, values = self._queries, run_lists.values_of(scope, chosen)
        return await self._snapshot(lambda session: run_lists.list_runs(session, queries, chosen, values))

    # ---------------------------------------------------------------------------------------------------- actions

    async def action(self, run: str, name: str) -> ActionRow | None:
        return await self._one(tables.ACTIONS, "action", run=run, name=name)

    async def action_and_attempts(self, run: str, name: str) -> Snapshot[tuple[WholeAction | None, list[AttemptRow]]]:
        sql, values = self._queries["action_and_children"], plain({"run": run, "name": name})
        of_attempts, action = self._queries["attempts"], plain({"run": run, "action": name})

        def ask(session: Session) -> tuple[WholeAction | None, list[AttemptRow]]:
            found = [_whole_action(row) for row in session.rows(sql, values)]
            return found[0] if found else None, [tables.ATTEMPTS.row(row) for row in session.rows(of_attempts, action)]

        return await self._snapshot(ask)

    async def actions(self, run: str, chosen: ActionFilter = EVERY_ACTION) -> Snapshot[list[WholeAction]]:
        """The chosen actions of a run."""
        parts = {"actions_of_parent": chosen.parent is not None, "actions_of_phases": bool(chosen.phases)}
        filters = [part(name) for name, wanted in parts.items() if wanted]
        sql = self._queries.compose("actions", filters, phases=run_lists.phase_names(chosen.phases))
        page: Values = {"limit": chosen.limit, "offset": chosen.offset, **run_lists.phase_values(chosen.phases)}
        values = {**plain({"run": run, "parent": chosen.parent}), **page}
        return await self._snapshot(lambda session: [_whole_action(row) for row in session.rows(sql, values)])

    async def attempts(self, run: str, action: str) -> list[AttemptRow]:
        return await self._all(tables.ATTEMPTS, "attempts", run=run, action=action)

    async def report(self, run: str, action: str, attempt: int | None = None) -> ReportRow | None:
        """The last report of the action, or of its `attempt`."""
        filters = [] if attempt is None else ["report_of_attempt"]
        rows = await self._all(tables.REPORTS, "report", filters, run=run, action=action, attempt=attempt)
        return rows[0] if rows else None

    async def report_time(self, run: str, action: str) -> tuple[int, float] | None:
        """The attempt that the last report of the action is from, and when that was written."""
        sql, values = self._queries["report_time"], plain({"run": run, "action": action})
        rows = await self._reader.read(lambda session: session.rows(sql, values))
        return (rows[0][0], rows[0][1]) if rows else None

    # ------------------------------------------------------------------------------------------------------ cache

    async def cached(self, keys: Sequence[str]) -> list[CacheRow]:
        """The results that are stored under these keys."""
        found: list[CacheRow] = []
        for at in range(0, len(keys), _KEYS):
            some = {f"key{n}": key for n, key in enumerate(keys[at : at + _KEYS])}
            sql = self._queries.compose("cached", keys=", ".join(f":{name}" for name in some))
            found += await self._reader.read(_asking(tables.CACHE, sql, some))
        return found

    async def cache(self, project: str, domain: str, task: str | None = None, limit: int = 100) -> list[CacheRow]:
        """The results of a project and domain, or of one task (full name) there, newest first."""
        filters = ["cache_of_task"] if task is not None else []
        values = {"project": project, "domain": domain, "task": task, "limit": limit}
        return await self._all(tables.CACHE, "cache", filters, **values)

    async def artifacts(self, project: str, domain: str, latest: bool = False, **chosen: Any) -> list[ArtifactRow]:
        """The artifacts with these fields, newest first, or of each name the latest; also limit (100) and offset."""
        kinds = [f"artifacts_by_{key}" for key in ("name", "version", "run", "action", "kind") if chosen.get(key)]
        values = {"project": project, "domain": domain, "limit": 100, "offset": 0, **chosen}
        return await self._all(tables.ARTIFACTS, "artifacts", kinds + ["artifacts_latest"] * latest, **values)

    # ----------------------------------------------------------------------------------------------------- events

    async def events(self, prefix: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """The events after number `after`, of one subject or, with `run/<run>/`, of all actions of a run."""
        whole = prefix.endswith("/")
        stream, member = tables.split_subject(prefix)
        if whole and not _WHOLE_RUN.fullmatch(prefix):
            raise InvalidInputError(f"events are read for a subject or for `run/<run>/`, not for {prefix!r}")
        sql = self._queries["events_of_stream" if whole else "events_of_member"]
        values = plain({"stream": stream, "member": member, "after": after, "limit": limit})
        return await self._reader.read(lambda session: [tables.EVENTS.row(row) for row in session.rows(sql, values)])

    # ------------------------------------------------------------------------------------------------------ tasks

    async def task(self, project: str, domain: str, name: str, version: str) -> TaskRow | None:
        return await self._one(tables.TASKS, "task", project=project, domain=domain, name=name, version=version)

    async def task_versions(self, project: str, domain: str, name: str, limit: int = 100) -> list[TaskRow]:
        return await self._all(tables.TASKS, "task_versions", project=project, domain=domain, name=name, limit=limit)

    async def current_task(self, project: str, domain: str, name: str) -> TaskRow | None:
        """The current version of a task; `name` is its full name."""
        return await self._one(tables.TASKS, "current_task", project=project, domain=domain, name=name)

    async def current_tasks(self, project: str, domain: str) -> list[CurrentTaskRow]:
        """Task name → its current version."""
        return await self._all(tables.CURRENT_TASKS, "current_tasks", project=project, domain=domain)

    async def deployed_tasks(self) -> list[TaskRow]:
        """The current versions of all tasks that were deployed, of all projects."""
        return await self._all(tables.TASKS, "deployed_tasks")

    async def tasks_by_short_name(
        self, project: str, domain: str, function: str, version: str | None = None, limit: int = 100
    ) -> list[TaskRow]:
        """The tasks whose name ends with `.function`: the current version of each first, then the others."""
        filters = ["tasks_of_version"] if version is not None else []
        values = {"project": project, "domain": domain, "function": function, "version": version, "limit": limit}
        return await self._all(tables.TASKS, "tasks_by_short_name", filters, **values)

    async def tasks(
        self, project: str, domain: str, name: str | None = None, env: str | None = None, limit: int = 100
    ) -> list[TaskRow]:
        """The current version of each task, latest change first; `name` is full or the function's."""
        filters = [*(["tasks_named"] if name else ()), *(["tasks_of_environment"] if env else ())]
        values = {"project": project, "domain": domain, "name": name, "environment": env, "limit": limit}
        return await self._all(tables.TASKS, "tasks", filters, **values)

    # ------------------------------------------------------------------------------------ apps, deployments, others

    async def apps(self, project: str | None = None, domain: str | None = None) -> list[AppRow]:
        filters = _scoped(project, domain)
        return await self._all(tables.APPS, "apps", filters, project=project, domain=domain)

    async def app_version(self, app: AppId, version: str) -> AppVersionRow | None:
        return await self._one(tables.APP_VERSIONS, "app_version", **app._asdict(), version=version)

    async def app_versions(self, app: AppId, limit: int = 100) -> list[AppVersionRow]:
        return await self._all(tables.APP_VERSIONS, "app_versions", **app._asdict(), limit=limit)

    async def deployment(self, id: str) -> DeploymentRow | None:
        return await self._one(tables.DEPLOYMENTS, "deployment", id=id)

    async def deployments(
        self,
        phase: DeploymentPhase | None = None,
        project: str | None = None,
        domain: str | None = None,
        limit: int = 100,
    ) -> list[DeploymentRow]:
        filters = [*(["deployments_of_phase"] if phase else ()), *_scoped(project, domain)]
        values = {"phase": phase.value if phase else None, "project": project, "domain": domain, "limit": limit}
        return await self._all(tables.DEPLOYMENTS, "deployments", filters, **values)

    async def secret(self, project: str, domain: str, name: str) -> SecretRow | None:
        return await self._one(tables.SECRETS, "secret", project=project, domain=domain, name=name)

    async def secrets(self, project: str, domain: str) -> list[SecretRow]:
        """By name."""
        return await self._all(tables.SECRETS, "secrets", project=project, domain=domain)

    async def keys(self) -> list[KeyRow]:
        return await self._readable(tables.KEYS, "keys", "API key")

    async def images(self) -> list[ImageRow]:
        """Those that were asked for last come first."""
        return await self._all(tables.IMAGES, "images")

    async def triggers(self) -> list[TriggerRow]:
        return await self._all(tables.TRIGGERS, "triggers")

    async def projects(self) -> list[ProjectRow]:
        """By id."""
        return await self._all(tables.PROJECTS, "projects")


def _whole_action(row: Sequence[Any]) -> WholeAction:
    return WholeAction(tables.ACTIONS.row(row[:-1]), row[-1])


def _scoped(project: str | None, domain: str | None) -> list[str]:
    return [*(["in_project"] if project is not None else ()), *(["in_domain"] if domain is not None else ())]
