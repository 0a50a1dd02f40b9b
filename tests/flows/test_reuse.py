"""Processes that are reused: module state stays, every action is itself, and a tree may be deeper than the pool."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = """
import os

import flyte

env = flyte.TaskEnvironment(name="kept", reusable=flyte.ReusePolicy(replicas=(1, 1)))
SEEN = []


@env.task
async def leaf(x: int) -> list[int]:
    return [os.getpid(), x]


@env.task
async def parent(x: int) -> list[str]:
    SEEN.append(flyte.ctx().action.run_name)
    await leaf(x)
    return SEEN


@env.task
async def nest(depth: int) -> int:
    return 0 if depth == 0 else await nest(depth=depth - 1) + 1
"""

DRIVER = """
import pathlib, sys

import flyte

flyte.init_from_config(root_dir=pathlib.Path(sys.argv[1]).parent)
sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
import kept

names = []
for number in range(3):
    run = flyte.run(kept.parent, x=number)
    run.wait()
    assert run.status == "succeeded", run.status
    names.append(run.name)
assert run.outputs()[0] == names, (run.outputs(), names)
deep = flyte.run(kept.nest, depth=6)
deep.wait()
assert deep.outputs()[0] == 6, deep.status
print("good")
"""


def test_a_reused_process_runs_action_after_action_each_with_children_of_its_own(platform: Platform) -> None:
    program = platform.write("kept.py", PROGRAM)
    driver = platform.write("drive_kept.py", DRIVER)
    done = platform.python(str(driver), str(program), timeout=60)
    assert done.out.strip().endswith("good"), done.both


BUSY = """
import asyncio
import os
import pathlib
import sys

import flyte

env = flyte.TaskEnvironment(name="busy", reusable=flyte.ReusePolicy(replicas=1, concurrency=8))
fresh = flyte.TaskEnvironment(name="fresh")


def note(where: str, name: str) -> None:
    with open(pathlib.Path(where, "began"), "a") as file:
        print(name, os.getpid(), flyte.ctx().attempt, file=file)


async def until_open(where: str, name: str) -> str:
    note(where, name)
    while not pathlib.Path(where, "open").exists():
        await asyncio.sleep(0.02)
    return name


@env.task
async def hold(where: str, name: str) -> str:
    return await until_open(where, name)


@env.task
async def stubborn(where: str, name: str) -> str:
    # goes on, whatever it is told
    note(where, name)
    while not pathlib.Path(where, "open").exists():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            note(where, "no")
    return name


@fresh.task
async def alone(where: str, name: str) -> str:
    return await until_open(where, name)


@env.task
async def leave() -> None:
    sys.exit(3)


@env.task
async def parent(where: str, name: str) -> str:
    note(where, name)
    children = [asyncio.ensure_future(hold(where=where, name=f"{name}-{n}")) for n in range(2)]
    while f"{name}-0" not in pathlib.Path(where, "began").read_text():
        await asyncio.sleep(0.02)
    children[0].cancel()
    return await children[1]
