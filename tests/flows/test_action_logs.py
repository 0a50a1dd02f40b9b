"""What an action writes is its log: while it runs, when it is over, and when its process is killed under it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = """
import asyncio, os, subprocess, time
from pathlib import Path

import flyte

fresh = flyte.TaskEnvironment(name="fresh")
again = flyte.TaskEnvironment(name="again", reusable=flyte.ReusePolicy(replicas=(1, 1)))
together = flyte.TaskEnvironment(name="together", reusable=flyte.ReusePolicy(replicas=1, concurrency=8))
SINGING = []


def speak(word: str, opens: str = "") -> int:
    if word:
        print(word, flush=True)
        subprocess.run(["echo", f"child of {word}"], check=True)
    while opens and not Path(opens).exists():
        time.sleep(0.02)
    if opens:
        print(f"{word} goes on")
    return os.getpid()


@fresh.task
def once(word: str, opens: str = "") -> int:
    return speak(word, opens)


@together.task
async def chorus(word: str, voices: int) -> list[int]:
    # each waits for the last, so that all speak at once
    if word:
        print(word)
    SINGING.append(word)
    while len(SINGING) < voices:
        await asyncio.sleep(0.02)
    if word:
        print(word, "and", "out", sep=" ", end="")
    return [os.getpid()]


@again.task
def often(word: str, opens: str = "") -> int:
    return speak(word, opens)
"""


CONVERSATION = """
import subprocess

import flyte

fresh = flyte.TaskEnvironment(name="fresh-talk")
again = flyte.TaskEnvironment(name="again-talk", reusable=flyte.ReusePolicy(replicas=(1, 2)))
together = flyte.TaskEnvironment(name="together-talk", reusable=flyte.ReusePolicy(replicas=1, concurrency=8))


@fresh.task
async def answer_fresh(word: str) -> None:
    print("fresh answer to", word)
    subprocess.run(["echo", f"{word} from a child process"], check=True)


@again.task
async def answer_again(word: str) -> None:
    print("again answer to", word)


@together.task
async def answer_together(word: str) -> None:
    print("together answer to", word)


async def talk() -> None:
    for answer in (answer_fresh, answer_again, answer_together):
        for word in ("one", "two"):
            print("asks", word)
            await answer(word)
    print("has heard all")


@fresh.task
async def talk_fresh() -> None:
    await talk()


@together.task
async def talk_together() -> None:
    await talk()
"""


FAILING = """
import os

import flyte

env = flyte.TaskEnvironment(name="failing")


@env.task(retries=3)
def fails() -> None:
    print(f"try {os.environ['FLYTE_ATTEMPT_NUMBER']}", flush=True)
    raise ValueError("no")


if __name__ == "__main__":
    flyte.init_from_config()
    run = flyte.run(fails)
    print(list(run.get_logs(follow=True)), run.sync().status)
    print(list(run.get_logs(follow=True)), list(run.get_logs()))
