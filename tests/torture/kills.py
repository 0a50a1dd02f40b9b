"""Who is killed, when, and how long it takes until all is well again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from tests.faults.world import PARTS, World

SLOWEST = 30.0
"""Seconds after which something that is not back counts as a violation."""

WEIGHTS = {
    "control": 30,
    "gateway": 10,
    "haproxy": 8,
    "agent": 10,
    "zygote": 10,
    "base": 3,
    "stem": 5,
    "worker": 16,
    "replica": 5,
    "several": 8,
    "worker stopped": 4,
    "control stopped": 4,
    "supervisor": 2,
}
SPARES_APPS = frozenset({"control", "gateway", "stem", "worker", "worker stopped", "control stopped"})
"""What must cost no request to a running app."""


@dataclass(slots=True)
class Killer:
    world: World
    chance: random.Random
    up: Callable[[], None]
    """Starts the platform again after its supervisor was killed."""
    counts: dict[str, int] = field(default_factory=dict)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    """Kind → seconds until new processes were in the place of the old and the platform answered."""
    violations: list[str] = field(default_factory=list)
    hurt_until: float = 0
    """Until then (monotonic clock) requests to apps may fail."""

    def strike(self) -> None:
        """Kill one thing, and wait until the platform is whole."""
        kind = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if kind not in SPARES_APPS:
            self.hurt_until = time.monotonic() + SLOWEST
        if not self._kill(kind):
            return
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind not in SPARES_APPS:
            self.hurt_until = time.monotonic() + 3

    def _kill(self, kind: str) -> bool:
        match kind:
            case "control" | "gateway" | "haproxy" | "agent":
                return self._parts(kind, [kind])
            case "several":
                return self._parts(kind, self.chance.sample(PARTS, self.chance.randrange(2, 5)))
            case "supervisor":
                return self._supervisor()
            case "control stopped":
                return self._pause_control()
            case "zygote":
                return self._one_of(self.world.zygotes(), signal.SIGKILL)
            case "base":
                return self._one_of(self.world.bases(), signal.SIGKILL)
            case "stem":
                return self._stem()
            case "replica":
                return self._one_of([unit for unit in self.world.units() if _is_replica(unit)], signal.SIGKILL)
        number = signal.SIGSTOP if kind == "worker stopped" else signal.SIGKILL
        return self._one_of([unit for unit in self.world.units() if not _is_replica(unit)], number)

    def _one_of(self, processes: list[psutil.Process], number: int) -> bool:
        if not processes:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            self.chance.choice(processes).send_signal(number)
            return True
        return False

    def _parts(self, kind: str, parts: list[str]) -> bool:
        try:
            hit = self.world.kill(parts)
        except OSError:
            return False
        self._recover(kind, lambda: self.world.is_back(hit))
        return True

    def _pause_control(self) -> bool:
        hit = self.world.kill(["control"], signal.SIGSTOP)
        time.sleep(self.chance.random() * 3)
        for pid in hit.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return bool(hit)

    def _stem(self) -> bool:
        old = self.world.stem()
        if old:
            os.kill(old, signal.SIGKILL)
            self._recover("stem", lambda: self.world.stem() not in (0, old))
        return bool(old)

    def _supervisor(self) -> bool:
        began = time.monotonic()
        os.kill(int(self.world.platform.state["pid"]), signal.SIGKILL)
        try:
            self.world.platform.wait_until_gone(10)
        except AssertionError as error:
            self.violations.append(f"processes outlived the supervisor: {error}")
        self.up()
        self._recover("supervisor", self.world.answers, began)
        return True

    def _recover(self, kind: str, is_well: Callable[[], bool], began: float | None = None) -> None:
        began = began or time.monotonic()
        while not self._well(is_well):
            if time.monotonic() - began > SLOWEST:
                self.violations.append(f"{kind}: not back after {SLOWEST:g} s")
                return
            time.sleep(0.01)
        self.recoveries.setdefault(kind, []).append(time.monotonic() - began)

    def _well(self, is_well: Callable[[], bool]) -> bool:
        try:
            return is_well()
        except OSError:
            return False


def _is_replica(unit: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return "FLYTE_APP_NAME" in unit.environ() or "FLYTE_LINK" not in unit.environ() or _serves(unit)
    return False


def _serves(unit: psutil.Process) -> bool:
    return any("http.server" in word for word in unit.cmdline())
