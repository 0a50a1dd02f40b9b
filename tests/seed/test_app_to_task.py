"""Apps that run tasks: webhooks and APIs, by HTTP, with the keys and signatures their senders use."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.platform_fixture import Platform, wait_for
from tests.seed.conftest import WEBHOOK_HOST
from tests.seed.page import INCLUDED, Page
from tests.seed.platform_calls import (
    Tls,
    app_client,
    create_secret,
    deploy,
    finished_run,
    inputs_of,
    opens_in_the_console,
    run_task,
    runs_of,
)
from tests.seed.preludes import GITHUB_NAMES, filled_in, program

PATTERN = "App → task"
WEBHOOK_KEY = {"Authorization": "Bearer test-api-key"}

TASKS = """\
import asyncio
import pathlib

import flyte

env = flyte.TaskEnvironment(name="webhook-tasks")


@env.task
async def my_task(input_key: str) -> str:
    return f"got {input_key}"


@env.task
async def triage(data: dict, priority: int = 7) -> str:
    return f"{data} at {priority}"


@env.task
async def wait_at(gate: str, x: int = 20) -> int:
    async with asyncio.timeout(60):
        while not pathlib.Path(gate).exists():
            await asyncio.sleep(0.02)
    return x + 1


@env.task
async def refuse(reason: str) -> None:
    raise ValueError(reason)


@env.task
async def deploy_commit(commit: str) -> str:
    return commit
"""


@pytest.fixture(scope="module", autouse=True)
def tasks(platform: Platform) -> None:
    """The tasks that the apps run, as version v1."""
    deploy(platform, "webhook_tasks", TASKS, "--version", "v1")


# ------------------------------------------------------------------------------------------- lines 59 and 118


@pytest.fixture(scope="module")
def runner(platform: Platform, page: Page) -> Iterator[httpx.Client]:
    deploy(platform, "webhook_runner", page.block(59), "--version", "v1")
    with app_client(platform, "webhook-runner") as http:
        yield http


@pytest.mark.snippet(PATTERN, 59)
def test_a_request_starts_the_task_of_that_bare_name_and_version(platform: Platform, runner: httpx.Client) -> None:
    answer = runner.post("/run-task", json={"data": {"k": 1}})
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"run_id", "url", "status"}
    assert answer.json()["status"] == "started"
    run = answer.json()["run_id"]
    assert finished_run(platform, run)["outputs"] == [{"result": "processed"}]
    assert inputs_of(platform, run) == {"data": {"k": 1}}
    opens_in_the_console(platform, answer.json()["url"], run)


@pytest.mark.snippet(PATTERN, 59)
def test_a_body_with_other_inputs_is_refused_with_their_names_and_nothing_runs(
    platform: Platform, runner: httpx.Client
) -> None:
    before = len(runs_of(platform, "processing-env.process_data"))
    answer = runner.post("/run-task", json={"date": {"k": 1}})
    assert answer.status_code >= 400
    assert len(runs_of(platform, "processing-env.process_data")) == before
    log = platform.cli("get", "logs", "webhook-runner")
    assert all(name in log.out for name in ("'data'", "'date'")), log.both


@pytest.mark.snippet(PATTERN, 118)
def test_the_lifespan_initialises_and_a_literal_fetch_is_a_clean_error(platform: Platform, page: Page) -> None:
    deploy(platform, "task_runner_literal", program(page, 118))
    with app_client(platform, "task-runner-api") as http:
        for _ in range(20):  # the app stays up, and so does the connection
            _is_a_clean_error(http.post("/execute", json={"data": {}}))


def _is_a_clean_error(answer: httpx.Response) -> None:
    """What the page leaves open raises; the caller learns where to look, and nothing of the inside."""
    assert answer.status_code == 500
    assert "flyte get logs" in answer.json()["error"]["message"]
    assert "Ellipsis" not in answer.text


@pytest.mark.snippet(PATTERN, 118)
def test_with_a_task_filled_in_execute_answers_with_the_run(platform: Platform, page: Page) -> None:
    fetched = 'project="flytesnacks", domain="development", name="triage", version="v1"'
    deploy(platform, "task_runner_filled", filled_in(program(page, 118), fetched))
    with app_client(platform, "task-runner-api") as http:
        answer = http.post("/execute", json={"data": {"k": 1}, "priority": 2})
    assert answer.status_code == 200, answer.text
    assert finished_run(platform, answer.json()["run_id"])["outputs"] == ["{'k': 1} at 2"]
    opens_in_the_console(platform, answer.json()["url"], answer.json()["run_id"])


# ------------------------------------------------------------------------------------------- bare names, versions

FINDER = """\
import flyte
import flyte.remote as remote
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
env = FastAPIAppEnvironment(name="finder", app=app, requires_auth=False)
first = flyte.TaskEnvironment(name="first-env")
second = flyte.TaskEnvironment(name="second-env")


