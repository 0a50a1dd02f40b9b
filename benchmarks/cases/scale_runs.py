"""A million finished runs in the store, beside a platform that has next to none: list, get, start, `flyte up`.

Three real runs are made; then, with the platform down, their rows are copied with SQL, with other names and times.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from benchmarks import console, house, size
from benchmarks.sample import Sample, Samples, interleave

_SPAN = 90 * 86400.0
"""Seconds over which the runs were created."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Runs of which there are many copies."""

    task: str
    phase: str
    team: str
    """Value of their label `team`."""
    count: int


def scale_runs() -> list[Sample]:
    sample = Samples("scale-runs")
    kinds = (
        Kind("bench-reused.add_again", "succeeded", "many", size.of(899_000, 18_000)),
        Kind("bench-reused.fails", "failed", "some", size.of(100_000, 1900)),
        Kind("bench-fresh.add", "succeeded", "few", size.of(1000, 100)),
    )
    full, empty = (house.environment(house.new_home()) for _ in range(2))
    for env in (empty, full):
        with house.up(env):
            house.deploy(env, "trivial.py")
            templates = [house.run(env, kind.task, {"x": 1}, {"team": kind.team}) for kind in kinds]
    assert [run["phase"] for run in templates] == [kind.phase for kind in kinds], templates
    with sample("writing the runs, with SQL", "s").timed(1):
        _fill(full, {run["name"]: kind for run, kind in zip(templates, kinds, strict=True)})
    sample("size of the database", "MB").values.append(house.database(full).stat().st_size / 1e6)
    _start_both(sample, {"ours, many runs": full, "empty platform": empty})
    with house.up(full), house.up(empty):
        _start_runs(sample, {"ours, many runs": full, "empty platform": empty})
        _lists(sample, full, sum(kind.count for kind in kinds))
        _memory(sample, {"ours, many runs": full, "empty platform": empty})
    return sample.all()


def _start_both(sample: Samples, platforms: dict[str, dict[str, str]]) -> None:
    def turn(who: str) -> None:
        with sample(f"{who}: flyte up until ready").timed():
            house.flyte("up", "--port", "0", env=platforms[who])
        house.flyte("down", env=platforms[who])

    interleave(size.rounds(3), {who: lambda who=who: turn(who) for who in platforms})


def _start_runs(sample: Samples, platforms: dict[str, dict[str, str]]) -> None:
    """By plain HTTP, until the value is there."""

    def turn(who: str) -> None:
        for number in range(size.of(100, 10)):
            started = sample(f"{who}: start one → result") if number >= 5 else Sample("", "", "ms")
            with started.timed():
                run = house.run(platforms[who], "bench-reused.add_again", {"x": number})
            assert (run["phase"], run["outputs"]) == ("succeeded", [number + 1]), run

    interleave(size.rounds(3), {who: lambda who=who: turn(who) for who in platforms})


def _memory(sample: Samples, platforms: dict[str, dict[str, str]]) -> None:
    for who, env in platforms.items():
        sample(f"{who}: control plane, PSS", "MB").values.append(house.memory(env)["control"])


# ------------------------------------------------------------------------------------------------------------ reading


Check = Callable[[list[dict[str, Any]]], bool]

_LISTS: dict[str, tuple[str, Check]] = {
    "first page": ("", lambda runs: len(runs) == 100),
    "next page": ("created_before=BEFORE", lambda runs: len(runs) == 100),
    "of a task with many": ("task=bench-reused.add_again", lambda runs: len(runs) == 100),
    "of a task with few": (
        "task=bench-fresh.add",
        lambda runs: len(runs) == 100 and {run["task"] for run in runs} == {"bench-fresh.add"},
    ),
    "failed": ("phase=failed", lambda runs: len(runs) == 100 and {run["phase"] for run in runs} == {"failed"}),
    "running, which is none": ("phase=running", lambda runs: runs == []),
    "by a label of many": ("label=team=many", lambda runs: len(runs) == 100),
    "by a label of few": (
        "label=team=few",
        lambda runs: len(runs) == 100 and {run["labels"]["team"] for run in runs} == {"few"},
    ),
    "of a task with few, by phase": (
        "task=bench-fresh.add&phase=succeeded",
        lambda runs: len(runs) == 100 and {run["task"] for run in runs} == {"bench-fresh.add"},
    ),
    "failed, by a label of few, which is none": ("phase=failed&label=team=few", lambda runs: runs == []),
}


