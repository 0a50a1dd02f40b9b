"""Apps that fall asleep and are woken at every moment, while parts of the platform die: every request is answered."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.faults.world import World
from tests.platform_fixture import wait_for

APPS = 5
SHOTS = 60 if os.environ.get("TARMAC_SLOW") else 15
"""Moments at which each app gets requests."""

VISITS = 3
"""Requests at each of them."""

PROGRAM = """
import asyncio, os
from fastapi import FastAPI, Request, WebSocket
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
env = FastAPIAppEnvironment(name="sleepy", app=app, requires_auth=False)

@app.get("/")
async def answer(pause: float = 0):
    await asyncio.sleep(pause)
    return {"pid": os.getpid()}

@app.get("/until")
async def until(path: str):
    while not os.path.exists(path):
        await asyncio.sleep(0.02)
    return {"pid": os.getpid()}

@app.post("/")
async def length(request: Request):
    return {"length": len(await request.body())}
"""


def serve(world: World, *names: str, **scaling: Any) -> dict[str, str]:
    """App → URL, of apps that may sleep after a second, unless `scaling` says otherwise."""
    folder = world.platform.work / "sleepy"
    folder.mkdir(exist_ok=True)
    (folder / "sleepy.py").write_text(PROGRAM)
    apps = [
        {
            "name": name,
            "environment": {"name": name, "kind": "app"},
            "kind": "asgi",
            "entry": "sleepy:env",
            "requires_auth": False,
            "scaling": {"scaledown_after": 1, **scaling},
        }
        for name in names
    ]
    request = {"version": "v1", "root": str(folder), "apps": apps, "order": {name: [] for name in names}}
    begun = world.call("POST", "/v1/deployments", request)["id"]
    wait_for(lambda: world.call("GET", f"/v1/deployments/{begun}")["phase"] == "succeeded", "they are deployed", 60)
    return {name: world.call("GET", f"/v1/apps/{name}")["url"] for name in names}


def is_asleep(world: World, name: str) -> bool:
    return bool(world.call("GET", f"/v1/apps/{name}")["status"] == "sleeping")


class Visitor:
    """Somebody who comes back again and again: every other time when the app sleeps, else at a random moment around
    the one at which it falls asleep. Whatever goes wrong is one of the `answers`."""

    def __init__(self, world: World, name: str, url: str, seed: int) -> None:
        self.answers: list[str] = []
        self.pids: set[int] = set()
        self._world = world
        self._name = name
        self._url = url
        self._chance = random.Random(seed)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Once it has got all its answers."""
        self._thread.join(timeout=SHOTS * 6 + 60)
        assert not self._thread.is_alive(), f"it waits for its answer number {len(self.answers) + 1}"
        assert Counter(self.answers) == {"200": SHOTS * VISITS}

    def _run(self) -> None:
        try:
            with httpx.Client(trust_env=False, timeout=40) as http:
                for shot in range(SHOTS):
                    for _ in range(VISITS):
                        self._ask(http)
                        time.sleep(self._chance.uniform(0, 0.05))
                    if shot % 2:
                        wait_for(lambda: is_asleep(self._world, self._name), f"{self._name} sleeps", 60)
                    else:
                        time.sleep(self._chance.uniform(0.2, 2))  # nothing is waited for; any moment will do
        except Exception as error:  # noqa: BLE001 - a thread of its own, whose end nobody else would see
            self.answers.append(f"{type(error).__name__}: {error}")

    def _ask(self, http: httpx.Client) -> None:
        try:
            if self._chance.random() < 0.3:
                answer = http.post(self._url, content=b"x" * 100_000)
                assert answer.json() == {"length": 100_000}
            else:
                answer = http.get(self._url, params={"pause": self._chance.choice(["0", "0", "0.3"])})
                self.pids.add(answer.json()["pid"])
            self.answers.append(str(answer.status_code))
        except (httpx.HTTPError, ValueError, KeyError, AssertionError) as error:
            self.answers.append(repr(error))


def visited(world: World, *names: str) -> list[Visitor]:
    """The apps, deployed, and somebody who visits each of them."""
    urls = serve(world, *names, scaledown_after=0.4)
    visitors = [Visitor(world, name, urls[name], seed) for seed, name in enumerate(names)]
    for visitor in visitors:
        visitor.start()
    return visitors


def test_every_request_is_answered_while_apps_fall_asleep_and_wake(world: World) -> None:
    visitors = visited(world, *(f"sleepy{n}" for n in range(APPS)))
    for visitor in visitors:
        visitor.end()
    assert sum(len(visitor.pids) for visitor in visitors) > 2 * APPS, "they slept in between"


def test_every_request_is_answered_while_parts_die_as_apps_fall_asleep(world: World) -> None:
    """Each part dies at a moment at which at least one of them sleeps, and wakes soon."""
    names = ("hurt0", "hurt1")
    visitors = visited(world, *names)
    for part in ("control", "gateway", "control", "gateway"):
        wait_for(lambda: any(is_asleep(world, name) for name in names), "one of them sleeps", 60)
        world.restart(part)
    for visitor in visitors:
        visitor.end()
    assert min(len(visitor.pids) for visitor in visitors) > 2, "they slept in between"


def test_a_busy_app_stays_awake_when_the_control_plane_and_the_controller_are_restarted(world: World) -> None:
    """Its neighbour, of which nobody wants anything, sleeps by then."""
    urls = serve(world, "busy", "idle")
    opens = world.platform.work / "open-busy"
    with httpx.Client(trust_env=False, timeout=40) as http:
        pid = http.get(urls["busy"]).json()["pid"]
        with ThreadPoolExecutor() as threads:
            slow = threads.submit(http.get, f"{urls['busy']}/until", params={"path": str(opens)})
            try:
                world.restart("control", "gateway")
                world.restart("gateway")
                wait_for(lambda: is_asleep(world, "idle"), "the neighbour sleeps", 20)
                assert not is_asleep(world, "busy")
            finally:
                opens.touch()
            assert slow.result(timeout=40).json()["pid"] == pid


def test_a_sleeping_app_stays_asleep_through_restarts_and_wakes_with_the_next_request(world: World) -> None:
    urls = serve(world, "resting")
    wait_for(lambda: world.call("GET", "/v1/apps/resting")["status"] == "sleeping", "it sleeps", 20)
    wait_for(lambda: not world.call("GET", "/v1/apps/resting").get("replicas"), "its process has ended", 20)
    for part in ("control", "gateway", "agent"):
        world.restart(part)
        found = world.call("GET", "/v1/apps/resting")
        assert (found["status"], found.get("replicas", [])) == ("sleeping", [])
    assert httpx.get(urls["resting"], trust_env=False, timeout=40).status_code == 200


def test_an_app_that_asks_for_replicas_never_sleeps(world: World) -> None:
    serve(world, "awake", min_replicas=2, max_replicas=2)
    serve(world, "asleep")
    wait_for(lambda: world.call("GET", "/v1/apps/asleep")["status"] == "sleeping", "the other sleeps", 20)
    assert [replica["phase"] for replica in world.call("GET", "/v1/apps/awake")["replicas"]] == ["ready"] * 2
