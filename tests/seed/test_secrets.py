"""Secrets: made by their owner, sealed on disk, given to the processes that name them, and shown to nobody."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import secrets
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.platform_fixture import Platform, wait_for
from tests.seed.page import Page
from tests.seed.platform_calls import app_client, create_secret, deploy, run_task, try_to_deploy
from tests.seed.preludes import BEFORE, program

PATTERN = "Secrets"
VALUE = f"sealed-{secrets.token_hex(16)}"
"""Long and random, so that it can be searched for in everything the platform keeps and says."""

ROUTES = """
import hashlib


@app.get("/digest")
async def digest() -> str:
    return hashlib.sha256(WEBHOOK_API_KEY.encode()).hexdigest()
"""


@pytest.fixture(scope="module")
def served(platform: Platform, page: Page) -> str:
    """Blocks 245 and 256 as one app. The page leaves `requires_auth` at its default, so it wants a key."""
    create_secret(platform, "webhook-api-key", VALUE)
    text = program(page, 245, 256, before=BEFORE[256] + BEFORE[245], after=ROUTES)
    deploy(platform, "webhook_with_secret", text, "env")
    return text


@pytest.mark.snippet(PATTERN, 245)
def test_a_deploy_that_names_a_missing_secret_fails_with_the_command_that_creates_it(
    platform: Platform, page: Page
) -> None:
    text = program(page, 245).replace('key="webhook-api-key"', 'key="missing-key"')
    done = try_to_deploy(platform, "without_secret", text.replace('name="webhook-runner"', 'name="without-secret"'))
    assert done.code == 2
    assert "flyte create secret missing-key" in done.err
    assert "Traceback" not in done.err
    with platform.client() as http:
        assert http.get("/v1/apps/without-secret").status_code == 404


@pytest.mark.snippet(PATTERN, 256)
def test_the_app_finds_the_secrets_value_in_its_environment(platform: Platform, served: str) -> None:
    with app_client(platform, "webhook-runner", platform.token) as http:
        answer = http.get("/digest")
    assert (answer.status_code, answer.json()) == (200, hashlib.sha256(VALUE.encode()).hexdigest())


TASK = """
import hashlib
import os

import flyte

env = flyte.TaskEnvironment(name="sealed", secrets=[flyte.Secret(key="webhook-api-key"), "second-key"])


@env.task
async def digests() -> list[str]:
    return [hashlib.sha256(os.environ[name].encode()).hexdigest() for name in ("WEBHOOK_API_KEY", "SECOND_KEY")]
"""


@pytest.mark.snippet(PATTERN, "in a task")
def test_a_task_gets_its_secrets_under_their_default_names(platform: Platform, served: str) -> None:
    create_secret(platform, "second-key", "k2")
    deploy(platform, "sealed", TASK, "env")
    expected = [hashlib.sha256(value.encode()).hexdigest() for value in (VALUE, "k2")]
    assert run_task(platform, "sealed.digests")["outputs"] == [expected]


MOUNTED = """
import hashlib
import pathlib

import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

SECRET = flyte.Secret("webhook-api-key", mount=pathlib.Path("/etc/flyte/secrets"))
FILE = pathlib.Path("/etc/flyte/secrets/webhook-api-key")


def digest() -> str:
    return hashlib.sha256(FILE.read_bytes()).hexdigest() if FILE.exists() else "there is no file"


AT_IMPORT = digest()
app = FastAPI()
env = FastAPIAppEnvironment(name="mounted-app", app=app, secrets=SECRET, requires_auth=False)
command = flyte.app.AppEnvironment(
    name="mounted-command", args="python -m http.server 8080 -d /etc/flyte/secrets", secrets=SECRET, requires_auth=False
)
fresh = flyte.TaskEnvironment(name="mounted-fresh", secrets=SECRET, env_vars={"TARMAC_FRESH_IMPORT": "1"})
tasks = flyte.TaskEnvironment(name="mounted", secrets=SECRET, depends_on=[env, command, fresh])
kept = flyte.TaskEnvironment(name="mounted-kept", secrets=SECRET, reusable=flyte.ReusePolicy(replicas=1))
bare = flyte.TaskEnvironment(name="mounted-not", depends_on=[tasks, kept])


