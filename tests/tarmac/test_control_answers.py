"""What the control plane answers about runs is true, and no answer is older than one that was given before it.

The loop hears of a commit a moment after the reader's thread can find it, and a run is being created for a moment
before it is in memory. These tests stop the clockwork in such a moment: `house.reads` lets the reads of one task wait,
`house.news` keeps back what the loop would hear of commits.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from flyte import wire
from flyte.errors import ActionNotFoundError, RemoteTaskNotFoundError, RunNotFoundError, SystemUnavailableError
from flyte.wire import ActionPhase
from tarmac.store.reader import Reader
from tarmac.store.sqlite import SqliteSession
from tests.tarmac.fake_agent import Act
from tests.tarmac.house import TASKS, House, eventually, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


def on_disk(house: House, run: str) -> str | None:
    """The phase of the run that the database has."""
    with contextlib.closing(sqlite3.connect(house.home.database)) as file:
        found = file.execute("select phase from actions where run = ? and name = 'a0'", (run,)).fetchone()
    return found[0] if found else None


async def forever(act: Act) -> Any:
    await asyncio.Event().wait()


# ------------------------------------------------------------------------------- a run that is created at this moment


async def asked_before_it_is_there(house: House, ask: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
    """`ask` is called before there is a run "new", and reads of the store when that is running."""
    asking = asyncio.create_task(ask())
    gate = house.reads.hold(asking, "before")
    assert await eventually(lambda: house.reads.waiting == 1)
    await house.run("add", name="new")
    assert await eventually(lambda: on_disk(house, "new") == "running")
    gate.set()
    return asking


async def test_an_abort_that_is_answered_while_its_run_is_being_created_is_not_lost(house: House) -> None:
    house.behave = forever
    asking = await asked_before_it_is_there(house, lambda: house.control.runs.abort("new", "enough", "owner"))
    assert (await asyncio.wait_for(asking, 10)).phase is ActionPhase.ABORTED
    assert (await house.control.runs.get("new")).phase is ActionPhase.ABORTED
    assert on_disk(house, "new") == "aborted"


async def test_an_abort_of_an_action_while_its_run_is_being_created_is_not_lost(house: House) -> None:
    house.behave = forever
    asking = await asked_before_it_is_there(house, lambda: house.control.actions.abort("new", "a0", "enough", "owner"))
    assert (await asyncio.wait_for(asking, 10)).phase is ActionPhase.ABORTED
    assert on_disk(house, "new") == "aborted"


async def test_who_waits_for_a_run_that_is_being_created_waits_for_its_end(house: House) -> None:
    end = asyncio.Event()

    async def behave(act: Act) -> Any:
        await end.wait()
        return 7

    house.behave = behave
    asking = await asked_before_it_is_there(house, lambda: house.control.runs.wait("new", 30))
    assert await eventually(lambda: bool(house.control.runs.live["new"].over) or asking.done())
    assert not asking.done()
    end.set()
    assert (await asyncio.wait_for(asking, 10)).phase is ActionPhase.SUCCEEDED


async def test_what_is_nowhere_is_not_found(house: House) -> None:
    await house.result("add", name="there")
    runs = house.control.runs
    for ask in (runs.wait("none", 5), runs.abort("none", "", "owner"), runs.get("none")):
        with pytest.raises(RunNotFoundError, match="none"):
            await ask
    with pytest.raises(RunNotFoundError, match="none"):
        await house.control.actions.abort("none", "a0", "", "owner")
    with pytest.raises(ActionNotFoundError, match="other"):
        await house.control.actions.abort("there", "other", "", "owner")


async def test_a_run_that_nobody_moves_is_not_waited_for_and_its_abort_is_not_acknowledged(house: House) -> None:
    """It is on disk, not over, and this control plane left it out when it started."""
    house.behave = forever
    await house.run("add", name="new")
    left_out = house.control.runs.live.pop("new")
    for ask in (
        house.control.runs.abort("new", "", "owner"),
        house.control.actions.abort("new", "a0", "", "owner"),
        house.control.runs.wait("new", 30),
    ):
        with pytest.raises(SystemUnavailableError, match="was left out"):
            await asyncio.wait_for(ask, 10)
    house.control.runs.live["new"] = left_out


# ------------------------------------------------------------------------- a record and its number belong together


Record = Callable[[House, str], Coroutine[Any, Any, wire.Run]]
T = TypeVar("T")


async def _single(house: House, name: str) -> wire.Run:
    return await house.control.runs.get(name)


async def _listed(house: House, name: str) -> wire.Run:
    return next(run for run in await house.control.runs.list(wire.Scope(), wire.RunFilter()) if run.name == name)


async def _snapshot(house: House, name: str) -> wire.Run:
    async for kind, seq, record in house.control.watching.run(name, None):
        assert (kind, seq) == ("snapshot", record.seq)
        assert isinstance(record, wire.Run)
        return record
    raise AssertionError("a stream begins with a snapshot")


async def read_as_it_is_created(
    house: House, record: Callable[[House, str], Coroutine[Any, Any, T]]
) -> asyncio.Task[T]:
    """A record of a run "new" that was read when it had just been created, and is answered when the run is over."""
    house.news.hold()
    creating = asyncio.create_task(house.run("add", name="new"))
    assert await eventually(lambda: on_disk(house, "new") == "queued")
    asking = asyncio.create_task(record(house, "new"))
    gate = house.reads.hold(asking, "after")
    assert await eventually(lambda: house.reads.waiting == 1)
    house.news.go_on()
    await creating
    await house.control.runs.wait("new", 10)
    gate.set()
    return asking


@pytest.mark.parametrize("record", [_single, _listed, _snapshot])
async def test_who_watches_from_the_number_of_a_record_misses_nothing(house: House, record: Record) -> None:
    run = await asyncio.wait_for(await read_as_it_is_created(house, record), 10)
    events = await house.store.events("run/new/a0")
    assert [event.phase for event in events if event.seq <= run.seq][-1] == run.phase
    seen = [event async for _, _, event in house.control.watching.run("new", run.seq)]
    assert seen == [event for event in events if event.seq > run.seq]


async def test_a_stream_that_begins_as_its_run_is_created_tells_everything_and_ends(house: House) -> None:
    async def watch(house: House, name: str) -> Any:
        return [(kind, seq, str(record.phase)) async for kind, seq, record in house.control.watching.run(name, None)]

    (first, *rest) = await asyncio.wait_for(await read_as_it_is_created(house, watch), 10)
    events = await house.store.events("run/new/a0")
    assert first[0] == "snapshot"
    assert rest == [("event", event.seq, event.phase) for event in events if event.seq > first[1]]
    assert rest[-1][2] == "succeeded"


async def test_a_stream_from_a_number_that_was_never_given_out_ends_with_its_run(house: House) -> None:
    end = asyncio.Event()

    async def behave(act: Act) -> Any:
        await end.wait()

    async def watch() -> list[str]:
        return [str(event.phase) async for _, _, event in house.control.watching.run("new", 10**9)]

    house.behave = behave
    await house.run("add", name="new")
    assert await eventually(lambda: on_disk(house, "new") == "running")
    watching = asyncio.create_task(watch())
    assert await eventually(lambda: bool(house.control.journal._watchers))
    end.set()
    assert (await asyncio.wait_for(watching, 10))[-1] == "succeeded"


# --------------------------------------------------------------------------------------------- no answer runs ahead


async def _phase_listed(house: House) -> str:
    return (await _listed(house, "new")).phase


async def _phase_of_action(house: House) -> str:
    return (await house.control.actions.list("new"))[0].phase


async def _phase_of_details(house: House) -> str:
    return (await house.control.actions.get("new", "a0")).action.phase


async def _phase_told(house: House) -> str:
    """The last that a stream tells of what is on disk when it begins."""
    last = ""
    async for _, _, event in house.control.watching.run("new", 0):
        last = str(event.phase)
        if last == on_disk(house, "new"):
            break
    return last


@pytest.mark.parametrize("ask", [_phase_listed, _phase_of_action, _phase_of_details, _phase_told])
async def test_what_one_answer_shows_the_next_one_does_not_take_back(
    house: House, ask: Callable[[House], Coroutine[Any, Any, str]]
) -> None:
    """The end of the run is on disk, where a read finds it, and the loop has not heard of it yet."""
    end = asyncio.Event()

    async def behave(act: Act) -> Any:
        await end.wait()

    house.behave = behave
    await house.run("add", name="new")
    live = house.control.runs.live["new"]
    assert await eventually(lambda: live.shown is not None and live.shown.phase is ActionPhase.RUNNING)
    house.news.hold()
    end.set()
    assert await eventually(lambda: on_disk(house, "new") == "succeeded")
    asking = asyncio.create_task(ask(house))
    assert await eventually(lambda: asking.done() or bool(house.control.journal._behind))
    assert not asking.done()
    assert (await house.control.runs.get("new")).phase is ActionPhase.RUNNING
    house.news.go_on()
    assert await asyncio.wait_for(asking, 10) == "succeeded"
    assert (await house.control.runs.get("new")).phase is ActionPhase.SUCCEEDED


# ------------------------------------------------------------------------------------------------ counts, and queries


async def test_a_run_has_as_many_actions_as_its_list_says_while_they_run_and_afterwards(house: House) -> None:
    end = asyncio.Event()

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.tree":
            await asyncio.gather(*(act.call("env.add", x=n) for n in range(20)))
        else:
            await end.wait()

    async def counts() -> list[int]:
        records = [await record(house, "new") for record in (_single, _listed, _snapshot)]
        assert {record.seq for record in records} <= set(range(house.control.journal.told + 1))
        return [*(record.actions for record in records), len(await house.control.actions.list("new"))]

    house.behave = behave
    run = await house.run("tree", name="new")
    assert run.actions == 1
    live = house.control.runs.live["new"]
    assert await eventually(lambda: live.stored == 21)
    assert await counts() == [21] * 4
    assert [action.children for action in await house.control.actions.list("new")] == [20] + [0] * 20
    assert (await house.control.actions.get("new", "a0")).action.children == 20
    end.set()
    assert (await house.control.runs.wait("new", 10)).actions == 21
    assert await counts() == [21] * 4
    await house.restart()
    assert await counts() == [21] * 4


async def test_a_count_does_not_run_ahead_of_the_disk(house: House) -> None:
    async def behave(act: Act) -> Any:
        if act.assign.task == "env.tree":
            await act.call("env.add", x=1)

    house.behave = behave
    house.environ["TARMAC_SLOTS"] = "1"
    await house.run("tree", name="new")
    live = house.control.runs.live["new"]
    house.disk.hold()
    assert await eventually(lambda: len(live.actions) == 2)
    assert [(await record(house, "new")).actions for record in (_single, _listed)] == [1, 1]
    house.disk.go_on()
    assert (await house.control.runs.wait("new", 10)).actions == 2


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every query that is read with from now on; the writer's are left out."""
    made: list[str] = []
    rows = SqliteSession.rows

    def noted(session: SqliteSession, sql: str, values: Any = None) -> list[Any]:
        if isinstance(threading.current_thread(), Reader):
            made.append(sql)
        return rows(session, sql, values)

    monkeypatch.setattr(SqliteSession, "rows", noted)
    return made