"""


class Busy:
    """The tasks of BUSY, and the folder in which they note what they do and wait for the file `open`."""

    def __init__(self, platform: Platform, where: Path) -> None:
        self.platform, self.where = platform, where
        self.http = platform.client()
        where.mkdir()
        done = platform.cli("deploy", platform.write("busy.py", BUSY), "--all")
        assert done.code == 0, done.both

    def connect_again(self) -> None:
        self.http.close()
        self.http = self.platform.client()

    def start(self, task: str, *names: str) -> list[str]:
        """A run for each name, once each has begun."""
        inputs = [{"where": str(self.where), "name": name} for name in names] if names else [{}]
        answers = [self.http.post("/v1/runs", json={"task": task, "inputs": each}) for each in inputs]
        wait_for(lambda: set(names) <= {name for name, _, _ in self.began()}, f"{names} have begun", 30)
        return [answer.raise_for_status().json()["name"] for answer in answers]

    def began(self) -> list[list[str]]:
        """name, process, attempt."""
        notes = self.where / "began"
        return [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []

    def processes(self) -> set[int]:
        return {int(pid) for _, pid, _ in self.began()}

    def open(self) -> None:
        (self.where / "open").touch()

    def result(self, run: str) -> tuple[str, Any]:
        """Its phase, and its output or its error's code."""
        shown: dict[str, Any] = {}

        def is_over() -> bool:
            shown.update(self.http.get(f"/v1/runs/{run}").json())
            return shown["phase"] in ("succeeded", "failed", "aborted", "timed_out")

        wait_for(is_over, f"{run} is over", 30, lambda: f"{shown}\n{self.platform.log_tails()}")
        return shown["phase"], shown["outputs"][0] if shown.get("outputs") else (shown.get("error") or {}).get("code")

    def children(self, run: str) -> list[str]:
        """Their phases."""
        return [each["phase"] for each in self.http.get(f"/v1/runs/{run}/actions").json() if each.get("parent")]

    def close(self) -> None:
        self.open()
        self.http.close()


@pytest.fixture
def busy(platform: Platform, tmp_path: Path) -> Iterator[Busy]:
    with contextlib.closing(Busy(platform, tmp_path / "busy")) as busy:
        yield busy


def renew_agent(platform: Platform) -> None:
    """SIGTERM is how a part is renewed; the control plane is there and hears whatever the workers say."""
    parts = json.loads(platform.cli("status", "-o", "json").out)["parts"]
    os.kill(next(part["pid"] for part in parts if part["name"] == "agent"), signal.SIGTERM)


def down_and_up(platform: Platform) -> None:
    platform.down()
    platform.up()


@pytest.mark.parametrize("hurt", [renew_agent, down_and_up])
def test_what_runs_together_in_one_process_is_tried_again_when_the_platform_ends_it(
    fresh_platform: Platform, tmp_path: Path, hurt: Callable[[Platform], None]
) -> None:
    with contextlib.closing(Busy(fresh_platform, tmp_path / "busy")) as busy:
        names = ["a", "b", "c", "d"]
        runs = busy.start("busy.hold", *names)
        assert len(busy.processes()) == 1
        hurt(fresh_platform)
        busy.connect_again()
        wait_for(lambda: len(busy.began()) == 8, "all have begun again", 30, fresh_platform.log_tails)
        busy.open()
        assert [busy.result(run) for run in runs] == [("succeeded", name) for name in names]
        assert sorted(attempt for _, _, attempt in busy.began()) == ["1"] * 4 + ["2"] * 4
        if hurt is down_and_up:
            shown = [fresh_platform.cli("get", "action", run, "a0").out for run in runs]
            assert all(re.search(r"1: aborted .*stopped by `flyte down`", text) for text in shown), shown


@pytest.mark.parametrize("task", ["busy.hold", "fresh.alone"])
def test_a_worker_that_is_told_to_end_is_lost_and_its_actions_are_tried_again(busy: Busy, task: str) -> None:
    names = ["a", "b"]
    runs = busy.start(task, *names)
    for pid in busy.processes():
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: len(busy.began()) == 4, "both have begun again", 30)
    busy.open()
    assert [busy.result(run) for run in runs] == [("succeeded", name) for name in names]


def test_an_action_that_calls_exit_ends_alone(busy: Busy) -> None:
    runs = busy.start("busy.hold", "a", "b", "c")
    (leaver,) = busy.start("busy.leave")
    assert busy.result(leaver) == ("failed", "TaskInterruptedError")
    busy.open()
    assert [busy.result(run) for run in runs] == [("succeeded", name) for name in "abc"]
    assert len(busy.processes()) == 1


