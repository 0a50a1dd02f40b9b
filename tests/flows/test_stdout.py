"""What a task does to its standard output is its own affair: its result counts, and the next action prints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = """
import asyncio
import contextlib
import io
import os
import sys
import time
from pathlib import Path

import flyte

fresh = flyte.TaskEnvironment("own-out")
kept = flyte.TaskEnvironment("kept-out", reusable=flyte.ReusePolicy(replicas=1))
busy = flyte.TaskEnvironment("busy-out", reusable=flyte.ReusePolicy(replicas=1, concurrency=4))


def closes_out():
    print("before")
    sys.stdout.close()


def uses_out_up():
    with sys.stdout as out:
        out.write("before\\n")


def closes_both():
    sys.stderr.close()
    sys.stdout.close()


def wraps_and_forgets():
    wrapper = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    print("before", file=wrapper)
    wrapper.flush()
    del wrapper


def detaches():
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8", line_buffering=True)
    print("before")


def only_detaches():
    sys.stdout.detach()


def has_none():
    sys.stdout = sys.stderr = None
    print("nowhere")


class Log:
    def write(self, text):
        sys.__stderr__.write(text)


def has_an_object_without_flush():
    sys.stdout = Log()
    print("before")


class Broken:
    def write(self, text): ...

    @property
    def closed(self):
        raise RuntimeError("no")

    def flush(self):
        raise RuntimeError("no")


def has_a_broken_object():
    sys.stdout = sys.stderr = Broken()
    print("nowhere")


def closes_the_descriptor():
    sys.stdout.flush()
    os.close(1)


def closes_both_descriptors():
    sys.stdout.flush()
    os.close(1)
    os.close(2)


def goes_to_devnull():
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print("nowhere")


def redirects():
    with contextlib.redirect_stdout(io.StringIO()):
        print("caught")
    print("before")


def raises_with_closed_streams():
    sys.stdout.close()
    sys.stderr.close()
    raise ValueError("its own error")


WAYS = {
    name: way
    for name, way in globals().items()
    if callable(way) and getattr(way, "__module__", "") == __name__ and not isinstance(way, type)
}


@fresh.task
def fresh_sync(way: str) -> int:
    WAYS[way]()
    return 1


@fresh.task
async def fresh_async(way: str) -> int:
    WAYS[way]()
    return 1


@kept.task
def kept_sync(way: str) -> int:
    WAYS[way]()
    return 1


@kept.task
async def kept_async(way: str) -> int:
    WAYS[way]()
    return 1


@kept.task
def kept_next(way: str) -> int:
    print("out after", way)
    print("err after", way, file=sys.stderr)
    os.system(f"echo child after {way}")
    return os.getpid()


@busy.task
async def busy_async(way: str) -> int:
    WAYS[way]()
    await asyncio.sleep(0)
    return 1


@busy.task
async def busy_next(way: str) -> int:
    print("out after", way)
    print("err after", way, file=sys.stderr)
    return os.getpid()


@fresh.task
def half_a_line(until: str) -> int:
    print("twenty ", end="")
    print("percent", end="")
    while not Path(until).exists():
        time.sleep(0.02)
    return 1


@busy.task
async def half_a_line_of_many(until: str) -> int:
    print("twenty ", end="")
    print("percent", end="")
    while not Path(until).exists():
        await asyncio.sleep(0.02)
    return 1