@app.get("/")
async def root() -> list[str]:
    return [AT_IMPORT, digest()]


@tasks.task
async def forked() -> list[str]:
    return [AT_IMPORT, digest()]


@fresh.task
async def imported() -> list[str]:
    return [AT_IMPORT, digest()]


@kept.task
async def reused() -> list[str]:
    return [AT_IMPORT, digest()]

"""


@pytest.mark.snippet(PATTERN, "as a file")
def test_a_mounted_secret_is_a_file_for_those_that_name_it(platform: Platform, served: str) -> None:
    done = try_to_deploy(platform, "mounted_secret", MOUNTED, "bare")
    assert done.code == 0, done.both
    assert "no file is made" not in done.err
    expected = hashlib.sha256(VALUE.encode()).hexdigest()
    for task in ("mounted.forked", "mounted-fresh.imported", "mounted-kept.reused", "mounted-kept.reused"):
        assert run_task(platform, task)["outputs"] == [[expected, expected]]
    with app_client(platform, "mounted-app") as http:
        assert http.get("/").json() == [expected, expected]
    with app_client(platform, "mounted-command") as http:
        assert http.get("/webhook-api-key").text == VALUE
    assert not Path("/etc/flyte/secrets/webhook-api-key").exists()


@pytest.mark.snippet(PATTERN, "never in clear")
def test_the_value_is_in_no_file_that_the_platform_keeps(platform: Platform, served: str) -> None:
    assert _files_with(platform.home, VALUE.encode()) == []


def _files_with(folder: Path, needle: bytes) -> list[Path]:
    """The files, of any kind, in which the bytes stand. Sockets and what goes away meanwhile are left out."""
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and needle in path.read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


@pytest.mark.snippet(PATTERN, "never in clear")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/secrets",
        "/v1/secrets/webhook-api-key",
        "/v1/apps",
        "/v1/apps/webhook-runner",
        "/v1/apps/webhook-runner/logs",
        "/v1/apps/webhook-runner/requests",
        "/v2/domain/development/project/flytesnacks/apps/webhook-runner",
    ],
)
def test_the_value_is_in_no_answer_of_the_api_and_on_no_page(platform: Platform, served: str, path: str) -> None:
    with platform.client() as http:
        answer = http.get(path)
    assert answer.status_code == 200, answer.text
    assert VALUE not in answer.text


@pytest.mark.snippet(PATTERN, "never in clear")
def test_no_process_is_started_with_the_value_among_its_words(platform: Platform, served: str) -> None:
    """The command line of a process is everybody's to read."""
    assert not [process for process in platform.processes() if VALUE in " ".join(process.cmdline())]


# ------------------------------------------------------------------------------------------- the commands


DIGEST = """
import hashlib
import os

import flyte

env = flyte.TaskEnvironment(name="{name}", secrets="{name}")


@env.task
async def digest() -> str:
    return hashlib.sha256(os.environ["{variable}"].encode()).hexdigest()
"""


def _digest_of(platform: Platform, name: str) -> str:
    """sha256 of a secret's value as a task sees it; the API never tells."""
    variable = name.upper().replace("-", "_")
    deploy(platform, name.replace("-", "_"), DIGEST.format(name=name, variable=variable), "env")
    found: str = run_task(platform, f"{name}.digest")["outputs"][0]
    return found


@pytest.mark.snippet(PATTERN, "flyte create secret")
def test_a_value_comes_from_a_pipe_without_its_last_newline(platform: Platform) -> None:
    made = platform.cli("create", "secret", "from-pipe", stdin="through a pipe\n")
    assert made.code == 0, made.both
    assert "through a pipe" not in made.both
    assert _digest_of(platform, "from-pipe") == hashlib.sha256(b"through a pipe").hexdigest()


@pytest.mark.snippet(PATTERN, "flyte create secret")
def test_a_value_comes_from_a_file_as_it_is(platform: Platform) -> None:
    content = "-----BEGIN KEY-----\nä\n-----END KEY-----\n"
    made = platform.cli("create", "secret", "from-file", "--from-file", platform.write("key.pem", content))
    assert made.code == 0, made.both
    assert _digest_of(platform, "from-file") == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.snippet(PATTERN, "flyte create secret")
