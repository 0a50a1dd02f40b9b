"""`requires_auth` means what it says: a key or nothing when it is true, nobody in between when it is false."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.platform_fixture import Platform
from tests.seed.platform_calls import api_key, app_client, deploy, run_task

PATTERN = "Auth"

PROGRAM = """
import os

import httpx

import flyte
from fastapi import FastAPI, Request, WebSocket
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
guarded = FastAPIAppEnvironment(name="guarded", app=app)
opened = FastAPIAppEnvironment(name="opened", app=app, requires_auth=False, depends_on=[guarded])
task_env = flyte.TaskEnvironment(name="guarded-callers", depends_on=[guarded, opened])


@app.get("/headers")
async def headers(request: Request):
    return dict(request.headers)


@app.post("/headers")
async def posted(request: Request):
    return dict(request.headers)


@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json(dict(websocket.headers))
    await websocket.close()


@app.get("/calls-guarded")
async def calls_guarded():
    async with httpx.AsyncClient() as client:
        carried = await client.get(f"{guarded.endpoint}/headers")
        other = await client.get(f"{guarded.endpoint}/headers", headers={"Authorization": "Bearer another"})
        to_opened = await client.get(f"{opened.endpoint}/headers")
    return {
        "carried": carried.status_code,
        "caller": carried.json().get("x-flyte-caller"),
        "other": other.status_code,
        "sent to opened": to_opened.json().get("authorization"),
    }


@task_env.task
async def call_guarded() -> dict:
    return await calls_guarded()


@task_env.task
async def own_key() -> str:
    return os.environ["FLYTE_API_KEY"]
