"""Runs of every kind, started as fast as they end; each knows how it must come out."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.world import OVER, World

AT_ONCE = 24
"""Runs that are not over at any time."""

Check = Callable[[dict[str, Any]], bool]


@dataclass(slots=True)
class Started:
    """A run that was acknowledged."""

    name: str
    kind: str
    fits: Check
    """Whether a run that is over came out as it must."""
    outcome: dict[str, Any] | None = None
    """The run, once it is over."""
    abort: bool = False
    """Whether its abort was acknowledged."""


@dataclass(slots=True)
class Load:
    """Starts runs from `threads` threads until `stop`; what was acknowledged is in `started`."""

    world: World
    seed: int
    started: list[Started] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def begin(self, threads: int = 4) -> None:
        for number in range(threads):
            chance = random.Random(f"{self.seed}-{number}")
            self._threads.append(threading.Thread(target=self._start_always, args=(chance,), daemon=True))
        self._threads.append(threading.Thread(target=self._look_always, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=90)

    def open_runs(self) -> list[Started]:
        return [run for run in list(self.started) if run.outcome is None]

    def _start_always(self, chance: random.Random) -> None:
        while not self._stopping.is_set():
            if len(self.open_runs()) >= AT_ONCE:
                time.sleep(0.05)
                continue
            try:
                self._start_one(chance)
            except (AssertionError, httpx.HTTPError) as error:
                self.failures.append(f"a run could not be started: {error}")

    def _start_one(self, chance: random.Random) -> None:
        name = f"torture-{self.seed}-{next(self._numbers)}"
        kind, task, inputs, fits = _draw(chance, name)
        world = self.world
        where = world.platform.work / "notes.d" / name
        where.parent.mkdir(exist_ok=True)
        if "opens" in inputs:
            inputs["opens"] = str(world.platform.work / "never")
        world.run(task, name=name, where=str(where), **inputs)
        run = Started(name, kind, fits)
        self.started.append(run)
        if chance.random() < 0.1:
            world.run(task, name=name, where=str(where), **inputs)  # must find the same run
        if kind == "abort":
            time.sleep(chance.random() * 2)
            world.call("POST", f"/v1/runs/{name}/abort", {"reason": "torture"}, patience=60)
            run.abort = True

    def _look_always(self) -> None:
        while not self._stopping.is_set():
            self.look()
            time.sleep(0.2)

    def look(self) -> None:
        """See which runs are over."""
        for run in self.open_runs():
            try:
                found = self.world.state(run.name)
            except (AssertionError, httpx.HTTPError) as error:
                self.failures.append(f"{run.name} cannot be read: {error}")
                continue
            if found["phase"] in OVER and (run.kind != "abort" or run.abort):
                run.outcome = found


def _draw(chance: random.Random, key: str) -> tuple[str, str, dict[str, Any], Check]:
    """A kind of run, its task, its inputs, and what must come of it."""
    seconds = round(chance.random() * 0.6, 3)
    match chance.choices(
        ("fan", "nest", "flaky", "tree", "abort", "blocked", "fails", "quick"), (3, 3, 3, 3, 2, 1, 1, 4)
    )[0]:
        case "fan":
            width = chance.randrange(1, 9)
            return "fan", "faulty.fan", {"width": width, "seconds": seconds}, _gives(sum(range(width)))
        case "nest":
            depth = chance.randrange(1, 6)
            return "nest", "faulty.nest", {"key": key, "depth": depth}, _gives(depth + 1)
        case "flaky":
            times = chance.randrange(0, 3)
            return "retry", "faulty.flaky", {"key": key, "times": times}, lambda run: run["phase"] == "succeeded"
        case "tree":
            width = chance.randrange(1, 5)
            return "tree", "faulty.tree", {"key": key, "width": width, "seconds": seconds}, _gives(width + 4)
        case "abort":
            return "abort", "faulty.staged", {"opens": ""}, lambda run: run["phase"] == "aborted"
        case "blocked":
            return "blocked", "faulty.blocked", {"seconds": seconds}, _gives("done")
        case "fails":
            return "fails", "faulty.hopeless", {}, _fails("NonRecoverableError")
    return "quick", "faulty.keyed", {"key": key, "seconds": 0}, _gives(1)


def _gives(value: Any) -> Check:
    return lambda run: run["phase"] == "succeeded" and run["outputs"] == [value]


def _fails(code: str) -> Check:
    return lambda run: run["phase"] == "failed" and run["error"]["code"] == code
