"""`flyte.serve` and what belongs to it: values at serving time, activation, clones, what a deployment prints, and the
ready-made webhook app."""

from __future__ import annotations

import pytest

from tests.platform_fixture import Platform
from tests.seed.platform_calls import app_client, deploy, finished_run

PATTERN = "Serve"

PROGRAM = """
import os
import pathlib

import flyte
import flyte.app
import httpx
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
env = FastAPIAppEnvironment(
    name="served",
    app=app,
    requires_auth=False,
    parameters=[flyte.app.Parameter(name="greeting", value="hello")],
)


@app.get("/")
async def greet() -> str:
    return os.environ["GREETING"]
"""

SERVE = """
import pathlib

import flyte
import httpx
from served import env

flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
handle = flyte.serve(env)
print(handle.name, handle.is_active(), httpx.get(handle.endpoint).json())
handle = flyte.with_servecontext(parameter_values={"served": {"greeting": "good evening"}}).serve(env)
print(handle.name, handle.is_active(), httpx.get(handle.endpoint).json())
handle.deactivate(wait=True)
print(handle.is_deactivated(), httpx.get(handle.endpoint).status_code)
handle.activate(wait=True)
print(handle.is_active(), httpx.get(handle.endpoint).json())
"""

DEPLOY = """
import pathlib

import flyte
import flyte.remote as remote
from served import env

flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
clone = env.clone_with("served-clone")
deployments = flyte.deploy(env)
print("summary:", deployments[0].summary_repr())
print("table:", deployments[0].table_repr())
app = remote.App.get(name="served")
print("app:", app.name, app.is_active(), app.endpoint)
"""

CLONE = """
import flyte.app
from served import env as original

env = original.clone_with("served-clone", parameters=[flyte.app.Parameter(name="greeting", value="hello, clone")])
"""


@pytest.fixture(scope="module", autouse=True)
def program(platform: Platform) -> None:
    platform.write("served.py", PROGRAM)


@pytest.mark.snippet(PATTERN, "serve, with_servecontext, activate, deactivate")
def test_a_script_serves_an_app_gives_it_values_stops_and_starts_it(platform: Platform) -> None:
    done = platform.python(platform.write("serve_it.py", SERVE), timeout=100)
    assert done.code == 0, done.both
    assert done.out.splitlines()[-4:] == [
        "served True hello",
        "served True good evening",
        "True 503",
        "True good evening",
    ]


@pytest.mark.snippet(PATTERN, "summary_repr, table_repr, remote.App")
def test_a_deployment_prints_what_was_deployed_and_where(platform: Platform) -> None:
    done = platform.python(platform.write("deploy_it.py", DEPLOY), timeout=100)
    assert done.code == 0, done.both
    summary = done.out.partition("summary:")[2].partition("table:")[0]
    table = done.out.partition("table:")[2].partition("app:")[0]
    url = platform.app_url("served")
    assert "served" in summary
    assert "served" in table
    assert url in table
    assert f"app: served True {url}" in done.out


@pytest.mark.snippet(PATTERN, "clone_with")
def test_a_clone_is_an_app_of_its_own(platform: Platform) -> None:
    deploy(platform, "served_clone", CLONE, "env")
    with app_client(platform, "served-clone") as http:
        assert http.get("/").json() == "hello, clone"


@pytest.mark.snippet(PATTERN, "flyte serve")
def test_the_command_serves_and_prints_the_address(platform: Platform) -> None:
    done = platform.cli("serve", "served.py", "env", timeout=90)
    assert done.code == 0, done.both
    assert platform.app_url("served") in done.out


WEBHOOK = """
import asyncio

import flyte
from flyte.app.extras import FlyteWebhookAppEnvironment

task_env = flyte.TaskEnvironment(name="hooked")


@task_env.task
async def double(x: int) -> int:
    return 2 * x


@task_env.task
async def hidden(x: int) -> int:
    return x


@task_env.task
async def endless() -> None:
    await asyncio.sleep(600)


env = FlyteWebhookAppEnvironment(
    name="ready-made",
    title="Ready made",
    task_allowlist=["hooked.double", "hooked.endless"],
    app_allowlist=["served"],
    requires_auth=False,
)

guarded_env = FlyteWebhookAppEnvironment(name="ready-guarded")
"""