def test_one_of_several_in_a_process_is_aborted_and_the_others_go_on(busy: Busy) -> None:
    first, second = busy.start("busy.hold", "a", "b")
    busy.http.post(f"/v1/runs/{first}/abort", json={}).raise_for_status()
    (parent,) = busy.start("busy.parent", "c")
    wait_for(lambda: {"c-0", "c-1"} <= {name for name, _, _ in busy.began()}, "the children have begun", 30)
    wait_for(lambda: "aborted" in busy.children(parent), "the cancelled child has ended", 30)
    busy.open()
    assert busy.result(first)[0] == "aborted"
    assert busy.result(second) == ("succeeded", "b")
    assert busy.result(parent) == ("succeeded", "c-1")
    assert sorted(busy.children(parent)) == ["aborted", "succeeded"]
    assert len(busy.processes()) == 1


def test_a_process_in_which_an_action_ignores_its_abort_takes_no_other_and_is_ended(busy: Busy) -> None:
    (second,) = busy.start("busy.hold", "b")
    (first,) = busy.start("busy.stubborn", "a")
    busy.http.post(f"/v1/runs/{first}/abort", json={}).raise_for_status()
    wait_for(lambda: "no" in {name for name, _, _ in busy.began()}, "it was told", 30)
    (old,) = busy.processes()
    after = busy.http.post("/v1/runs", json={"task": "busy.hold", "inputs": {"where": str(busy.where), "name": "c"}})
    assert [name for name, _, _ in busy.began()] == ["b", "a", "no"], "nobody came to the process of those two"
    busy.http.post(f"/v1/runs/{second}/abort", json={}).raise_for_status()  # the last that it could have waited for
    wait_for(lambda: "c" in {name for name, _, _ in busy.began()}, "the next one has begun, elsewhere", 30)
    assert not psutil.pid_exists(old)
    busy.open()
    assert busy.result(after.json()["name"]) == ("succeeded", "c")
    assert [busy.result(run)[0] for run in (first, second)] == ["aborted", "aborted"]


MODES = """
import asyncio
import os
import pathlib
import sys

import flyte

below = flyte.TaskEnvironment(name="below", reusable=flyte.ReusePolicy(replicas=1, concurrency=4))
above = flyte.TaskEnvironment(name="above", reusable=flyte.ReusePolicy(replicas=1, concurrency=4), depends_on=[below])


@below.task
async def child() -> list[str]:
    return [os.environ.get("MODE", "none"), str(os.getpid())]


@above.task
async def mode(opens: str) -> list[str]:
    found = [os.environ.get("MODE", "none"), str(os.getpid()), *await child()]
    while opens and not pathlib.Path(opens).exists():
        await asyncio.sleep(0.02)
    return found + [os.environ.get("MODE", "none")]
"""

DRIVE_MODES = """
import pathlib, sys

import flyte

flyte.init_from_config(root_dir=pathlib.Path(sys.argv[1]).parent)
sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
import modes

opens = pathlib.Path(sys.argv[1]).parent / "open-modes"
asked = ["none", "full", "none", "quick", "full"]
runs = [
    (flyte.with_runcontext(env_vars={"MODE": word}) if word != "none" else flyte).run(modes.mode, opens=str(opens))
    for word in asked
]
opens.touch()
found = []
for run in runs:
    run.wait()
    assert run.status == "succeeded", (run.status, run.error)
    found.append(run.outputs()[0])
assert [each[0::2] for each in found] == [[word] * 3 for word in asked], found
processes = {word: {(each[1], each[3]) for each in found if each[0] == word} for word in asked}
assert all(len(pids) == 1 for pids in processes.values()), processes
assert len(set.union(*processes.values())) == 3, processes
print("good")
"""


def test_the_variables_of_a_run_reach_tasks_that_share_a_process_and_nobody_elses(platform: Platform) -> None:
    """`with_runcontext(env_vars=…)`; runs that set the same share processes, others have none in common."""
    program = platform.write("modes.py", MODES)
    done = platform.python(str(platform.write("drive_modes.py", DRIVE_MODES)), str(program), timeout=60)
    assert done.out.strip().endswith("good"), done.both
