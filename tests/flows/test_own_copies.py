"""What an action does to the file or folder that it has downloaded is its own affair."""

from __future__ import annotations

from tests.platform_fixture import Platform

PROGRAM = """
import asyncio
import os
import pathlib
import stat
import tempfile

import flyte
from flyte.io import Dir, File

env = flyte.TaskEnvironment(name="copies")


@env.task
async def spoil(file: File, folder: Dir) -> list[str]:
    path, place = pathlib.Path(await file.download()), pathlib.Path(await folder.download())
    with path.open("a") as output:
        output.write(" spoiled")
    (place / "one").unlink()
    (place / "sub" / "run.sh").write_text("spoiled")
    return [path.name, str(os.access(place / "sub" / "run.sh", os.X_OK))]


@env.task(retries=1)
async def rename_and_fail(file: File) -> int:
    os.rename(await file.download(), pathlib.Path(tempfile.gettempdir(), "renamed"))
    if flyte.ctx().attempt == 1:
        raise ValueError("the first attempt fails")
    return flyte.ctx().attempt


@env.task
async def read(file: File, folder: Dir) -> list[str]:
    async with file.open("r") as stream:
        text = await stream.read()
    found = [each.path[len(folder.path):] async for each in folder.walk()]
    modes = [oct(stat.S_IMODE(os.stat(path).st_mode)) for path in (file.path, f"{folder.path}/one")]
    return [text, pathlib.Path(file.path).read_text(), (await folder.get_file("sub/run.sh")).name, *found, *modes]


@env.task
async def main() -> list[list[str]]:
    with tempfile.TemporaryDirectory() as made:
        place = pathlib.Path(made)
        (place / "sub").mkdir()
        (place / "one").write_text("one")
        (place / "sub" / "run.sh").write_text("#!/bin/sh")
        (place / "sub" / "run.sh").chmod(0o755)
        file, folder = await File.from_local(place / "one"), await Dir.from_local(made)
    spoiled = await spoil(file, folder)
    attempts = await rename_and_fail(file)
    return [spoiled, [str(attempts)], await read(file, folder)]


if __name__ == "__main__":
    flyte.init_from_config()
    run = flyte.run(main)
    run.wait()
    print(run.outputs()[0] if run.status == "succeeded" else run.error_info)
"""


def test_a_downloaded_copy_may_be_changed_and_renamed_and_the_next_one_gets_what_was_stored(platform: Platform) -> None:
    done = platform.python(platform.write("prog_copies.py", PROGRAM))
    spoiled = ["one", "True"]
    found = ["one", "one", "run.sh", "/one", "/sub/run.sh", "0o444", "0o444"]
    assert done.out.strip().endswith(str([spoiled, ["2"], found])), done.both