"""

WAYS = [
    "closes_out",
    "uses_out_up",
    "closes_both",
    "wraps_and_forgets",
    "detaches",
    "only_detaches",
    "has_none",
    "has_an_object_without_flush",
    "has_a_broken_object",
    "closes_the_descriptor",
    "closes_both_descriptors",
    "goes_to_devnull",
    "redirects",
]
PRINTS = ("closes_out", "uses_out_up", "wraps_and_forgets", "detaches", "has_an_object_without_flush", "redirects")
DESCRIPTORS = ("closes_the_descriptor", "closes_both_descriptors", "goes_to_devnull")
SHARED = [way for way in WAYS if way not in (*DESCRIPTORS, "detaches", "only_detaches")]
"""What an action among several in one process can do to its streams: their descriptors are those of all of them."""


class Prints:
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.http = platform.client()
        done = platform.cli("deploy", platform.write("prints.py", PROGRAM), "--all", timeout=60)
        assert done.code == 0, done.both

    def start(self, task: str, **inputs: Any) -> str:
        name: str = self.http.post("/v1/runs", json={"task": task, "inputs": inputs}).raise_for_status().json()["name"]
        return name

    def result(self, run: str) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            shown: dict[str, Any] = self.http.get(f"/v1/runs/{run}").json()
            return shown

        wait_for(lambda: look().get("ended"), f"{run} is over", 30, lambda: str(look()))
        return look()

    def log(self, run: str) -> str:
        return (self.platform.home / "logs" / "runs" / run / "a0.1.log").read_text()


@pytest.fixture(scope="module")
def prints(platform: Platform) -> Iterator[Prints]:
    prints = Prints(platform)
    with contextlib.closing(prints.http):
        yield prints


@pytest.mark.parametrize("task", ["own-out.fresh_sync", "own-out.fresh_async"])
def test_a_function_that_returned_has_succeeded_whatever_became_of_its_streams(prints: Prints, task: str) -> None:
    runs = {way: prints.start(task, way=way) for way in WAYS}
    ended = {way: prints.result(run) for way, run in runs.items()}
    assert {way: run["phase"] for way, run in ended.items()} == dict.fromkeys(WAYS, "succeeded")
    assert {way for way in PRINTS if "before" not in prints.log(runs[way])} == set()


@pytest.mark.parametrize(
    "task", ["own-out.fresh_sync", "own-out.fresh_async", "kept-out.kept_sync", "kept-out.kept_async"]
)
def test_a_function_that_raised_has_failed_with_its_own_error(prints: Prints, task: str) -> None:
    run = prints.result(prints.start(task, way="raises_with_closed_streams"))
    assert (run["phase"], run["error"]["code"], run["error"]["message"]) == ("failed", "ValueError", "its own error")
    assert "Traceback" in run["error"]["traceback"]


@pytest.mark.parametrize("task", ["kept-out.kept_sync", "kept-out.kept_async"])
def test_the_next_action_of_a_reused_process_prints_as_if_nothing_had_been(prints: Prints, task: str) -> None:
    pids = set()
    for way in WAYS:
        assert prints.result(prints.start(task, way=way))["phase"] == "succeeded", way
        after = prints.result(prints.start("kept-out.kept_next", way=way))
        pids.add(after["outputs"][0])
        assert sorted(prints.log(after["name"]).splitlines()) == [
            f"child after {way}",
            f"err after {way}",
            f"out after {way}",
        ]
    assert len(pids) == 1, "a process did not live through it"


def test_of_several_in_one_process_none_is_hurt(prints: Prints) -> None:
    pids = set()
    for way in SHARED:
        assert prints.result(prints.start("busy-out.busy_async", way=way))["phase"] == "succeeded", way
        after = prints.result(prints.start("busy-out.busy_next", way=way))
        pids.add(after["outputs"][0])
        assert sorted(prints.log(after["name"]).splitlines()) == [f"err after {way}", f"out after {way}"]
    assert len(pids) == 1, "a process did not live through it"


@pytest.mark.parametrize("task", ["own-out.half_a_line", "busy-out.half_a_line_of_many"])
def test_half_a_line_can_be_read_while_the_task_goes_on(prints: Prints, task: str) -> None:
    until = prints.platform.work / f"{task}.until"
    run = prints.start(task, until=str(until))

    def read() -> bool:
        answer = prints.http.get(f"/v1/runs/{run}/actions/a0/logs")
        return "twenty percent" in answer.text

    wait_for(read, "what was printed without an end of line is in the log", 10)
    until.touch()
    assert prints.result(run)["phase"] == "succeeded"