@pytest.fixture(scope="module")
def ready_made(platform: Platform) -> None:
    deploy(platform, "ready_made", WEBHOOK)
    deploy(platform, "served", PROGRAM, "env")


@pytest.mark.snippet(PATTERN, "FlyteWebhookAppEnvironment")
def test_the_ready_made_webhook_runs_a_task_that_is_allowed(platform: Platform, ready_made: None) -> None:
    with app_client(platform, "ready-made", platform.token) as http:
        answer = http.post("/run-task/development/flytesnacks/hooked.double", json={"x": 21})
        assert answer.status_code == 200, answer.text
        name = answer.json()["name"]
        assert finished_run(platform, name)["outputs"] == [42]
        assert http.get(f"/run/{name}").json()["phase"] == "succeeded"
        io = http.get(f"/run/{name}/io")
    assert io.status_code == 200
    assert "42" in io.text
    assert "21" in io.text


@pytest.mark.snippet(PATTERN, "FlyteWebhookAppEnvironment")
def test_behind_the_gateways_own_door_it_still_acts_in_its_callers_name(platform: Platform, ready_made: None) -> None:
    with app_client(platform, "ready-guarded") as stranger:
        assert stranger.get("/me").status_code == 401
    with app_client(platform, "ready-guarded", platform.token) as http:
        assert http.get("/me").json()["subject"] == "owner"


@pytest.mark.snippet(PATTERN, "FlyteWebhookAppEnvironment")
def test_it_shows_a_task_and_aborts_a_run(platform: Platform, ready_made: None) -> None:
    with app_client(platform, "ready-made", platform.token) as http:
        assert "hooked.double" in http.get("/task/development/flytesnacks/hooked.double").text
        run = http.post("/run-task/development/flytesnacks/hooked.endless", json={}).json()["name"]
        assert http.post(f"/run/{run}/abort").status_code == 200
        assert finished_run(platform, run)["phase"] == "aborted"


@pytest.mark.snippet(PATTERN, "FlyteWebhookAppEnvironment")
def test_it_calls_stops_and_starts_an_app_that_is_allowed(platform: Platform, ready_made: None) -> None:
    with app_client(platform, "ready-made", platform.token) as http:
        assert http.post("/app/served/call", params={"path": "/"}).json() == "hello"
        stopped = http.post("/app/served/deactivate", params={"wait": True})
        assert stopped.json()["is_deactivated"], stopped.text
        started = http.post("/app/served/activate", params={"wait": True})
        assert started.json()["is_active"], started.text


@pytest.mark.snippet(PATTERN, "FlyteWebhookAppEnvironment")
def test_what_is_not_on_its_list_is_refused(platform: Platform, ready_made: None) -> None:
    with app_client(platform, "ready-made", platform.token) as http:
        assert http.post("/run-task/development/flytesnacks/hooked.hidden", json={"x": 1}).status_code == 403
        assert http.get("/app/guarded").status_code == 403
        assert http.get("/app/served").status_code == 200
        assert http.get("/run/no-such-run").status_code == 404
        assert http.post("/app/ready-made/deactivate").status_code in (400, 403)


@pytest.mark.snippet(PATTERN, "FlyteWebhookAppEnvironment")
def test_it_acts_for_its_caller_and_so_wants_the_callers_key(platform: Platform, ready_made: None) -> None:
    with app_client(platform, "ready-made") as http:
        assert http.get("/health").status_code == 200
        assert http.get("/me").status_code == 401
        assert http.post("/run-task/development/flytesnacks/hooked.double", json={"x": 1}).status_code == 401
        wrong = http.get("/me", headers={"Authorization": "Bearer tk_wrong"})
        assert wrong.status_code == 401
    with app_client(platform, "ready-made", platform.token) as http:
        assert http.get("/me").status_code == 200
