"""What a store promises, proven on SQLite and on PostgreSQL. The numbers are those of the eight promises."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest

from flyte.errors import InitializationError, InvalidInputError, RunNotFoundError
from flyte.wire import ActionFilter, ActionPhase, AppStatus, DeploymentPhase, Event, RunFilter, Scope
from tarmac.store import (
    ActionRow,
    ActionWrite,
    AppRow,
    AppVersionRow,
    ArtifactRow,
    AttemptRow,
    CacheRow,
    Change,
    Conflict,
    CurrentTaskRow,
    Delete,
    DeploymentRow,
    KeyRow,
    ProjectRow,
    ReportRow,
    RunKeyRow,
    RunRow,
    SecretRow,
    Store,
    StoreUnavailable,
    TaskRow,
    Unwritable,
    WriterLockLost,
    WriterLockTaken,
    open_store,
)
from tarmac.store.commits import Entry
from tarmac.store.migrate import MIGRATIONS
from tarmac.store.sqlite import SqliteDatabase, SqliteSession

if TYPE_CHECKING:
    from tests.contract.conftest import Place

P = ActionPhase
MIB = 1024 * 1024


# ------------------------------------------------------------------------------------------------------- what is made


def run_row(name: str = "r1", **fields: Any) -> RunRow:
    made: dict[str, Any] = {
        "name": name,
        "project": "shop",
        "domain": "development",
        "task": "env.work",
        "version": "v1",
        "created": 100.0,
        "created_by": "owner",
        "idempotency_key": None,
        "request": b'{"task":"env.work"}',
    }
    return RunRow(**(made | fields))


def action_row(run: str = "r1", name: str = "a0", phase: ActionPhase = P.QUEUED, **fields: Any) -> ActionRow:
    made: dict[str, Any] = {"parent": None, "task": "env.work", "version": "v1", "inputs": b'{"x":1}', "created": 100.0}
    return ActionRow(run=run, name=name, phase=phase, **(made | fields))


def event(seq: int, subject: str = "run/r1/a0", phase: str = "queued", **fields: Any) -> Event:
    return Event(seq=seq, at=100.0 + seq, subject=subject, phase=phase, **fields)


def task_row(name: str = "env.work", version: str = "v1", **fields: Any) -> TaskRow:
    made: dict[str, Any] = {"short_name": "work", "environment": "env", "spec": b"{}", "created": 100.0}
    return TaskRow("shop", "development", name, version, **(made | fields))


def current_row(
    name: str = "env.work", version: str = "v1", since: float = 1.0, deployed: bool = True
) -> CurrentTaskRow:
    return CurrentTaskRow("shop", "development", name, version, since, deployed)


def new_run(name: str, seq: int, phase: ActionPhase = P.QUEUED, **fields: Any) -> Change:
    """A run with its root action, which is where `phase` says, and one event."""
    run = run_row(name, **fields)
    action = action_row(name, phase=phase, created=run.created)
    return Change(runs=(run,), actions=(ActionWrite(action),), events=(event(seq, f"run/{name}/a0", phase.value),))


def moved(row: ActionRow, phase: ActionPhase, seq: int, **fields: Any) -> tuple[ActionRow, Change]:
    """The row in its new phase, and the change that moves it there."""
    new = msgspec.structs.replace(row, phase=phase, **fields)
    write = ActionWrite(new, (row.attempt, row.phase))
    return new, Change(actions=(write,), events=(event(seq, f"run/{row.run}/{row.name}", phase.value),))


async def stored_phases(store: Store, *runs: str) -> list[str | None]:
    actions = [await store.action(run, "a0") for run in runs]
    return [action.phase.value if action else None for action in actions]


async def phases_of(store: Store, subject: str = "run/r1/a0") -> list[str]:
    return [entry.phase for entry in await store.events(subject)]


# ------------------------------------------------------------------------- 1: compare-and-set, and its event with it


async def test_an_action_moves_with_its_event(place: Place) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1))
    row, change = moved(action_row(), P.RUNNING, 2, started=101.0)
    await store.write(change)
    assert await store.action("r1", "a0") == row
    assert await phases_of(store) == ["queued", "running"]


@pytest.mark.parametrize("was", [(1, P.RUNNING), (2, P.QUEUED)])
async def test_an_action_that_is_elsewhere_is_not_moved_and_no_event_is_written(
    place: Place, was: tuple[int, ActionPhase]
) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1))
    change = Change(actions=(ActionWrite(action_row(phase=P.SUCCEEDED), was),), events=(event(2, phase="succeeded"),))
    with pytest.raises(Conflict, match=r"action r1/a0 .*it is queued, attempt 1") as caught:
        await store.write(change)
    assert caught.value.change is change
    assert await stored_phases(store, "r1") == ["queued"]
    assert await phases_of(store) == ["queued"]


async def test_an_action_that_does_not_exist_is_not_moved(place: Place) -> None:
    store = await place.open()
    with pytest.raises(Conflict, match="not stored"):
        await store.write(moved(action_row(), P.RUNNING, 1)[1])


async def test_a_run_an_action_and_an_event_are_created_once(place: Place) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1))
    for again in (
        Change(runs=(run_row(),), events=(event(2),)),
        Change(actions=(ActionWrite(action_row()),), events=(event(2),)),
        Change(events=(event(2), event(1))),
    ):
        with pytest.raises(Conflict):
            await store.write(again)
    assert [entry.seq for entry in await store.events("run/r1/")] == [1]


async def test_an_idempotency_key_belongs_to_one_run_of_its_project_and_domain(place: Place) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1, idempotency_key="k"))
    await store.write(new_run("r2", 2, idempotency_key="k", domain="production"))
    with pytest.raises(Conflict):
        await store.write(new_run("r3", 3, idempotency_key="k"))
    found = (await store.run_by_key("shop", "development", "k")).found
    assert found is not None
    assert found.run == run_row("r1", idempotency_key="k")
    assert (await store.run("r3")).found is None


async def test_a_key_that_came_later_finds_the_run_that_it_was_given(place: Place) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1, idempotency_key="k"))
    later = RunKeyRow("shop", "development", "later", "r1")
    await store.write(Change(run_keys=(later,)))
    by_key = [(await store.run_by_key("shop", "development", key)).found for key in ("k", "later")]
    assert [whole.run.name for whole in by_key if whole] == ["r1", "r1"]
    assert (await store.run_by_key("shop", "production", "later")).found is None
    await store.write(new_run("r2", 2))
    with pytest.raises(Conflict, match="idempotency key later"):
        await store.write(Change(run_keys=(replace(later, run="r2"),)))


# --------------------------------------------------------------------------------------------- 1: the epoch's fence


async def test_a_store_whose_epoch_was_taken_writes_nothing_ever_again(place: Place) -> None:
    store = await place.open()
    place.sql("update meta set value = value + 1 where name = 'epoch'")
    for seq in (1, 2):
        with pytest.raises(WriterLockLost, match="another control plane"):
            await store.write(new_run(f"r{seq}", seq))
    place.sql("update meta set value = value - 1 where name = 'epoch'")
    with pytest.raises(WriterLockLost):
        await store.write(new_run("r3", 3))
    assert place.sql("select count(*) from runs") == [(0,)]


async def test_every_store_that_is_opened_has_the_next_epoch(place: Place) -> None:
    first = await place.open()
    await first.close()
    second = await place.open()
    assert (first.epoch, second.epoch) == (1, 2)


async def test_a_second_control_plane_is_refused(place: Place) -> None:
    store = await place.open()
    with pytest.raises(WriterLockTaken, match="flyte down"):
        await place.open(wait=False)
    await store.write(new_run("r1", 1))


async def test_a_second_control_plane_stands_by_and_goes_on_where_the_first_one_ended(place: Place) -> None:
    first = await place.open()
    standby = asyncio.create_task(place.open(wait=True))
    await first.write(new_run("r1", 1))
    assert not standby.done()
    await first.close()
    async with asyncio.timeout(10):
        second = await standby
    assert (second.epoch, second.last_seq) == (2, 1)
    assert await stored_phases(second, "r1") == ["queued"]


async def test_who_stands_by_can_be_cancelled(place: Place) -> None:
    store = await place.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await place.open(wait=True)
    await store.close()
    await place.open(wait=False)


# --------------------------------------------------------------------------- 2 and 3: attempts fence, terminal stays


async def test_a_worker_that_lost_its_attempt_cannot_finish_the_action(place: Place) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1))
    first, change = moved(action_row(), P.RUNNING, 2)
    await store.write(change)
    await store.write(moved(first, P.QUEUED, 3, attempt=2)[1])
    await store.write(moved(msgspec.structs.replace(first, attempt=2, phase=P.QUEUED), P.RUNNING, 4)[1])
    with pytest.raises(Conflict):
        await store.write(moved(first, P.SUCCEEDED, 5, outputs=b"[1]")[1])
    assert await phases_of(store) == ["queued", "running", "queued", "running"]


@pytest.mark.parametrize("end", [phase for phase in P if phase.is_terminal])
async def test_terminal_is_terminal(place: Place, end: ActionPhase) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1, end))
    for seq, phase in enumerate(P, start=2):
        with pytest.raises(Conflict):
            await store.write(moved(action_row(phase=end), phase, seq)[1])
    assert await phases_of(store) == [end.value]


async def test_terminal_is_terminal_within_one_batch(place: Place) -> None:
    store = await place.open()
    done, first = moved(action_row(), P.FAILED, 2)
    again = moved(done, P.SUCCEEDED, 3)[1]
    made, ended, refused = [store.write(change) for change in (new_run("r1", 1), first, again)]
    await asyncio.gather(made, ended)
    with pytest.raises(Conflict):
        await refused
    assert await phases_of(store) == ["queued", "failed"]


# --------------------------------------------------------------------------------------------- 4: events, in order


async def test_the_events_of_a_run_are_read_in_order_and_from_any_number_on(place: Place) -> None:
    store = await place.open()
    subjects = ["run/r1/a0", "run/r1/child", "run/r10/a0", "run/r1/a0", "app/shop/development/web", "deployment/d1"]
    written = [event(seq, subject, attempt=1, body={"n": seq}) for seq, subject in enumerate(subjects, start=1)]
    for entry in written:
        await store.write(Change(events=(entry,)))
    assert await store.events("run/r1/") == [written[0], written[1], written[3]]
    assert await store.events("run/r1/", after=1, limit=1) == [written[1]]
    assert await store.events("run/r1/", after=2) == [written[3]]
    assert await store.events("run/r1/a0") == [written[0], written[3]]
    assert await store.events("app/shop/development/web") == [written[4]]
    assert await store.events("deployment/d1") == [written[5]]
    assert await store.events("deployment/d1", after=6) == []


async def test_a_prefix_that_has_no_index_is_refused(place: Place) -> None:
    store = await place.open()
    for prefix in ("run/", "app/shop/", "run/r1/a0/"):
        with pytest.raises(InvalidInputError, match="run/<run>/"):
            await store.events(prefix)


async def test_a_store_knows_the_number_of_the_last_event(place: Place) -> None:
    store = await place.open()
    assert store.last_seq == 0
    await store.write(Change(events=(event(7), event(8))))
    await store.close()
    assert (await place.open()).last_seq == 8


# ------------------------------------------------------------------- 7: what is acknowledged is on disk, group commit


async def test_changes_that_come_together_are_committed_together_and_acknowledged_in_order(place: Place) -> None:
    store = await place.open()
    order: list[int] = []
    futures = [store.write(new_run(f"r{n}", n)) for n in range(1, 1201)]
    for n, future in enumerate(futures, start=1):
        future.add_done_callback(lambda _, n=n: order.append(n))  # type: ignore[misc]
    await asyncio.gather(*futures)
    statistics = await store.statistics()
    assert order == list(range(1, 1201))
    assert statistics.changes == 1200
    assert 3 <= statistics.commits <= 60
    assert statistics.runs == {"queued": 1200}


async def test_of_an_action_the_last_state_is_stored_and_every_event(place: Place) -> None:
    store = await place.open()
    running, start = moved(action_row(), P.RUNNING, 2, started=101.0)
    ended, end = moved(running, P.SUCCEEDED, 3, ended=102.0, outputs=b"[2]", message="done")
    attempts = [Change(attempts=(AttemptRow("r1", "a0", 1, phase, 101.0),)) for phase in (P.RUNNING, P.SUCCEEDED)]
    await asyncio.gather(*map(store.write, (new_run("r1", 1), start, attempts[0], end, attempts[1])))
    assert await store.action("r1", "a0") == ended
    assert await phases_of(store) == ["queued", "running", "succeeded"]
    assert await store.attempts("r1", "a0") == [AttemptRow("r1", "a0", 1, P.SUCCEEDED, 101.0)]


async def test_a_change_that_does_not_fit_hinders_no_other(place: Place) -> None:
    store = await place.open()
    await store.write(new_run("r0", 1))
    changes = [new_run(f"r{n}", n + 1) for n in range(1, 41)]
    changes[20] = moved(action_row("r0", phase=P.RUNNING), P.SUCCEEDED, 22)[1]
    results = await asyncio.gather(*map(store.write, changes), return_exceptions=True)
    assert [n for n, result in enumerate(results) if result is not None] == [20]
    assert isinstance(results[20], Conflict)
    assert results[20].change is changes[20]
    assert (await store.statistics()).runs == {"queued": 40}
    assert place.sql("select count(*) from events") == [(40,)]


async def test_a_chain_that_does_not_fit_breaks_where_it_does_not(place: Place) -> None:
    store = await place.open()
    running, start = moved(action_row(), P.RUNNING, 2)
    stale = moved(action_row(), P.ABORTED, 3)[1]
    end = moved(running, P.SUCCEEDED, 4)[1]
    results = await asyncio.gather(*map(store.write, (new_run("r1", 1), start, stale, end)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), Conflict, type(None)]
    assert await phases_of(store) == ["queued", "running", "succeeded"]


async def test_a_row_that_no_database_takes_fails_alone(place: Place) -> None:
    store = await place.open()
    broken = Change(attempts=(AttemptRow("r1", "a0", 1, P.RUNNING, started="yesterday", error=object()),))  # type: ignore[arg-type]
    results = await asyncio.gather(
        *map(store.write, (new_run("r1", 1), broken, new_run("r2", 2))), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), Unwritable, type(None)]
    assert await stored_phases(store, "r1", "r2") == ["queued", "queued"]


WRITE_UNTIL_KILLED = """
import asyncio, pathlib, sys
from flyte.wire import ActionPhase, Event
from tarmac.store import ActionRow, ActionWrite, Change, RunRow, open_store

