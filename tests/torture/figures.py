"""What came of a round: its numbers, and every promise that was broken."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

from tests.torture import checking, evidence, printing, story
from tests.torture.round import Round
from tests.torture.story import Rows, Story


def figures(done: Round, url: str) -> dict[str, Any]:
    """`url` is the database's; empty is SQLite."""
    with checking.rows_of(done.platform.home, url) as rows:
        return _figures(done, rows, is_sqlite=not url)


def _figures(done: Round, rows: Rows, is_sqlite: bool) -> dict[str, Any]:
    load, killer, pinger, platform = done.load, done.killer, done.pinger, done.platform
    names = [run.name for run in load.started]
    kinds = {run.name: run.order.kind for run in load.started}
    told = story.tell(rows, platform.work / "notes.d", killer.victims.pids, kinds)
    found = [*load.failures, *killer.violations, *pinger.violations, *done.stuck, *load.wrong()]
    found += checking.violations(rows, names, is_sqlite)
    found += evidence.violations(told)
    found += printing.violations(told, platform.home / "logs" / "runs")
    return {
        "database": "sqlite" if is_sqlite else "postgresql",
        "runs": len(names),
        "actions": rows("select count(*) from actions")[0][0],
        "events": rows("select count(*) from events")[0][0],
        "attempts lost with their worker": rows("select sum(system_failures) from actions")[0][0],
        "kills": {kind: times for kind, times in sorted(killer.counts.items()) if times},
        "recovery seconds": {kind: _spread(times) for kind, times in sorted(killer.recoveries.items())},
        "requests to the app": pinger.requests,
        "of these failed while HAProxy, the agent or the replica was dead": pinger.failed,
        "transitions seen": {f"{old} → {new}": n for (old, new), n in sorted(checking.transitions(rows).items())},
        **_looked_at(told),
        "violations": found,
    }


def _looked_at(told: Story) -> dict[str, Any]:
    """How much there was for the checks to look at: a check that sees nothing proves nothing."""
    words = Counter(note.word for note in told.notes)
    return {
        "runs of each kind": dict(sorted(Counter(told.kinds.values()).items())),
        "attempts that ran": words["began"],
        "attempts lost": sum(attempt.error["kind"] == "system" for attempt in told.failed),
        "of these lost before they noted anything": evidence.unexplained_silence(told),
        "steps recorded": words["kept"],
        "results computed for the cache": sum(action.cache == "populated" for action in told.actions),
        "results found in the cache": sum(action.cache == "hit" for action in told.actions),
        "notes of printed lines": words["said"],
    }


def _spread(times: list[float]) -> dict[str, float | int]:
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return {"n": len(times), "p50": round(statistics.median(times), 2), "p95": round(p95, 2)}
