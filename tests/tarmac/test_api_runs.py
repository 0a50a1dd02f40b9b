"""Runs over HTTP: started once, listed, waited for, aborted; inputs and outputs as plain JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.wire import ActionPhase, ErrorInfo

from .api_server import KEY, VALUE_LIMIT, Server, add, serving, told

BODY = {"task": "env.add", "inputs": {"x": 41}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


async def test_a_run_is_created_and_told_as_a_record(server: Server) -> None:
    answer = await server.client().post("/v1/runs", json=BODY | {"labels": {"team": "a"}})
    assert answer.status_code == 201
    run = msgspec.json.decode(answer.content, type=wire.Run)
    assert (run.task, run.phase, run.created_by, run.labels) == ("env.add", "queued", "owner", {"team": "a"})
    assert run.url == f"{server.address}/v2/domain/development/project/flytesnacks/runs/{run.name}"


async def test_the_caller_is_noted_as_the_one_who_started_it(server: Server) -> None:
    answer = await server.client(KEY).post("/v1/runs", json=BODY)
    assert answer.json()["created_by"] == "github"


async def test_the_same_idempotency_key_answers_with_the_same_run(server: Server) -> None:
    headers = {"Idempotency-Key": "delivery-7"}
    first = await server.client().post("/v1/runs", json=BODY, headers=headers)
    second = await server.client().post("/v1/runs", json=BODY, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["name"] == second.json()["name"]


async def test_an_idempotency_key_in_the_body_is_as_good_as_in_the_header(server: Server) -> None:
    first = await server.client().post("/v1/runs", json=BODY | {"idempotency_key": "k"})
    second = await server.client().post("/v1/runs", json=BODY, headers={"Idempotency-Key": "k"})
    assert first.json()["name"] == second.json()["name"]


async def test_two_different_idempotency_keys_are_refused(server: Server) -> None:
    body = BODY | {"idempotency_key": "k"}
    answer = await server.client().post("/v1/runs", json=body, headers={"Idempotency-Key": "other"})
    assert answer.status_code == 422
    assert "send one of them" in told(answer).message


async def test_a_run_that_was_created_may_be_waited_for_in_the_same_call(server: Server) -> None:
    async def finish() -> None:
        async for event in server.control.journal.after(0, lambda event: event.phase == "queued"):
            name = event.subject.split("/")[1]
            server.control.move(name, ActionPhase.RUNNING)
            server.control.move(name, ActionPhase.SUCCEEDED, outputs=[{"sum": 42, "parts": [41, 1]}])
            return

    finishing = asyncio.ensure_future(finish())
    answer = await server.client().post("/v1/runs?wait=10", json=BODY)
    await finishing
    assert answer.status_code == 201
    assert answer.json()["phase"] == "succeeded"
    assert answer.json()["outputs"] == [{"sum": 42, "parts": [41, 1]}]


async def test_a_wait_that_runs_out_answers_with_the_run_as_it_is(server: Server) -> None:
    name = await add(server)
    answer = await server.client().get(f"/v1/runs/{name}?wait=0.05")
    assert answer.json()["phase"] == "queued"


async def test_a_wait_above_the_limit_is_refused_with_the_limit(server: Server) -> None:
    answer = await server.client().post("/v1/runs?wait=301", json=BODY)
    assert answer.status_code == 422
    assert "'wait'" in told(answer).message
    assert "300" in told(answer).message


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{not json", 400, "not JSON"),
        (b"", 422, "has no body"),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b'{"inputs": {}}', 422, "missing required field `task`"),
        (b'{"task": 7}', 422, "Expected `str`, got `int` - at `$.task`"),
        (b'{"task": "env.add", "inputs": {}}', 422, "needs 'x'"),
        (b'{"task": "env.add", "inputs": {"x": "a"}}', 422, "input 'x' of env.add is \"a\", not an int"),
        (b'{"task": "env.sub", "inputs": {}}', 404, "there is env.add"),
        (b'{"task": "env.add", "version": "v9", "inputs": {"x": 1}}', 404, "env.add"),
    ],
)
async def test_what_cannot_be_run_is_refused_with_one_sentence(
    server: Server, body: bytes, status: int, words: str
) -> None:
    answer = await server.client().post("/v1/runs", content=body)
    assert answer.status_code == status
    assert words in told(answer).message
    assert "\n" not in told(answer).message


async def test_a_body_above_the_limit_is_refused(server: Server) -> None:
    answer = await server.client().post("/v1/runs", json=BODY | {"labels": {"x": "y" * (VALUE_LIMIT + 2**20)}})
    assert answer.status_code == 413
    assert told(answer).code == "TooLargeError"
    assert "/v1/blobs" in told(answer).message


async def test_runs_are_listed_newest_first_and_by_what_is_asked(server: Server) -> None:
    names = []
    for n in range(4):
        server.control.now += 1
        names.append(await add(server, labels={"n": str(n)}))
    server.control.move(names[1], ActionPhase.RUNNING)
    server.control.move(names[2], ActionPhase.FAILED, error=ErrorInfo(code="ValueError", message="no"))

    async def listed(**query: Any) -> list[str]:
        answer = await server.client().get("/v1/runs", params=query)
        return [run["name"] for run in answer.json()]

    assert await listed() == names[::-1]
    assert await listed(limit=2) == [names[3], names[2]]
    assert await listed(phase="running,failed") == [names[2], names[1]]
    assert await listed(phase=["running", "failed"]) == [names[2], names[1]]
    assert await listed(label="n=3") == [names[3]]
    assert await listed(label="n=3,m=1") == []
    assert await listed(task="env.other") == []
    assert await listed(version="v1", project="flytesnacks") == names[::-1]
    assert await listed(domain="production") == []
    second = (await server.control.runs.get(names[1])).created
    assert await listed(created_before=repr(second)) == [names[0]]
    assert await listed(before_run=names[2], limit=1) == [names[1]]
    assert (await server.client().get("/v1/runs?before_run=nobody")).status_code == 404
    assert await listed(created_after=repr(second)) == [names[3], names[2], names[1]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("phase=runing", "the phases are queued"),
        ("label=team", "key=value"),
        ("limit=0", "'limit'"),
        ("limit=1001", "1000"),
        ("limit=many", "query parameter 'limit'"),
        ("created_after=yesterday", "'created_after'"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused(server: Server, query: str, words: str) -> None:
    answer = await server.client().get(f"/v1/runs?{query}")
    assert answer.status_code == 422
    assert words in told(answer).message


async def test_a_run_that_does_not_exist_is_not_found(server: Server) -> None:
    for path in ("", "/events", "/actions", "/actions/a0", "/actions/a0/logs"):
        answer = await server.client().get(f"/v1/runs/nope{path}")
        assert answer.status_code == 404
        assert told(answer).code == "RunNotFoundError"


@pytest.mark.parametrize(("body", "reason"), [(b"", ""), (b"{}", ""), (b'{"reason": "wrong inputs"}', "wrong inputs")])
async def test_a_run_is_aborted_in_the_callers_name(server: Server, body: bytes, reason: str) -> None:
    name = await add(server)
    answer = await server.client(KEY).post(f"/v1/runs/{name}/abort", content=body)
    assert answer.status_code == 200
    assert answer.json()["phase"] == "aborted"
    assert server.control.did[-1] == (f"abort {name}/a0: {reason}", "github")


async def test_an_action_is_aborted_alone(server: Server) -> None:
    name = await add(server)
    server.control.child(name, "c1")
    answer = await server.client().post(f"/v1/runs/{name}/actions/c1/abort", json={"reason": "slow"})
    assert answer.json()["phase"] == "aborted"
    assert (await server.control.runs.get(name)).phase is ActionPhase.QUEUED


async def test_actions_are_listed_by_parent_and_phase_and_page(server: Server) -> None:
    name = await add(server)
    for n in range(5):
        server.control.child(name, f"c{n}")
    server.control.child(name, "g0", parent="c0")
    server.control.move(name, ActionPhase.RUNNING, action="c3")

    async def listed(**query: Any) -> list[str]:
        answer = await server.client().get(f"/v1/runs/{name}/actions", params=query)
        return [action["name"] for action in answer.json()]

    assert await listed() == ["a0", "c0", "c1", "c2", "c3", "c4", "g0"]
    assert await listed(parent="a0", limit=2, offset=1) == ["c1", "c2"]
    assert await listed(parent="c0") == ["g0"]
    assert await listed(phase="running") == ["c3"]


async def test_an_actions_report_is_read_by_attempt(server: Server) -> None:
    name = await add(server)
    report = (await server.client().get(f"/v1/runs/{name}/actions/a0/report")).json()
    assert report["html"].startswith("<p>")
    assert report["attempt"] == 1
    assert (await server.client().get(f"/v1/runs/{name}/actions/a0/report?attempt=2")).status_code == 404


async def test_an_actions_details_hold_its_inputs_and_outputs_as_json(server: Server) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    server.control.move(name, ActionPhase.SUCCEEDED, outputs=[42])
    details = (await server.client().get(f"/v1/runs/{name}/actions/a0")).json()
    assert details["inputs"] == {"x": 41}
    assert details["outputs"] == [42]
    assert details["action"]["phase"] == "succeeded"
    assert details["interface"]["inputs"][1]["default"] == 1
    missing = await server.client().get(f"/v1/runs/{name}/actions/zz")
    assert (missing.status_code, told(missing).code) == (404, "ActionNotFoundError")