async def create(store, seq):
    name = f"r{seq}"
    run = RunRow(name, "p", "development", "t", "v", 1.0, "me", None, b"{}")
    action = ActionRow(run=name, name="a0", parent=None, task="t", version="v", phase=ActionPhase.QUEUED)
    event = Event(seq=seq, at=1.0, subject=f"run/{name}/a0", phase="queued")
    await store.write(Change(runs=(run,), actions=(ActionWrite(action),), events=(event,)))
    print(seq, flush=True)

async def main():
    store = await open_store(sys.argv[1], pathlib.Path(sys.argv[2]))
    seq = 0
    while True:
        async with asyncio.TaskGroup() as group:
            for seq in range(seq + 1, seq + 8):
                group.create_task(create(store, seq))

asyncio.run(main())
"""


async def test_what_was_acknowledged_is_on_disk_after_sigkill(place: Place) -> None:
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, place.url, str(place.path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=dict(os.environ))
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            acknowledged = [int(await process.stdout.readline()) for _ in range(200)]
            process.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in (await process.stdout.read()).split(b"\n")[:-1]]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    store = await place.open()
    assert store.epoch == 2
    assert store.last_seq >= max(acknowledged)
    stored = dict(place.sql("select r.name, a.phase from runs r join actions a on a.run = r.name"))
    events = {row[0] for row in place.sql("select stream from events")}
    assert {f"r{seq}" for seq in acknowledged} <= set(stored)
    assert events == {f"run/{name}" for name in stored}, "a row without its event, or the other way round"


async def test_closing_writes_what_was_handed_over(place: Place) -> None:
    store = await place.open()
    futures = [store.write(new_run(f"r{n}", n)) for n in range(1, 700)]
    await store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.write(new_run("r0", 1000))
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.run("r1")
    await store.close()


# ---------------------------------------------------------------------------------- a database that cannot be used now


async def test_a_full_disk_is_said_clearly_and_loses_nothing_that_was_acknowledged(
    small_place: tuple[Place, Path],
) -> None:
    place, disk = small_place
    store = await place.open(patience=0.2)
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - MIB))
    acknowledged = ["r0"]
    await store.write(new_run("r0", 1))

    async def write_until_it_fails() -> None:
        for n in range(1, 200):
            change = new_run(f"r{n}", n + 1)
            action = msgspec.structs.replace(change.actions[0].row, inputs=os.urandom(50_000))
            await store.write(replace(change, actions=(ActionWrite(action),)))
            acknowledged.append(f"r{n}")

    with pytest.raises(StoreUnavailable) as caught:
        await write_until_it_fails()
    assert "full" in str(caught.value)
    assert str(place.path if place.kind == "sqlite" else "contract_") in str(caught.value)
    assert await stored_phases(store, *acknowledged) == ["queued"] * len(acknowledged)
    filler.unlink()
    await store.write(new_run("after", 1000))
    await store.close()
    again = await place.open()
    assert again.last_seq == 1000
    assert await stored_phases(again, *acknowledged, "after") == ["queued"] * (len(acknowledged) + 1)
    assert place.sql("select count(*) from runs") == [(len(acknowledged) + 1,)]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_nothing_is_written_of_what_came_after_a_change_that_failed_and_before_that_was_heard(
    place: Place,
) -> None:
    """It was decided on what the first change says; what is decided later knows that it failed."""
    store = await place.open(patience=0.2)
    thread = store._writer.thread
    tell = thread.tell
    with contextlib.closing(sqlite3.connect(place.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("begin immediate")

        def tell_and_unlock(entries: Sequence[Entry], error: Exception | None) -> None:
            if entries and other.in_transaction:
                other.execute("rollback")
            tell(entries, error)

        taken, write = threading.Event(), thread.commits.write

        def write_and_say(entries: Sequence[Entry]) -> None:
            taken.set()
            write(entries)

        setattr(thread, "tell", tell_and_unlock)  # noqa: B010 - or mypy would have a say in it
        setattr(thread.commits, "write", write_and_say)  # noqa: B010
        first = store.write(new_run("r1", 1))
        assert await asyncio.to_thread(taken.wait, 30), "the thread has it, and tries for 0.2 seconds"
        second = store.write(new_run("r2", 2))
        for future in (first, second):
            with pytest.raises(StoreUnavailable):
                await future
        await store.write(new_run("r3", 1))
    assert place.sql("select name from runs") == [("r3",)]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_file_that_stays_locked_is_named_and_works_again_later(place: Place) -> None:
    store = await place.open(patience=0.1)
    with contextlib.closing(sqlite3.connect(place.path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(StoreUnavailable, match="another program has it locked") as caught:
            await store.write(new_run("r1", 1))
        other.execute("rollback")
    assert str(place.path) in str(caught.value)
    await store.write(new_run("r1", 1))


async def test_a_short_lock_is_waited_for(place: Place) -> None:
    store = await place.open()
    other: Any = psycopg.connect(place.url) if place.url else sqlite3.connect(place.path, isolation_level=None)
    with contextlib.closing(other):
        other.execute("lock table meta" if place.url else "begin immediate")
        future = store.write(new_run("r1", 1))
        assert (await store.run("r1")).found is None
        other.execute("rollback")
    await future
    assert await stored_phases(store, "r1") == ["queued"]


def end_sessions(place: Place) -> None:
    place.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
class TestPostgres:
    """What only a server can do to us."""

    async def test_a_connection_that_was_ended_is_made_anew(self, place: Place) -> None:
        store = await place.open()
        await store.write(new_run("r1", 1))
        end_sessions(place)
        await store.write(new_run("r2", 2))
        assert await stored_phases(store, "r1", "r2") == ["queued", "queued"]
        with pytest.raises(WriterLockTaken):
            await place.open(wait=False)

    async def test_who_lost_the_connection_to_a_standby_has_lost_the_place(self, place: Place) -> None:
        first = await place.open()
        standby = asyncio.create_task(place.open(wait=True))
        await asyncio.to_thread(_wait_for_sessions, place, 2)
        end_sessions(place)
        async with asyncio.timeout(20):
            second = await standby
            with pytest.raises(WriterLockLost):
                await first.write(new_run("r1", 1))
        await second.write(new_run("r1", 1))

    async def test_a_commit_that_was_not_answered_is_not_done_twice(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tarmac.store.postgres import PostgresSession

        store = await place.open()
        commit = PostgresSession.commit

        def commit_and_lose_the_answer(session: PostgresSession) -> None:
            monkeypatch.setattr(PostgresSession, "commit", commit)
            commit(session)
            session.close()
            raise psycopg.OperationalError("the connection was lost")

        monkeypatch.setattr(PostgresSession, "commit", commit_and_lose_the_answer)
        await store.write(new_run("r1", 1))
        assert await phases_of(store) == ["queued"]

    async def test_a_server_that_is_not_there_is_named_without_its_password(self, tmp_path: Path, place: Place) -> None:
        url = f"postgresql://me:geheim@/shop?host={tmp_path}"
        with pytest.raises(StoreUnavailable, match="PostgreSQL database shop at") as caught:
            await open_store(url, tmp_path / "unused", patience=0.1)
        assert "geheim" not in str(caught.value)


def _wait_for_sessions(place: Place, count: int) -> None:
    """Until that many sessions of stores are there: of who has the place, and of who stands by."""
    asked = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'tarmac'"
    deadline = time.monotonic() + 10
    while place.sql(asked)[0][0] < count:
        assert time.monotonic() < deadline, "the standby did not connect"
        time.sleep(0.02)


# -------------------------------------------------------------------------------------------------------- migrations


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The migrations, and one that is still to come."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    (folder / "9000_weather.sql").write_text(
        "-- a table and a column; with two statements\n"
        "create table weather (day {text} primary key);\n"
        "alter table runs add column weather {text};\n"
    )
    return folder


async def test_an_older_database_is_brought_up_to_date_and_keeps_what_it_has(place: Place, newer: Path) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1))
    await store.close()
    for _ in range(2):
        store = await place.open(migrations=newer)
        assert await stored_phases(store, "r1") == ["queued"]
        await store.close()
    assert place.sql("select number, name from migrations order by number")[-1] == (9000, "9000_weather")
    assert place.sql("select name, weather from runs") == [("r1", None)]


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(place: Place, newer: Path) -> None:
    store = await place.open(migrations=newer)
    await store.close()
    with pytest.raises(InitializationError, match="newer version of the platform"):
        await place.open()
    assert place.sql("select value from meta") == [(1,)]
    await place.open(migrations=newer, wait=False)


async def test_a_migration_that_fails_leaves_the_database_as_it_was(place: Place, newer: Path) -> None:
    store = await place.open()
    await store.close()
    before = place.sql("select number from migrations")
    (newer / "9000_weather.sql").write_text("create table weather (day {text});\ncreate table runs (day {text});\n")
    with pytest.raises(InitializationError, match=r"9000_weather\.sql"):
        await place.open(migrations=newer)
    assert place.sql("select number from migrations") == before
    store = await place.open()
    await store.write(new_run("r1", 1))


async def test_in_an_older_database_the_version_registered_last_is_current(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    shutil.copy(MIGRATIONS / "0001_start.sql", folder)
    store = await place.open(migrations=folder)
    rows = [task_row(version=version, created=created) for version, created in (("a", 2.0), ("b", 3.0), ("c", 1.0))]
    await store.write(Change(tasks=tuple(rows)))
    await store.close()
    store = await place.open()
    assert await store.current_tasks("shop", "development") == [current_row(version="b", since=3.0, deployed=False)]
    assert await store.current_task("shop", "development", "env.work") == rows[1]


async def test_in_an_older_database_the_last_report_of_each_attempt_is_kept_and_leaves_the_events(
    place: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    shutil.copy(MIGRATIONS / "0001_start.sql", folder)
    shutil.copy(MIGRATIONS / "0005_cache.sql", folder)  # today's rows have its columns
    store = await place.open(migrations=folder)
    await store.write(new_run("r1", 1))
    pages = [
        ("a0", 1, "<p>ol\0d</p>"),
        ("a0", 1, "<p>'lä\"st' \\ \udc80</p>"),
        ("a0", 2, "<p>two</p>"),
        ("c", 1, "<p>c</p>"),
    ]
    for seq, (action, attempt, html) in enumerate(pages, start=2):
        told = event(seq, f"run/r1/{action}", "running", attempt=attempt, body={"progress": {"report": html}})
        await store.write(Change(events=(told,)))
    await store.write(Change(events=(event(6, body={"progress": {"done": 0.5}}), event(7, "app/a/b/c", body={"x": 1}))))
    await store.close()
    store = await place.open()
    kept = [
        await store.report("r1", action, attempt) for action, attempt in (("a0", 1), ("a0", 2), ("a0", None), ("c", 1))
    ]
    pages_kept = [(row.action, row.attempt, row.at, row.html) for row in kept if row]
    assert pages_kept == [
        ("a0", 1, 103.0, "<p>'lä\"st' \\ ?</p>"),
        ("a0", 2, 104.0, "<p>two</p>"),
        ("a0", 2, 104.0, "<p>two</p>"),
        ("c", 1, 105.0, "<p>c</p>"),
    ]
    bodies = [entry.body for entry in await store.events("run/r1/")]
    assert bodies == [{}, *[{"progress": {"report": {}}}] * 4, {"progress": {"done": 0.5}}]
    assert [entry.body for entry in await store.events("app/a/b/c")] == [{"x": 1}]


@pytest.mark.parametrize("url", ["mysql://me:geheim@host/db", "postgresql://%zz"])
async def test_a_url_that_is_none_of_ours_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InitializationError, match="TARMAC_DATABASE_URL") as caught:
        await open_store(url, tmp_path / "unused")
    assert "geheim" not in str(caught.value)


async def test_an_unknown_fsync_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InitializationError, match="`full` or `normal`"):
        await open_store("", tmp_path / "unused", "sometimes")


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tarmac.db"
    path.write_text("no database at all, only a text of some length\n" * 100)
    with pytest.raises(StoreUnavailable, match="not an SQLite database") as caught:
        await open_store("", path, patience=0.1)
    assert str(path) in str(caught.value)


# ------------------------------------------------------------------------------------------------------ what is read


async def test_the_runs_that_are_not_over_come_back_with_all_their_actions(place: Place) -> None:
    store = await place.open()
    labels = {"team": "a", "größe": "x=y"}
    live = new_run("r1", 1, P.RUNNING, labels=labels)
    child = action_row(name="c1", phase=P.SUCCEEDED, parent="a0", outputs=b"[1]", group="g", custom_context={"k": "v"})
    step = action_row(name="c2", phase=P.SUCCEEDED, parent="a0", kind="trace", created=101.0, error=b"{}", spec=b"{}")
    await store.write(live)
    await store.write(Change(actions=(ActionWrite(child), ActionWrite(step))))
    await store.write(new_run("r2", 2, P.SUCCEEDED))
    await store.write(new_run("r0", 3, P.PAUSED, created=99.0))
    found = await store.live_runs()
    assert [run.name for run, _ in found] == ["r0", "r1"]
    assert found[1] == (live.runs[0], [live.actions[0].row, child, step])


def cache_row(key: str, **fields: Any) -> CacheRow:
    values = {"project": "shop", "domain": "development", "task": "env.work", "version": "1", "run": "r1"}
    result = {"action": "a0", "outputs": b"[1]", "outputs_blob": None, "created": 100.0, "seconds": 2.5}
    return CacheRow(key, **{**values, **result, **fields})


def artifact_row(name: str, version: str, created: float, **fields: Any) -> ArtifactRow:
    row = ArtifactRow(
        project="shop",
        domain="development",
        name=name,
        version=version,
        kind="model",
        description="",
        attrs={"epochs": "3"},
        card=None,
        content=b'"/f"',
        json_schema=b'{"format":"file"}',
        created=created,
        created_by="owner",
        run="r1",
        action="a0",
        attempt=1,
        external_ref=None,
    )
    return replace(row, **fields)


async def test_artifacts_are_written_with_the_action_found_by_name_and_replaced(place: Place) -> None:
    store = await place.open()
    old, new = artifact_row("m", "1", 100.0), artifact_row("m", "2", 101.0)
    other = artifact_row("n", "1", 102.0, kind="data", run=None, action=None, attempt=None, card=b"{}")
    await store.write(new_run("r1", 1))
    _, change = moved(action_row(), P.RUNNING, 2, started=101.0)
    await store.write(replace(change, artifacts=(old, new)))
    await store.write(Change(artifacts=(other, artifact_row("m", "9", 200.0, project="else"))))
    scope = ("shop", "development")
    assert await store.artifacts(*scope) == [other, new, old]
    assert await store.artifacts(*scope, latest=True) == [other, new]
    assert await store.artifacts(*scope, name="m", limit=1) == [new]
    assert await store.artifacts(*scope, name="m", version="1") == [old]
    assert await store.artifacts(*scope, run="r1", kind="model", offset=1) == [old]
    again = replace(old, content=b'"/g"', created=300.0)
    await store.write(Change(artifacts=(again,), deletes=(Delete("artifacts", (*scope, "m", "2")),)))
    assert await store.artifacts(*scope, name="m") == [again]
    await store.close()


async def test_results_of_the_cache_are_written_with_the_action_and_found_by_their_keys(place: Place) -> None:
    store = await place.open()
    row = action_row(phase=P.SUCCEEDED, cache_key="k1", cache=b'{"status":"populated"}')
    first, second = cache_row("k1"), cache_row("k2", task="env.other", outputs=None, outputs_blob="b", created=101.0)
    run = new_run("r1", 1)
    await store.write(Change(runs=run.runs, actions=(ActionWrite(row),), cache=(first,)))
    await store.write(Change(cache=(second, cache_row("k3", project="other"))))
    assert (await store.action("r1", "a0")) == row
    assert sorted((await store.cached(["k1", "k2", "no"])), key=lambda found: found.key) == [first, second]
    assert await store.cached([f"n{n}" for n in range(1200)]) == []
    assert await store.cache("shop", "development") == [second, first]
    assert await store.cache("shop", "development", task="env.work") == [first]
    newer = cache_row("k1", outputs=b"[2]", created=102.0)
    await store.write(Change(cache=(cache_row("k1"), newer)))
    assert await store.cached(["k1"]) == [newer]
    await store.write(Change(deletes=(Delete("cache", ("k1",)),)))
    assert await store.cached(["k1"]) == []


async def test_a_change_that_does_not_fit_leaves_the_cache_as_it_was(place: Place) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1, P.SUCCEEDED))
    moved_again = ActionWrite(action_row(phase=P.RUNNING), (1, P.SUCCEEDED))
    with pytest.raises(Conflict):
        await store.write(Change(actions=(moved_again,), cache=(cache_row("k1"),)))
    assert await store.cached(["k1"]) == []


SHOP = Scope("shop", "development")


async def names(store: Store, **query: Any) -> list[str]:
    return [whole.run.name for whole in (await store.runs(SHOP, RunFilter(**query))).found]


async def test_runs_are_listed_by_a_part_of_the_tasks_name(place: Place) -> None:
    store = await place.open()
    for n, task in enumerate(["report.daily", "report.Daily_all", "fetch.one%"]):
        await store.write(new_run(f"r{n}", n + 1, task=task, created=100.0 + n))
    assert await names(store, task_contains="DAILY") == ["r1", "r0"]
    assert await names(store, task_contains="daily_") == ["r1"]
    assert await names(store, task_contains="%") == ["r2"]
    assert await names(store, task_contains="nothing") == []


@pytest.fixture
async def listed(place: Place) -> Store:
    """Ten runs, r0 the oldest: phases, tasks, versions and labels differ; and one of another domain."""
    store = await place.open()
    for n in range(10):
        run = new_run(
            f"r{n}",
            n + 1,
            phase=(P.SUCCEEDED, P.FAILED, P.RUNNING)[n % 3],
            created=100.0 + n // 2,
            task=f"env.t{n % 2}",
            version=f"v{n // 5}",
            labels={"parity": str(n % 2), "all": "yes"} | ({"long": "x" * 5000} if n == 4 else {}),
        )
        await store.write(run)
    await store.write(new_run("other", 11, P.FAILED, domain="production", created=200.0, labels={"all": "yes"}))
    return store


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "9876543210"),
        ({"limit": 3}, "987"),
        ({"limit": 3, "before_run": "r7"}, "654"),
        ({"phases": (P.FAILED,)}, "741"),
        ({"phases": (P.FAILED, P.RUNNING)}, "875421"),
        ({"phases": (P.FAILED, P.RUNNING), "limit": 2, "before_run": "r5"}, "42"),
        ({"phases": (P.ABORTED,)}, ""),
        ({"task": "env.t1"}, "97531"),
        ({"task": "env.t1", "phases": (P.SUCCEEDED, P.FAILED)}, "9731"),
        ({"task": "env.t1", "phases": (P.FAILED,)}, "71"),
        ({"version": "v0"}, "43210"),
        ({"version": "v0", "task": "env.t0", "before_run": "r4"}, "20"),
        ({"labels": {"parity": "1"}}, "97531"),
        ({"labels": {"parity": "1", "all": "yes"}, "phases": (P.FAILED, P.RUNNING)}, "751"),
        ({"labels": {"parity": "1", "all": "no"}}, ""),
        ({"labels": {"all": "yes"}, "limit": 2, "before_run": "r2"}, "10"),
        ({"labels": {"long": "x" * 5000}}, "4"),
        ({"created_after": 102.0}, "987654"),
        ({"created_before": 102.0}, "3210"),
        ({"created_after": 100.0, "created_before": 103.0, "phases": (P.RUNNING,)}, "52"),
    ],
)
async def test_runs_are_listed_newest_first_by_any_mix_of_filters(
    listed: Store, query: dict[str, Any], expected: str
) -> None:
    assert await names(listed, **query) == [f"r{n}" for n in expected]


async def test_a_page_after_a_run_that_is_not_there_is_an_error(listed: Store) -> None:
    with pytest.raises(RunNotFoundError, match="nobody"):
        await names(listed, before_run="nobody")


async def test_a_run_comes_with_its_root_action_and_the_number_of_its_actions(listed: Store) -> None:
    children = [action_row("other", f"c{n}", parent="a0") for n in range(3)]
    await listed.write(Change(actions=tuple(ActionWrite(child) for child in children), events=(event(12),)))
    [whole] = (await listed.runs(Scope("shop", "production"), RunFilter())).found
    assert whole == (await listed.run("other")).found
    assert whole.run.name == "other"
    assert whole.root == await listed.action("other", "a0")
    assert whole.actions == 4
    for query in ({"phases": (P.FAILED,)}, {"labels": {"all": "yes"}}):
        assert (await listed.runs(Scope("shop", "production"), RunFilter(**query))).found == [whole]


async def test_whatever_is_read_says_up_to_which_event_it_reaches(listed: Store) -> None:
    """Also what is not found: it was not there at that event."""
    reads: list[Callable[[], Any]] = [
        lambda: listed.run("r1"),
        lambda: listed.run("nobody"),
        lambda: listed.run_by_key("shop", "development", "none"),
        lambda: listed.runs(SHOP, RunFilter(phases=(P.RUNNING, P.FAILED))),
        lambda: listed.actions("r1"),
        lambda: listed.action_and_attempts("r1", "a0"),
    ]
    assert [(await read()).seq for read in reads] == [11] * len(reads)
    await listed.write(Change(events=(event(12),)))
    assert [(await read()).seq for read in reads] == [12] * len(reads)


async def test_what_is_read_together_is_of_one_moment(place: Place) -> None:
    """A run that moves from one phase to another, both of which are looked for, is found once; its number fits."""
    store = await place.open()
    await store.write(new_run("r1", 1))
    read = store._reader.read
    asked: list[str] = []

    async def reading(ask: Callable[[Any], Any]) -> Any:
        return await read(lambda session: ask(Interrupted(session)))

    class Interrupted:
        """The reader's session; after the first query a commit comes between."""

        def __init__(self, session: Any) -> None:
            self._session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def rows(self, sql: str, values: Any = None) -> list[Any]:
            found: list[Any] = self._session.rows(sql, values)
            asked.append(sql)
            if len(asked) == 1:
                place.sql("update actions set phase = 'running' where run = 'r1'")
                place.sql(
                    "insert into events (seq, at, stream, member, phase, message, attempt, body) "
                    "values (2, 1.0, 'run/r1', 'a0', 'running', '', 1, '{}')"
                )
            return found

    store._reader.read = reading  # type: ignore[method-assign]
    snapshot = await store.runs(SHOP, RunFilter(phases=(P.QUEUED, P.RUNNING)))
    assert [(whole.run.name, whole.root.phase) for whole in snapshot.found] == [("r1", P.QUEUED)]
    assert snapshot.seq == 1
    assert len(asked) == 3, "the second query came after the commit"
    later = await store.runs(SHOP, RunFilter(phases=(P.QUEUED, P.RUNNING)))
    assert [(whole.run.name, whole.root.phase) for whole in later.found] == [("r1", P.RUNNING)]
    assert later.seq == 2


