"""However a function ends, its action ends with an error that says so, and no other action is the worse for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = r"""
import asyncio
import os
import pathlib
import sys

import flyte
import flyte.errors

fresh = flyte.TaskEnvironment(name="fresh")
kept = flyte.TaskEnvironment(name="kept", reusable=flyte.ReusePolicy(replicas=1))
busy = flyte.TaskEnvironment(name="busy", reusable=flyte.ReusePolicy(replicas=1, concurrency=8))
parents = flyte.TaskEnvironment(name="parents", depends_on=[fresh, kept, busy])


class Mute(Exception):
    def __str__(self):
        raise ValueError("nothing to say")


class Hidden:
    def __repr__(self):
        raise ValueError("nothing to see")


class Careless(flyte.errors.BaseRuntimeError):
    def __init__(self):
        pass


class Noted(Exception):
    @property
    def __notes__(self):
        raise KeyError("no notes")


ERRORS = {
    "StopIteration": StopIteration(7),
    "StopAsyncIteration": StopAsyncIteration(),
    "SystemExit": SystemExit(3),
    "CancelledError": asyncio.CancelledError(),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "Mute": Mute(),
    "HiddenExit": SystemExit(Hidden()),
    "Hidden": ValueError(Hidden()),
    "Careless": Careless(),
    "Noted": Noted("noted"),
    "Unpicklable": ValueError(lambda: None),
    "Unsendable": ValueError("half \udc80 and \0 none"),
    "Huge": ValueError("x" * 3_000_000),
}


async def beside() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def end(how: str) -> str:
    if how == "beside":
        await asyncio.gather(asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(beside()))
    if how == "beside, in a group":
        async with asyncio.TaskGroup() as group:
            group.create_task(beside())
    raise ERRORS[how]


@fresh.task
def fresh_sync(how: str) -> str:
    raise ERRORS[how]


@kept.task
def kept_sync(how: str) -> str:
    raise ERRORS[how]


@fresh.task
async def fresh_async(how: str) -> str:
    return await end(how)


@kept.task
async def kept_async(how: str) -> str:
    return await end(how)


@busy.task
async def busy_async(how: str) -> str:
    return await end(how)


@kept.task
async def kept_pid() -> int:
    await asyncio.sleep(0)
    return os.getpid()


@busy.task
async def busy_pid() -> int:
    return os.getpid()


@busy.task
async def busy_hold(opens: str) -> int:
    print("it holds", flush=True)
    while not pathlib.Path(opens).exists():
        await asyncio.sleep(0.02)
    return os.getpid()


CHILDREN = [fresh_sync, kept_sync, fresh_async, kept_async, busy_async]


@parents.task
async def catch(child: int, how: str) -> str:
    try:
        return await CHILDREN[child].aio(how)
    except Exception as error:
        return type(error).__name__


@parents.task
def catch_sync(child: int, how: str) -> str:
    try:
        return CHILDREN[child](how) if child < 2 else "async"
    except Exception as error:
        return type(error).__name__
"""

ENDS = {
    "StopIteration": ("RuntimeError", "raised StopIteration"),
    "StopAsyncIteration": ("RuntimeError", "raised StopAsyncIteration"),
    "SystemExit": ("TaskInterruptedError", "the task called sys.exit(3); raise an exception to fail"),
    "CancelledError": ("TaskInterruptedError", "the task was cancelled from inside"),
    "KeyboardInterrupt": ("TaskInterruptedError", "the task raised KeyboardInterrupt"),
    "GeneratorExit": ("TaskInterruptedError", "the task raised GeneratorExit"),
    "Mute": ("Mute", "Mute"),
    "HiddenExit": ("TaskInterruptedError", "the task called sys.exit(<Hidden>); raise an exception to fail"),
    "Hidden": ("ValueError", "ValueError"),
    "Careless": ("Careless", "Careless"),
    "Noted": ("Noted", "noted"),
    "Unpicklable": ("ValueError", "<function <lambda> at 0x"),
    "Unsendable": ("ValueError", r"half \udc80 and \x00 none"),
    "Huge": ("ValueError", "… (cut; it had 3,000,000 characters)"),
}
BESIDE = ("TaskInterruptedError", "the task called sys.exit(3); raise an exception to fail")
ASYNC_ENDS = {**ENDS, "beside": BESIDE, "beside, in a group": BESIDE}
SYNC = ("fresh.fresh_sync", "kept.kept_sync")
ASYNC = ("fresh.fresh_async", "kept.kept_async", "busy.busy_async")


class Ends:
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.http = platform.client()
        done = platform.cli("deploy", platform.write("ends.py", PROGRAM), "--all", timeout=60)
        assert done.code == 0, done.both

    def start(self, task: str, **inputs: Any) -> str:
        name: str = self.http.post("/v1/runs", json={"task": task, "inputs": inputs}).raise_for_status().json()["name"]
        return name

    def look(self, run: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.http.get(f"/v1/runs/{run}").json()
        return shown

    def result(self, run: str) -> dict[str, Any]:
        wait_for(lambda: self.look(run).get("ended"), f"{run} is over", 30, lambda: str(self.look(run)))
        return self.look(run)

    def output(self, task: str, **inputs: Any) -> Any:
        done = self.result(self.start(task, **inputs))
        assert done["phase"] == "succeeded", done
        return done["outputs"][0]


@pytest.fixture(scope="module")
def ends(platform: Platform) -> Iterator[Ends]:
    ends = Ends(platform)
    with contextlib.closing(ends.http):
        yield ends


def test_every_end_is_told_in_every_kind_of_process_and_hurts_nobody(ends: Ends) -> None:
    opens = ends.platform.work / "open"
    holding = [ends.start("busy.busy_hold", opens=str(opens)) for _ in range(2)]
    before = ends.output("kept.kept_pid")
    table = [
        (task, how, end)
        for tasks, all in ((SYNC, ENDS), (ASYNC, ASYNC_ENDS))
        for how, end in all.items()
        for task in tasks
    ]
    runs = [ends.start(task, how=how) for task, how, _ in table]
    found, expected = {}, {}
    for (task, how, (code, message)), run in zip(table, runs, strict=True):
        done = ends.result(run)
        error = done.get("error") or {}
        found[task, how] = (done["phase"], error.get("code"), message if message in error.get("message", "") else error)
        expected[task, how] = ("failed", code, message)
    assert found == expected
    assert ends.output("kept.kept_pid") == before
    assert {ends.look(run)["phase"] for run in holding} == {"running"}
    opens.touch()
    pids = {ends.result(run)["outputs"][0] for run in holding}
    assert pids == {ends.output("busy.busy_pid")}


@pytest.mark.parametrize("how", ENDS)
def test_a_parent_can_catch_every_end_of_its_child(ends: Ends, how: str) -> None:
    code, _ = ENDS[how]
    assert [ends.output("parents.catch", child=child, how=how) for child in range(5)] == [code] * 5
    assert [ends.output("parents.catch_sync", child=child, how=how) for child in range(2)] == [code] * 2