def _lists(sample: Samples, env: dict[str, str], count: int) -> None:
    newest = house.ask(env, "/v1/runs?limit=100")
    middle = newest[50]["created"] - random.Random(1).uniform(0.2, 0.8) * _SPAN

    def listed(name: str) -> None:
        query, check = _LISTS[name]
        with sample(f"ours, many runs: list, {name}").timed():
            runs = house.ask(env, f"/v1/runs?limit=100&{query.replace('BEFORE', str(middle))}")
        assert check(runs), (name, runs[:2])

    def got() -> None:
        name = f"r{random.randrange(count // 2):08d}{'0' * 11}"
        with sample("ours, many runs: get one").timed():
            run = house.ask(env, f"/v1/runs/{name}")
        assert (run["name"], run["outputs"]) == (name, [2]), run

    turns: dict[str, Callable[[], object]] = {name: lambda name=name: listed(name) for name in _LISTS}
    turns |= {"get": got, "page": lambda: asyncio.run(_page(env, newest[0], sample("ours, many runs: console's list")))}
    interleave(size.of(30, 2), turns)


async def _page(env: dict[str, str], run: dict[str, Any], sample: Sample) -> None:
    async with console.signed_in(env) as session:
        await console.page(session, console.runs(run), run["name"], sample)


# ------------------------------------------------------------------------------------------------------------ writing

_TABLES = {"runs": "name", "run_labels": "run", "actions": "run", "attempts": "run", "events": "stream"}
"""Every table that has rows of a run, and where its name stands in them."""


def _fill(env: dict[str, str], kinds: dict[str, Kind]) -> None:
    """Copies of the runs, of each kind as many as it says, spread over _SPAN before them."""
    with closing(sqlite3.connect(house.database(env), isolation_level=None)) as database:
        for pragma in ("journal_mode=off", "synchronous=off", "cache_size=-500000", "temp_store=memory"):
            database.execute(f"pragma {pragma}")
        first = 0
        for run, kind in kinds.items():
            database.execute("begin")
            for table in _TABLES:
                _copy(database, table, run, kind.count, first)
            database.execute("commit")
            first += kind.count
        (count,) = database.execute("select count(*) from runs join actions on run = runs.name").fetchone()
        assert count == first + len(kinds), count
        database.execute("pragma journal_mode=wal")


def _copy(database: sqlite3.Connection, table: str, run: str, count: int, first: int) -> None:
    """`count` copies of the run's rows in `table`; the run's copies are numbered from `first` on."""
    key = _TABLES[table]
    old = f"run/{run}" if table == "events" else run
    database.execute("drop table if exists temp.template")
    database.execute(f"create temp table template as select * from {table} where {key} = ?", (old,))
    columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
    rows = database.execute("select count(*) from template").fetchone()[0]
    assert rows, f"{run} has no rows in {table}"
    new = f"('r' || printf('%08d', i + {first}) || '{'0' * 11}')"
    # as old as the number says; the newest copy is a minute older than the original
    shift = f"({_SPAN / count} * (i - {count}) - 60)"
    changed = {
        key: f"'run/' || {new}" if table == "events" else new,
        **{name: f"t.{name} + {shift}" for name in ("created", "started", "ended", "at") if name in columns},
        "seq": f"{_last(database)} + i * {rows} + t.seq - (select min(seq) from template) + 1"
        if table == "events"
        else "",
        "body": f"replace(t.body, '{run}', {new})",
    }
    values = ", ".join(changed.get(name) or f"t.{name}" for name in columns)
    database.execute(
        f"insert into {table} ({', '.join(columns)}) "
        f"with recursive n(i) as (select 0 union all select i + 1 from n where i < {count - 1}) "
        f"select {values} from n cross join template t"
    )


def _last(database: sqlite3.Connection) -> int:
    return int(database.execute("select max(seq) from events").fetchone()[0])
