"""Restarts of the control plane under a constant load: upgrading the platform is such a restart."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import httpx

from tests.faults.world import World
from tests.platform_fixture import wait_for

RESTARTS = 20


class Requests:
    """A constant load on an app, from a thread of its own."""

    def __init__(self, url: str) -> None:
        self.answers: list[str] = []
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=20) as http:
            while not self._stopping.wait(0.01):
                try:
                    answer = http.get(self._url)
                    said = "" if answer.status_code == 200 else f" {answer.text} at {time.time():.3f}"
                    self.answers.append(f"{answer.status_code}{said}")
                except httpx.HTTPError as error:
                    self.answers.append(repr(error))

    def __enter__(self) -> Requests:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=30)


def serve(world: World) -> dict[str, Any]:
    """An app that runs; its record."""
    spec = {
        "name": "front",
        "environment": {"name": "front", "kind": "app"},
        "kind": "command",
        "argv": ["python3", "-m", "http.server", "--bind", "127.0.0.1", "$PORT"],
        "requires_auth": False,
        "scaling": {"min_replicas": 1, "max_replicas": 1},
    }
    folder = world.platform.work / "served"
    folder.mkdir(exist_ok=True)
    request = {"version": "v1", "root": str(folder), "apps": [spec], "order": {"front": []}}
    name = world.call("POST", "/v1/deployments", request)["id"]
    wait_for(lambda: world.call("GET", f"/v1/deployments/{name}")["phase"] == "succeeded", "the app is deployed", 40)
    found: dict[str, Any] = world.call("GET", "/v1/apps/front")
    return found


def logs_of_the_app(world: World) -> str:
    """What its replicas wrote, but for the requests that went well."""
    files = (world.platform.home / "logs" / "apps").rglob("r-*.log")
    return "\n".join(line for file in files for line in file.read_text().splitlines() if '" 200 ' not in line)


def test_restarts_under_load_fail_no_request_and_no_run_and_restart_no_worker(world: World) -> None:
    app = serve(world)
    opens = world.platform.work / "open-restarts"
    long_runs = [world.run("staged", opens=str(opens), name=f"long-{n}") for n in range(2)]
    world.noted("gate", 2)
    processes = {words[1] for words in world.lines() if words[0] in ("gate", "staged")}
    short: list[str] = []
    with Requests(app["url"]) as load:
        for number in range(RESTARTS):
            short += [world.run("fan", width=3, seconds=0.2, name=f"short-{number}-{n}") for n in range(2)]
            world.restart("control")
    opens.touch()
    assert [world.outputs(run) for run in long_runs] == [[0, 1, 2]] * 2
    assert [world.outputs(run) for run in short] == [3] * (2 * RESTARTS)
    assert len(load.answers) > 10 * RESTARTS
    assert set(load.answers) == {"200"}, f"{logs_of_the_app(world)}\n{world.platform.log_tails(60)}"
    counts = world.count()
    again = [action for run in [*long_runs, *short] for action in world.actions(run) if action.get("attempt", 1) > 1]
    assert again == [], f"an action had a second attempt\n{world.platform.log_tails()}"
    assert (counts["staged"], counts["gate"], counts["fan"]) == (2, 2, 2 * RESTARTS)
    assert processes == {words[1] for words in world.lines() if words[0] in ("gate", "staged")}
    now = world.call("GET", "/v1/apps/front")
    assert [replica["pid"] for replica in now["replicas"]] == [replica["pid"] for replica in app["replicas"]]


def test_apps_are_served_while_the_control_plane_is_away_and_while_the_controller_is(world: World) -> None:
    app = serve(world)
    with Requests(app["url"]) as load:
        hit = world.kill(["control", "gateway"])
        wait_for(lambda: len(load.answers) > 20, "requests were answered", 10)
        wait_for(lambda: world.is_back(hit), "both are back", 20)
        world.restart("gateway")
    assert set(load.answers) == {"200"}


def test_a_replica_that_is_killed_is_replaced(world: World) -> None:
    app = serve(world)
    pid = app["replicas"][0]["pid"]
    os.kill(pid, 9)

    def is_replaced() -> bool:
        pids = [replica.get("pid") for replica in world.call("GET", "/v1/apps/front").get("replicas", [])]
        return bool(pids) and all(pids) and pid not in pids and world.http.get(app["url"]).status_code == 200

    wait_for(is_replaced, "another replica serves", 15)
