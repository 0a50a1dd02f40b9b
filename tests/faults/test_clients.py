"""Whoever waits, watches or starts a run goes on through a restart of the control plane, and misses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.faults.world import PROGRAMS, World
from tests.platform_fixture import wait_for


class Follower:
    """`programs/follower.py` in a process of its own; what it has said so far is in `lines`."""

    def __init__(self, world: World, *words: object) -> None:
        command = [sys.executable, str(PROGRAMS / "follower.py"), *map(str, words)]
        self._process = subprocess.Popen(
            command, env=world.platform.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def said(self, word: str, times: int = 1) -> None:
        wait_for(lambda: len(self.of(word)) >= times, f"{times} × {word}", 20, lambda: f"{self.lines}")

    def of(self, word: str) -> list[list[str]]:
        return [line.split() for line in list(self.lines) if line.startswith(word + " ")]

    def end(self) -> str:
        """Wait for its end; the phase that it saw last."""
        code = self._process.wait(timeout=40)
        self._reader.join(timeout=5)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        errors = self._process.stderr.read()
        self._process.stdout.close()
        self._process.stderr.close()
        assert code == 0, errors
        return self.of("ended")[-1][1]


def test_a_wait_survives_restarts(world: World) -> None:
    opens = world.platform.work / "open-wait"
    follower = Follower(world, "wait", world.notes, opens)
    world.noted("gate")
    world.restart("control")
    world.restart("control", "gateway")
    opens.touch()
    assert follower.end() == "succeeded"
    assert world.count()["gate"] == 1


def test_a_stream_of_updates_has_each_event_once_and_in_order_through_restarts(world: World) -> None:
    follower = Follower(world, "stream", world.notes, 12, 0.8)
    follower.said("update", 4)
    world.restart("control")
    assert follower.end() == "succeeded"
    run = follower.of("started")[0][1]
    seen = [int(words[1]) for words in follower.of("update")]
    stored = _events(world, run)
    assert seen[1:] == [number for number in stored if number > seen[0]]


def _events(world: World, run: str) -> list[int]:
    """The numbers of all events of a run that is over, as the platform tells them now."""
    with world.http.stream("GET", f"/v1/runs/{run}/events?after=0&actions=all") as answer:
        return [int(line[4:]) for line in answer.iter_lines() if line.startswith("id: ")]


def test_a_followed_log_has_each_line_once_through_a_restart(world: World) -> None:
    follower = Follower(world, "logs", world.notes, 40, 0.05)
    follower.said("log", 3)
    world.restart("control")
    assert follower.end() == "succeeded"
    assert [words[2] for words in follower.of("log line")] == [str(number) for number in range(40)]


def test_a_run_that_is_started_while_the_control_plane_is_away_starts_once_it_is_back(world: World) -> None:
    hit = world.kill(["control"])
    follower = Follower(world, "start", world.notes, 7)
    assert follower.end() == "succeeded"
    assert world.is_back(hit)
    assert world.count()["leaf-7"] == 1


def test_a_start_waits_no_longer_than_it_may_and_then_says_who_is_away(world: World) -> None:
    """The control plane is stopped, not dead: nothing is refused, and nothing is answered."""
    hit = world.kill(["control"], signal.SIGSTOP)
    try:
        done = world.platform.python(
            "-c",
            "import flyte\n"
            "from flyte._client.connections import Route\n"
            "from flyte._client.request import Request\n"
            "from flyte._client.transport import Transport\n"
            "import asyncio, os\n"
            f"t = Transport(Route({world.platform.endpoint!r}), {world.platform.token!r}, patience=1)\n"
            "try:\n"
            "    asyncio.run(t.send(Request('GET', '/v1/runs/x', timeout=1)))\n"
            "except flyte.errors.SystemUnavailableError as error:\n"
            "    print('said', error)\n",
            timeout=20,
        )
    finally:
        for pid in hit.values():
            os.kill(pid, signal.SIGCONT)
    assert "said" in done.out, done.both
    assert world.platform.endpoint in done.out
    wait_for(world.answers, "the platform answers", 10)


@pytest.mark.parametrize("by", ["name", "key"])
def test_callers_that_race_through_a_restart_start_one_run(world: World, by: str) -> None:
    """Each asks again until it is answered; the control plane may die between its commit and its answer."""
    request = {"task": "faulty.leaf", "inputs": {"where": str(world.notes), "n": 1}}
    request |= {"name": f"raced-{os.getpid()}"} if by == "name" else {"idempotency_key": "raced"}
    names: list[str] = []

    def start() -> None:
        names.extend(world.call("POST", "/v1/runs", request)["name"] for _ in range(10))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    world.restart("control")
    for thread in threads:
        thread.join(timeout=30)
    assert len(names) == 40
    assert len(set(names)) == 1
    world.result(names[0])
    assert world.count()["leaf-1"] == 1
