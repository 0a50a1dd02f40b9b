"""Tasks that call apps: by the environment's endpoint, and by an address that is passed in."""

from __future__ import annotations

import json

import pytest

from tests.platform_fixture import Platform
from tests.seed.page import INCLUDED, Page
from tests.seed.platform_calls import app_client, deploy, run_task
from tests.seed.preludes import program

PATTERN = "Task → app"


@pytest.fixture(scope="module")
def caller(platform: Platform, page: Page) -> None:
    """Block 39 and the app it calls; to deploy the task's environment brings the app."""
    deploy(platform, "task_to_app", program(page, 39), "task_env")


@pytest.fixture(scope="module")
def included(platform: Platform) -> str:
    return deploy(platform, "task_calling_app", (INCLUDED / "task_calling_app.py").read_text(), "task_env")


@pytest.mark.snippet(PATTERN, "task_calling_app.py")
def test_deploying_the_tasks_brings_the_app_they_depend_on(platform: Platform, included: str) -> None:
    with app_client(platform, "add-one-app") as http:
        assert http.get("/", params={"x": 1}).json() == {"result": 2}


@pytest.mark.snippet(PATTERN, "task_calling_app.py")
def test_a_task_reaches_its_app_by_the_environments_endpoint(platform: Platform, included: str) -> None:
    run = run_task(platform, "add_one_task", x=41)
    assert (run["phase"], run["outputs"]) == ("succeeded", [42])


@pytest.mark.snippet(PATTERN, "task_calling_app.py")
def test_the_command_line_runs_the_task_with_an_input(platform: Platform, included: str) -> None:
    done = platform.cli("run", "--follow", "task_calling_app.py", "add_one_task", "--x", "41")
    assert done.code == 0, done.both
    assert "42" in done.out.splitlines()


@pytest.mark.snippet(PATTERN, 39)
def test_a_task_calls_the_app_whose_address_is_passed_in(platform: Platform, caller: None) -> None:
    run = run_task(platform, "call_app_task", app_url=platform.app_url("echo-app"), data={"a": 1})
    assert (run["phase"], run["outputs"]) == ("succeeded", [{"echo": {"a": 1}}])


@pytest.mark.snippet(PATTERN, 39)
def test_the_command_line_takes_the_address_and_the_data(platform: Platform, caller: None) -> None:
    words = ("--app_url", platform.app_url("echo-app"), "--data", json.dumps({"a": [1, 2]}))
    done = platform.cli("run", "--follow", "task_to_app.py", "call_app_task", *words)
    assert done.code == 0, done.both
    assert '"echo"' in done.out


@pytest.mark.snippet(PATTERN, 39)
def test_an_app_that_answers_500_fails_the_run_with_the_clients_own_error(platform: Platform, caller: None) -> None:
    run = run_task(platform, "call_app_task", app_url=platform.app_url("echo-app"), data={"fail": True})
    assert run["phase"] == "failed"
    assert run["error"]["code"] == "HTTPStatusError"
    assert run["error"]["type"] == "httpx:HTTPStatusError"
    assert "500" in run["error"]["message"]
