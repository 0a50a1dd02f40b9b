"""What a process has still to do when its work is done: threads, atexit functions, buffers; and where it is said."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = """
import atexit
import logging
import logging.handlers
import os
import pathlib
import tempfile
import threading
import time

import flyte

env = flyte.TaskEnvironment(name="words")
kept = flyte.TaskEnvironment(name="kept_words", reusable=flyte.ReusePolicy(replicas=1, idle_ttl=30))
KEEP = []


def later(gate: pathlib.Path) -> None:
    while not gate.exists():
        time.sleep(0.01)
    print("a thread")


def prepare(name: str) -> str:
    place = pathlib.Path.home() / name
    place.mkdir()
    (place / "pid").write_text(str(os.getpid()))
    atexit.register(print, "an atexit function")
    threading.Thread(target=later, args=[place / "gate"]).start()
    KEEP.append(tempfile.TemporaryDirectory(dir=pathlib.Path.home()))
    handler = logging.handlers.MemoryHandler(100, target=logging.FileHandler(place / "log"))
    logging.getLogger("words").addHandler(handler)
    logging.getLogger("words").warning("buffered")
    return KEEP[-1].name


@env.task
def speak(name: str) -> str:
    print("the task")
    return prepare(name)


@env.task
def speak_late(name: str) -> str:
    return prepare(name)


@kept.task
def speak_kept(name: str) -> str:
    return prepare(name)
"""


class Speaking:
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.http = platform.client()
        done = platform.cli("deploy", platform.write("prog_words.py", PROGRAM), "--all", timeout=60)
        assert done.code == 0, done.both

    def run(self, task: str, name: str) -> tuple[str, str]:
        """The run, and the folder of its TemporaryDirectory."""
        asked = {"task": task, "inputs": {"name": name}}
        run = self.http.post("/v1/runs", json=asked).raise_for_status().json()["name"]
        found: dict[str, Any] = {}

        def is_over() -> bool:
            found.update(self.http.get(f"/v1/runs/{run}").json())
            return "ended" in found

        wait_for(is_over, f"{task} is over", 30, lambda: str(found))
        assert found["phase"] == "succeeded", found
        return run, found["outputs"][0]


@pytest.fixture(scope="module")
def speaking(platform: Platform) -> Iterator[Speaking]:
    speaking = Speaking(platform)
    with contextlib.closing(speaking.http):
        yield speaking


@pytest.mark.parametrize(("task", "first"), [("words.speak", "the task\n"), ("words.speak_late", "")])
def test_last_words_are_in_the_actions_log(speaking: Speaking, task: str, first: str) -> None:
    """Also where the action itself has printed nothing; the run does not wait for them."""
    platform = speaking.platform
    run, folder = speaking.run(task, f"last-{task}")
    (platform.user / f"last-{task}" / "gate").touch()
    log = platform.home / "logs" / "runs" / run / "a0.1.log"
    expected = f"{first}a thread\nan atexit function\n"
    wait_for(lambda: log.exists() and log.read_text() == expected, "the last words are there")
    wait_for(lambda: "buffered" in (platform.user / f"last-{task}" / "log").read_text(), "the handler was flushed")
    wait_for(lambda: not list(platform.user.glob(folder.rpartition("/")[2])), "its temporary folder is gone")


def test_a_reused_process_says_its_last_words_when_it_is_ended(speaking: Speaking) -> None:
    platform = speaking.platform
    _, folder = speaking.run("kept_words.speak_kept", "kept")
    (platform.user / "kept" / "gate").touch()
    os.kill(int((platform.user / "kept" / "pid").read_text()), signal.SIGTERM)
    wait_for(lambda: "buffered" in (platform.user / "kept" / "log").read_text(), "the handler was flushed")
    wait_for(lambda: not list(platform.user.glob(folder.rpartition("/")[2])), "its temporary folder is gone")
