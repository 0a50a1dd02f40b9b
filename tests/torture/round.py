"""One round of torture: a platform, a load, strikes, and what is left to look at when all is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tarmac.cli.front_door import free_front_door
from tests.faults.world import World
from tests.platform_fixture import Platform
from tests.torture import app, storage
from tests.torture.app import Pinger
from tests.torture.killing import WEIGHTS, Killer, strike
from tests.torture.kinds import KINDS
from tests.torture.victims import Victims
from tests.torture.workload import Load, deploy_request, programs

LAST_RUNS = 90.0
"""Seconds that the runs have to end after the last kill; what takes longer is stuck."""

SETTINGS = {"lease": "8", "spare_workers": "1", "pool_idle": "60"}
"""The lease is long enough for a task that holds the GIL for four seconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, all of which follows from the seed but for the moment at which it ends."""

    seconds: float
    seed: int
    kinds: Collection[str] = tuple(KINDS)
    kills: Collection[str] = tuple(WEIGHTS)
    haste: float = 1
    """How many times shorter the pauses between strikes are."""


@dataclass(frozen=True, slots=True)
class Round:
    plan: Plan
    platform: Platform
    """It is down."""
    load: Load
    killer: Killer
    pinger: Pinger
    stuck: list[str]


def torture(platform: Platform, plan: Plan) -> Round:
    """Hurt the platform for so long, then let everything come to its end, and take the platform down."""
    # the apps' ports follow; the system must not give them to connections: a new gateway controller that finds one
    # taken reloads HAProxy, which is not tested here
    with free_front_door("127.0.0.1") as port:
        return _hurt(platform, plan, lambda: platform.up("--port", str(port)))


def _hurt(platform: Platform, plan: Plan, up: Callable[[], None]) -> Round:
    up()
    world = World(platform, deploy_request(platform))
    load = Load(world, plan.seed, plan.kinds)
    victims = Victims(world, load.busy, app.NAME, programs(platform) / "hurt" / "importing")
    killer = Killer(world, victims, up)
    pinger = Pinger(app.deploy(world), lambda: killer.hurt_until)
    pinger.begin()
    load.begin()
    _strike_always(plan, killer, load)
    load.stop()
    stuck = _wait_for_the_rest(load)
    pinger.stop()
    stuck += storage.violations(platform, world, platform.settings.get("database_url", ""))
    world.http.close()
    platform.down()
    return Round(plan, platform, load, killer, pinger, stuck)


def _strike_always(plan: Plan, killer: Killer, load: Load) -> None:
    began, number = time.monotonic(), 0
    while (left := plan.seconds - (time.monotonic() - began)) > 0:
        coming = strike(plan.seed, number, plan.kills, plan.haste)
        time.sleep(min(coming.pause, left))
        if coming.pause < left:
            killer.strike(coming)
            passed = time.monotonic() - began
            print(f"{passed:6.0f} s  {len(load.started)} runs, strike {number}: {coming.kind}", file=sys.stderr)
        number += 1


def _wait_for_the_rest(load: Load) -> list[str]:
    end = time.monotonic() + LAST_RUNS
    while load.open_runs() and time.monotonic() < end:
        load.look()
        time.sleep(0.2)
    return [f"run {run.name} ({run.order.kind}) is stuck" for run in load.open_runs()]
