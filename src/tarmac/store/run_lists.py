"""Lists of runs.

One of three walks, each along an index in the order of the list, so that a page costs what is on it: by label, by
phase (one walk for each, merged), or by time within project, task or version. Succeeded runs are most of them: for
those of one task the task's own order is walked, and the phase is only looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flyte.errors import RunNotFoundError
from flyte.wire import ActionPhase, RunFilter, Scope
from tarmac.store import tables
from tarmac.store.batch import indexed, scope_key
from tarmac.store.database import Session
from tarmac.store.queries import Queries, part
from tarmac.store.rows import WholeRun
from tarmac.store.tables import Values, clean, plain

_RUN_WIDTH = len(tables.RUNS.columns)

_LIKE = re.compile("[!%_]")
"""The characters with a meaning in a pattern of `like`."""


def whole_run(row: Sequence[Any]) -> WholeRun:
    return WholeRun(tables.RUNS.row(row[:_RUN_WIDTH]), tables.ACTIONS.row(row[_RUN_WIDTH:-1]), row[-1])


def _like(part: str) -> str:
    """The pattern for texts that contain `part`."""
    quoted = _LIKE.sub(r"!\g<0>", part.lower())
    return f"%{quoted}%"


def list_runs(session: Session, queries: Queries, chosen: RunFilter, values: Values) -> list[WholeRun]:
    page = None if chosen.before_run is None else _place(session, queries, chosen.before_run)
    if chosen.labels:
        return _walk(session, queries, "runs_labelled", chosen, values, page)
    succeeded = ActionPhase.SUCCEEDED in chosen.phases
    if chosen.phases and not (succeeded and (chosen.task or chosen.version)):
        found: list[WholeRun] = []
        for phase in dict.fromkeys(chosen.phases):
            found += _walk(session, queries, "runs_in_phase", chosen, {**values, "phase": phase.value}, page)
        found.sort(key=lambda listed: (listed.root.created, listed.run.name), reverse=True)
        return found[: chosen.limit]
    return _walk(session, queries, "runs", chosen, values, page)


def _walk(
    session: Session,
    queries: Queries,
    walk: str,
    chosen: RunFilter,
    values: Values,
    page: tuple[float, float] | None,
) -> list[WholeRun]:
    by_root = walk == "runs_in_phase"
    filters = _filters(walk, chosen)
    if page is not None:
        filters.append(part("runs_page"))
        values = {**values, "page_at": page[1] if by_root else page[0], "page_by": chosen.before_run}
    alias = {"runs": ("r.created", "r.name"), "runs_in_phase": ("a.created", "a.run")}
    at, by = alias.get(walk, ("l.created", "l.run"))
    sql = queries.compose(walk, filters, at=at, by=by, phases=phase_names(chosen.phases))
    return [whole_run(row) for row in session.rows(sql, values)]


def _filters(walk: str, chosen: RunFilter) -> list[str]:
    parts = {
        "runs_of_task": chosen.task is not None,
        "runs_of_tasks_like": chosen.task_contains is not None,
        "runs_of_version": chosen.version is not None,
        "runs_of_phases": bool(chosen.phases) and walk != "runs_in_phase",
        "runs_after": chosen.created_after is not None,
        "runs_before": chosen.created_before is not None,
    }
    more_labels = [part("runs_with_label", n=str(n)) for n in range(1, len(chosen.labels))]
    return [*(part(name) for name, wanted in parts.items() if wanted), *more_labels]


def values_of(scope: Scope, chosen: RunFilter) -> Values:
    values: Values = {
        "project": scope.project,
        "domain": scope.domain,
        "scope": scope_key(scope.project, scope.domain),
        "task": chosen.task,
        "task_like": None if chosen.task_contains is None else _like(chosen.task_contains),
        "version": chosen.version,
        "created_after": chosen.created_after,
        "created_before": chosen.created_before,
        "limit": chosen.limit,
    }
    for n, (label, value) in enumerate(chosen.labels.items()):
        values[f"label{n}"], values[f"value{n}"] = indexed(label), indexed(value)
    return plain({**values, **phase_values(chosen.phases)})


def phase_names(phases: Sequence[ActionPhase]) -> str:
    """The parameters of a filter by phases."""
    return ", ".join(f":phase{n}" for n in range(len(phases)))


def phase_values(phases: Sequence[ActionPhase]) -> Values:
    return {f"phase{n}": phase.value for n, phase in enumerate(phases)}


def _place(session: Session, queries: Queries, name: str) -> tuple[float, float]:
    """When a run, and its root action, were made."""
    found = session.rows(queries["run_place"], {"name": clean(name)})
    if not found:
        raise RunNotFoundError(f"no run named {name!r}; the list cannot go on after it")
    return found[0][0], found[0][1]
