"""A platform whose values, code and files lie in an object store, and the command that removes what is not used."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator

import pytest

from tarmac.agent.fork_server import environment
from tests.object_server import ENVIRONMENT, make_bucket, object_server
from tests.platform_fixture import Platform, running

PROGRAM = """
import flyte
from flyte.io import File

env = flyte.TaskEnvironment(name="stored")


@env.task
async def make(size: int) -> tuple[File, str]:
    file = File.new_remote("data.bin")
    async with file.open("wb") as opened:
        await opened.write(b"x" * size)
    return file, "y" * size


@env.task
async def main(size: int) -> list[str]:
    file, text = await make(size)
    async with file.open() as opened:
        content = await opened.read()
    return [file.path, str(len(content)), str(len(text))]
"""


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Platform, str]]:
    with object_server() as endpoint:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)
        bucket = asyncio.run(make_bucket(endpoint))
        with running({"storage_url": f"{bucket}/tarmac"}) as platform:
            yield platform, bucket


def test_values_code_and_files_lie_in_the_store_and_old_ones_are_removed(stored: tuple[Platform, str]) -> None:
    platform, bucket = stored
    program = platform.write("stored.py", PROGRAM)
    done = platform.cli("run", program, "main", "--size", "300000")
    assert done.code == 0, done.both
    path, *sizes = json.loads(done.out)
    assert path.startswith(f"{bucket}/tarmac/files/")
    assert sizes == ["300000", "300000"]
    shutil.rmtree(platform.home / "blobs")
    (platform.home / "blobs").mkdir()
    again = platform.cli("run", program, "main", "--size", "300000")
    assert again.code == 0, again.both
    listed = platform.cli("prune", "--older", "0s", "--dry-run", "-o", "json")
    assert len(json.loads(listed.out)["runs"]) == 2, listed.both
    pruned = platform.cli("prune", "--older", "0s", "--grace", "0s")
    assert (pruned.code, "2 runs removed" in pruned.both) == (0, True), pruned.both
    assert "disk" in platform.cli("status").out
    wrong = platform.cli("prune", "--run", "nobody")
    assert (wrong.code, "nobody" in wrong.err) == (2, True), wrong.both
    assert platform.cli("prune", "--older", "soon").code == 2


def test_processes_get_the_settings_of_stores_and_none_other_of_the_platforms() -> None:
    given = {"FLYTE_AWS_ENDPOINT": "http://store", "FLYTE_ENDPOINT": "http://platform", "TARMAC_PORT": "1", "A": "b"}
    made = environment("/home", environ=given)
    assert {name: made.get(name) for name in given} == {
        "FLYTE_AWS_ENDPOINT": "http://store",
        "FLYTE_ENDPOINT": None,
        "TARMAC_PORT": None,
        "A": "b",
    }
