"""A platform that is being hurt: what to hurt it with, and the facts that must still hold."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.platform_fixture import ROOT, Platform, wait_for

PROGRAMS = Path(__file__).parent / "programs"
PARTS = ("control", "agent", "gateway", "haproxy")
RESTART = 20.0
"""Seconds within which a part must be back in a test, on any machine; scripts/torture measures what it really takes."""

OVER = frozenset({"succeeded", "failed", "aborted", "timed_out"})

_REQUEST = """
import sys, pathlib, msgspec, faulty
from flyte import wire
root = pathlib.Path(sys.argv[1])
tasks = [task.spec(root) for env in (faulty.env, faulty.pool) for task in env.tasks.values()]
order = {"pooled": [], "faulty": ["pooled"]}
request = wire.DeployRequest(version="v1", root=str(root), tasks=tasks, order=order)
sys.stdout.buffer.write(msgspec.json.encode(request))
"""


@functools.cache
def deploy_request() -> bytes:
    """The request that registers the tasks of `programs/faulty.py`, where they are."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(PROGRAMS)))}
    command = [sys.executable, "-c", _REQUEST, str(PROGRAMS)]
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, timeout=60).stdout


class World:
    """`platform` must run; the tasks are registered at once: those of `faulty.py`, or of another request."""

    def __init__(self, platform: Platform, request: bytes | None = None) -> None:
        self.platform = platform
        self.notes = platform.work / "notes"
        self.http = platform.client()
        self.call("POST", "/v1/deployments", request or deploy_request())

    # ------------------------------------------------------------------ asking

    def call(self, method: str, path: str, body: bytes | dict[str, Any] | None = None, patience: float = 20) -> Any:
        """The answer as JSON. Whatever is away for a moment is asked again, so `body` must bear being sent twice."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        end = time.monotonic() + patience
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = self.http.request(method, path, content=data, headers={"Content-Type": "application/json"})
                if answer.status_code not in (502, 503, 504):
                    answer.raise_for_status()
                    return answer.json() if answer.content else None
            if time.monotonic() > end:
                raise AssertionError(f"{method} {path} was not answered for {patience} s\n{self.platform.log_tails()}")
            time.sleep(0.02)

    def run(self, task: str, *, name: str | None = None, **inputs: Any) -> str:
        """Start a run, under a name, so that asking twice starts one."""
        name = name or f"t{os.urandom(8).hex()}"
        if "where" not in inputs and not task.startswith("app"):
            inputs["where"] = str(self.notes)
        started = self.call("POST", "/v1/runs", {"task": task, "name": name, "inputs": inputs})
        assert started["name"] == name
        return name

    def state(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/v1/runs/{run}")
        return found

    def result(self, run: str, patience: float = 60) -> dict[str, Any]:
        """The run when it is over."""
        found: dict[str, Any] = {}

        def is_over() -> bool:
            nonlocal found
            found = self.state(run)
            return found["phase"] in OVER

        wait_for(is_over, f"{run} is over", patience, lambda: f"{found}\n{self.platform.log_tails()}")
        return found

    def outputs(self, run: str) -> Any:
        done = self.result(run)
        assert done["phase"] == "succeeded", done
        return done["outputs"][0]

    def actions(self, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", f"/v1/runs/{run}/actions?limit=1000")
        return found

    # ------------------------------------------------------------------ what really happened

    def lines(self) -> list[list[str]]:
        """What the tasks noted: word, process, attempt."""
        return [line.split() for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def count(self) -> Counter[str]:
        return Counter(words[0] for words in self.lines())

    def noted(self, word: str, times: int = 1, patience: float = 30) -> list[str]:
        """The last line that begins with `word`, once there are so many of them."""
        wait_for(lambda: self.count()[word] >= times, f"{times} × {word}", patience, lambda: f"{self.count()}")
        return [words for words in self.lines() if words[0] == word][-1]

    # ------------------------------------------------------------------ who is there, and hurting them

    def told(self) -> dict[str, dict[str, Any]]:
        """Part → what the supervisor says of it; the fork server and the cleanup process are among them."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.platform.home / "run" / "supervisor.sock"))
            data = b""
            while piece := connection.recv(65_536):
                data += piece
        state = json.loads(data)
        return {part["name"]: part for part in [*state["parts"], state["fork_server"], state["cleanup"]]}

    def pids(self) -> dict[str, int]:
        """Part → pid; parts that are down are left out."""
        return {name: part["pid"] for name, part in self.told().items() if part["pid"] and name in PARTS}

    def fork_server(self) -> int:
        """Its pid, 0 while there is none."""
        return self.told()["fork-server"]["pid"] or 0

    def cleanup(self) -> int:
        """The pid of what cleans up after the supervisor, 0 while there is none."""
        return self.told()["cleanup"]["pid"] or 0

    def preloads(self) -> list[psutil.Process]:
        """What fork servers are forked from, where that suits."""
        return [child for child in self._under_the_agent() if _is_preload(child)]

    def fork_servers(self) -> list[psutil.Process]:
        forked = [child for preload in self.preloads() for child in _children(preload.pid)]
        return forked + [child for child in self._under_the_agent() if not _is_preload(child)]

    def _under_the_agent(self) -> list[psutil.Process]:
        agent = self.pids().get("agent")
        return _children(agent) if agent else []

    def units(self) -> list[psutil.Process]:
        """Workers and replicas."""
        return [child for fork_server in self.fork_servers() for child in _children(fork_server.pid)]

    def kill(self, parts: Iterable[str], number: int = signal.SIGKILL) -> dict[str, int]:
        """Send a signal to parts of the platform; returns whom it hit."""
        pids = self.pids()
        hit = {part: pids[part] for part in parts if part in pids}
        for pid in hit.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return hit

    def is_back(self, hit: dict[str, int]) -> bool:
        """Whether new processes have taken the place of those, and the platform answers."""
        now = self.pids()
        return all(part in now and now[part] != pid for part, pid in hit.items()) and self.answers()

    def answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError, ValueError):
            answer = self.http.get("/v1/health", timeout=2)
            return answer.status_code == 200 and answer.json().get("status", "ok") == "ok"
        return False

    def restart(self, *parts: str) -> float:
        """Kill parts and wait until they are back; the seconds that took."""
        began = time.monotonic()
        hit = self.kill(parts)
        wait_for(lambda: self.is_back(hit), f"{parts} are back", RESTART, self.platform.log_tails)
        return time.monotonic() - began


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children()
    return []


def _is_preload(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "flyte.runtime.preload" in process.cmdline()
    return False


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
