"""Files and folders that a program gives to a task: copied or sent, so that they may change or go afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
