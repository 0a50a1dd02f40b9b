"""Apps that call apps: by the other environment's endpoint, and by an address that the platform hands in."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.platform_fixture import Platform
from tests.seed.page import Page
from tests.seed.platform_calls import app_client, deploy, run_task, try_to_deploy
from tests.seed.preludes import program

PATTERN = "App → app"
APPS = ("backend-api", "frontend-api")

SHOWS_ITS_URL = """
@app2.get("/backend-url")
async def backend_url_of_this_app() -> str:
    return os.environ["BACKEND_URL"]
"""


@pytest.fixture(scope="module")
def printed(platform: Platform, page: Page) -> str:
    """What `flyte deploy` says when block 332's frontend is deployed; its backend comes with it."""
    return deploy(platform, "backend_and_frontend", page.block(332), "env2")


@pytest.fixture(scope="module")
def frontend(platform: Platform, printed: str) -> Iterator[httpx.Client]:
    with app_client(platform, "frontend-api") as http:
        yield http


@pytest.mark.snippet(PATTERN, 332)
def test_the_backend_is_deployed_before_the_frontend_that_depends_on_it(platform: Platform, printed: str) -> None:
    with platform.client() as http:
        ready = {name: http.get(f"/v1/apps/{name}").json()["replicas"][0]["ready"] for name in APPS}
        created = {name: http.get(f"/v1/apps/{name}").json()["replicas"][0]["created"] for name in APPS}
    assert ready["backend-api"] <= created["frontend-api"]


@pytest.mark.snippet(PATTERN, 332)
def test_the_frontend_answers_with_what_its_backend_said(frontend: httpx.Client) -> None:
    answer = frontend.get("/greeting/Ann")
    assert (answer.status_code, answer.json()) == (200, "Hello, Ann!")


@pytest.mark.snippet(PATTERN, 332)
def test_a_stopped_backend_is_the_frontends_error_and_its_return_heals_it(
    platform: Platform, frontend: httpx.Client
) -> None:
    stopped = platform.cli("update", "app", "backend-api", "--deactivate", "--wait")
    assert stopped.code == 0, stopped.both
    assert frontend.get("/greeting/Ann").status_code >= 500
    started = platform.cli("update", "app", "backend-api", "--activate", "--wait")
    assert started.code == 0, started.both
    assert frontend.get("/greeting/Ann").json() == "Hello, Ann!"


@pytest.fixture(scope="module")
def with_input(platform: Platform, page: Page, frontend: httpx.Client) -> Iterator[httpx.Client]:
    """Block 385 in the place of the frontend; it leaves `requires_auth` at its default, so it wants a key."""
    deploy(platform, "frontend_with_input", program(page, 385, after=SHOWS_ITS_URL))
    with app_client(platform, "frontend-api", platform.token) as http:
        yield http


@pytest.mark.snippet(PATTERN, 385)
def test_the_input_is_an_environment_variable_with_the_backends_address(
    platform: Platform, with_input: httpx.Client
) -> None:
    assert with_input.get("/backend-url").json() == platform.app_url("backend-api")
    answer = with_input.get("/greeting/Ann")
    assert (answer.status_code, answer.json()) == (200, "Hello, Ann!")


@pytest.mark.snippet(PATTERN, 385)
def test_an_app_that_does_not_exist_is_named_when_the_app_that_wants_it_is_deployed(
    platform: Platform, page: Page
) -> None:
    text = program(page, 385).replace('app_name="backend-api"', 'app_name="no-such-app"')
    done = try_to_deploy(platform, "frontend_astray", text.replace('name="frontend-api"', 'name="frontend-astray"'))
    assert done.code == 2
    assert "no-such-app" in done.err
    assert "Traceback" not in done.err
    with platform.client() as http:
        assert http.get("/v1/apps/frontend-astray").status_code == 404


PARAMETERS = """
import os
import pathlib

import flyte
import flyte.app
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

task_env = flyte.TaskEnvironment(name="parameter-tasks")


@task_env.task
async def train(size: int) -> str:
    return f"model of size {{size}}"


app = FastAPI()
env = FastAPIAppEnvironment(
    name="parametric",
    app=app,
    requires_auth=False,
    parameters=[
        flyte.app.Parameter(name="greeting", value="hello"),
        flyte.app.Parameter(name="language", value="en", env_var="SPEAKS"),
        flyte.app.Parameter(name="backend", value=flyte.app.AppEndpoint(app_name="backend-api")),
        flyte.app.Parameter(name="model", value=flyte.app.RunOutput(type="string", task_name="parameter-tasks.train")),
        flyte.app.Parameter(name="rules", value="{rules}", type="file", mount="{mounted}/"),
    ],
)


@app.get("/values")
async def everything():
    rules = pathlib.Path("{mounted}") / "rules.txt"
    return {{
        "greeting": flyte.app.get_parameter("greeting"),
        "greeting_variable": os.environ["GREETING"],
        "language": os.environ["SPEAKS"],
        "backend": flyte.app.get_parameter("backend"),
        "model": flyte.app.get_parameter("model"),
        "rules": pathlib.Path(flyte.app.get_parameter("rules")).read_text(),
        "mounted": rules.read_text() if rules.exists() else None,
    }}


@app.get("/missing")
async def missing():
    try:
        return flyte.app.get_parameter("colour")
    except ValueError as error:
        return str(error)
"""


@pytest.fixture(scope="module")
def parametric(platform: Platform, frontend: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program's text with its paths filled in; the task whose output it wants has run."""
    folder = tmp_path_factory.mktemp("parameters")
    rules = folder / "rules.txt"
    rules.write_text("be kind")
    text = PARAMETERS.format(rules=rules, mounted=folder / "mounted")
    deploy(platform, "parametric", text, "task_env")
    assert run_task(platform, "parameter-tasks.train", size=3)["outputs"] == ["model of size 3"]
    deploy(platform, "parametric", text, "env")
    return text


@pytest.mark.snippet(PATTERN, "Parameter, env_var, mount, RunOutput")
def test_parameters_arrive_by_variable_by_name_and_as_files(platform: Platform, parametric: str) -> None:
    with app_client(platform, "parametric") as http:
        found = http.get("/values").json()
    assert found == {
        "greeting": "hello",
        "greeting_variable": "hello",
        "language": "en",
        "backend": platform.app_url("backend-api"),
        "model": "model of size 3",
        "rules": "be kind",
        "mounted": "be kind",
    }


@pytest.mark.snippet(PATTERN, "get_parameter")
def test_a_parameter_that_is_not_declared_is_answered_with_those_that_are(platform: Platform, parametric: str) -> None:
    with app_client(platform, "parametric") as http:
        message = http.get("/missing").json()
    assert all(name in message for name in ("colour", "greeting", "rules")), message


@pytest.mark.snippet(PATTERN, "a RunOutput of a task that never ran")
def test_an_output_that_does_not_exist_fails_the_deploy_with_its_name(platform: Platform, parametric: str) -> None:
    text = parametric.replace('task_name="parameter-tasks.train"', 'task_name="parameter-tasks.never"')
    text = text.replace('name="parametric"', 'name="parametric-astray"')
    done = try_to_deploy(platform, "parametric_astray", text, "env")
    assert done.code == 2
    assert "parameter-tasks.never" in done.err