def test_a_value_is_asked_for_on_a_terminal_and_not_shown(platform: Platform) -> None:
    answers = [("Value", "typed by hand"), ("Repeat", "typed by hand")]
    code, shown = _on_a_terminal(platform, ["create", "secret", "from-prompt"], answers)
    assert code == 0, shown
    assert "typed by hand" not in shown
    assert _digest_of(platform, "from-prompt") == hashlib.sha256(b"typed by hand").hexdigest()


def _on_a_terminal(platform: Platform, words: list[str], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Run `flyte …` on a terminal of its own and type each answer when its question is shown; exit code and screen."""
    mine, theirs = pty.openpty()
    command = [sys.executable, "-c", _TAKES_THE_TERMINAL, *words]
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=platform.work, env=platform.env, start_new_session=True
    )
    os.close(theirs)
    shown, waiting = "", list(answers)
    try:
        while select.select([mine], [], [], 20)[0]:
            try:
                shown += os.read(mine, 4096).decode()
            except OSError:  # the child has closed its side
                break
            if waiting and waiting[0][0] in shown:
                os.write(mine, waiting.pop(0)[1].encode() + b"\n")
        return child.wait(20), shown
    finally:
        child.kill()
        child.wait()
        os.close(mine)


_TAKES_THE_TERMINAL = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from flyte.cli import main; sys.exit(main())"
)
"""getpass reads from the terminal that controls the process, so it must be that."""


@pytest.mark.snippet(PATTERN, "flyte get / delete secret")
def test_a_secret_is_listed_by_name_and_deleted(platform: Platform, page: Page) -> None:
    create_secret(platform, "short-lived", "to be gone")
    listed = platform.cli("get", "secret", "-o", "json")
    assert "short-lived" in [secret["name"] for secret in json.loads(listed.out)]
    assert "to be gone" not in listed.out
    deleted = platform.cli("delete", "secret", "short-lived")
    assert deleted.code == 0, deleted.both
    again = platform.cli("get", "secret", "-o", "json")
    assert "short-lived" not in [secret["name"] for secret in json.loads(again.out)]
    missing = platform.cli("delete", "secret", "short-lived")
    assert missing.code == 2
    assert "short-lived" in missing.err


@pytest.mark.snippet(PATTERN, "remote.Secret")
def test_the_sdk_creates_lists_and_deletes_but_cannot_read_a_value(platform: Platform) -> None:
    script = platform.write(
        "secrets_by_sdk.py",
        "import flyte\nimport flyte.remote as remote\n\nflyte.init_from_config()\n"
        'remote.Secret.create("by-sdk", "of the sdk")\n'
        "print(sorted(s.name for s in remote.Secret.listall(limit=100) if s.name == 'by-sdk'))\n"
        'found = remote.Secret.get("by-sdk")\nprint(found.name, "of the sdk" in str(found.to_dict()))\n'
        'remote.Secret.delete("by-sdk")\n'
        "print([s.name for s in remote.Secret.listall(limit=100) if s.name == 'by-sdk'])\n",
    )
    done = platform.python(script)
    assert done.code == 0, done.both
    assert done.out.splitlines()[-3:] == ["['by-sdk']", "by-sdk False", "[]"]


@pytest.mark.snippet(PATTERN, "a new value")
def test_an_app_that_is_started_again_has_the_new_value(platform: Platform, served: str) -> None:
    changed = VALUE[::-1]
    create_secret(platform, "webhook-api-key", changed)
    for flag in ("--deactivate", "--activate"):
        done = platform.cli("update", "app", "webhook-runner", flag, "--wait")
        assert done.code == 0, done.both

    def serves_the_new_value() -> bool:
        with app_client(platform, "webhook-runner", platform.token) as http:
            answer = http.get("/digest")
            return bool(answer.json() == hashlib.sha256(changed.encode()).hexdigest())

    wait_for(serves_the_new_value, "the app has the new value")