@first.task(short_name="one")
async def twin(x: int) -> int:
    return x


one = twin


@second.task(short_name="two")
async def twin(x: int) -> int:
    return -x


two = twin


@app.get("/find/{name}")
async def find(name: str, version: str = "v1"):
    await flyte.init_in_cluster.aio()
    try:
        task = await remote.TaskDetails.fetch(name=name, version=version)
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"name": task.name, "version": task.version}


@app.get("/later/{name}")
async def later(name: str):
    task = remote.Task.get(name=name, version="v1")
    run = await flyte.run.aio(task, x=3)
    await run.wait.aio()
    return {"outputs": await run.outputs.aio()}
"""


@pytest.fixture(scope="module")
def finder(platform: Platform) -> Iterator[httpx.Client]:
    deploy(platform, "finder", FINDER, "--version", "v1")
    with app_client(platform, "finder") as http:
        yield http


@pytest.mark.snippet(PATTERN, "bare names")
def test_an_ambiguous_bare_name_is_refused_with_the_candidates(finder: httpx.Client) -> None:
    found = finder.get("/find/twin").json()
    assert all(name in found["message"] for name in ("first-env.twin", "second-env.twin")), found


@pytest.mark.snippet(PATTERN, "bare names")
def test_a_missing_task_is_refused_with_what_is_there(finder: httpx.Client) -> None:
    found = finder.get("/find/my_tusk").json()
    assert found["error"] == "RemoteTaskNotFoundError"
    assert "my_task" in found["message"], found


@pytest.mark.snippet(PATTERN, "bare names")
def test_a_missing_version_is_refused_with_the_versions_there_are(finder: httpx.Client) -> None:
    found = finder.get("/find/my_task", params={"version": "v9"}).json()
    assert found["error"] == "RemoteTaskNotFoundError"
    assert all(version in found["message"] for version in ("v9", "v1")), found


@pytest.mark.snippet(PATTERN, "bare names")
def test_a_bare_name_that_is_unique_is_found(finder: httpx.Client) -> None:
    assert finder.get("/find/my_task").json() == {"name": "webhook-tasks.my_task", "version": "v1"}


@pytest.mark.snippet(PATTERN, "bare names")
def test_task_get_is_fetched_when_it_is_run(finder: httpx.Client) -> None:
    answer = finder.get("/later/second-env.twin")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"outputs": [-3]}


# ------------------------------------------------------------------------------------------- lines 149, 155 and 164


@pytest.fixture(scope="module")
def curl(platform: Platform, tls: Tls, page: Page) -> list[str]:
    """The page's command as words, with the included webhook deployed under the host that it calls.

    What a reader would do with DNS and a bought certificate is in ~/.curlrc; the command itself is not touched.
    """
    deploy(platform, "basic_webhook", (INCLUDED / "basic_webhook.py").read_text(), "env")
    public = (
        "import flyte.app\nfrom basic_webhook import env as webhook\n\n"
        f'env = webhook.clone_with("webhook-public", domain=flyte.app.Domain(custom_domain="{WEBHOOK_HOST}"))\n'
    )
    deploy(platform, "webhook_public", public, "env")
    (platform.user / ".curlrc").write_text(
        f'connect-to = "{_reroute(tls)}"\ncacert = "{tls.authority}"\nsilent\nwrite-out = "\\n%{{http_code}}"\n'
    )
    return ["bash", "-c", page.block(155)]


def _reroute(tls: Tls) -> str:
    return f"{WEBHOOK_HOST}:443:127.0.0.1:{tls.port}"


def _call(platform: Platform, command: list[str]) -> tuple[int, str]:
    """Run curl and return the HTTP status, which ~/.curlrc asks it to say, and the body."""
    env = {"HOME": str(platform.user), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.mark.snippet(PATTERN, 155)
def test_the_curl_command_runs_byte_for_byte_over_https(platform: Platform, curl: list[str], page: Page) -> None:
    status, body = _call(platform, curl)
    assert status == 200, body
    run = json.loads(body)
    shape = json.loads(page.block(164))
    assert run.keys() == shape.keys()
    assert all(isinstance(value, str) for value in run.values())
    assert run["status"] == shape["status"]
    assert finished_run(platform, run["id"])["outputs"] == ["got input_value"]
    opens_in_the_console(platform, run["url"], run["id"])


@pytest.mark.snippet(PATTERN, 155)
def test_the_same_command_with_a_wrong_token_is_refused_by_the_app(platform: Platform, curl: list[str]) -> None:
    wrong = curl[-1].replace("test-api-key", "another-key")
    assert wrong != curl[-1]
    status, body = _call(platform, ["bash", "-c", wrong])
    assert status == 403, body


@pytest.mark.snippet(PATTERN, 155)
def test_an_authority_that_did_not_sign_is_not_believed(tls: Tls, page: Page, tmp_path: Path) -> None:
    """What makes the two tests above worth something: curl does check the certificate."""
    words = shlex.split(page.block(155).replace("\\\n", " "))
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([*words, "--connect-to", _reroute(tls)], capture_output=True, timeout=30, env=env)
    assert done.returncode == 60, done.stderr


# ------------------------------------------------------------------------------------------- lines 178 and 213

PING = """
@app.get("/ping")
async def ping() -> str:
    return "pong"


