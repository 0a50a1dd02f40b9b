"""Who is killed or ended, when, and how long it takes until all is well again.

What strike n does, and when, follows from the seed and n alone. Only which process of a kind is hit depends on which
are there.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import httpx
import psutil

from tests.faults.world import PARTS, World
from tests.torture.images import Images
from tests.torture.victims import Victims

SLOWEST = 30.0
"""Seconds after which something that is not back counts as a violation."""

WEIGHTS = {
    "control": 28,
    "gateway": 8,
    "haproxy": 8,
    "agent": 8,
    "fork_server": 10,
    "preload": 3,
    "fork server": 4,
    "worker": 16,
    "spare": 5,
    "replica": 5,
    "several": 8,
    "worker stopped": 4,
    "spare stopped": 2,
    "control stopped": 4,
    "importing": 6,
    "image": 3,
    "supervisor": 2,
    "control ended": 8,
    "gateway ended": 3,
    "agent ended": 6,
    "platform ended": 3,
}
"""Kind → how often. `stopped` is SIGSTOP and `ended` is SIGTERM; the others are SIGKILL. `image`: see `images`."""

SPARES_APPS = frozenset(
    {
        "control",
        "gateway",
        "fork server",
        "worker",
        "spare",
        "worker stopped",
        "spare stopped",
        "control stopped",
        "importing",
        "control ended",
        "gateway ended",
    }
)
"""What must cost no request to a running app."""


@dataclass(frozen=True, slots=True)
class Strike:
    number: int
    kind: str
    pause: float
    """Seconds before it."""
    chance: random.Random
    """For what else is to be chosen."""


def strike(seed: int, number: int, only: Collection[str] = WEIGHTS, haste: float = 1) -> Strike:
    """The strike with this number. With `only` some of the kinds, others of them take the place of the rest."""
    chance = random.Random(f"{seed}/{number}")
    pause = chance.uniform(0.5, 5) / haste
    weights = {kind: weight for kind, weight in WEIGHTS.items() if kind in only}
    kind = chance.choices(list(weights), list(weights.values()))[0]
    return Strike(number, kind, pause, chance)


@dataclass(slots=True)
class Killer:
    world: World
    victims: Victims
    up: Callable[[], None]
    """Starts the platform again after its supervisor was ended."""
    counts: dict[str, int] = field(default_factory=dict)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    """Kind → seconds until new processes were in the place of the old and the platform answered."""
    violations: list[str] = field(default_factory=list)
    images: int = 0
    """How many environments were asked for."""
    hurt_until: float = 0
    """Until then (monotonic clock) requests to apps may fail."""

    def strike(self, strike: Strike) -> None:
        """Hurt one thing, and wait until the platform is whole."""
        kind = strike.kind
        if kind not in SPARES_APPS:
            self.hurt_until = time.monotonic() + SLOWEST + 60
        hit = False
        try:
            with contextlib.suppress(OSError, ValueError):  # the supervisor, or what was to be hit, is just not there
                hit = self._strike(kind, strike.chance)
        except httpx.HTTPError as error:
            self.violations.append(f"strike {strike.number} ({kind}): {error}"[:600])
        self.counts[kind] = self.counts.get(kind, 0) + hit
        if kind not in SPARES_APPS:
            self.hurt_until = time.monotonic() + 3

    def _strike(self, kind: str, chance: random.Random) -> bool:
        match kind:
            case "control" | "gateway" | "haproxy" | "agent":
                return self._parts(kind, [kind])
            case "several":
                return self._parts(kind, chance.sample(PARTS, chance.randrange(2, 5)))
            case "control ended" | "gateway ended" | "agent ended":
                return self._end(kind)
            case "supervisor":
                return self._supervisor(kind, signal.SIGKILL)
            case "platform ended":
                return self._supervisor(kind, signal.SIGTERM)
            case "image":
                return self._image(chance)
            case "control stopped":
                return self._pause_control(chance.random() * 3)
            case "fork server":
                return self._fork_server()
            case "worker" | "worker stopped":
                found = self.victims.workers(busy=True) or self.victims.workers(busy=False)
            case "spare" | "spare stopped":
                found = self.victims.workers(busy=False)
            case _:
                found = self.victims.of(kind)
        number = signal.SIGSTOP if kind.endswith("stopped") else signal.SIGKILL
        return self._one_of(found, number, chance)

    def _one_of(self, found: list[psutil.Process], number: int, chance: random.Random) -> bool:
        if not found:
            return False
        victim = chance.choice(found)
        self.victims.hurt(victim.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(number)
            return True
        return False

    def _parts(self, kind: str, parts: list[str], number: signal.Signals = signal.SIGKILL) -> bool:
        self.victims.hurt(*(pid for part, pid in self.world.pids().items() if part in parts))
        hit = self.world.kill(parts, number)
        self.victims.hurt(*hit.values())
        self._recover(kind, lambda: self.world.is_back(hit))
        return bool(hit)

    def _end(self, kind: str) -> bool:
        """SIGTERM to one part: it ends in order, is followed by another, and costs nothing."""
        part = kind.removesuffix(" ended")
        if not self._parts(kind, [part], signal.SIGTERM):
            return False
        how = self.world.told()[part]["last_end"]
        if how != "exit code 0":
            self.violations.append(f"{part} was to end in order, and ended with: {how}")
        return True

    def _image(self, chance: random.Random) -> bool:
        images = Images(self.world, self.victims.hurt, self.violations, self.images)
        self.images += 1
        return images.strike(chance)

    def _pause_control(self, seconds: float) -> bool:
        hit = self.world.kill(["control"], signal.SIGSTOP)
        time.sleep(seconds)
        for pid in hit.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return bool(hit)

    def _fork_server(self) -> bool:
        old = self.world.fork_server()
        if old:
            os.kill(old, signal.SIGKILL)
            self._recover("fork server", lambda: self.world.fork_server() not in (0, old))
        return bool(old)

    def _supervisor(self, kind: str, number: signal.Signals) -> bool:
        """With SIGTERM everything ends in order, as `flyte down` has it; nothing may be left for others to kill."""
        began = time.monotonic()
        self.victims.hurt(*self.world.pids().values())
        os.kill(int(self.world.platform.state["pid"]), number)
        try:
            self.world.platform.wait_until_gone(10 if number == signal.SIGKILL else 40)
        except AssertionError as error:
            self.violations.append(f"processes outlived the supervisor ({kind}): {error}")
        self.up()
        self._recover(kind, self.world.answers, began)
        return True

    def _recover(self, kind: str, is_well: Callable[[], bool], began: float | None = None) -> None:
        began = began or time.monotonic()
        end = time.monotonic() + SLOWEST
        while not self._well(is_well):
            if time.monotonic() > end:
                self.violations.append(f"{kind}: not back after {SLOWEST:g} s")
                return
            time.sleep(0.01)
        self.recoveries.setdefault(kind, []).append(time.monotonic() - began)

    def _well(self, is_well: Callable[[], bool]) -> bool:
        try:
            return is_well()
        except (OSError, ValueError):
            return False