async def test_what_a_name_means_is_read_once_until_a_deployment_changes_it(house: House, queries: list[str]) -> None:
    registry = house.control.tasks

    async def version(name: str, wanted: str | None = None) -> tuple[str, int]:
        """The version that is found, and the queries that it took."""
        queries.clear()
        known = await registry.find(wire.DEFAULT_PROJECT, wire.DEFAULT_DOMAIN, name, wanted)
        return known.row.version, len(queries)

    for name, wanted in (("add", None), ("env.add", None), ("add", "v1"), ("env.add", "v1")):
        assert (await version(name, wanted))[0] == "v1"
        assert await version(name, wanted) == ("v1", 0)
    await house.control.deployments.start(wire.DeployRequest(version="v2", root="/", tasks=TASKS), "owner")
    assert [(await version(name))[0] for name in ("add", "env.add", "add")] == ["v2"] * 3
    assert (await version("add", "v1"))[0] == "v1"
    other = msgspec.structs.replace(TASKS[0], name="other.add")
    await house.control.deployments.start(wire.DeployRequest(version="v2", root="/", tasks=[other]), "owner")
    with pytest.raises(RemoteTaskNotFoundError, match="is the name of 2 tasks"):
        await version("add")


async def test_what_is_kept_of_overridden_tasks_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tarmac.control.workers.pools.OVERRIDES_KEPT", 3)
    pools = house.control.runs._pools
    for count in range(10):
        overrides = msgspec.structs.replace(TASKS[0], retries=wire.RetrySpec(count=count))
        assert (await house.result("add", overrides=overrides)).phase is ActionPhase.SUCCEEDED
    assert len(pools._overridden) == 3
    registry = house.control.tasks
    assert (await house.result("add")).phase is ActionPhase.SUCCEEDED
    assert len(pools._made) == 1
    registry._known.clear()
    registry.changed()
    assert (await house.result("add")).phase is ActionPhase.SUCCEEDED
    assert await eventually(lambda: gc.collect() >= 0 and len(pools._made) == 1)
