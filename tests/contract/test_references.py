"""What the collector reads and removes in a store, proven on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flyte.wire import ActionPhase, AppStatus, DeploymentPhase
from tarmac.store import (
    ActionWrite,
    AppRow,
    AppVersionRow,
    AttemptRow,
    CacheRow,
    Change,
    DeploymentRow,
    ImageRow,
    ReportRow,
    RunKeyRow,
    Store,
    TriggerRow,
    references,
    tables,
)
from tests.contract.test_store import action_row, current_row, event, new_run, run_row, task_row

if TYPE_CHECKING:
    from tests.contract.conftest import Place

P = ActionPhase


async def ended_run(store: Store, name: str, seq: int, ended: float, version: str = "v1") -> None:
    run = run_row(name, version=version, labels={"team": "search"})
    root = action_row(name, phase=P.SUCCEEDED, version=version, ended=ended)
    await store.write(
        Change(
            runs=(run,),
            run_keys=(RunKeyRow("shop", "development", f"key of {name}", name),),
            actions=(ActionWrite(root), ActionWrite(msgspec.structs.replace(root, name="child", parent="a0"))),
            attempts=(AttemptRow(name, "a0", 1, P.SUCCEEDED),),
            reports=(ReportRow(name, "a0", 1, 1.0, f"<p>report of {name}</p>"),),
            events=(event(seq, f"run/{name}/a0", "succeeded"),),
        )
    )


async def test_a_run_that_is_removed_leaves_nothing_and_the_others_stay_whole(place: Place) -> None:
    store = await place.open()
    await ended_run(store, "old", 1, 10.0)
    await ended_run(store, "new", 2, 1000.0)
    await store.write(new_run("live", 3))
    assert [run.name for run in await store.runs_ended(500.0, 10)] == ["old"]
    await store.write(Change(removed_runs=tuple(await store.runs_ended(500.0, 10)), events=(event(4, "storage"),)))
    assert (await store.run("old")).found is None
    assert await store.attempts("old", "a0") == []
    assert await store.report("old", "a0") is None
    assert await store.events("run/old/") == []
    texts = b"\n".join([text async for _, _, text in store.referring()])
    assert b"report of old" not in texts
    assert b"report of new" in texts
    assert (await store.run("new")).found is not None
    assert len((await store.actions("new")).found) == 2
    assert await store.run_names(["old", "new", "live", "nobody"]) == {"new", "live"}
    assert (await store.run_by_key("shop", "development", "key of old")).found is None
    await ended_run(store, "old", 5, 2000.0)


async def test_the_versions_that_no_run_needs_are_found(place: Place) -> None:
    store = await place.open()
    tasks = (*(task_row(version=f"v{n}", spec=f'{{"n":{n}}}'.encode()) for n in range(1, 5)), task_row("env.new"))
    young = task_row("env.new", "v9", created=900.0)
    await store.write(Change(tasks=(*tasks, young), current_tasks=(current_row(version="v4"), current_row("env.new"))))
    await ended_run(store, "old", 1, 10.0, "v1")
    await ended_run(store, "new", 2, 1000.0, "v2")
    found = await store.unused_tasks(500.0, 10)
    assert [(task.name, task.version) for task in found] == [("env.work", "v1"), ("env.work", "v3")]


def test_each_table_is_looked_through_by_the_collector_or_names_nothing() -> None:
    assert sorted((*references._REFERRING, *references.NAME_NOTHING)) == sorted(tables.TABLES)


async def test_a_version_that_a_trigger_starts_is_in_use(place: Place) -> None:
    store = await place.open()
    pinned = TriggerRow("shop", "development", "env.work", "t", b"{}", "v1", "", True, 1.0)
    await store.write(Change(tasks=(task_row(version="v1"), task_row(version="v2")), triggers=(pinned,)))
    assert [task.version for task in await store.unused_tasks(5000.0, 10)] == ["v2"]


async def test_the_text_of_every_row_that_may_refer_to_something_is_read(place: Place) -> None:
    store = await place.open()
    await ended_run(store, "r1", 1, 10.0)
    row = action_row("r2", inputs=None, inputs_blob="blob of inputs", outputs_blob="blob of outputs")
    await store.write(
        Change(
            runs=(run_row("r2", request=b'{"custom_context":{"file":"in a context"}}'),),
            actions=(ActionWrite(row), *(ActionWrite(action_row("r2", f"a{n}")) for n in range(1, 450))),
            tasks=(task_row(bundle="bundle of a task", spec=b'{"default":"a default"}'),),
            cache=(
                CacheRow("k", "shop", "development", "env.work", "1", "gone", "a0", None, "blob of a result", 1.0, 1.0),
            ),
            apps=(
                AppRow(
                    "shop",
                    "development",
                    "app",
                    1,
                    "v1",
                    "active",
                    AppStatus.ACTIVE,
                    parameters={"x": "value of an app"},
                ),
            ),
            app_versions=(AppVersionRow("shop", "development", "app", "v1", b"{}", bundle="bundle of an app"),),
            deployments=(DeploymentRow("d1", "shop", "development", "v1", DeploymentPhase.SUCCEEDED, b"a deployment"),),
            images=(ImageRow("i1", b"an image"),),
            triggers=(TriggerRow("shop", "development", "env.work", "t", b"a trigger", "v1", "", True, 1.0),),
            events=(event(2, "run/r2/a0"),),
        )
    )
    found = [(table, key, text.decode()) async for table, key, text in store.referring()]
    texts = "\n".join(text for _, _, text in found)
    for wanted in (
        *("blob of inputs", "blob of outputs", "in a context", "report of r1", "blob of a result", "a default"),
        *("bundle of a task", "bundle of an app", "value of an app", "a deployment", "an image", "a trigger"),
    ):
        assert wanted in texts, wanted
    keys = [(table, key) for table, key, _ in found]
    assert len(keys) == len(set(keys))
    assert len([key for table, key in keys if table == "actions" and key[0] == "r2"]) == 450