"""


def test_who_follows_a_run_reads_every_attempt_however_quickly_it_failed(platform: Platform) -> None:
    done = platform.python(platform.write("failing.py", FAILING))
    assert done.code == 0, done.both
    tries = ["try 0", "try 1", "try 2", "try 3"]
    assert done.out.splitlines() == [f"{tries} failed", f"{tries} {tries[-1:]}"]
    shown = platform.cli("run", "failing.py", "fails")
    assert [line for line in shown.err.splitlines() if "| try" in line] == [f"  | {line}" for line in tries]


@pytest.fixture(scope="module")
def speaking(platform: Platform) -> Platform:
    program = platform.write("speaking.py", PROGRAM)
    done = platform.cli("deploy", program, "--all", timeout=60)
    assert done.code == 0, done.both
    return platform


def start(platform: Platform, task: str, **inputs: str) -> str:
    with platform.client() as http:
        answer = http.post("/v1/runs", json={"task": task, "inputs": inputs})
        answer.raise_for_status()
        name: str = answer.json()["name"]
    return name


def result(platform: Platform, run: str) -> dict[str, Any]:
    with platform.client() as http:
        found: dict[str, Any] = http.get(f"/v1/runs/{run}", params={"wait": 25}).json()
    return found


def log(platform: Platform, run: str, attempt: int = 1) -> list[str]:
    with platform.client() as http:
        answer = http.get(f"/v1/runs/{run}/actions/a0/logs", params={"attempt": attempt})
    return [line["text"] for line in map(_decoded, answer.text.splitlines()) if line]


def _decoded(line: str) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(line) if line.strip() else {}
    return found


@pytest.mark.parametrize("task", ["fresh.once", "again.often"])
def test_a_log_is_read_while_its_action_runs_and_is_whole_when_it_is_over(speaking: Platform, task: str) -> None:
    opens = speaking.work / f"open-{task}"
    run = start(speaking, task, word="hello", opens=str(opens))
    begun = ["hello", "child of hello"]
    wait_for(lambda: log(speaking, run) == begun, "its first words are there", 20, lambda: f"{log(speaking, run)}")
    opens.touch()
    assert result(speaking, run)["phase"] == "succeeded"
    assert log(speaking, run) == [*begun, "hello goes on"]


def test_actions_of_one_process_have_logs_of_their_own_and_silent_ones_have_none(speaking: Platform) -> None:
    words = ["one", "", "three", "", "five"]
    runs = [start(speaking, "again.often", word=word) for word in words]
    processes = {result(speaking, run)["outputs"][0] for run in runs}
    assert len(processes) == 1
    assert [log(speaking, run) for run in runs] == [[word, f"child of {word}"] if word else [] for word in words]
    folder = speaking.home / "logs" / "runs"
    assert [(folder / run).exists() for run in runs] == [bool(word) for word in words]


def test_actions_that_run_at_once_in_one_process_have_logs_of_their_own(speaking: Platform) -> None:
    words = ["one", "", "three", "four"]
    with speaking.client() as http:
        asked = [{"task": "together.chorus", "inputs": {"word": word, "voices": len(words)}} for word in words]
        runs = [http.post("/v1/runs", json=each).raise_for_status().json()["name"] for each in asked]
    processes = {result(speaking, run)["outputs"][0][0] for run in runs}
    assert len(processes) == 1
    assert [log(speaking, run) for run in runs] == [[word, f"{word} and out"] if word else [] for word in words]


def test_a_follower_of_a_silent_action_never_sees_the_words_of_the_next_one(speaking: Platform) -> None:
    opens = speaking.work / "open-silent"
    silent = start(speaking, "again.often", word="", opens=str(opens))
    following = speaking.work / "followed"
    with speaking.client() as http, http.stream("GET", f"/v1/runs/{silent}/actions/a0/logs?follow=true") as answer:
        wait_for(lambda: result_now(speaking, silent) == "running", "it runs", 20)
        opens.touch()
        loud = start(speaking, "again.often", word="loud")
        following.write_text("".join(answer.iter_text()))
    assert result(speaking, loud)["phase"] == "succeeded"
    assert "loud" not in following.read_text()
    assert " goes on" in following.read_text()


def result_now(platform: Platform, run: str) -> str:
    with platform.client() as http:
        phase: str = http.get(f"/v1/runs/{run}").json()["phase"]
    return phase


@pytest.mark.parametrize("task", ["fresh.once", "again.often"])
@pytest.mark.parametrize("how", ["killed", "aborted"])
def test_the_last_words_of_a_process_are_in_the_log_of_its_attempt(speaking: Platform, task: str, how: str) -> None:
    opens = speaking.work / f"open-{how}-{task}"
    run = start(speaking, task, word="last words", opens=str(opens))
    spoken = ["last words", "child of last words"]
    wait_for(lambda: log(speaking, run) == spoken, "it has spoken", 20, lambda: f"{log(speaking, run)}")
    if how == "aborted":
        with speaking.client() as http:
            http.post(f"/v1/runs/{run}/abort", json={}).raise_for_status()
        assert log(speaking, run)[:2] == spoken
        return
    os.kill(_pid_of(speaking, run), signal.SIGKILL)
    opens.touch()
    assert result(speaking, run)["phase"] == "succeeded"
    assert log(speaking, run, attempt=1) == spoken
    assert log(speaking, run, attempt=2) == [*spoken, "last words goes on"]


def _pid_of(platform: Platform, run: str) -> int:
    """The process that has the action's words in its file, found by what it has open."""
    with platform.client() as http:
        unit = http.get(f"/v1/runs/{run}/actions/a0").json()["attempts"][-1]["unit"]
    file = str(platform.home / "logs" / "workers" / f"{unit}.log")

    def holders() -> list[int]:
        return [process.pid for process in platform.processes() if _writes(process.pid, file)]

    wait_for(lambda: len(holders()) == 1, "its child, which has spoken, has ended too", 20, lambda: f"{holders()}")
    return holders()[0]


def _writes(pid: int, file: str) -> bool:
    try:
        return os.path.realpath(f"/proc/{pid}/fd/1") == file and Path(file).exists()
    except OSError:
        return False


def test_the_words_of_a_worker_that_died_while_nobody_looked_are_found_after_a_restart(speaking: Platform) -> None:
    """Agent and control plane die together: nobody hears how the worker ended."""
    from tests.faults.world import World

    opens = speaking.work / "open-unseen"
    run = start(speaking, "fresh.once", word="unseen", opens=str(opens))
    spoken = ["unseen", "child of unseen"]
    wait_for(lambda: log(speaking, run) == spoken, "it has spoken", 20)
    world = World(speaking)
    world.restart("control", "agent")
    wait_for(lambda: log(speaking, run, attempt=2) == spoken, "it runs again", 30)
    assert log(speaking, run, attempt=1) == spoken
    opens.touch()
    assert result(speaking, run)["phase"] == "succeeded"
    world.http.close()


@pytest.mark.parametrize("task", ["talk_fresh", "talk_together"])
def test_the_log_of_a_run_has_what_parent_and_children_wrote_in_the_order_in_which_they_did(
    platform: Platform, task: str
) -> None:
    done = platform.cli("run", platform.write("conversation.py", CONVERSATION), task)
    assert done.code == 0, done.both
    name = platform.cli("get", "run", "--task-name", task, "--limit", "1", "-o", "name").out.strip()
    lines = [_decoded(line) for line in platform.cli("get", "logs", name, "-o", "json").out.splitlines()]
    expected: list[str] = []
    for how in ("fresh", "again", "together"):
        for word in ("one", "two"):
            expected += [f"asks {word}", f"{how} answer to {word}"]
            expected += [f"{word} from a child process"] if how == "fresh" else []
    assert sorted(line["text"] for line in lines) == sorted([*expected, "has heard all"])
    assert [line["text"] for line in lines if "from a child" not in line["text"]] == [
        *(line for line in expected if "from a child" not in line), "has heard all",
    ]  # fmt: skip
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    shown = platform.cli("get", "logs", name, "-t").out.splitlines()
    assert [re.fullmatch(r"\d{4}(-\d\d){2} (\d\d:){2}\d\d\.\d{3}  .+", line) for line in shown].count(None) == 0