"""


@pytest.fixture(scope="module", autouse=True)
def program(platform: Platform) -> None:
    deploy(platform, "authorization", PROGRAM)


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    return api_key(platform, "seed-auth")


@pytest.fixture
def anybody(platform: Platform) -> Iterator[httpx.Client]:
    with app_client(platform, "guarded") as http:
        yield http


@pytest.mark.snippet(PATTERN, "requires_auth=True")
def test_without_a_key_http_is_answered_401_that_says_how_to_get_one(anybody: httpx.Client) -> None:
    answer = anybody.get("/headers")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "flyte create api-key" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "header", ["Bearer tk_wrong", "Bearer", "Basic abc", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJvd25lciJ9."]
)
@pytest.mark.snippet(PATTERN, "requires_auth=True")
def test_what_is_no_key_is_answered_401(anybody: httpx.Client, header: str) -> None:
    assert anybody.get("/headers", headers={"Authorization": header}).status_code == 401


@pytest.mark.snippet(PATTERN, "requires_auth=True")
def test_a_key_opens_the_app_and_is_not_handed_on_to_it(anybody: httpx.Client, key: str) -> None:
    answer = anybody.get("/headers", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert key not in answer.text
    assert answer.json()["x-flyte-caller"] == "seed-auth"


@pytest.mark.snippet(PATTERN, "requires_auth=True")
def test_the_owners_token_opens_the_app(platform: Platform, anybody: httpx.Client) -> None:
    assert anybody.get("/headers", headers={"Authorization": f"Bearer {platform.token}"}).status_code == 200


@pytest.mark.snippet(PATTERN, "requires_auth=True, WebSocket")
async def test_without_a_key_the_websocket_handshake_is_answered_401(platform: Platform) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(platform.app_url("guarded").replace("http://", "ws://") + "/ws", proxy=None)
    assert refused.value.response.status_code == 401


@pytest.mark.snippet(PATTERN, "requires_auth=True, WebSocket")
async def test_with_a_key_the_websocket_is_opened(platform: Platform, key: str) -> None:
    address = platform.app_url("guarded").replace("http://", "ws://") + "/ws"
    async with connect(address, proxy=None, additional_headers={"Authorization": f"Bearer {key}"}) as connection:
        seen = await connection.recv()
    assert isinstance(seen, str)
    assert "seed-auth" in seen
    assert key not in seen


@pytest.mark.snippet(PATTERN, "by host name")
def test_the_front_door_asks_for_the_key_too(platform: Platform, key: str) -> None:
    headers = {"Host": "guarded.flyte.localhost"}
    with httpx.Client(base_url=platform.endpoint, headers=headers, trust_env=False) as http:
        assert http.get("/headers").status_code == 401
        assert http.get("/headers", headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.snippet(PATTERN, "flyte delete api-key")
def test_a_revoked_key_opens_nothing_any_more(platform: Platform, anybody: httpx.Client) -> None:
    key = api_key(platform, "to-be-revoked")
    headers = {"Authorization": f"Bearer {key}"}
    assert anybody.get("/headers", headers=headers).status_code == 200
    revoked = platform.cli("delete", "api-key", "to-be-revoked")
    assert revoked.code == 0, revoked.both
    assert anybody.get("/headers", headers=headers).status_code == 401
    with httpx.Client(base_url=platform.endpoint, headers=headers, trust_env=False) as http:
        assert http.get("/v1/apps").status_code == 401


@pytest.mark.snippet(PATTERN, "flyte create api-key")
def test_a_key_is_shown_once_and_kept_as_a_hash(platform: Platform, key: str) -> None:
    assert key not in platform.cli("get", "api-key", "-o", "json").out
    kept = [path for path in platform.home.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert kept == []


@pytest.mark.snippet(PATTERN, "requires_auth=False")
def test_an_open_app_sees_the_callers_own_authorization_untouched(platform: Platform, key: str) -> None:
    with app_client(platform, "opened") as http:
        assert "authorization" not in http.get("/headers").json()
        for header in ("Bearer test-api-key", "Basic dXNlcjpwYXNz", "Signature abc", f"Bearer {key}"):
            assert http.get("/headers", headers={"Authorization": header}).json()["authorization"] == header
            assert http.post("/headers", headers={"Authorization": header}).json()["authorization"] == header


@pytest.mark.parametrize("app", ["opened", "guarded"])
@pytest.mark.snippet(PATTERN, "x-flyte-*")
def test_a_client_cannot_say_who_it_is(platform: Platform, key: str, app: str) -> None:
    claims = {"X-Flyte-Caller": "owner", "x-flyte-anything": "1"}
    with app_client(platform, app, key) as http:
        seen = http.get("/headers", headers=claims).json()
    assert seen.get("x-flyte-caller") != "owner"
    assert "x-flyte-anything" not in seen


@pytest.mark.snippet(PATTERN, "identity of tasks and apps")
def test_a_task_calls_a_guarded_app_as_itself_and_sends_its_key_nowhere_else(platform: Platform) -> None:
    run = run_task(platform, "call_guarded")
    assert run["phase"] == "succeeded", run
    _carried_its_own_identity(run["outputs"][0])


@pytest.mark.snippet(PATTERN, "identity of tasks and apps")
def test_an_app_calls_a_guarded_app_as_itself_and_sends_its_key_nowhere_else(platform: Platform) -> None:
    with app_client(platform, "opened") as http:
        _carried_its_own_identity(http.get("/calls-guarded").json())


def _carried_its_own_identity(found: dict[str, Any]) -> None:
    """The key went to the app that asks for one, unless the request had a header of its own, and to no other app."""
    assert found["carried"] == 200
    assert found["caller"] not in (None, "owner")
    assert found["other"] == 401
    assert found["sent to opened"] is None


@pytest.mark.snippet(PATTERN, "identity of tasks and apps")
def test_a_tasks_identity_is_its_own_and_not_the_owners_token(platform: Platform) -> None:
    first, second = (run_task(platform, "own_key")["outputs"][0] for _ in range(2))
    assert platform.token not in (first, second)
    assert first != second


@pytest.mark.snippet(PATTERN, "the owner's commands")
def test_the_owners_commands_carry_their_key_by_themselves(platform: Platform) -> None:
    assert platform.cli("get", "app", "guarded").code == 0
    with httpx.Client(base_url=platform.endpoint, trust_env=False) as http:
        assert http.get("/v1/apps/guarded").status_code == 401
