"""What a person and a script see of the `flyte` command, on a real platform."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.platform_fixture import Finished, Platform, wait_for

HELLO = '''
import asyncio
import datetime
import enum
import os
import flyte

class Color(enum.Enum):
    RED = 1
    BLUE = 2

env = flyte.TaskEnvironment(name="hello")

@env.task
async def greet(name: str, times: int = 1, loud: bool = False) -> str:
    """Greet somebody.

    Args:
        name: who is greeted
    """
    print(f"greeting {name}")
    text = " ".join([f"Hello, {name}!"] * times)
    return text.upper() if loud else text

@env.task
async def kinds(
    color: Color = Color.RED, at: datetime.datetime | None = None, wait: datetime.timedelta = datetime.timedelta(0),
    words: list[str] | None = None, ratio: float = 0.5,
) -> dict[str, str]:
    return {"color": color.name, "at": str(at), "wait": str(wait), "words": str(words), "ratio": str(ratio)}

@env.task
async def fan(n: int) -> int:
    return sum(await asyncio.gather(*(double(i) for i in range(n))))

@env.task
async def double(x: int) -> int:
    return 2 * x

@env.task
async def fail(code: int = 7) -> int:
    print("about to fail")
    raise ValueError(f"code {code}")

@env.task
async def sleep(seconds: float) -> float:
    print("sleeping", flush=True)
    await asyncio.sleep(seconds)
    return seconds

@env.task
async def two(x: int) -> tuple[int, str]:
    return x, str(x)

@env.task
async def nothing() -> None:
    return None
'''


@pytest.fixture
def hello(platform: Platform) -> Path:
    return platform.write("hello.py", HELLO)


def run_name(done: Finished) -> str:
    found = re.search(r"/runs/(\w+)", done.err)
    assert found, done.both
    return found[1]


# --- running


def test_a_run_prints_its_result_on_stdout_and_the_rest_on_stderr(platform: Platform, hello: Path) -> None:
    done = platform.cli("run", hello, "greet", "--name", "World")
    assert done.code == 0, done.both
    assert done.out == '"Hello, World!"\n'
    assert f"{platform.endpoint}/v2/domain/development/project/flytesnacks/runs/{run_name(done)}" in done.err
    assert "greeting World" in done.err


@pytest.mark.parametrize(
    ("flags", "result"),
    [
        (["two", "--x", "3"], '[3, "3"]'),
        (["nothing"], "null"),
        (["greet", "--name", "A", "--times", "2", "--loud"], '"HELLO, A! HELLO, A!"'),
        (["fan", "--n", "5"], "20"),
    ],
)
def test_results_are_json(platform: Platform, hello: Path, flags: list[str], result: str) -> None:
    done = platform.cli("run", hello, *flags)
    assert done.code == 0, done.both
    assert json.loads(done.out) == json.loads(result)


def test_flags_take_what_the_signature_says(platform: Platform, hello: Path) -> None:
    words = [
        "--color",
        "blue",
        "--at",
        "2026-01-31T12:00:00+00:00",
        "--wait",
        "1h30m",
        "--words",
        '["a", "b"]',
        "--ratio",
        "2",
    ]
    done = platform.cli("run", hello, "kinds", *words)
    assert done.code == 0, done.both
    expected = {
        "color": "BLUE",
        "at": "2026-01-31 12:00:00+00:00",
        "wait": "1:30:00",
        "words": "['a', 'b']",
        "ratio": "2.0",
    }
    assert json.loads(done.out) == expected


def test_the_same_task_runs_in_this_process_with_local(empty_place: Platform) -> None:
    hello = empty_place.write("hello.py", HELLO)
    done = empty_place.cli("run", "--local", hello, "fan", "--n", "4")
    assert (done.code, done.out) == (0, "12\n"), done.both
    assert not empty_place.home.exists()


def test_a_failed_run_ends_with_exit_code_1_and_says_why(platform: Platform, hello: Path) -> None:
    done = platform.cli("run", hello, "fail")
    assert done.code == 1, done.both
    assert done.out == ""
    assert "ValueError" in done.err
    assert "code 7" in done.err
    assert f"flyte get logs {run_name(done)}" in done.err
    assert "src/flyte" not in done.err, "a traceback of ours is shown"


def test_a_local_failure_shows_the_users_lines_only(platform: Platform, hello: Path) -> None:
    done = platform.cli("run", "--local", hello, "fail")
    assert done.code == 1, done.both
    assert "code 7" in done.err
    assert "src/flyte" not in done.err


def test_a_run_in_json_is_one_record(platform: Platform, hello: Path) -> None:
    done = platform.cli("-o", "json", "run", hello, "greet", "--name", "Ann")
    record = json.loads(done.out)
    assert record["phase"] == "succeeded"
    assert record["outputs"] == ["Hello, Ann!"]
    assert record["url"].endswith(record["name"])


def test_without_following_a_run_prints_its_name_at_once(platform: Platform, hello: Path) -> None:
    done = platform.cli("run", "--no-follow", hello, "sleep", "--seconds", "30")
    name = done.out.strip()
    assert done.code == 0, done.both
    shown = platform.cli("get", "run", name, "-o", "json")
    assert json.loads(shown.out)["phase"] not in ("succeeded", "failed")
    aborted = platform.cli("abort", "run", name, "--reason", "not needed")
    assert aborted.code == 0, aborted.both
    with platform.client() as http:
        assert http.get(f"/v1/runs/{name}", params={"wait": 20}).json()["phase"] == "aborted"


def test_a_deployed_task_runs_by_its_bare_name_and_version(platform: Platform, hello: Path) -> None:
    deployed = platform.cli("deploy", hello, "env", "--version", "cli-v1")
    assert deployed.code == 0, deployed.both
    for name in ("greet:cli-v1", "hello.greet:cli-v1"):
        done = platform.cli("run", "deployed-task", name, "--name", "Bob", "--times", "1")
        assert (done.code, done.out) == (0, '"Hello, Bob!"\n'), done.both


def test_deploying_older_code_goes_back_to_it(platform: Platform) -> None:
    def said(words: str) -> Path:
        return platform.write(
            "rollback.py",
            "import flyte\nenv = flyte.TaskEnvironment(name='rollback')\n"
            f"@env.task\nasync def answer() -> str:\n    return {words!r}\n",
        )

    def deployed_as(words: str) -> tuple[str, str]:
        done = platform.cli("deploy", said(words), "env")
        assert done.code == 0, done.both
        row = next(line for line in done.err.splitlines() if line.startswith("rollback:"))
        return row.split()[1], json.loads(platform.cli("run", "deployed-task", "rollback.answer").out)

    assert deployed_as("good")[1] == "good"
    assert deployed_as("BAD")[1] == "BAD"
    assert json.loads(platform.cli("run", said("tried"), "answer").out) == "tried"
    assert json.loads(platform.cli("run", "deployed-task", "answer").out) == "BAD"
    assert deployed_as("good") == ("ready", "good")
    assert deployed_as("good") == ("unchanged", "good")
    shown = json.loads(platform.cli("get", "task", "rollback.answer", "-o", "json").out)
    listed = json.loads(platform.cli("get", "task", "-o", "json").out)
    assert [task["version"] for task in listed if task["name"] == "rollback.answer"] == [shown["version"]]
    assert (shown["current"], len(shown["versions"])) == (shown["version"], 3)


def test_the_help_of_a_task_shows_its_inputs(platform: Platform, hello: Path) -> None:
    done = platform.cli("run", hello, "greet", "--help")
    assert done.code == 0, done.both
    assert "Greet somebody." in done.out
    assert re.search(r"--name TEXT +who is greeted \(str\) +\[required\]", done.out)
    assert "--loud / --no-loud" in done.out
    assert not (platform.home / "never").exists()


def test_a_run_can_be_found_by_its_label_and_started_once_by_its_name(platform: Platform, hello: Path) -> None:
    words: list[str | Path] = ["run", "--name", "monthly-report", "--label", "team=blue", hello, "double", "--x", "4"]
    first, second = platform.cli(*words), platform.cli(*words)
    assert (first.out, second.out) == ("8\n", "8\n"), first.both + second.both
    listed = platform.cli("get", "run", "--with-label", "team=blue", "-o", "name")
    assert listed.out.split() == ["monthly-report"]


# --- looking


def test_every_listing_has_json_and_plain_columns(platform: Platform, hello: Path) -> None:
    done = platform.cli("run", hello, "fan", "--n", "3")
    name = run_name(done)
    for words in (["run"], ["task"], ["app"], ["secret"], ["project"], ["api-key"], ["action", name]):
        as_json = platform.cli("get", *words, "-o", "json")
        assert as_json.code == 0, as_json.both
        assert isinstance(json.loads(as_json.out), list)
        plain = platform.cli("get", *words)
        assert plain.code == 0, plain.both
        assert "\x1b" not in plain.out
    actions = json.loads(platform.cli("get", "action", name, "-of", "json").out)
    assert sorted(action["phase"] for action in actions) == ["succeeded"] * 4


def test_inputs_outputs_and_logs_of_a_run_can_be_read(platform: Platform, hello: Path) -> None:
    name = run_name(platform.cli("run", hello, "greet", "--name", "Eve"))
    assert json.loads(platform.cli("get", "io", name).out)["outputs"] == ["Hello, Eve!"]
    assert json.loads(platform.cli("get", "io", name, "--inputs-only").out)["name"] == "Eve"
    assert platform.cli("get", "logs", name).out == "greeting Eve\n"


def test_who_and_where_one_is(platform: Platform) -> None:
    shown = json.loads(platform.cli("whoami", "-o", "json").out)
    assert shown["kind"] == "owner"
    assert shown["platform"] == platform.endpoint
    assert json.loads(platform.cli("get", "config", "-o", "json").out)["file"] == "none found"


def test_another_machine_needs_an_endpoint_and_a_key_only(platform: Platform, hello: Path) -> None:
    env = platform.remote_env
    command = [sys.executable, "-m", "flyte.cli", "run", str(hello), "double", "--x", "21"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=platform.work)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_a_config_file_names_the_platform(platform: Platform, hello: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    key = platform.cli("create", "api-key", "test").out.strip()
    made = platform.cli("create", "config", "--endpoint", platform.endpoint, "--api-key", key, "-f", file)
    assert made.code == 0, made.both
    assert file.stat().st_mode & 0o077 == 0
    env = {name: value for name, value in platform.env.items() if not name.startswith("TARMAC_")}
    command = [sys.executable, "-m", "flyte.cli", "-c", str(file), "whoami", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path)
    assert json.loads(done.stdout)["kind"] == "key", done.stderr


def test_a_secret_is_created_listed_and_deleted_and_its_value_is_not_shown(platform: Platform) -> None:
    made = platform.cli("create", "secret", "cli-secret", stdin="very hidden\n")
    assert made.code == 0, made.both
    listed = platform.cli("get", "secret", "-o", "json")
    assert "cli-secret" in listed.out
    assert "very hidden" not in listed.both + made.both
    assert platform.cli("delete", "secret", "cli-secret").code == 0
    assert "cli-secret" not in platform.cli("get", "secret").out


APP = """
import http.server
import flyte.app

