"""What a client sees of runs, the same from everything that has runs: the control plane over HTTP, on SQLite and on
PostgreSQL, both stand-ins of the platform that other tests use, and local mode.

Local mode offers everything that is asked here but idempotency keys, and it takes a task itself in place of a task's
name: it has no registry. Those tests name PLATFORMS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.errors import ActionNotFoundError, RemoteTaskNotFoundError, RunAlreadyExistsError, RunNotFoundError
from flyte.wire import ActionFilter, ActionPhase, RunFilter
from tests.contract.run_sources import CALLS, PLATFORMS, SOURCES, Source
from tests.contract.run_sources import source as open_source

P = ActionPhase


@pytest.fixture(params=SOURCES)
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Source]:
    async with open_source(request.param, request, tmp_path) as found:
        yield found


on_platforms = pytest.mark.parametrize("source", PLATFORMS, indirect=True)


def json_of(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


# ----------------------------------------------------------------------------------------------------------- created


async def test_a_run_is_created_with_its_name_and_labels_and_found_by_its_name(source: Source) -> None:
    made = await source.start("slow", name="nightly", labels={"team": "a"})
    found = await source.client.get_run("nightly")
    for run in (made, found):
        assert (run.name, run.task, run.version) == ("nightly", "contract.slow", "v1")
        assert (run.project, run.domain) == (wire.DEFAULT_PROJECT, wire.DEFAULT_DOMAIN)
        assert (run.labels, run.attempt, run.actions) == ({"team": "a"}, 1, 1)
        assert (run.outputs, run.outputs_blob, run.error, run.ended) == (None, None, None, None)
        assert not run.phase.is_terminal
        assert run.url.endswith("/runs/nightly")
        assert run.created_by
    assert found.created == made.created


async def test_a_run_without_a_name_gets_one(source: Source) -> None:
    first, second = await source.start("add"), await source.start("add")
    assert first.name
    assert second.name not in ("", first.name)


async def test_the_same_call_by_name_is_the_same_run(source: Source) -> None:
    first = await source.result("add", 1, name="once")
    again = await source.result("add", 1, name="once")
    assert (again.name, again.created) == (first.name, first.created)
    assert [run.name for run in await source.client.list_runs()] == ["once"]


@pytest.mark.parametrize("other", [("add", 2), ("fail", 1)], ids=["inputs", "task"])
async def test_another_call_under_a_name_that_is_taken_is_refused(source: Source, other: tuple[str, int]) -> None:
    await source.start("add", 1, name="once")
    with pytest.raises(RunAlreadyExistsError, match="once"):
        await source.start(*other, name="once")


@on_platforms
async def test_the_same_call_by_idempotency_key_is_the_same_run(source: Source) -> None:
    first = await source.result("add", 1, idempotency_key="k")
    again = await source.result("add", 1, idempotency_key="k")
    assert again.name == first.name
    assert (await source.start("add", 1, idempotency_key="other")).name != first.name


@on_platforms
@pytest.mark.parametrize("other", [("add", 2), ("fail", 1)], ids=["inputs", "task"])
async def test_another_call_with_a_key_that_is_taken_is_refused(source: Source, other: tuple[str, int]) -> None:
    await source.start("add", 1, idempotency_key="k")
    with pytest.raises(RunAlreadyExistsError):
        await source.start(*other, idempotency_key="k")


@on_platforms
async def test_a_key_that_comes_with_the_name_of_a_run_means_that_run(source: Source) -> None:
    await source.start("add", 1, name="named")
    for name in ("named", None):
        assert (await source.start("add", 1, name=name, idempotency_key="k")).name == "named"
    with pytest.raises(RunAlreadyExistsError):
        await source.start("add", 1, name="another", idempotency_key="k")


@on_platforms
async def test_a_task_that_does_not_exist_is_not_found(source: Source) -> None:
    with pytest.raises(RemoteTaskNotFoundError):
        await source.start("subtract")
    with pytest.raises(RemoteTaskNotFoundError):
        await source.start("add", version="v9")


# ------------------------------------------------------------------------------------------------ looked at, waited for


async def test_a_run_that_succeeded_has_its_outputs_and_times(source: Source) -> None:
    run = await source.result("add", 41)
    assert (run.phase, json_of(run.outputs), run.error) == (P.SUCCEEDED, [42], None)
    assert run.started is not None
    assert run.ended is not None
    assert run.created <= run.started <= run.ended


async def test_a_run_that_failed_has_its_error(source: Source) -> None:
    run = await source.result("fail")
    assert (run.phase, run.outputs) == (P.FAILED, None)
    assert run.error is not None
    assert (run.error.code, run.error.message, run.error.kind) == ("ValueError", "no", "user")


async def test_a_wait_ends_with_the_run_or_with_its_time(source: Source) -> None:
    run = await source.start("slow", 7)
    assert not (await source.client.get_run(run.name, wait=0.01)).phase.is_terminal
    source.gate.set()
    ended = await source.client.get_run(run.name, wait=30)
    assert (ended.phase, json_of(ended.outputs)) == (P.SUCCEEDED, [7])
    again = await source.client.get_run(run.name, wait=30)
    assert (again.phase, again.ended) == (ended.phase, ended.ended)


def _asked(source: Source) -> dict[str, Callable[[], Awaitable[Any]]]:
    client = source.client
    return {
        "run": lambda: client.get_run("nobody"),
        "wait": lambda: client.get_run("nobody", wait=1),
        "abort": lambda: client.abort_run("nobody"),
        "actions": lambda: client.list_actions("nobody"),
        "action": lambda: client.get_action("nobody"),
        "events": lambda: anext(client.run_events("nobody")),
        "page": lambda: client.list_runs(RunFilter(before_run="nobody")),
    }


async def test_a_run_that_does_not_exist_is_not_found(source: Source) -> None:
    for call in _asked(source).values():
        with pytest.raises(RunNotFoundError):
            await call()


# -------------------------------------------------------------------------------------------------------------- listed


async def _several(source: Source) -> list[wire.Run]:
    """Four runs that have ended, the oldest first."""
    return [
        await source.result("add", name="r-0", labels={"team": "a", "n": "0"}),
        await source.result("fail", name="r-1", labels={"team": "a", "n": "1"}),
        await source.result("tree", name="r-2", labels={"team": "b"}),
        await source.result("add", name="r-3"),
    ]


async def test_runs_are_listed_newest_first_and_by_what_is_asked(source: Source) -> None:
    runs = await _several(source)
    created = [run.created for run in runs]

    async def listed(**chosen: Any) -> list[int]:
        return [int(run.name[2:]) for run in await source.client.list_runs(RunFilter(**chosen))]

    assert await listed() == [3, 2, 1, 0]
    assert await listed(phases=(P.FAILED,)) == [1]
    assert await listed(phases=(P.FAILED, P.SUCCEEDED)) == [3, 2, 1, 0]
    assert await listed(phases=(P.ABORTED, P.RUNNING)) == []
    assert await listed(task="contract.add") == [3, 0]
    assert await listed(task="add") == []
    assert await listed(task_contains="ACT.A") == [3, 0]
    assert await listed(task_contains="%") == []
    assert await listed(version="v1", task="contract.tree") == [2]
    assert await listed(version="v2") == []
    assert await listed(labels={"team": "a"}) == [1, 0]
    assert await listed(labels={"team": "a", "n": "1"}) == [1]
    assert await listed(labels={"team": ""}) == []
    assert await listed(created_after=created[1]) == [3, 2, 1]
    assert await listed(created_before=created[2]) == [1, 0]
    assert await listed(created_after=created[1], created_before=created[3], phases=(P.SUCCEEDED,)) == [2]


async def test_a_list_of_runs_goes_on_after_the_last_run_of_a_page(source: Source) -> None:
    await _several(source)

    async def pages(**chosen: Any) -> list[str]:
        names: list[str] = []
        while page := await source.client.list_runs(
            RunFilter(limit=1, before_run=names[-1] if names else None, **chosen)
        ):
            names += [run.name for run in page]
        return names

    assert await pages() == ["r-3", "r-2", "r-1", "r-0"]
    assert await pages(phases=(P.SUCCEEDED,)) == ["r-3", "r-2", "r-0"]
    assert await pages(labels={"team": "a"}) == ["r-1", "r-0"]
    after_a_run_that_is_not_listed = RunFilter(before_run="r-2", task="contract.add")
    assert [run.name for run in await source.client.list_runs(after_a_run_that_is_not_listed)] == ["r-0"]


async def test_a_listed_run_is_the_run_that_is_looked_at(source: Source) -> None:
    await _several(source)
    for run in await source.client.list_runs():
        alone = await source.client.get_run(run.name)
        assert msgspec.structs.replace(run, seq=0) == msgspec.structs.replace(alone, seq=0)


async def test_runs_of_other_projects_and_domains_are_not_listed(source: Source) -> None:
    await source.result("add")
    assert await source.client.scoped(domain="production").list_runs() == []
    assert await source.client.scoped(project="other").list_runs() == []


# ------------------------------------------------------------------------------------------------------------- actions


async def test_the_actions_of_a_run_are_listed_in_the_order_of_their_creation(source: Source) -> None:
    run = await source.result("tree")
    assert (run.phase, json_of(run.outputs), run.actions) == (P.SUCCEEDED, [3], 4)
    actions = await source.client.list_actions(run.name)
    assert [(action.task, action.phase, action.parent) for action in actions] == [
        ("contract.tree", P.SUCCEEDED, None),
        ("contract.add", P.SUCCEEDED, "a0"),
        ("contract.add", P.SUCCEEDED, "a0"),
        ("contract.fail", P.FAILED, "a0"),
    ]
    assert [(action.run, action.short_name, action.children) for action in actions] == [
        (run.name, "tree", 3),
        (run.name, "add", 0),
        (run.name, "add", 0),
        (run.name, "fail", 0),
    ]
    assert actions[0].name == wire.ROOT_ACTION
    assert [action.error.message if action.error else None for action in actions] == [None, None, None, "no"]
    assert all(action.started is not None and action.ended is not None for action in actions)


async def test_actions_are_listed_by_phases_and_parent_and_page(source: Source) -> None:
    run = await source.result("tree")
    names = [action.name for action in await source.client.list_actions(run.name)]

    async def listed(**chosen: Any) -> list[int]:
        return [
            names.index(action.name) for action in await source.client.list_actions(run.name, ActionFilter(**chosen))
        ]

    assert await listed(phases=(P.FAILED,)) == [3]
    assert await listed(phases=(P.FAILED, P.SUCCEEDED)) == [0, 1, 2, 3]
    assert await listed(phases=(P.RUNNING, P.ABORTED)) == []
    assert await listed(parent="a0") == [1, 2, 3]
    assert await listed(parent="a0", phases=(P.SUCCEEDED,)) == [1, 2]
    assert await listed(parent=names[1]) == await listed(parent="nobody") == []
    assert await listed(limit=2) == [0, 1]
    assert await listed(limit=2, offset=1) == [1, 2]
    assert await listed(phases=(P.SUCCEEDED,), limit=2, offset=2) == [2]
    assert await listed(offset=4) == []


async def test_an_action_has_its_inputs_outputs_and_attempts(source: Source) -> None:
    run = await source.result("tree", 5)
    root, *children = await source.client.list_actions(run.name)
    details = await source.client.get_action(run.name)
    assert details.action == root
    assert (json_of(details.inputs), json_of(details.outputs), details.version) == ({"x": 5}, [3], "v1")
    assert [spec.name for spec in details.interface.inputs] == ["x"]
    assert [(attempt.number, attempt.phase) for attempt in details.attempts] == [(1, P.SUCCEEDED)]
    for child, (task, x) in zip(children, CALLS, strict=True):
        found = await source.client.get_action(run.name, child.name)
        assert (found.action.task, json_of(found.inputs)) == (task, {"x": x})
        assert json_of(found.outputs) == (None if task == "contract.fail" else [x + 1])
        assert (found.action.error is not None) == (task == "contract.fail")


async def test_an_action_that_does_not_exist_is_not_found(source: Source) -> None:
    run = await source.result("add")
    with pytest.raises(ActionNotFoundError, match="zz"):
        await source.client.get_action(run.name, "zz")


# --------------------------------------------------------------------------------------------------------------- abort


async def test_a_run_that_is_aborted_says_why(source: Source) -> None:
    run = await source.start("slow")
    await source.running(run.name)
    aborted = await source.client.abort_run(run.name, "it is too slow")
    for found in (aborted, await source.client.get_run(run.name, wait=30)):
        assert (found.phase, found.outputs, found.message) == (P.ABORTED, None, "aborted: it is too slow")
        assert found.error is not None
        assert (found.error.code, found.error.message) == ("ActionAbortedError", "aborted: it is too slow")
        assert found.ended is not None
    again = await source.client.abort_run(run.name, "twice")
    assert (again.phase, again.message, again.ended) == (P.ABORTED, "aborted: it is too slow", aborted.ended)


async def test_a_run_that_has_ended_is_not_aborted(source: Source) -> None:
    ended = await source.result("add")
    assert (await source.client.abort_run(ended.name)).phase is P.SUCCEEDED


# -------------------------------------------------------------------------------------------------------------- watched


async def _seen(source: Source, run: str, **options: Any) -> list[tuple[str, int, wire.Run | wire.Event]]:
    return [seen async for seen in source.client.run_events(run, **options)]


async def test_who_watches_sees_the_run_as_it_is_and_then_each_event_until_the_end(source: Source) -> None:
    run = await source.start("slow", 7)
    await source.running(run.name)
    stream = source.client.run_events(run.name)
    kind, first, snapshot = await anext(stream)
    assert (kind, snapshot.phase, isinstance(snapshot, wire.Run)) == ("snapshot", P.RUNNING, True)
    source.gate.set()
    rest = [seen async for seen in stream]
    assert [kind for kind, _, _ in rest] == ["event"] * len(rest)
    numbers = [first, *(number for _, number, _ in rest)]
    assert numbers == sorted(set(numbers))
    last = rest[-1][2]
    assert isinstance(last, wire.Event)
    assert (last.subject, last.phase, last.seq) == (f"run/{run.name}/a0", "succeeded", numbers[-1])


async def test_who_watches_from_a_number_sees_what_came_after_it(source: Source) -> None:
    run = await source.result("add")
    every = await _seen(source, run.name, after=0)
    assert [kind for kind, _, _ in every] == ["event"] * len(every)
    phases = [record.phase for _, _, record in every]
    assert phases[0] == "queued"
    assert phases[-2:] == ["running", "succeeded"]
    for at, (_, number, _) in enumerate(every):
        assert await _seen(source, run.name, after=number) == every[at + 1 :]


async def test_who_watches_a_run_that_has_ended_sees_it_once(source: Source) -> None:
    run = await source.result("add")
    ((kind, number, record),) = await _seen(source, run.name)
    assert (kind, record.phase) == ("snapshot", P.SUCCEEDED)
    assert await _seen(source, run.name, after=number) == []
    assert await _seen(source, run.name, after=number + 1000) == []


async def test_who_watches_sees_the_root_action_or_all_actions(source: Source) -> None:
    run = await source.result("tree")
    actions = await source.client.list_actions(run.name)
    root = [record for _, _, record in await _seen(source, run.name, after=0)]
    every = [record for _, _, record in await _seen(source, run.name, after=0, actions="all")]
    assert {record.subject for record in root if isinstance(record, wire.Event)} == {f"run/{run.name}/a0"}
    last = {record.subject: record.phase for record in every if isinstance(record, wire.Event)}
    assert last == {f"run/{run.name}/{action.name}": action.phase.value for action in actions}
    assert every[-1] == root[-1]
