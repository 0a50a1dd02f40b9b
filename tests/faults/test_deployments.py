"""A deployment is all or nothing, also when the control plane is killed in the middle of it."""

from __future__ import annotations

import signal
from typing import Any

import httpx

from tests.faults.world import World, alive
from tests.platform_fixture import wait_for


def app(name: str, *argv: str, **scaling: Any) -> dict[str, Any]:
    serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "$PORT"]
    return {
        "name": name,
        "environment": {"name": name, "kind": "app"},
        "kind": "command",
        "argv": list(argv) or serve,
        "requires_auth": False,
        "scaling": scaling,
    }


def deploy(world: World, version: str, *apps: dict[str, Any]) -> str:
    """Begin a deployment, each app in a level of its own; what is served says which version it is."""
    folder = world.platform.work / version
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text(version)
    names = [spec["name"] for spec in apps]
    order = {name: names[:number] for number, name in enumerate(names)}
    request = {"version": version, "root": str(folder), "apps": list(apps), "order": order}
    begun: str = world.call("POST", "/v1/deployments", request)["id"]
    return begun


def until_over(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def is_over() -> bool:
        nonlocal found
        found = world.call("GET", f"/v1/deployments/{name}")
        return bool(found["phase"] != "running")

    wait_for(is_over, "the deployment is over", 60)
    return found


def processes(world: World, version: str, *names: str) -> list[int]:
    """The replicas of that version of those apps."""
    found = [replica for name in names for replica in world.call("GET", f"/v1/apps/{name}").get("replicas", [])]
    return [replica["pid"] for replica in found if replica["version"] == version and replica.get("pid")]


def page(world: World, name: str) -> str:
    url = world.call("GET", f"/v1/apps/{name}")["url"]
    return httpx.get(url, trust_env=False, timeout=40).text


def until_served(world: World, version: str, *names: str) -> None:
    """The gateway hears of a switch a moment after it was made."""
    wait_for(lambda: {page(world, name) for name in names} == {version}, f"{version} is served", 20)


def test_a_deployment_that_is_cut_off_by_a_kill_is_taken_back_as_a_whole(world: World) -> None:
    assert until_over(world, deploy(world, "v1", app("front"), app("back")))["phase"] == "succeeded"
    before = world.call("GET", "/v1/apps/front")
    assert page(world, "front") == "v1"
    stuck = app("back", "sleep", "3600")
    begun = deploy(world, "v2", app("front", scaledown_after=600), app("fresh"), stuck)
    wait_for(lambda: world.call("GET", "/v1/apps/front")["version"] == "v2", "the first is switched", 30)
    until_served(world, "v2", "front")
    wait_for(lambda: len(processes(world, "v2", "front", "fresh", "back")) == 3, "the last is being started", 30)
    new = processes(world, "v2", "front", "fresh", "back")
    world.restart("control")
    found = world.call("GET", f"/v1/deployments/{begun}")
    assert found["phase"] == "failed"
    assert "everything is as it was before; deploy again" in found["error"]["message"]
    now = world.call("GET", "/v1/apps/front")
    assert (now["version"], now["port"]) == ("v1", before["port"])
    until_served(world, "v1", "front", "back")
    assert [r["pid"] for r in world.call("GET", "/v1/apps/front")["replicas"]] == [r["pid"] for r in before["replicas"]]
    assert world.http.get("/v1/apps/fresh").status_code == 404
    wait_for(lambda: not any(map(alive, new)), "the processes of the new version are ended", 40)
    assert until_over(world, deploy(world, "v3", app("front"), app("fresh"), app("back")))["phase"] == "succeeded"
    until_served(world, "v3", "front", "fresh", "back")


def test_a_deployment_that_is_cut_off_by_an_orderly_end_is_taken_back_too(world: World) -> None:
    assert until_over(world, deploy(world, "t1", app("here"), app("there")))["phase"] == "succeeded"
    begun = deploy(world, "t2", app("here", scaledown_after=9), app("there", "sleep", "3600"))
    wait_for(lambda: world.call("GET", "/v1/apps/here")["version"] == "t2", "the first is switched", 30)
    hit = world.kill(["control"], signal.SIGTERM)
    wait_for(lambda: world.is_back(hit), "it is back", 30)
    found = until_over(world, begun)
    assert "everything is as it was before; deploy again" in found["error"]["message"]
    assert [world.call("GET", f"/v1/apps/{name}")["version"] for name in ("here", "there")] == ["t1", "t1"]
    until_served(world, "t1", "here", "there")


def test_a_deployment_is_all_or_nothing_when_the_agent_dies_with_the_control_plane(world: World) -> None:
    assert until_over(world, deploy(world, "w1", app("one", min_replicas=1), app("two")))["phase"] == "succeeded"
    begun = deploy(world, "w2", app("one", min_replicas=1, scaledown_after=9), app("two", "sleep", "3600"))
    wait_for(lambda: world.call("GET", "/v1/apps/one")["version"] == "w2", "the first is switched", 30)
    hit = world.kill(["control", "agent"], signal.SIGKILL)
    wait_for(lambda: world.is_back(hit), "both are back", 30)
    assert until_over(world, begun)["phase"] == "failed"
    until_served(world, "w1", "one", "two")