env = FastAPIAppEnvironment(name="webhook-waiting", app=app, requires_auth=False)
"""


@pytest.fixture(scope="module")
def waiting(platform: Platform, page: Page) -> Iterator[httpx.Client]:
    """Blocks 178 and 213 in one app, which also answers pings."""
    deploy(platform, "webhook_waiting", program(page, 178, 213, after=PING))
    with app_client(platform, "webhook-waiting") as http:
        yield http


@pytest.mark.snippet(PATTERN, 178)
def test_pydantic_refuses_a_body_without_data(waiting: httpx.Client) -> None:
    answer = waiting.post("/run-task/flytesnacks/development/triage/v1", json={"priority": 1}, headers=WEBHOOK_KEY)
    assert answer.status_code == 422


@pytest.mark.snippet(PATTERN, 178)
def test_the_run_gets_the_validated_inputs_with_their_defaults(platform: Platform, waiting: httpx.Client) -> None:
    path = "/run-task/flytesnacks/development/triage/v1"
    answer = waiting.post(path, json={"data": {"k": 1}}, headers=WEBHOOK_KEY)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"run_id", "url"}
    run = answer.json()["run_id"]
    assert finished_run(platform, run)["phase"] == "succeeded"
    assert inputs_of(platform, run) == {"data": {"k": 1}, "priority": 0}


@pytest.mark.parametrize(
    ("headers", "statuses"), [({}, {401, 403}), ({"Authorization": "Bearer wrong"}, {403})], ids=["no key", "wrong key"]
)
@pytest.mark.snippet(PATTERN, 178)
def test_the_apps_own_check_sees_the_callers_header(
    waiting: httpx.Client, headers: dict[str, str], statuses: set[int]
) -> None:
    answer = waiting.post("/run-task/flytesnacks/development/triage/v1", json={"data": {}}, headers=headers)
    assert answer.status_code in statuses


WAIT_PATH = "/run-task-and-wait/flytesnacks/development/wait_at/v1"


@pytest.mark.snippet(PATTERN, 213)
async def test_the_answer_comes_when_the_run_has_ended_with_its_status_and_outputs(
    platform: Platform, waiting: httpx.Client, gate: Path
) -> None:
    async with _others(waiting) as http, asyncio.timeout(60):
        answering = asyncio.create_task(http.post(WAIT_PATH, json={"gate": str(gate), "x": 20}, headers=WEBHOOK_KEY))
        await _until(lambda: answering.done() or _at_the_gate(platform, gate), "the run is at the gate")
        assert not answering.done(), answering.result().text
        await asyncio.to_thread(gate.touch)
        answer = await answering
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.keys() == {"run_id", "url", "status", "outputs"}
    assert (found["status"], found["outputs"]) == ("succeeded", [21])
    opens_in_the_console(platform, found["url"], found["run_id"])


@pytest.mark.snippet(PATTERN, 213)
def test_a_run_that_fails_is_answered_with_its_status(platform: Platform, waiting: httpx.Client) -> None:
    path = "/run-task-and-wait/flytesnacks/development/refuse/v1"
    answer = waiting.post(path, json={"reason": "as was asked for"}, headers=WEBHOOK_KEY)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], answer.json()["outputs"]) == ("failed", [])
    assert finished_run(platform, answer.json()["run_id"])["error"]["message"] == "as was asked for"


@pytest.mark.snippet(PATTERN, 213)
async def test_twenty_requests_that_wait_do_not_keep_the_same_replica_from_answering_others(
    platform: Platform, waiting: httpx.Client, gate: Path
) -> None:
    """`run.wait()` stands un-awaited in `async def`; whoever blocked the loop there would never answer a ping."""
    limits = httpx.Limits(max_connections=None)
    async with _others(waiting, limits=limits) as http, asyncio.timeout(90), asyncio.TaskGroup() as group:
        requests = [
            group.create_task(http.post(WAIT_PATH, json={"gate": str(gate), "x": x}, headers=WEBHOOK_KEY))
            for x in range(20)
        ]
        await _until(
            lambda: any(request.done() for request in requests) or len(_at_the_gate(platform, gate)) == 20,
            "all twenty runs are there",
        )
        pings = [(await http.get("/ping", timeout=30)).json() for _ in range(50)]
        assert pings == ["pong"] * 50
        assert not [request.result().text for request in requests if request.done()]
        await asyncio.to_thread(gate.touch)
    answers = [request.result() for request in requests]
    assert [answer.status_code for answer in answers] == [200] * 20
    assert [answer.json()["outputs"] for answer in answers] == [[x + 1] for x in range(20)]


def _others(waiting: httpx.Client, limits: httpx.Limits | None = None) -> httpx.AsyncClient:
    options = {"limits": limits} if limits else {}
    return httpx.AsyncClient(base_url=waiting.base_url, timeout=90, trust_env=False, **options)  # type: ignore[arg-type]


async def _until(fact: Callable[[], object], promise: str) -> None:
    await asyncio.to_thread(wait_for, fact, promise, 30)


def _at_the_gate(platform: Platform, gate: Path) -> list[str]:
    """The runs that wait for this gate."""
    runs = [run["name"] for run in runs_of(platform, "webhook-tasks.wait_at") if run["phase"] not in _ENDED]
    return [name for name in runs if inputs_of(platform, name)["gate"] == str(gate)]


_ENDED = ("succeeded", "failed", "aborted", "timed_out")


@pytest.mark.snippet(PATTERN, "blocking calls off the platform")
def test_off_the_platform_a_blocking_wait_names_its_line_and_the_rewrite(platform: Platform) -> None:
    script = platform.write(
        "blocking.py",
        "import asyncio\n\nimport flyte\nimport flyte.remote as remote\n\nflyte.init_from_config()\n\n\n"
        "async def main():\n"
        '    task = await remote.TaskDetails.fetch(name="my_task", version="v1")\n'
        '    run = await flyte.run.aio(task, input_key="a")\n'
        "    run.wait()\n"
        "    print(run.status, run.outputs()[0])\n\n\n"
        "asyncio.run(main())\n",
    )
    done = platform.python(script)
    assert done.code == 0, done.both
    assert "succeeded got a" in done.out.splitlines()[-1]
    assert "blocking.py:12" in done.err
    assert "await run.wait.aio(" in done.err


# ------------------------------------------------------------------------------------------- line 282

SECRET = "a webhook secret of this test"


@pytest.fixture(scope="module")
def github(platform: Platform, page: Page) -> Iterator[httpx.Client]:
    """Block 282 with a task filled in; the literal one is deployed first, under the same name, by its own test."""
    create_secret(platform, "github-webhook-secret", SECRET)
    text = filled_in(program(page, 282, before=GITHUB_NAMES), 'name="deploy_commit", version="v1"')
    deploy(platform, "github_filled", text)
    with app_client(platform, "github-webhook") as http:
        yield http


def _signed(body: bytes, event: str, secret: str = SECRET) -> dict[str, str]:
    """The headers that GitHub sends."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": event, "Content-Type": "application/json"}


