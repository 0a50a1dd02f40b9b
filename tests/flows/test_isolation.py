"""An action has what a container would give it: a working directory, temporary files and code of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = '''
import asyncio
import os
import pathlib
import subprocess
import sys
import tempfile

import flyte

env = flyte.TaskEnvironment(name="apart", include=("conf",))
kept = flyte.TaskEnvironment(name="kept", reusable=flyte.ReusePolicy(replicas=1), include=("conf",))
HERE = pathlib.Path(__file__).parent
(HERE / "made.txt").write_text("by the import")
SCRATCH = pathlib.Path(tempfile.mkdtemp())
(SCRATCH / "kept").write_text("by the import")


@env.task
async def part(i: int, n: int) -> list[str]:
    before = sorted(os.listdir("."))
    pathlib.Path("part.csv").write_text(str(i))
    pathlib.Path(tempfile.gettempdir(), "same").write_text(str(i))
    meeting = pathlib.Path.home() / "meeting"
    (meeting / str(i)).touch()
    while len(os.listdir(meeting)) < n:
        await asyncio.sleep(0.01)
    return [pathlib.Path("part.csv").read_text(), pathlib.Path(tempfile.gettempdir(), "same").read_text(), *before]


@env.task
async def fan(n: int) -> list[list[str]]:
    (pathlib.Path.home() / "meeting").mkdir()
    return await asyncio.gather(*(part(i, n) for i in range(n)))


def changed() -> list[str]:
    """What is found, before all of it is changed."""
    files = [pathlib.Path("conf/settings.json"), HERE / "prog_apart.py", HERE / "made.txt", SCRATCH / "kept"]
    found = [file.read_text().strip().splitlines()[0] for file in files]
    found += sorted(os.listdir(HERE / "conf"))
    for file in files:
        file.write_text("changed")
    (HERE / "conf" / "new").touch()
    os.rename(HERE / "made.txt", HERE / "renamed.txt")
    return found


@env.task
def change() -> list[str]:
    return changed()


@kept.task
def change_kept() -> list[str]:
    return changed()


@env.task
def reach(home: str) -> dict[str, str]:
    """What becomes of an attempt to get at things of the platform."""
    def tried(what) -> str:
        try:
            return str(what())
        except OSError as error:
            return type(error).__name__

    return {
        "token": tried(lambda: open(f"{home}/token").read()),
        "database": tried(lambda: open(f"{home}/tarmac.db", "rb").read()),
        "sockets": tried(lambda: sorted(os.listdir(f"{home}/run"))),
        "new file": tried(lambda: open(f"{home}/new", "w")),
        "another's code": tried(lambda: os.mkdir(f"{home}/code/new")),
        "platform's logs": tried(lambda: os.listdir(f"{home}/logs/platform")),
        "new among them": tried(lambda: open(f"{home}/logs/platform/control.log", "w")),
        "fork_server": tried(lambda: os.kill(os.getppid(), 0)),
    }


@env.task
def programs() -> list[str]:
    module = subprocess.run([sys.executable, "-m", "side"], capture_output=True, text=True, check=True).stdout.strip()
    command = [sys.executable, "-m", "flyte.cli", "get", "run", "-o", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    inner = flyte.run(twice, x=4)
    inner.wait()
    return [module, str(flyte.ctx().action.run_name in listed), str(inner.outputs()[0])]


@env.task
def write(name: str) -> str:
    pathlib.Path(name).touch()
    return name


@env.task
def twice(x: int) -> int:
    return 2 * x
'''

APP = """
import pathlib

import fastapi
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = fastapi.FastAPI()
env = FastAPIAppEnvironment(name="beside", app=app, requires_auth=False)
BOOK = pathlib.Path(__file__).with_name("book.txt")
BOOK.write_text("import")


@app.post("/")
def write():
    BOOK.write_text(BOOK.read_text() + " request")