env = flyte.app.AppEnvironment(name="plain-server", requires_auth=False)

@env.server
def serve() -> None:
    print("serving", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", 8080), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_an_app_is_served_stopped_started_followed_and_removed(platform: Platform) -> None:
    served = platform.cli("serve", platform.write("plain.py", APP), "env")
    assert served.code == 0, served.both
    url = served.out.strip()
    assert httpx.get(url, trust_env=False).status_code == 200
    assert platform.cli("get", "app", "plain-server", "-o", "url").out.strip() == url
    assert "serving" in platform.cli("get", "logs", "plain-server").out
    assert re.search(
        r"^\d{4}(-\d\d){2} (\d\d:){2}\d\d\.\d{3}  serving$", platform.cli("get", "logs", "plain-server", "-t").out, re.M
    )

    stopped = platform.cli("update", "app", "plain-server", "--deactivate", "--wait")
    assert stopped.code == 0, stopped.both
    assert json.loads(platform.cli("get", "app", "plain-server", "-o", "json").out)["status"] == "stopped"
    assert httpx.get(url, trust_env=False).status_code >= 400

    started = platform.cli("update", "app", "plain-server", "--activate", "--wait")
    assert started.code == 0, started.both
    assert httpx.get(url, trust_env=False, timeout=30).status_code == 200

    assert platform.cli("delete", "app", "plain-server").code == 0
    assert platform.cli("get", "app", "plain-server").code == 2


SICK = """
import os

from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def root() -> str:
    if not os.path.exists({cure!r}):
        raise ZeroDivisionError("no station")
    return "well"

env = FastAPIAppEnvironment(name="sick", app=app, requires_auth=False)
"""


def test_an_app_that_answers_500_says_so_while_it_starts(platform: Platform, tmp_path: Path) -> None:
    cure = tmp_path / "cure"
    file = platform.write("sick.py", SICK.format(cure=str(cure)))
    command = [sys.executable, "-m", "flyte.cli", "serve", str(file), "env"]
    with subprocess.Popen(
        command, env=platform.env, cwd=platform.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "answers 500" in line:
                cure.touch()
        assert process.wait(60) == 0, said
    told = r"sick: starting  GET / answers 500 \(\d+ of 60 s\): ZeroDivisionError: no station"
    assert re.search(told, said), said
    platform.cli("delete", "app", "sick")


def test_the_consoles_link_signs_in_and_leads_to_the_run(platform: Platform, hello: Path) -> None:
    name = run_name(platform.cli("run", hello, "double", "--x", "1"))
    link = platform.cli("console", "--print", name).out.strip()
    with httpx.Client(trust_env=False, follow_redirects=True) as browser:
        page = browser.get(link)
        assert page.status_code == 200
        assert page.url.path.endswith(f"/runs/{name}")
        assert name in page.text
    with httpx.Client(trust_env=False, headers={"Accept": "text/html"}) as other:
        again = other.get(link, follow_redirects=True)
        assert again.url.path == "/login", "a link signs in once"
        assert (
            other.get(f"{platform.endpoint}/v2/domain/development/project/flytesnacks/runs/{name}").status_code == 303
        )


# --- what goes wrong

BROKEN = {
    "syntax.py": ("def broken(:\n    pass\n", "cannot be read as Python"),
    "wants.py": ("import no_such_package_anywhere\n", "pip install no_such_package_anywhere"),
    "raises.py": ("print('loading')\nraise RuntimeError('boom at import')\n", "boom at import"),
    "leaves.py": ("import sys\nsys.exit(3)\n", "__main__"),
    "empty.py": ("x = 1\n", "declares no"),
    "notes.txt": ("hello", "must end in .py"),
    "json.py": ("x = 1\n", "Rename the file"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("verb", ["run", "deploy"])
def test_a_file_that_cannot_be_used_is_one_clear_message(empty_place: Platform, verb: str, name: str) -> None:
    text, message = BROKEN[name]
    file = empty_place.write(name, text)
    words: list[str | Path] = [verb, file, "x"] if verb == "run" else [verb, file]
    done = empty_place.cli(*words)
    assert done.code == 2, done.both
    assert message in done.err
    assert done.out == ""
    assert "src/flyte" not in done.err, "a traceback of ours is shown"
    assert not empty_place.home.exists(), "a platform was started for nothing"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nowhere.py", "x"], "There is no file nowhere.py"),
        (["run", "hello.py", "gret"], "Did you mean 'greet'?"),
        (["run", "hello.py", "greet"], "Missing required input: --name (str)"),
        (["run", "hello.py", "fan", "--n", "many"], "'many' is not a whole number"),
        (["run", "hello.py", "kinds", "--color", "green"], "one of: RED, BLUE"),
        (["run", "hello.py", "kinds", "--words", "a b"], "as JSON"),
        (["run", "hello.py", "greet", "--name", "x", "--nme", "y"], "--nme"),
        (["deploy", "hello.py", "nothere"], "it has: env"),
        (["serve", "hello.py", "env"], "flyte deploy hello.py env"),
        (["get", "runs"], "runs"),
        (["rnu"], "did you mean `flyte run`?"),
        (["update", "app", "x"], "--activate or --deactivate"),
        (["get", "run"], "`flyte up` starts one"),
        (["create", "config", "-f", "hello.py"], "--force"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_says_what_to_do_and_starts_nothing(empty_place: Platform, words: list[str], message: str) -> None:
    empty_place.write("hello.py", HELLO)
    done = empty_place.cli(*words)
    assert done.code == 2, done.both
    assert message in done.err
    assert "Traceback" not in done.err
    assert not empty_place.home.exists(), "a platform was started for nothing"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "deployed-task", "no_such_task"], "no_such_task"),
        (["get", "run", "rnothing"], "rnothing"),
        (["get", "app", "nothing"], "nothing"),
        (["get", "logs", "nothing"], "nothing"),
        (["abort", "run", "rnothing"], "rnothing"),
        (["delete", "app", "nothing"], "nothing"),
        (["delete", "secret", "nothing"], "flyte create secret"),
        (["get", "project", "nothing"], "flytesnacks"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_named(platform: Platform, words: list[str], message: str) -> None:
    done = platform.cli(*words)
    assert done.code == 2, done.both
    assert message in done.err
    assert "Traceback" not in done.err


def test_the_official_distribution_beside_ours_is_named_with_the_way_to_mend_it(empty_place: Platform) -> None:
    info = empty_place.work / "site" / "flyte-2.12.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flyte\nVersion: 2.12.1\n")
    path = os.pathsep.join((empty_place.env["PYTHONPATH"], str(info.parent)))
    for words in (["up"], ["get", "run"]):
        done = empty_place.cli(*words, PYTHONPATH=path)
        assert done.code == 2, done.both
        assert "official" in done.err
        assert "pip uninstall flyte" in done.err


# --- deploying

CYCLE = """
import flyte
a = flyte.TaskEnvironment(name="a")
b = flyte.TaskEnvironment(name="b", depends_on=[a])
a.add_dependency(b)
"""


def test_a_deploy_says_what_it_deployed(platform: Platform, hello: Path) -> None:
    done = platform.cli("deploy", hello, "--version", "cli-v2")
    assert done.code == 0, done.both
    assert "hello" in done.out
    assert "hello.greet" in done.out
    record = json.loads(platform.cli("deploy", hello, "--version", "cli-v2", "-o", "json").out)
    assert (record["phase"], record["version"]) == ("succeeded", "cli-v2")


def test_a_cycle_is_refused_with_the_cycle_in_the_message(platform: Platform) -> None:
    done = platform.cli("deploy", platform.write("cycle.py", CYCLE))
    assert done.code == 2, done.both
    assert "a -> b -> a" in done.err.replace("→", "->") or "b -> a -> b" in done.err.replace("→", "->")


def test_a_dry_run_needs_no_platform(empty_place: Platform) -> None:
    done = empty_place.cli("deploy", empty_place.write("hello.py", HELLO), "--dry-run")
    assert done.code == 0, done.both
    assert "hello.greet" in done.out
    assert not empty_place.home.exists()


# --- on a terminal


@contextmanager
def on_a_terminal(platform: Platform, *words: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`flyte …` with a terminal of 100 columns as stdin, stdout and stderr."""
    leader, follower = pty.openpty()
    env = {**platform.env, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    command = [sys.executable, "-m", "flyte.cli", *map(str, words)]
    process = subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=env,
        cwd=platform.work,
        start_new_session=True,
        preexec_fn=_heed_ctrl_c,
    )
    os.close(follower)
    try:
        yield process, leader
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        os.close(leader)


def _heed_ctrl_c() -> None:
    """As on a terminal: whoever runs the tests in the background has SIGINT ignored, and a child inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(leader: int, process: subprocess.Popen[bytes], word: str | None, timeout: float = 40) -> str:
    """What the terminal shows, up to `word` or (None) the end of the program."""
    end, seen = time.monotonic() + timeout, b""
    while time.monotonic() < end:
        if select.select([leader], [], [], 0.05)[0]:
            try:
                seen += os.read(leader, 65536)
            except OSError:  # the other side is closed
                break
            if word is not None and word.encode() in seen:
                break
        elif word is None and process.poll() is not None:
            break
    text = seen.decode(errors="replace")
    assert word is None or word in text, f"{word!r} did not appear:\n{text}"
    return text


def test_a_terminal_shows_the_tree_and_the_result(platform: Platform, hello: Path) -> None:
    with on_a_terminal(platform, "run", hello, "fan", "--n", "3") as (process, leader):
        shown = read_until(leader, process, None)
        assert process.wait(10) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "double" in plain
    assert "succeeded" in plain
    assert plain.rstrip().splitlines()[-1].strip() == "6"


def test_ctrl_c_says_that_the_run_goes_on_and_how_to_follow_it(platform: Platform, hello: Path) -> None:
    with on_a_terminal(platform, "run", hello, "sleep", "--seconds", "60") as (process, leader):
        read_until(leader, process, "sleeping")
        process.send_signal(signal.SIGINT)
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", read_until(leader, process, None))
        assert process.wait(10) == 130
    found = re.search(r"flyte abort run (\w+)", shown)
    assert found, shown
    assert f"flyte get run {found[1]}" in shown
    state = json.loads(platform.cli("get", "run", found[1], "-o", "json").out)
    assert state["phase"] == "running"
    platform.cli("abort", "run", found[1])


# --- up and down


def test_up_tells_where_it_is_and_a_second_up_finds_it(empty_place: Platform) -> None:
    platform = empty_place
    assert platform.cli("status").code != 0
    platform.up()
    again = platform.cli("up")
    assert again.code == 0, again.both
    assert platform.endpoint in again.out + again.err
    assert json.loads(platform.cli("status", "-o", "json").out)["endpoint"] == platform.endpoint
    platform.down()
    assert platform.cli("status").code != 0


def test_a_port_in_use_is_named_with_the_way_out(platform: Platform, empty_place: Platform) -> None:
    port = platform.endpoint.rpartition(":")[2]
    done = empty_place.cli("up", "--port", port)
    assert done.code == 2, done.both
    assert port in done.err
    assert "--port" in done.err
    assert not empty_place.processes()


def test_a_script_starts_the_platform_it_needs_and_says_so_once(empty_place: Platform) -> None:
    script = empty_place.write(
        "script.py",
        HELLO + "\n\nif __name__ == '__main__':\n"
        "    flyte.init_from_config(root_dir=os.path.dirname(__file__))\n"
        "    run = flyte.run(double, x=21)\n    run.wait()\n    print(run.outputs()[0])\n",
    )
    done = empty_place.python(script, TARMAC_PORT="0", timeout=90)
    assert (done.code, done.out) == (0, "42\n"), done.both
    assert done.err.count("started the local platform") == 1
    empty_place.down()


def test_foreground_ends_with_ctrl_c_and_leaves_nothing(empty_place: Platform) -> None:
    command = [sys.executable, "-m", "flyte.cli", "up", "--foreground", "--port", "0"]
    process = subprocess.Popen(
        command, env=empty_place.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        wait_for(lambda: (empty_place.home / "platform.json").exists(), "the platform is up", 60, empty_place.log_tails)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)
    finally:
        process.kill()
    empty_place.wait_until_gone()
