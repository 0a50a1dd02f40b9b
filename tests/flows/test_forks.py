"""Processes that a task forks are plain processes: a task called there is a function, and nobody hears of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = """
import asyncio
import concurrent.futures
import multiprocessing
import os
import sys
import time
from collections.abc import Callable

import flyte

fresh = flyte.TaskEnvironment(name="fresh")
kept = flyte.TaskEnvironment(name="kept", reusable=flyte.ReusePolicy(replicas=1))
busy = flyte.TaskEnvironment(name="busy", reusable=flyte.ReusePolicy(replicas=1, concurrency=8), depends_on=[fresh])
fork = multiprocessing.get_context("fork")


@fresh.task
def square(x: int) -> int:
    return x * x


@fresh.task
async def asquare(x: int) -> int:
    return x * x


def asquared(x: int) -> int:
    return asyncio.run(asquare(x))


@flyte.trace
def cube(x: int) -> int:
    return x**3


def known(x: int) -> int:
    return int(bool(flyte.ctx()))


FUNCTIONS = {"task": square, "async task": asquared, "trace": cube, "known": known}


def pool(what: str) -> list[int]:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as executor:
        return list(executor.map(FUNCTIONS[what], range(4)))


def processes(what: str) -> list[int]:
    with fork.Pool(2) as pool, flyte.group("forked"):
        return pool.map(FUNCTIONS[what], range(4))


def started(how: str) -> list[int]:
    context = multiprocessing.get_context(how)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return [*executor.map(square, range(4)), *executor.map(cube, range(4)), *executor.map(known, range(2))]


def code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@flyte.trace
def inside(what: str) -> int:
    with flyte.group("forked"):
        pid = os.fork()
        if pid == 0:
            if what == "exit":
                sys.exit(square(2))
            if what == "raise":
                raise ValueError("in the child")
            os._exit(square(3))
    return code(pid)


def returned() -> int:
    pid = os.fork()
    return -1 if pid == 0 else code(pid)


def terminated() -> int:
    process = fork.Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


@fresh.task
def fresh_pools(what: str) -> list[int]:
    return pool(what) + processes(what) + [square(9), cube(9)]


@kept.task
def kept_pools(what: str) -> list[int]:
    return pool(what) + processes(what) + [square(9), cube(9)]


@busy.task
async def busy_pools(what: str) -> list[int]:
    return pool(what) + await asyncio.to_thread(processes, what) + [await square.aio(9), cube(9)]


@kept.task
def kept_starts(how: str) -> list[int]:
    return started(how) + [square(9), cube(9)]


@busy.task
async def busy_starts(how: str) -> list[int]:
    return started(how) + [await square.aio(9), cube(9)]


@fresh.task
def fresh_forks() -> list[int]:
    return [inside("exit"), inside("raise"), inside("leave"), terminated(), square(9), returned()]


@kept.task
def kept_forks() -> list[int]:
    return [inside("exit"), inside("raise"), inside("leave"), terminated(), square(9), returned()]


@fresh.task
async def async_forks() -> list[int]:
    return [inside("exit"), inside("raise"), inside("leave"), terminated(), await square.aio(9), returned()]


@busy.task
async def busy_forks() -> list[int]:
    return [inside("exit"), inside("raise"), inside("leave"), terminated(), await square.aio(9), returned()]


@busy.task
async def busy_idle() -> int:
    return os.getpid()
"""


class Forking:
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.http = platform.client()
        done = platform.cli("deploy", platform.write("forking.py", PROGRAM), "--all", timeout=60)
        assert done.code == 0, done.both

    def run(self, task: str, **inputs: Any) -> tuple[Any, list[str]]:
        """The output, and what the run consists of beside its root."""
        asked = {"task": task, "inputs": inputs}
        run = self.http.post("/v1/runs", json=asked).raise_for_status().json()["name"]
        found: dict[str, Any] = {}

        def is_over() -> bool:
            found.update(self.http.get(f"/v1/runs/{run}").json())
            return "ended" in found

        wait_for(is_over, f"{task} is over", 30, lambda: str(found))
        assert found["phase"] == "succeeded", found
        actions = self.http.get(f"/v1/runs/{run}/actions").json()
        return found["outputs"][0], sorted(each["short_name"] for each in actions if each.get("parent"))


@pytest.fixture(scope="module")
def forking(platform: Platform) -> Iterator[Forking]:
    forking = Forking(platform)
    with contextlib.closing(forking.http):
        yield forking


@pytest.mark.parametrize("task", ["fresh.fresh_pools", "kept.kept_pools", "busy.busy_pools"])
@pytest.mark.parametrize(
    ("what", "values"),
    [("task", [0, 1, 4, 9]), ("async task", [0, 1, 4, 9]), ("trace", [0, 1, 8, 27]), ("known", [0, 0, 0, 0])],
)
def test_a_pool_of_processes_calls_tasks_and_traced_functions_as_functions(
    forking: Forking, task: str, what: str, values: list[int]
) -> None:
    """The parent's own calls are children and steps as ever, with the answers that are meant for them."""
    assert forking.run(task, what=what) == ([*values, *values, 81, 729], ["cube", "square"])


@pytest.mark.parametrize("how", ["spawn", "forkserver"])
@pytest.mark.parametrize("task", ["kept.kept_starts", "busy.busy_starts"])
def test_processes_that_are_started_and_not_forked_are_no_different(forking: Forking, task: str, how: str) -> None:
    values = [0, 1, 4, 9, 0, 1, 8, 27, 0, 0]
    assert forking.run(task, how=how) == ([*values, 81, 729], ["cube", "square"])


@pytest.mark.parametrize("task", ["fresh.fresh_forks", "kept.kept_forks", "fresh.async_forks", "busy.busy_forks"])
def test_a_forked_process_ends_as_it_likes_and_says_nothing_in_its_parents_name(forking: Forking, task: str) -> None:
    """By sys.exit, an exception, os._exit, SIGTERM, and by returning from the task."""
    output, children = forking.run(task)
    assert output == [4, 1, 9, -15, 81, 0]
    assert children == ["inside", "inside", "inside", "square"]


def test_a_forked_process_that_is_ended_leaves_the_process_of_several_as_it_was(forking: Forking) -> None:
    before, _ = forking.run("busy.busy_idle")
    forking.run("busy.busy_forks")
    assert forking.run("busy.busy_idle") == (before, [])