async def test_a_question_that_is_refused_leaves_the_reader_as_it_was(listed: Store) -> None:
    for _ in range(2):
        with pytest.raises(RunNotFoundError):
            await names(listed, before_run="nobody")
        assert await names(listed, limit=1) == ["r9"]


async def test_the_actions_of_a_run_are_listed_in_the_order_of_their_making(place: Place) -> None:
    store = await place.open()
    await store.write(new_run("r1", 1))
    children = [
        action_row(name=f"c{n}", parent="a0" if n < 3 else "c1", created=101.0 + n, phase=(P.RUNNING, P.FAILED)[n % 2])
        for n in range(5)
    ]
    await store.write(Change(actions=tuple(ActionWrite(child) for child in reversed(children))))

    async def listed(**filters: Any) -> list[str]:
        return [whole.action.name for whole in (await store.actions("r1", ActionFilter(**filters))).found]

    assert await listed() == ["a0", "c0", "c1", "c2", "c3", "c4"]
    assert await listed(limit=2, offset=3) == ["c2", "c3"]
    assert await listed(parent="a0") == ["c0", "c1", "c2"]
    assert await listed(phases=(P.FAILED,)) == ["c1", "c3"]
    assert await listed(phases=(P.FAILED, P.QUEUED)) == ["a0", "c1", "c3"]
    assert await listed(parent="a0", phases=(P.FAILED,)) == ["c1"]
    assert [whole.children for whole in (await store.actions("r1")).found] == [3, 0, 2, 0, 0, 0]
    assert (await store.actions("r2")).found == []