BODY = json.dumps({"after": "2f5ab1c", "ref": "refs/heads/main"}).encode()


@pytest.mark.snippet(PATTERN, 282)
def test_a_literal_fetch_in_the_github_webhook_is_a_clean_error(platform: Platform, page: Page) -> None:
    create_secret(platform, "github-webhook-secret", SECRET)
    deploy(platform, "github_literal", program(page, 282, before=GITHUB_NAMES))
    with app_client(platform, "github-webhook") as http:
        _is_a_clean_error(http.post("/github-webhook", content=BODY, headers=_signed(BODY, "push")))
        ignored = http.post("/github-webhook", content=BODY, headers=_signed(BODY, "ping"))
        assert ignored.json() == {"status": "ignored"}


@pytest.mark.snippet(PATTERN, 282)
def test_a_push_with_the_real_signature_starts_the_task_with_its_commit(
    platform: Platform, github: httpx.Client
) -> None:
    answer = github.post("/github-webhook", content=BODY, headers=_signed(BODY, "push"))
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"run_id", "url"}
    assert inputs_of(platform, answer.json()["run_id"]) == {"commit": "2f5ab1c"}
    assert finished_run(platform, answer.json()["run_id"])["outputs"] == ["2f5ab1c"]


@pytest.mark.snippet(PATTERN, 282)
def test_another_event_with_the_real_signature_is_ignored(github: httpx.Client) -> None:
    answer = github.post("/github-webhook", content=BODY, headers=_signed(BODY, "ping"))
    assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})


