"""The cache of local mode: kept in a file of the user's, found by later runs and other processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte._local import cache as _cache
from flyte.io import File, HashFunction

env = flyte.TaskEnvironment("local_cache")
calls: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    calls.clear()
    _cache.spec_of.cache_clear()


@env.task(cache="auto")
def double(x: int) -> int:
    calls.append(x)
    return 2 * x


@env.task(cache=flyte.Cache("override", version_override="1", ignored_inputs=("note",)))
def ignoring(x: int, note: str = "") -> int:
    calls.append((x, note))
    return x


@env.task(cache=flyte.Cache("auto", serialize=True))
async def once(x: int) -> int:
    calls.append(x)
    await asyncio.sleep(0)
    return x


@env.task
async def fan_out(x: int) -> list[int]:
    return list(await asyncio.gather(*(once(x) for _ in range(10))))


@env.task(cache=flyte.Cache("auto", max_age=0))
def stale(x: int) -> int:
    calls.append(x)
    return x


@env.task(cache="auto")
def fails(x: int) -> int:
    calls.append(x)
    raise ValueError("no")


@env.task(cache="auto")
def length(file: File[str]) -> int:
    calls.append(file.path)
    return Path(file.path).stat().st_size


@env.task(cache="auto")
def written(path: str) -> File[str]:
    calls.append(path)
    Path(path).write_text("w")
    return File(path)


def test_an_equal_call_is_not_made_again() -> None:
    first, second = (flyte.run(double, x=4) for _ in range(2))
    for run in (first, second):
        run.wait()
    assert (calls, second.outputs()[0]) == ([4], 8)
    flyte.run(double, x=5).wait()
    assert calls == [4, 5]


def test_a_run_overwrites_the_cache_or_leaves_it_alone_if_it_says_so() -> None:
    flyte.run(double, x=1).wait()
    flyte.with_runcontext(overwrite_cache=True).run(double, x=1).wait()
    flyte.with_runcontext(disable_run_cache=True).run(double, x=1).wait()
    flyte.run(double, x=1).wait()
    assert calls == [1, 1, 1]


def test_ignored_inputs_do_not_count() -> None:
    for note in ("a", "b"):
        flyte.run(ignoring, x=1, note=note).wait()
    assert calls == [(1, "a")]


def test_equal_children_compute_once_if_they_are_serialized() -> None:
    assert flyte.run(fan_out, x=3).outputs()[0] == [3] * 10
    assert calls == [3]


def test_what_failed_or_is_too_old_is_computed_again() -> None:
    for _ in range(2):
        flyte.run(fails, x=1).wait()
        flyte.run(stale, x=1).wait()
    assert calls == [1] * 4


def test_files_count_by_their_content_and_a_result_whose_file_is_gone_is_made_anew(tmp_path: Path) -> None:
    for name in ("one", "same"):
        (tmp_path / name).write_text("abc")
        assert flyte.run(length, file=File(str(tmp_path / name))).outputs()[0] == 3
    assert len(calls) == 1
    path = tmp_path / "made"
    for _ in range(2):
        flyte.run(written, path=str(path)).wait()
    assert len(calls) == 2
    path.unlink()
    flyte.run(written, path=str(path)).wait()
    assert len(calls) == 3


def test_files_with_the_same_hash_are_the_same_to_the_cache(tmp_path: Path) -> None:
    lines = HashFunction.from_fn(lambda content: str(len(content.splitlines())))
    for text in ("a\nb\n", "c\nd\n", "e\n"):
        (tmp_path / "data.txt").write_text(text)
        flyte.run(length, file=File.from_local_sync(tmp_path / "data.txt", hash_method=lines)).wait()
    assert len(calls) == 2


def test_another_process_finds_the_result(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import flyte
            env = flyte.TaskEnvironment("p")

            @env.task(cache="auto")
            def shout(x: int) -> int:
                print("computed")
                return x + 1

            if __name__ == "__main__":
                print(flyte.run(shout, x=1).outputs()[0])
            """
        )
    )
    said = [
        subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=True).stdout
        for _ in range(2)
    ]
    assert said == ["computed\n2\n", "2\n"]
    assert _cache.clear() == 1
    assert _cache.clear() == 0


def test_a_cache_that_cannot_be_used_is_an_empty_one(caplog: pytest.LogCaptureFixture) -> None:
    _cache.place().parent.mkdir(parents=True)
    _cache.place().write_text("no database, and long enough to be looked at as one" * 10)
    assert flyte.run(double, x=4).outputs()[0] == 8
    assert "cache.db cannot be read" in caplog.text