async def test_an_action_comes_with_the_number_of_its_children_and_its_attempts(place: Place) -> None:
    store = await place.open()
    child = ActionWrite(action_row(name="c0", parent="a0"))
    attempt = AttemptRow("r1", "a0", 1, P.RUNNING, 101.0)
    await store.write(new_run("r1", 1))
    await store.write(Change(actions=(child,), attempts=(attempt,)))
    assert (await store.action_and_attempts("r1", "a0")).found == ((action_row(), 1), [attempt])
    assert (await store.action_and_attempts("r1", "c0")).found == ((child.row, 0), [])
    assert (await store.action_and_attempts("r1", "nobody")).found == (None, [])


async def test_attempts_are_kept_each(place: Place) -> None:
    store = await place.open()
    attempts = (
        AttemptRow("r1", "a0", 2, P.RUNNING, 3.0, None, None, "w2"),
        AttemptRow("r1", "a0", 1, P.FAILED, 1.0, 2.0, b'{"code":"ValueError"}', "w1"),
    )
    await store.write(Change(attempts=attempts))
    assert await store.attempts("r1", "a0") == list(reversed(attempts))


async def test_of_the_reports_of_an_attempt_the_last_is_kept(place: Place) -> None:
    store = await place.open()
    rows = [ReportRow("r1", "a0", attempt, float(at), f"<p>{at} \0</p>") for at, attempt in enumerate((1, 1, 2, 2))]
    await asyncio.gather(*(store.write(Change(reports=(row,))) for row in rows[:3]))
    await store.write(Change(reports=(rows[3],)))
    expected = [replace(row, html=row.html.replace("\0", "\ufffd")) for row in rows]
    assert await store.report("r1", "a0") == expected[3]
    assert [await store.report("r1", "a0", attempt) for attempt in (1, 2, 3)] == [expected[1], expected[3], None]
    assert await store.report("r1", "other") is None
    assert place.sql("select count(*) from reports") == [(2,)]


