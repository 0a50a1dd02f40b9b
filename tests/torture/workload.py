"""Runs of every kind, started as fast as they end; each knows how it must come out."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.faults.world import OVER, World
from tests.platform_fixture import Platform
from tests.torture.kinds import KINDS, Order, draw

AT_ONCE = 24
"""Runs that are not over at any time."""

PATIENCE = 90.0
"""Seconds for which a call is repeated; a platform that is ended and started again is away for some of them."""

_REQUEST = """
import sys, pathlib, msgspec
from flyte import wire
from hurt import slow, tasks
root = pathlib.Path(sys.argv[1])
specs = [task.spec(root) for env in (tasks.env, tasks.kept, tasks.shared, slow.env) for task in env.tasks.values()]
order = {"kept": [], "shared": [], "hurt": ["kept", "shared"], "slow": []}
request = wire.DeployRequest(version="v1", root=str(root), tasks=specs, order=order)
sys.stdout.buffer.write(msgspec.json.encode(request))
"""


def deploy_request(platform: Platform) -> bytes:
    """The request that registers the tasks of `hurt`, from a copy in the platform's own place."""
    root = programs(platform)
    shutil.copytree(Path(__file__).parent / "hurt", root / "hurt", ignore=shutil.ignore_patterns("__pycache__"))
    env = platform.env
    env["PYTHONPATH"] = f"{root}:{env['PYTHONPATH']}"
    command = [sys.executable, "-c", _REQUEST, str(root)]
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, timeout=60).stdout


def programs(platform: Platform) -> Path:
    return platform.work / "programs"


def notes(platform: Platform) -> Path:
    """The folder with a file of notes for each run."""
    return platform.work / "notes.d"


@dataclass(slots=True)
class Started:
    """A run that was acknowledged."""

    name: str
    order: Order
    outcome: dict[str, Any] | None = None
    """The run, once it is over."""
    aborted: bool = False
    """Whether the abort that it waits for was acknowledged."""
    abort_at: float = 0.0
    """When to abort it, on the monotonic clock."""


@dataclass(slots=True)
class Load:
    """Starts runs from several threads until `stop`; what was acknowledged is in `started`."""

    world: World
    seed: int
    only: Collection[str] = tuple(KINDS)
    started: list[Started] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def begin(self, threads: int = 4) -> None:
        notes(self.world.platform).mkdir()
        targets = [self._start_always] * threads + [self._look_always]
        self._threads += [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=PATIENCE)

    def open_runs(self) -> list[Started]:
        return [run for run in list(self.started) if run.outcome is None]

    def _start_always(self) -> None:
        while not self._stopping.is_set():
            if len(self.open_runs()) >= AT_ONCE:
                time.sleep(0.05)
                continue
            try:
                self._start_one()
            except (AssertionError, httpx.HTTPError) as error:
                self.failures.append(f"a run could not be started: {error}")

    def _start_one(self) -> None:
        number = next(self._numbers)
        order = draw(self.seed, number)
        if order.kind not in self.only:
            return
        name = f"torture-{self.seed}-{number}"
        where = notes(self.world.platform) / name
        inputs = {"where": str(where), **order.inputs}
        for _ in range(2 if number % 10 == 0 else 1):  # the second time must find the same run
            request = {"task": order.task, "name": name, "inputs": inputs}
            self.world.call("POST", "/v1/runs", request, PATIENCE)
        self.started.append(Started(name, order, abort_at=time.monotonic() + number % 20 / 10))

    def _look_always(self) -> None:
        while not self._stopping.is_set():
            self.look()
            time.sleep(0.2)

    def look(self) -> None:
        """See which runs are over, and abort what waits for it."""
        for run in self.open_runs():
            try:
                self._look_at(run)
            except (AssertionError, httpx.HTTPError) as error:
                self.failures.append(f"{run.name} cannot be read or aborted: {error}")

    def _look_at(self, run: Started) -> None:
        found = self.world.call("GET", f"/v1/runs/{run.name}", None, PATIENCE)
        if found["phase"] in OVER:
            run.outcome = found
        elif run.order.kind == "abort" and time.monotonic() > run.abort_at:
            self.world.call("POST", f"/v1/runs/{run.name}/abort", {"reason": "torture"}, PATIENCE)
            run.aborted = True
        elif run.order.kind == "sheds" and not run.aborted:
            self._abort_child(run)

    def _abort_child(self, run: Started) -> None:
        """Abort the endless child as soon as it runs, beside others in its process."""
        for action in self.world.call("GET", f"/v1/runs/{run.name}/actions?limit=100", None, PATIENCE):
            if action["short_name"] == "endless" and action["phase"] == "running":
                path = f"/v1/runs/{run.name}/actions/{action['name']}/abort"
                self.world.call("POST", path, {"reason": "torture"}, PATIENCE)
                run.aborted = True

    def wrong(self) -> list[str]:
        """The runs that came out as they must not."""
        return [
            f"run {run.name} ({run.order.kind}: {run.order.task}) came out as {_told(run.outcome)}"[:600]
            for run in self.started
            if run.outcome is not None and not run.order.fits(run.outcome)
        ]

    def busy(self) -> set[int]:
        """The processes in which attempts of open runs have begun and are not done."""
        count: dict[int, int] = {}
        for run in self.open_runs():
            with contextlib.suppress(FileNotFoundError):
                for line in (notes(self.world.platform) / run.name).read_text().splitlines():
                    said = json.loads(line)
                    step = {"began": 1, "done": -1}.get(said["word"], 0)
                    count[said["pid"]] = count.get(said["pid"], 0) + step
        return {pid for pid, open_ in count.items() if open_ > 0}


def _told(run: dict[str, Any]) -> str:
    return f"{run['phase']}: {run.get('error') or run.get('outputs')}"
