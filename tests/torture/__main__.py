"""`python -m tests.torture --minutes N --seed S [--database-url URL] [--out FILE]`: see scripts/torture."""

from __future__ import annotations

import argparse
import json
import random
import socket
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.faults.world import World
from tests.platform_fixture import Platform, place, wait_for
from tests.torture import verdict
from tests.torture.kills import Killer
from tests.torture.load import Load

LAST_RUNS = 180.0
"""Seconds that the runs have to end after the last kill; what takes longer is stuck."""

APP = "pinged"


@dataclass(slots=True)
class Pinger:
    """A constant load on a running app."""

    url: str
    killer: Killer
    requests: int = 0
    failed: int = 0
    """While something was killed that an app lives on."""
    violations: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as http:
            while not self.stopping.wait(0.02):
                self.requests += 1
                began = time.monotonic()
                try:
                    status = http.get(self.url).status_code
                    problem = "" if status == 200 else f"status {status}"
                except httpx.HTTPError as error:
                    problem = repr(error)
                if not problem:
                    continue
                if began < self.killer.hurt_until or time.monotonic() < self.killer.hurt_until:
                    self.failed += 1
                else:
                    self.violations.append(f"a request to a running app failed: {problem}")


def deploy_app(world: World) -> str:
    """An app that lives outside of the runs; its URL."""
    spec = {
        "name": APP,
        "environment": {"name": APP, "kind": "app"},
        "kind": "command",
        "argv": [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", "", "$PORT"],
        "requires_auth": False,
        "scaling": {"min_replicas": 1, "max_replicas": 1},
    }
    folder = world.platform.work / "served"
    folder.mkdir()
    spec["argv"][-2] = str(folder)  # type: ignore[index]
    request = {"version": "v1", "root": str(folder), "apps": [spec], "order": {APP: []}}
    name = world.call("POST", "/v1/deployments", request)["id"]
    wait_for(
        lambda: world.call("GET", f"/v1/deployments/{name}")["phase"] == "succeeded",
        "the app is deployed",
        60,
        lambda: str(world.call("GET", f"/v1/deployments/{name}")),
    )
    url: str = world.platform.app_url(APP)
    return url


def torture(platform: Platform, minutes: float, seed: int, url: str) -> dict[str, Any]:
    """Hurt the platform for so long; the figures."""
    port = _free_port()

    def up() -> None:
        platform.up("--port", str(port))

    up()
    world = World(platform)
    chance = random.Random(seed)
    killer = Killer(world, chance, up)
    pinger = Pinger(deploy_app(world), killer)
    pinging = threading.Thread(target=pinger.run, daemon=True)
    pinging.start()
    load = Load(world, seed)
    load.begin()
    began = time.monotonic()
    while time.monotonic() - began < minutes * 60:
        time.sleep(chance.uniform(0.5, 5))
        killer.strike()
        _say(f"{time.monotonic() - began:6.0f} s  {len(load.started)} runs, {sum(killer.counts.values())} kills")
    load.stop()
    stuck = _wait_for_the_rest(load)
    pinger.stopping.set()
    pinging.join(timeout=40)
    platform.down()
    rows = verdict.rows_of(platform.home, url)
    return _figures(load, killer, pinger, stuck, rows, platform, url)


def _wait_for_the_rest(load: Load) -> list[str]:
    end = time.monotonic() + LAST_RUNS
    while load.open_runs() and time.monotonic() < end:
        load.look()
        time.sleep(0.2)
    return [f"run {run.name} ({run.kind}) is stuck" for run in load.open_runs()]


def _figures(
    load: Load, killer: Killer, pinger: Pinger, stuck: list[str], rows: verdict.Rows, platform: Platform, url: str
) -> dict[str, Any]:
    wrong = [
        f"run {run.name} ({run.kind}) came out as {run.outcome['phase']}: {run.outcome.get('error', '')}"[:600]
        for run in load.started
        if run.outcome is not None and not run.fits(run.outcome)
    ]
    names = [run.name for run in load.started]
    stored = verdict.violations(rows, names, platform.work / "notes.d", not url)
    found = [*load.failures, *killer.violations, *pinger.violations, *stuck, *wrong, *stored]
    return {
        "database": "postgresql" if url else "sqlite",
        "runs": len(names),
        "actions": rows("select count(*) from actions")[0][0],
        "events": rows("select count(*) from events")[0][0],
        "attempts lost with their worker": rows("select sum(system_failures) from actions")[0][0],
        "kills": dict(sorted(killer.counts.items())),
        "recovery seconds": {kind: _spread(times) for kind, times in sorted(killer.recoveries.items())},
        "requests to the app": pinger.requests,
        "of these failed while HAProxy, the agent or the replica was dead": pinger.failed,
        "transitions seen": {f"{old} → {new}": n for (old, new), n in sorted(verdict.transitions(rows).items())},
        "violations": found,
    }


def _spread(times: list[float]) -> dict[str, float | int]:
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return {"n": len(times), "p50": round(statistics.median(times), 2), "p95": round(p95, 2)}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database-url", default="", help="postgresql://… (an empty database); else SQLite")
    parser.add_argument("--out", type=Path, help="write the figures into this file, too")
    given = parser.parse_args()
    settings = {"lease": "6", "spare_workers": "1", "pool_idle": "60"}
    if given.database_url:
        settings["database_url"] = given.database_url
    with place(settings) as platform:
        try:
            figures = torture(platform, given.minutes, given.seed, given.database_url)
        except BaseException:
            _say(platform.log_tails(40))
            raise
        if figures["violations"]:
            _say(platform.log_tails(40))
    figures = {"minutes": given.minutes, "seed": given.seed, **figures}
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