async def test_tasks_are_found_by_full_and_by_bare_name(place: Place) -> None:
    store = await place.open()
    rows = [
        task_row("env.work", "v1", created=1.0),
        task_row("env.work", "v2", created=2.0, bundle="b", root="/code", sys_path=["src", "lib"]),
        task_row("other.work", "v1", created=0.5, environment="other"),
        task_row("other.rest", "v2", created=3.0, environment="other", short_name="Rest"),
    ]
    current = (
        current_row("env.work", "v2", 2.0),
        current_row("other.work", "v1"),
        current_row("other.rest", "v2", 3.0),
    )
    await store.write(Change(tasks=tuple(rows), current_tasks=current))
    scope = ("shop", "development")
    assert await store.task(*scope, "env.work", "v2") == rows[1]
    assert await store.task(*scope, "env.work", "v3") is None
    assert await store.task_versions(*scope, "env.work") == [rows[1], rows[0]]
    assert await store.tasks_by_short_name(*scope, "work", None) == [rows[1], rows[2], rows[0]]
    assert await store.tasks_by_short_name(*scope, "work", None, limit=2) == [rows[1], rows[2]]
    assert await store.tasks_by_short_name(*scope, "work", "v1") == [rows[2], rows[0]]
    assert await store.tasks(*scope) == [rows[3], rows[1], rows[2]]
    assert await store.tasks(*scope, name="work", limit=1) == [rows[1]]
    assert await store.tasks(*scope, name="other.work") == [rows[2]]
    assert await store.tasks(*scope, env="other") == [rows[3], rows[2]]
    assert await store.tasks("shop", "production") == []


