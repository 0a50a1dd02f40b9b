"""The platform itself over HTTP: deployments, tasks, health, secrets, keys, projects."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from flyte._client.client import Client
from flyte.errors import AppNotFoundError, NotAuthenticatedError, RemoteTaskNotFoundError
from flyte.wire import ActionPhase, Event, Project, Run, RunRequest

from .api_server import KEY, OWNER, Server, serving, told


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


async def test_health_is_told_to_everybody(server: Server) -> None:
    answer = await server.client(None).get("/v1/health")
    assert answer.status_code == 200
    assert answer.json()["components"] == {"control": "ok", "agent": "ok"}


async def test_me_is_whoever_the_key_belongs_to(server: Server) -> None:
    assert (await server.client(OWNER).get("/v1/me")).json() == {"subject": "owner", "kind": "owner"}
    assert (await server.client(KEY).get("/v1/me")).json() == {"subject": "github", "kind": "key"}
    assert (await server.browser("github").get("/v1/me")).json() == {"subject": "github", "kind": "key"}


async def test_a_deployment_is_taken_on_and_makes_its_tasks_known(server: Server) -> None:
    task = {
        "name": "env.mul",
        "short_name": "mul",
        "entry": "m:mul",
        "environment": {"name": "env", "kind": "task"},
    }
    answer = await server.client(KEY).post("/v1/deployments", json={"version": "v2", "tasks": [task]})
    assert (answer.status_code, answer.json()["phase"]) == (202, "running")
    assert server.control.did == [("deploy", "github")]
    assert (await server.client().get("/v1/tasks/mul")).json()["name"] == "env.mul"


async def test_tasks_are_listed_by_name_and_environment(server: Server) -> None:
    client = server.client()
    assert [task["name"] for task in (await client.get("/v1/tasks")).json()] == ["env.add"]
    assert (await client.get("/v1/tasks?name=add&env=env")).json() != []
    assert (await client.get("/v1/tasks?env=other")).json() == []


async def test_a_task_is_found_by_its_bare_name_and_version(server: Server) -> None:
    task = (await server.client().get("/v1/tasks/add?version=v1")).json()
    assert (task["name"], task["versions"]) == ("env.add", ["v1"])
    assert task["spec"]["interface"]["inputs"][0]["schema"] == {"type": "integer"}
    missing = await server.client().get("/v1/tasks/add?version=v9")
    assert (missing.status_code, told(missing).code) == (404, "RemoteTaskNotFoundError")


async def test_a_secrets_value_goes_in_and_never_comes_out(server: Server) -> None:
    client = server.client()
    answer = await client.post("/v1/secrets", json={"name": "api-key", "value": "hunter2"})
    assert answer.status_code == 201
    answers = [answer, await client.get("/v1/secrets"), await client.get("/v1/secrets/api-key")]
    assert all("hunter2" not in answer.text for answer in answers)
    assert answers[1].json()[0]["name"] == "api-key"
    assert (await client.delete("/v1/secrets/api-key")).status_code == 204
    gone = await client.get("/v1/secrets/api-key")
    assert (gone.status_code, told(gone).code) == (404, "SecretNotFoundError")
    assert "flyte create secret api-key" in told(gone).message


async def test_a_key_is_told_once(server: Server) -> None:
    client = server.client()
    made = (await client.post("/v1/keys", json={"name": "ci"})).json()
    assert made["key"]
    (listed,) = (await client.get("/v1/keys")).json()
    assert listed["id"] == made["id"]
    assert "key" not in listed
    assert (await client.delete(f"/v1/keys/{made['id']}")).status_code == 204
    assert (await client.delete(f"/v1/keys/{made['id']}")).status_code == 404


async def test_projects_are_made_and_listed(server: Server) -> None:
    client = server.client()
    assert (await client.post("/v1/projects", json={"id": "search"})).status_code == 201
    assert [project["id"] for project in (await client.get("/v1/projects")).json()] == ["flytesnacks", "search"]


async def test_a_project_is_changed_and_keeps_its_id(server: Server) -> None:
    client = server.client()
    await client.post("/v1/projects", json={"id": "search"})
    changed = await client.put("/v1/projects/search", json={"id": "search", "name": "Search", "archived": True})
    assert changed.json() == {"id": "search", "name": "Search", "archived": True}
    assert (await client.get("/v1/projects")).json()[1] == changed.json()
    assert (await client.put("/v1/projects/search", json={"id": "other"})).status_code == 422
    missing = await client.put("/v1/projects/nope", json={"id": "nope"})
    assert missing.status_code == 404
    assert "flytesnacks, search" in missing.json()["error"]["message"]


async def test_a_login_code_leads_to_the_console(server: Server) -> None:
    answer = await server.client().post("/v1/login-codes")
    assert answer.status_code == 201
    assert answer.json()["url"] == f"{server.address}/login?code={answer.json()['code']}"


# ------------------------------------------------------------------------------------- the SDK's own client, same API


async def test_the_sdks_client_and_this_api_speak_the_same_language(server: Server) -> None:
    client = Client(server.address, OWNER)
    assert (await client.me()).subject == "owner"
    await client.put_blob("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", b"hello")
    assert await client.has_blob("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
    assert not await client.has_bundle("0" * 64)
    run = await client.create_run(RunRequest(task="add", inputs=msgspec.Raw(b'{"x": 1}')))
    seen: list[str] = []
    async with contextlib.aclosing(client.run_events(run.name)) as events:
        async for kind, _, record in events:
            assert isinstance(record, Run | Event)
            seen.append(str(record.phase))
            if kind == "snapshot":
                server.control.move(run.name, ActionPhase.RUNNING)
                server.control.move(run.name, ActionPhase.SUCCEEDED, outputs=[2])
    assert seen == ["queued", "running", "succeeded"]
    assert (await client.get_run(run.name, wait=5)).outputs == msgspec.Raw(b"[2]")
    assert [action.name for action in await client.list_actions(run.name)] == ["a0"]
    assert (await client.create_project(Project(id="p"))).id == "p"


async def test_the_sdks_client_raises_what_this_api_refuses(server: Server) -> None:
    client = Client(server.address, OWNER)
    with pytest.raises(RemoteTaskNotFoundError, match=r"there is env\.add"):
        await client.get_task("nope")
    with pytest.raises(AppNotFoundError):
        await client.activate_app("nope")
    with pytest.raises(NotAuthenticatedError, match="does not know this key"):
        await Client(server.address, "tk_wrong").me()
