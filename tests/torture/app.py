"""An app that lives outside of the runs, and a constant load on it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.faults.world import World
from tests.platform_fixture import wait_for

NAME = "pinged"


def deploy(world: World) -> str:
    """Its URL."""
    folder = world.platform.work / "served"
    folder.mkdir()
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), "$PORT"]
    spec = {
        "name": NAME,
        "environment": {"name": NAME, "kind": "app"},
        "kind": "command",
        "argv": server,
        "requires_auth": False,
        "scaling": {"min_replicas": 1, "max_replicas": 1},
    }
    request = {"version": "v1", "root": str(folder), "apps": [spec], "order": {NAME: []}}
    name = world.call("POST", "/v1/deployments", request)["id"]
    wait_for(
        lambda: world.call("GET", f"/v1/deployments/{name}")["phase"] == "succeeded",
        "the app is deployed",
        60,
        lambda: str(world.call("GET", f"/v1/deployments/{name}")),
    )
    return world.platform.app_url(NAME)


@dataclass(slots=True)
class Pinger:
    """Asks again and again; `hurt_until` tells until when (monotonic clock) an answer may be missing."""

    url: str
    hurt_until: Callable[[], float]
    requests: int = 0
    failed: int = 0
    """While something was killed that an app lives on."""
    violations: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        self._threads.append(threading.Thread(target=self._run, daemon=True))
        self._threads[0].start()

    def stop(self) -> None:
        self._stopping.set()
        self._threads[0].join(timeout=40)

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as http:
            while not self._stopping.wait(0.02):
                self.requests += 1
                began = time.monotonic()
                problem = self._ask(http)
                if not problem:
                    continue
                if began < self.hurt_until():
                    self.failed += 1
                else:
                    self.violations.append(f"a request to a running app failed: {problem}")

    def _ask(self, http: httpx.Client) -> str:
        try:
            status = http.get(self.url).status_code
        except httpx.HTTPError as error:
            return repr(error)
        return "" if status == 200 else f"status {status}"