async def test_the_current_version_of_a_task_moves_also_back(place: Place) -> None:
    store = await place.open()
    scope = ("shop", "development")
    old, new = task_row("env.work", "v1", created=1.0), task_row("env.work", "v2", created=2.0)
    other = task_row("env.other", "v1", short_name="other")
    for since, row in enumerate((old, new, other), 1):
        await store.write(Change(tasks=(row,), current_tasks=(current_row(row.name, row.version, since),)))
    assert await store.current_task(*scope, "env.work") == new
    assert await store.tasks(*scope) == [other, new]
    back = current_row("env.work", "v1", 4.0)
    await store.write(Change(current_tasks=(back,)))
    assert await store.current_task(*scope, "env.work") == old
    assert await store.current_tasks(*scope) == [current_row("env.other", "v1", 3.0), back]
    assert await store.tasks(*scope) == [old, other]
    assert await store.tasks_by_short_name(*scope, "work") == [old, new]
    assert await store.task_versions(*scope, "env.work") == [new, old]


async def test_what_a_deployment_made_current_only_a_deployment_moves(place: Place) -> None:
    store = await place.open()
    scope = ("shop", "development")
    await store.write(Change(tasks=tuple(task_row(version=f"v{n}") for n in (1, 2, 3))))
    for version, deployed, found in (("v1", False, "v1"), ("v2", False, "v2"), ("v1", True, "v1"), ("v3", False, "v1")):
        await store.write(Change(current_tasks=(current_row(version=version, deployed=deployed),)))
        current = await store.current_task(*scope, "env.work")
        assert current is not None
        assert current.version == found
    gone = Delete("current_tasks", (*scope, "env.work"))
    await store.write(Change(deletes=(gone,), current_tasks=(current_row(version="v2", deployed=False),)))
    assert await store.current_tasks(*scope) == [current_row(version="v2", deployed=False)]
    await store.write(Change(deletes=(gone,)))
    assert await store.current_task(*scope, "env.work") is None