@app.get("/")
def read():
    return [BOOK.read_text(), pathlib.Path("book.txt").read_text()]
"""


class Apart:
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.http = platform.client()
        platform.write("conf/settings.json", '{"k": 1}')
        platform.write("side.py", "import pathlib; print(pathlib.Path('conf/settings.json').read_text())")
        done = platform.cli("deploy", platform.write("prog_apart.py", PROGRAM), "--all", "--copy-style", "all")
        assert done.code == 0, done.both

    def run(self, task: str, **inputs: Any) -> Any:
        asked = {"task": task, "inputs": inputs}
        run = self.http.post("/v1/runs", json=asked).raise_for_status().json()["name"]
        found: dict[str, Any] = {}

        def is_over() -> bool:
            found.update(self.http.get(f"/v1/runs/{run}").json())
            return "ended" in found

        wait_for(is_over, f"{task} is over", 30, lambda: str(found))
        assert found["phase"] == "succeeded", found
        return found["outputs"][0]


@pytest.fixture(scope="module")
def apart(platform: Platform) -> Iterator[Apart]:
    apart = Apart(platform)
    with contextlib.closing(apart.http):
        yield apart


def test_actions_at_the_same_time_write_the_same_names_and_each_reads_its_own(apart: Apart) -> None:
    """In the working directory, which begins with the shipped files, and among the temporary files."""
    found = apart.run("apart.fan", n=3)
    assert [row[:2] for row in found] == [["0", "0"], ["1", "1"], ["2", "2"]]
    for row in found:
        assert {"conf", "prog_apart.py", "side.py", "made.txt"} <= set(row[2:])
        assert "part.csv" not in row[2:]


@pytest.mark.parametrize("task", ["apart.change", "kept.change_kept"])
def test_what_an_action_does_to_the_shipped_files_is_not_seen_by_a_later_process(apart: Apart, task: str) -> None:
    """Nor what it does to what the import left beside the code and among the temporary files."""
    shipped = ['{"k": 1}', "import asyncio", "by the import", "by the import", "settings.json"]
    assert apart.run(task) == shipped
    assert apart.run("apart.change") == shipped


def test_the_platforms_own_things_are_out_of_reach(apart: Apart) -> None:
    assert apart.run("apart.reach", home=str(apart.platform.home)) == {
        "token": "FileNotFoundError",
        "database": "FileNotFoundError",
        "sockets": "['link']",
        "new file": "OSError",
        "another's code": "OSError",
        "platform's logs": "[]",
        "new among them": "OSError",
        "fork_server": "PermissionError",
    }


def test_programs_the_cli_and_runs_start_inside_a_task_as_anywhere(apart: Apart) -> None:
    assert apart.run("apart.programs") == ['{"k": 1}', "True", "8"]


def test_what_an_action_wrote_is_removed_when_its_process_has_ended(apart: Apart) -> None:
    assert apart.run("apart.write", name="left.csv") == "left.csv"
    work = apart.platform.home / "work"
    wait_for(lambda: not list(work.glob("*/code/left.csv")), "what was written is gone")


def test_what_an_app_writes_beside_its_code_is_its_own(apart: Apart) -> None:
    done = apart.platform.cli("deploy", apart.platform.write("app_beside.py", APP), "env", timeout=60)
    assert done.code == 0, done.both
    url = apart.platform.app_url("beside")
    with apart.platform.client() as http:
        http.post(url).raise_for_status()
        assert http.get(url).json() == ["import request", "import request"]
    (shipped,) = (apart.platform.home / "code").glob("*/app_beside.py")
    assert not shipped.with_name("book.txt").exists()


def test_status_says_what_keeps_actions_apart(apart: Apart) -> None:
    told = json.loads(apart.platform.cli("status", "-o", "json").out)
    assert told["isolation"] == {"profile": "tidy", "reason": ""}
    assert "isolation tidy" in " ".join(apart.platform.cli("status").out.split())