@pytest.mark.snippet(PATTERN, 282)
def test_a_wrong_signature_is_refused(github: httpx.Client) -> None:
    answer = github.post("/github-webhook", content=BODY, headers=_signed(BODY, "push", secret="another"))
    assert answer.status_code == 403
    tampered = github.post("/github-webhook", content=BODY + b" ", headers=_signed(BODY, "push"))
    assert tampered.status_code == 403


@pytest.mark.snippet(PATTERN, 282)
def test_no_signature_starts_nothing_and_the_app_stays_up(platform: Platform, github: httpx.Client) -> None:
    """The page's code compares with None, which raises: its error, and an answer of 500."""
    before = len(runs_of(platform, "webhook-tasks.deploy_commit"))
    answer = github.post("/github-webhook", content=BODY, headers={"X-GitHub-Event": "push"})
    assert answer.status_code == 500
    assert len(runs_of(platform, "webhook-tasks.deploy_commit")) == before
    assert github.post("/github-webhook", content=BODY, headers=_signed(BODY, "ping")).status_code == 200


@pytest.mark.snippet(PATTERN, "version v1")
def test_a_task_runs_by_its_bare_name_from_anywhere(platform: Platform) -> None:
    assert run_task(platform, "my_task", "v1", input_key="x")["outputs"] == ["got x"]