async def test_a_task_version_is_registered_again_but_never_with_other_code(place: Place) -> None:
    store = await place.open()
    rows = (task_row(), task_row(created=200.0))
    await asyncio.gather(*(store.write(Change(tasks=(row,))) for row in rows))
    await store.write(Change(tasks=(task_row(root="/elsewhere"),)))
    for other in (task_row(spec=b'{"x":1}'), task_row(bundle="b")):
        with pytest.raises(Conflict, match=r"env\.work v1"):
            await store.write(Change(tasks=(other,)))
    assert await store.task_versions("shop", "development", "env.work") == [task_row(root="/elsewhere")]


async def test_an_app_its_versions_and_their_end(place: Place) -> None:
    store = await place.open()
    app = AppRow("shop", "development", "web", 30100, None, "active", AppStatus.DEPLOYING, created=1.0)
    serving = replace(app, version="v2", status=AppStatus.ACTIVE, env_vars={"A": "1"}, parameters={"p": "v"})
    elsewhere = replace(app, domain="production", created=2.0)
    versions = [
        AppVersionRow("shop", "development", "web", f"v{n}", b"{}", "b", None, ["src"], float(n), "d") for n in (1, 2)
    ]
    changes = (Change(apps=(app,)), Change(app_versions=tuple(versions)), Change(apps=(elsewhere, serving)))
    await asyncio.gather(*map(store.write, changes))
    assert await store.apps() == [elsewhere, serving]
    assert await store.apps("shop", "development") == [serving]
    assert await store.app_version(SHOP.app("web"), "v1") == versions[0]
    assert await store.app_versions(SHOP.app("web")) == versions[::-1]
    key = ("shop", "development", "web")
    await store.write(Change(deletes=(Delete("app_versions", (*key, "v1")),)))
    assert await store.app_versions(SHOP.app("web")) == versions[1:]
    await store.write(Change(deletes=(Delete("apps", key),)))
    assert await store.apps("shop", "development") == []
    assert await store.app_versions(SHOP.app("web")) == []


