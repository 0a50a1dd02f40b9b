"""The programs of docs/data.md and docs/files.md: frames and files travel, also from the command line."""

from __future__ import annotations

import json
import re

import pytest

from tests.platform_fixture import ROOT, Platform

FILES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "files.md").read_text(), re.M | re.S)[0]
PROGRAM = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "data.md").read_text(), re.M | re.S)[0]
BOTH = """

@env.task
async def make_and_count(rows: int) -> int:
    return await count(await make(rows))
"""


@pytest.mark.parametrize("where", [(), ("--local",)], ids=["on a platform", "in local mode"])
def test_a_frame_of_one_task_is_read_by_the_next(platform: Platform, where: tuple[str, ...]) -> None:
    platform.write("frames_of_the_page.py", PROGRAM + BOTH)
    said = platform.cli("run", *where, "frames_of_the_page.py", "make_and_count", "--rows", "20000")
    assert (said.code, said.out.splitlines()[-1:]) == (0, ["20000"]), said.both


def test_a_table_on_the_command_line_is_a_frame_of_the_task(platform: Platform) -> None:
    platform.write("frames_of_the_page.py", PROGRAM)
    platform.write("table.csv", "x,y\n" + "1,a\n" * 30_000)
    said = platform.cli("run", "frames_of_the_page.py", "count", "--df", "table.csv")
    assert (said.code, said.out.splitlines()[-1:]) == (0, ["30000"]), said.both


@pytest.mark.parametrize("where", [(), ("--local",)], ids=["on a platform", "in local mode"])
def test_a_file_of_one_task_is_read_by_the_next_and_a_folder_is_walked(
    platform: Platform, where: tuple[str, ...]
) -> None:
    platform.write("files_of_the_page.py", FILES)
    said = platform.cli("run", *where, "files_of_the_page.py", "main", "--n", "100")
    assert (said.code, said.out.splitlines()[-1:]) == (0, ["4950"]), said.both
    platform.write("given/a.txt", "abc")
    platform.write("given/sub/b.txt", "de")
    said = platform.cli("run", *where, "files_of_the_page.py", "sizes", "--folder", "given")
    assert (said.code, json.loads(said.out)) == (0, {"a.txt": 3, "b.txt": 2}), said.both
