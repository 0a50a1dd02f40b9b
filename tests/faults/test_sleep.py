"""Apps that fall asleep and are woken at every moment, while parts of the platform die: every request is answered."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import Any

import httpx

from tests.faults.world import World
from tests.platform_fixture import wait_for

APPS = 5
SHOTS = 60 if os.environ.get("TARMAC_SLOW") else 15
"""Moments at which each app gets requests."""

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

@app.post("/")
async def length(request: Request):
    return {"length": len(await request.body())}
"""


def serve(world: World, *names: str, **scaling: Any) -> dict[str, str]:
    """App → URL, of apps that may sleep after a second."""
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


class Visitor:
    """Somebody who comes back at random moments around the one at which the app falls asleep."""

    def __init__(self, url: str, seed: int) -> None:
        self.answers: list[str] = []
        self.pids: set[int] = set()
        self._url = url
        self._chance = random.Random(seed)
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._thread.join(timeout=SHOTS * 6 + 60)

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=40) as http:
            for _ in range(SHOTS):
                for _ in range(3):
                    self._ask(http)
                    time.sleep(self._chance.uniform(0, 0.05))
                time.sleep(self._chance.uniform(0.8, 2.6))

    def _ask(self, http: httpx.Client) -> None:
        try:
            if self._chance.random() < 0.3:
                answer = http.post(self._url, content=b"x" * 100_000)
                assert answer.json() == {"length": 100_000}
            else:
                answer = http.get(self._url, params={"pause": self._chance.choice(["0", "0", "0.3"])})
                self.pids.add(answer.json()["pid"])
            self.answers.append(str(answer.status_code))
        except (httpx.HTTPError, ValueError, AssertionError) as error:
            self.answers.append(repr(error))


def test_every_request_is_answered_while_apps_fall_asleep_and_wake(world: World) -> None:
    urls = serve(world, *(f"sleepy{n}" for n in range(APPS)))
    visitors = [Visitor(url, seed) for seed, url in enumerate(urls.values())]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.end()
    answers = [answer for visitor in visitors for answer in visitor.answers]
    assert len(answers) == APPS * SHOTS * 3
    assert set(answers) == {"200"}
    assert sum(len(visitor.pids) for visitor in visitors) > 2 * APPS, "they slept in between"


def test_every_request_is_answered_while_parts_die_as_apps_fall_asleep(world: World) -> None:
    urls = serve(world, "hurt0", "hurt1")
    visitors = [Visitor(url, seed) for seed, url in enumerate(urls.values())]
    for visitor in visitors:
        visitor.start()
    for part in ("control", "gateway", "control", "gateway"):
        world.restart(part)
    for visitor in visitors:
        visitor.end()
    assert {answer for visitor in visitors for answer in visitor.answers} == {"200"}


def test_a_busy_app_stays_awake_when_the_control_plane_and_the_brain_are_restarted(world: World) -> None:
    urls = serve(world, "busy")
    with httpx.Client(trust_env=False, timeout=40) as http:
        pid = http.get(urls["busy"]).json()["pid"]
        opened: list[int] = []
        slow = threading.Thread(
            target=lambda: opened.append(http.get(urls["busy"], params={"pause": "8"}).json()["pid"])
        )
        slow.start()
        world.restart("control", "gateway")
        world.restart("gateway")
        slow.join(timeout=40)
        assert opened == [pid]


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