async def test_what_was_deleted_last_is_gone_and_what_was_written_last_is_there(place: Place) -> None:
    store = await place.open()
    secret = SecretRow("shop", "development", "key", b"\x00\xff", 1.0, 2.0)
    gone = Change(deletes=(Delete("secrets", ("shop", "development", "key")),))
    await asyncio.gather(*map(store.write, (Change(secrets=(secret,)), gone)))
    assert await store.secret("shop", "development", "key") is None
    await asyncio.gather(*map(store.write, (gone, Change(secrets=(secret,)))))
    assert await store.secrets("shop", "development") == [secret]


async def test_deployments_keys_and_projects_are_kept(place: Place) -> None:
    store = await place.open()
    running, failed = (
        DeploymentRow(f"d{n}", "shop", "development", "v1", phase, b"{}", float(n))
        for n, phase in enumerate((DeploymentPhase.RUNNING, DeploymentPhase.FAILED))
    )
    key = KeyRow("k1", "ci", "ab" * 32, 1.0, None, ["apps"])
    project = ProjectRow("shop", "Shop", "sells", {"team": "a"}, True)
    await store.write(Change(deployments=(running, failed), keys=(key,), projects=(project, ProjectRow("bare"))))
    assert await store.deployments() == [failed, running]
    assert await store.deployments(DeploymentPhase.RUNNING) == [running]
    assert await store.deployments(project="shop", domain="production") == []
    assert await store.deployment("d1") == failed
    await store.write(Change(keys=(replace(key, last_used=9.0),)))
    assert await store.keys() == [replace(key, last_used=9.0)]
    assert await store.projects() == [ProjectRow("bare"), project]
    deletes = (Delete("keys", ("k1",)), Delete("projects", ("shop",)), Delete("deployments", ("d1",)))
    await store.write(Change(deletes=(*deletes, Delete("tasks", ("shop", "development", "env.none", "v1")))))
    assert (await store.keys(), await store.projects()) == ([], [ProjectRow("bare")])
    assert await store.deployments() == [running]


@pytest.mark.parametrize(
    ("text", "stored"), [("grün 🚀", "grün 🚀"), ("a\0b", "a\ufffdb"), ("half \udc80", "half ?"), ("", "")]
)
async def test_any_text_that_a_program_can_print_is_stored(place: Place, text: str, stored: str) -> None:
    store = await place.open()
    row = action_row(message=text)
    entry = event(1, message=text, body={"said": text})
    await store.write(Change(actions=(ActionWrite(row),), events=(entry,)))
    found = await store.action("r1", "a0")
    [told] = await store.events("run/r1/a0")
    assert found is not None
    assert (found.message, told.message) == (stored, stored)
    assert told.body["said"].replace("\0", "\ufffd") == stored
    assert (await store.run(f"r\0{text}")).found is None


async def test_statistics_count_what_there_is(listed: Store) -> None:
    statistics = await listed.statistics()
    assert statistics.runs == {"succeeded": 4, "failed": 4, "running": 3}
    assert (statistics.events, statistics.tasks, statistics.apps) == (11, 0, 0)
    assert statistics.size > 0


# ------------------------------------------------------------------------------------ fast, however much there is


def _questions(store: Store) -> list[Callable[[], Any]]:
    scope = ("shop", "development")
    queries: list[dict[str, Any]] = [
        {},
        {"task": "env.t1"},
        {"version": "v1"},
        {"phases": (P.FAILED, P.RUNNING)},
        {"task": "env.t1", "phases": (P.SUCCEEDED,)},
        {"labels": {"all": "yes", "parity": "1"}},
        {"before_run": "r5", "created_after": 1.0, "created_before": 300.0},
        {"before_run": "r5", "phases": (P.FAILED,), "created_after": 1.0},
        {"before_run": "r5", "labels": {"all": "yes"}, "created_after": 1.0},
    ]
    return [
        *(lambda query=query: store.runs(Scope(*scope), RunFilter(**query)) for query in queries),
        store.live_runs,
        lambda: store.run("r1"),
        lambda: store.run_by_key(*scope, "k"),
        lambda: store.actions("r1", ActionFilter(offset=1)),
        lambda: store.actions("r1", ActionFilter(parent="a0", phases=(P.FAILED, P.RUNNING))),
        lambda: store.action_and_attempts("r1", "a0"),
        lambda: store.report("r1", "a0"),
        lambda: store.report("r1", "a0", 1),
        lambda: store.events("run/r1/", after=3),
        lambda: store.events("run/r1/a0", after=3),
        lambda: store.task_versions(*scope, "env.work"),
        lambda: store.current_task(*scope, "env.work"),
        lambda: store.deployments(DeploymentPhase.RUNNING),
    ]


async def test_no_list_reads_more_than_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own plan: every step is a search along an index, and nothing is sorted but what is alive."""
    asked: list[tuple[str, Any]] = []
    rows = SqliteSession.rows

    def noted(session: SqliteSession, sql: str, values: Any = None) -> list[Any]:
        asked.append((sql, values))
        return rows(session, sql, values)

    store = await open_store("", tmp_path / "tarmac.db")
    await store.write(new_run("r5", 1))
    monkeypatch.setattr(SqliteSession, "rows", noted)
    for ask in _questions(store):
        await ask()
    await store.close()
    monkeypatch.undo()
    session = SqliteDatabase(tmp_path / "tarmac.db").connect(read_only=True)
    with contextlib.closing(session):
        for sql, values in asked:
            plan = [step[3] for step in session.rows(f"explain query plan {sql}", values)]
            slow = [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step]
            assert not slow or "'paused'" in sql, (sql, plan)
            assert not any(step.startswith("SCAN") for step in plan), (sql, plan)
