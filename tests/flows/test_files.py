"""Files and folders that a program gives to a task: copied or sent, so that they may change or go afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.platform_fixture import Platform

PROGRAM = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import flyte
from flyte.io import Dir, File

env = flyte.TaskEnvironment(name="files")


@env.task
async def process(file: File, folder: Dir) -> list[str]:
    async with file.open("r") as reading:
        text = await reading.read()
    found = [f"{each.name}: {Path(each.path).read_text()}" async for each in folder.walk()]
    return [file.name, text, folder.name, *found, Path(file.download_sync()).read_text()]


if __name__ == "__main__":
    flyte.init_from_config()
    with TemporaryDirectory() as d:
        (path := Path(d, "in put.csv")).write_text("content")
        (folder := Path(d, "many", "sub")).mkdir(parents=True)
        (folder / "b.txt").write_text("b")
        (folder.parent / "a.txt").write_text("")
        given = File.from_local_sync(path), Dir.from_local_sync(folder.parent)
        path.write_text("changed")
    run = flyte.run(process, *given)
    run.wait()
    run.raise_for_status()
    print(run.outputs()[0])
    with given[0].open_sync("r") as reading:
        print(reading.read(), [file.name for file in given[1].walk_sync()])
    print(given[0].path)
"""


@pytest.mark.parametrize("machine", ["this", "another"])
def test_a_task_reads_what_it_was_given_and_not_what_became_of_it(platform: Platform, machine: str) -> None:
    file = platform.write("files_program.py", PROGRAM)
    done = subprocess.run(
        [sys.executable, str(file)],
        env=platform.env if machine == "this" else platform.remote_env,
        cwd=platform.work,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    result, here, path = done.stdout.splitlines()
    assert result == "['in put.csv', 'content', 'many', 'a.txt: ', 'b.txt: b', 'content']"
    assert here == "content ['a.txt', 'b.txt']"
    if machine == "this":
        assert Path(path).is_relative_to(platform.home / "files")
    else:
        assert path.startswith("blob://")


WEBHOOK = """
import flyte
from flyte.io import Dir, File

env = flyte.TaskEnvironment(name="named")
kept = flyte.TaskEnvironment(name="kept", env_vars={"FLYTE_FILES_BELOW": "/usr/share:/opt"})


@env.task
def head(f: File) -> str:
    with f.open_sync("rb") as file:
        return file.read(200).decode(errors="replace")


@env.task
def names(d: Dir) -> int:
    return len(d.list_files_sync())


@kept.task
def head_kept(f: File) -> str:
    with f.open_sync("rb") as file:
        return file.read(200).decode(errors="replace")
"""


def test_a_file_that_a_caller_names_is_not_the_platforms_own(platform: Platform, tmp_path: Path) -> None:
    """Nor does a URL that a caller names get the identity of the task that reads it."""
    file = platform.write("named_files.py", WEBHOOK)
    done = platform.cli("deploy", "--all", str(file))
    assert done.code == 0, done.both
    home = platform.home
    (link := tmp_path / "innocent.txt").symlink_to(home / "token")
    (mine := tmp_path / "mine.txt").write_text("mine")
    refused = {
        "token": home / "token",
        "file://": f"file://{home / 'token'}",
        "around": home / "files" / ".." / "master.key",
        "a link": link,
        "database": home / "tarmac.db",
        "log": home / "logs" / "platform" / "control.log",
        "proc": "/proc/self/environ",
        "through proc": f"/proc/self/root{home}/token",
        "keys": f"{platform.endpoint}/v1/keys",
        "more than a blob": f"{platform.endpoint}/v1/blobs/{'0' * 64}/../../keys",
    }
    with platform.client() as http:
        runs = {what: start(http, "named.head", {"f": str(path)}) for what, path in refused.items()}
        runs["a folder"] = start(http, "named.names", {"d": str(home)})
        runs["the folder above"] = start(http, "named.names", {"d": str(home.parent)})
        runs["not below"] = start(http, "kept.head_kept", {"f": str(mine)})
        fine = start(http, "named.head", {"f": str(mine)})
        for what, run in runs.items():
            assert ended(http, run)["phase"] == "failed", what
        assert ended(http, fine)["phase"] == "succeeded"


def start(http: httpx.Client, task: str, inputs: dict[str, str]) -> str:
    answer = http.post("/v1/runs", json={"task": task, "inputs": inputs})
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["name"]
    return name


def ended(http: httpx.Client, run: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v1/runs/{run}", params={"wait": 30}).json()
    return found
