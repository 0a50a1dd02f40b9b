"""Apps in the control plane: how they fall asleep and wake, how many replicas they have, and deployments cut off."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.errors import AppNotFoundError, DeploymentError, InvalidInputError
from flyte.wire import AppStatus, DeploymentPhase, EnvironmentSpec
from tarmac.model import APP_TRANSITIONS
from tarmac.store import AppRow
from tests.tarmac.fake_agent import Peer
from tests.tarmac.house import TASKS, House, eventually, open_house

DEFAULT = wire.Scope()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


def app(name: str, **scaling: Any) -> wire.AppSpec:
    environment = EnvironmentSpec(name=name, kind="app")
    return wire.AppSpec(
        name=name, environment=environment, kind="command", argv=["x"], scaling=wire.ScalingSpec(**scaling)
    )


async def deploy(house: House, *apps: wire.AppSpec, version: str = "v1", **request: Any) -> wire.Deployment:
    """Begin a deployment, each app in a level of its own."""
    names = [spec.name for spec in apps]
    order = request.pop("order", {name: names[:number] for number, name in enumerate(names)})
    return await house.control.deployments.start(
        wire.DeployRequest(version=version, root="/", apps=list(apps), order=order, **request), "owner"
    )


async def deployed(house: House, *apps: wire.AppSpec, version: str = "v1", **request: Any) -> wire.Deployment:
    """The same, and wait for its end."""
    return await ended(house, await deploy(house, *apps, version=version, **request))


async def ended(house: House, begun: wire.Deployment) -> wire.Deployment:
    """The deployment when it is over."""
    while (found := await house.control.deployments.get(begun.id)).phase is DeploymentPhase.RUNNING:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return found


async def shown(house: House, name: str) -> wire.App:
    return await house.control.apps.get(DEFAULT.app(name))


async def until(fact: Callable[[], Any]) -> None:
    assert await eventually(lambda: bool(fact()))


class Gateway:
    """The gateway's end of the link."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._peer: Peer | None = None
        self.routes: dict[str, wire.Route] = {}
        self.woken: list[wire.Woken] = []
        self.told = 0
        self.is_slow = False
        """It does not say that it has applied anything."""
        self.barriers: list[int] = []

    async def live(self) -> None:
        hello = wire.Hello(kind="gateway", name="gateway", token=self._house.home.token())
        self._peer = await self._house.agent.connect(hello)
        while (frame := await self._peer.next()) is not None:
            self.told += 1
            match frame:
                case wire.Welcome():
                    assert frame.epoch == self._house.store.epoch
                case wire.Routes():
                    self.routes = {route.app: route for route in frame.routes}
                case wire.RouteChanged():
                    self.routes[frame.route.app] = frame.route
                case wire.RouteRemoved():
                    self.routes.pop(frame.app, None)
                case wire.Woken():
                    self.woken.append(frame)
                case wire.Barrier():
                    self.barriers.append(frame.number)
                    if not self.is_slow:
                        self.apply()

    def apply(self) -> None:
        """Say that HAProxy has everything."""
        for number in self.barriers:
            self.send(wire.Applied(number=number))
        self.barriers.clear()

    def send(self, frame: wire.Frame) -> None:
        assert self._peer is not None
        self._peer.send(frame)

    def replicas(self, name: str) -> list[str]:
        route = self.routes.get("/".join((*DEFAULT, name)))
        return sorted(replica.name for replica in route.replicas) if route else []

    def quiet(self, name: str, *replicas: str) -> None:
        units = sorted(replicas) or self.replicas(name)
        self.send(wire.Quiet(app="/".join((*DEFAULT, name)), replicas=units))

    def parted(self, name: str) -> None:
        self.send(wire.Parted(app="/".join((*DEFAULT, name))))

    def wake(self, name: str, key: int = 1) -> None:
        self.send(wire.Wake(key=key, app="/".join((*DEFAULT, name))))


@pytest.fixture
async def gateway(house: House) -> Gateway:
    made = Gateway(house)
    house.agent.run(made.live())
    await until(lambda: made.told)
    return made


async def test_a_deployment_is_done_when_the_gateway_has_its_route_and_not_before(
    house: House, gateway: Gateway
) -> None:
    gateway.is_slow = True
    begun = await deploy(house, app("front"))
    await until(lambda: gateway.barriers)
    assert gateway.replicas("front")
    assert (await house.control.deployments.get(begun.id)).phase is DeploymentPhase.RUNNING
    gateway.apply()
    assert (await ended(house, begun)).phase is DeploymentPhase.SUCCEEDED


# ------------------------------------------------------------------------------------------------------- going to sleep


async def asleep(house: House, gateway: Gateway) -> None:
    """No request comes for the app `front`, and nothing is open to it."""
    gateway.quiet("front")
    await until(lambda: not gateway.replicas("front"))
    gateway.parted("front")
    await until(lambda: not house.agent.replicas)


async def test_an_app_without_requests_sleeps_once_nothing_is_open_and_wakes_with_the_next(
    house: House, gateway: Gateway
) -> None:
    await deployed(house, app("front"))
    await until(lambda: gateway.replicas("front"))
    gateway.quiet("front")
    await until(lambda: not gateway.replicas("front"))
    assert house.agent.replicas, "the replica goes on until nothing is open"
    assert (await shown(house, "front")).status is AppStatus.ACTIVE
    gateway.parted("front")
    await until(lambda: not house.agent.replicas)
    while (found := await shown(house, "front")).status is AppStatus.ACTIVE:  # noqa: ASYNC110 - until it is on disk
        await asyncio.sleep(0.01)
    assert (found.status, found.message) == (AppStatus.SLEEPING, "no request for 300 s")
    gateway.wake("front")
    await until(lambda: gateway.replicas("front") and gateway.woken)
    assert gateway.woken[0].ok
    assert (await shown(house, "front")).status is AppStatus.ACTIVE


async def test_who_waits_for_an_app_that_does_not_start_is_not_told_what_the_app_wrote(
    house: House, gateway: Gateway
) -> None:
    """Whoever may call it may not read its log."""
    await deployed(house, app("front"))
    await until(lambda: gateway.replicas("front"))
    await asleep(house, gateway)
    house.agent.broken = wire.ErrorInfo(code="ValueError", message="no such thing")
    gateway.wake("front")
    await until(lambda: gateway.woken)
    assert (gateway.woken[0].ok, gateway.woken[0].message) == (
        False,
        "app 'front' did not start; `flyte get logs front` shows why",
    )
    assert "its code cannot be loaded" in (await shown(house, "front")).message


async def test_a_request_that_comes_while_an_app_falls_asleep_takes_its_replicas_back(
    house: House, gateway: Gateway
) -> None:
    await deployed(house, app("front"))
    await until(lambda: gateway.replicas("front"))
    serving = gateway.replicas("front")
    for key in range(1, 4):
        gateway.quiet("front", *serving)
        await until(lambda: not gateway.replicas("front"))
        gateway.wake("front", key)
        await until(lambda key=key: len(gateway.woken) == key and gateway.replicas("front") == serving)  # type: ignore[misc]
        gateway.parted("front")  # said before the gateway heard of it
    gateway.wake("front", 4)
    await until(lambda: len(gateway.woken) == 4)
    assert not house.agent.stopped
    assert len(house.agent.started) == len(serving) == 1 + sum(o.replica is None for o in house.agent.started)


async def test_an_app_in_which_something_stays_open_goes_on(
    house: House, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarmac.control.apps.sleep.PATIENCE", 0.05)
    await deployed(house, app("front"))
    await until(lambda: gateway.replicas("front"))
    serving = gateway.replicas("front")
    gateway.quiet("front")
    await until(lambda: not gateway.replicas("front"))
    await until(lambda: gateway.replicas("front") == serving)
    assert not house.agent.stopped


async def test_what_the_gateway_saw_of_other_replicas_counts_for_nothing(house: House, gateway: Gateway) -> None:
    await deployed(house, app("front"), app("always", min_replicas=1))
    await until(lambda: gateway.replicas("front") and gateway.replicas("always"))
    serving = gateway.replicas("front")
    gateway.quiet("front", "r-another")
    gateway.quiet("always")
    gateway.send(wire.Quiet(app="no/such/app", replicas=[]))
    gateway.parted("front")
    gateway.wake("front")
    await until(lambda: gateway.woken)
    assert gateway.replicas("front") == serving
    assert gateway.replicas("always")
    assert not house.agent.stopped


async def test_the_gateway_is_told_after_how_long_an_app_may_sleep(house: House, gateway: Gateway) -> None:
    await deployed(house, app("a"), app("b", scaledown_after=2), app("c", min_replicas=1, scaledown_after=2))
    await until(lambda: gateway.replicas("c"))
    times = {name.rpartition("/")[2]: route.scaledown_after for name, route in gateway.routes.items()}
    assert times == {"a": 300, "b": 2, "c": None}


async def test_an_app_that_falls_asleep_serves_again_after_a_restart_of_the_control_plane(
    house: House, gateway: Gateway
) -> None:
    """Its replica is alive, and what is not known counts as busy."""
    await deployed(house, app("front"))
    await until(lambda: gateway.replicas("front"))
    serving = gateway.replicas("front")
    gateway.quiet("front")
    await until(lambda: not gateway.replicas("front"))
    await house.restart()
    again = Gateway(house)
    house.agent.run(again.live())
    await until(lambda: again.replicas("front") == serving)
    assert not house.agent.stopped


async def test_an_activation_is_on_disk_when_it_is_told(house: House) -> None:
    await deployed(house, app("front"))
    await house.control.apps.deactivate(DEFAULT.app("front"), 5, "owner")
    told = asyncio.ensure_future(house.control.apps.activate(DEFAULT.app("front"), 5, "owner"))
    replicas = len(house.agent.started)
    await until(lambda: len(house.agent.started) > replicas)  # nothing is begun before that either
    row = next(row for row in await house.store.apps(None, None) if row.name == "front")
    assert row.wanted == "active"
    await told


async def test_of_an_app_that_wakes_often_the_newest_logs_are_kept(house: House, gateway: Gateway) -> None:
    await deployed(house, app("front"))
    folder = house.home.replica_log(DEFAULT.app("front"), "x").parent
    folder.mkdir(parents=True)
    for number in range(30):
        log = folder / f"r-{number:02}.log"
        log.touch()
        os.utime(log, (number, number))
    (folder / "access.log").touch()
    await asleep(house, gateway)
    gateway.wake("front")
    await until(lambda: gateway.replicas("front"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "access.log",
        *(f"r-{number:02}.log" for number in range(10, 30)),
    ]


async def test_a_sleeping_app_stays_asleep_through_a_restart(house: House, gateway: Gateway) -> None:
    await deployed(house, app("front"))
    await until(lambda: gateway.replicas("front"))
    await asleep(house, gateway)
    await house.restart()
    await until(lambda: house.control.agent.present)
    assert (await shown(house, "front")).status is AppStatus.SLEEPING
    assert not house.agent.replicas


async def test_an_app_that_is_stopped_or_deployed_while_it_falls_asleep_is_what_was_asked_for(
    house: House, gateway: Gateway
) -> None:
    await deployed(house, app("front"))
    await until(lambda: gateway.replicas("front"))
    gateway.quiet("front")
    await until(lambda: not gateway.replicas("front"))
    done = await deployed(house, app("front", scaledown_after=7), version="v2")
    assert done.phase is DeploymentPhase.SUCCEEDED
    gateway.parted("front")
    await until(lambda: gateway.replicas("front") == list(house.agent.replicas))
    assert (await shown(house, "front")).version == "v2"
    gateway.quiet("front")
    await until(lambda: not gateway.replicas("front"))
    await house.control.apps.deactivate(DEFAULT.app("front"), 5, "owner")
    gateway.parted("front")
    await house.control.apps.deactivate(DEFAULT.app("front"), 5, "owner")
    assert (await shown(house, "front")).status is AppStatus.STOPPED


# ------------------------------------------------------------------------------------------------------------- replicas


async def test_an_app_has_at_least_as_many_replicas_as_it_asks_for(house: House, gateway: Gateway) -> None:
    await deployed(house, app("front", min_replicas=2, max_replicas=2))
    await until(lambda: len(gateway.replicas("front")) == 2)
    lost = gateway.replicas("front")[0]
    house.agent.end_replica(lost)
    await until(lambda: len(gateway.replicas("front")) == 2 and lost not in gateway.replicas("front"))
    await house.down()
    house.agent.replicas.pop(gateway.replicas("front")[0])  # one of them ends while the control plane is away
    await house.up()
    again = Gateway(house)
    house.agent.run(again.live())
    await until(lambda: len(again.replicas("front")) == 2)
    house.agent.die()
    await until(lambda: len(house.agent.replicas) == 2 and again.replicas("front") == sorted(house.agent.replicas))


async def test_a_version_that_is_deployed_anew_with_other_values_is_served_by_new_replicas(
    house: House, gateway: Gateway
) -> None:
    await deployed(house, app("front"))
    await until(lambda: gateway.replicas("front"))
    before = gateway.replicas("front")
    done = await deployed(house, app("front"), env_vars={"A": "1"})
    assert done.phase is DeploymentPhase.SUCCEEDED
    await until(lambda: len(gateway.replicas("front")) == 1 and gateway.replicas("front") != before)
    await until(lambda: list(house.agent.replicas) == gateway.replicas("front"))


# ------------------------------------------------------------------------------------------------ deployments, cut off


async def served(house: House, name: str) -> AppRow | None:
    """The app as it is on disk."""
    return next((row for row in await house.store.apps(None, None) if row.name == name), None)


async def cut_off(house: House, *apps: wire.AppSpec, stuck: str, version: str, **request: Any) -> wire.Deployment:
    """A deployment whose control plane ends while the app `stuck` is being started, and what the next made of it."""
    house.agent.slow.add(stuck)
    begun = await deploy(house, *apps, version=version, **request)

    def is_stuck() -> bool:
        return any(o.replica and (o.replica.app, o.replica.version) == (stuck, version) for o in house.agent.started)

    await until(is_stuck)
    control = await house.restart()
    await until(lambda: control.agent.present)
    return await control.deployments.get(begun.id)


async def test_a_deployment_that_was_cut_off_is_taken_back(house: House) -> None:
    await deployed(house, app("first"), app("second"))
    old = dict(house.agent.replicas)
    before = await served(house, "first")
    found = await cut_off(
        house,
        app("first", scaledown_after=1),
        app("new"),
        app("second", scaledown_after=1),
        stuck="second",
        version="v2",
    )
    assert found.phase is DeploymentPhase.FAILED
    assert found.error
    assert "everything is as it was before; deploy again" in found.error.message
    assert {env.phase for env in found.environments} == {"rolled_back"}
    await until(lambda: house.agent.replicas == old)
    now = await served(house, "first")
    assert now is not None
    assert before is not None
    assert (now.version, now.env_vars, now.wanted, now.port) == ("v1", {}, "active", before.port)
    assert await served(house, "new") is None
    gateway = Gateway(house)
    house.agent.run(gateway.live())
    await until(lambda: sorted([*gateway.replicas("first"), *gateway.replicas("second")]) == sorted(old))
    assert {name.rpartition("/")[2] for name in gateway.routes} == {"first", "second"}
    assert (await shown(house, "second")).status is AppStatus.ACTIVE


async def test_a_version_that_was_cut_off_under_the_same_name_is_taken_back(house: House) -> None:
    await deployed(house, app("first"), app("second"))
    old = dict(house.agent.replicas)
    await cut_off(house, app("first"), app("second"), stuck="second", version="v1", env_vars={"A": "1"})
    await until(lambda: house.agent.replicas == old)
    version = await house.store.app_version(DEFAULT.app("first"), "v1")
    assert version is not None
    assert {order.replica.revision for order in old.values() if order.replica and order.replica.app == "first"} == {
        version.digest
    }


async def test_old_replicas_that_are_gone_when_a_deployment_is_taken_back_are_started_again(house: House) -> None:
    await deployed(house, app("first", min_replicas=1), app("second"))
    house.agent.slow.add("second")
    await deploy(house, app("first", min_replicas=1, scaledown_after=1), app("second", scaledown_after=1), version="v2")
    await until(lambda: len(house.agent.replicas) == 4)
    await house.down()
    house.agent.replicas.clear()
    await house.up()
    await until(lambda: house.agent.replicas)
    (order,) = house.agent.replicas.values()
    assert order.replica
    assert (order.replica.app, order.replica.version) == ("first", "v1")


async def test_tasks_and_first_apps_of_a_deployment_that_was_cut_off_are_gone(house: House) -> None:
    spec = app("front")
    found = await cut_off(house, spec, stuck="front", version="v9", tasks=TASKS)
    assert found.phase is DeploymentPhase.FAILED
    assert await served(house, "front") is None
    assert not [row for row in await house.store.tasks(*DEFAULT) if row.version == "v9"]
    await until(lambda: not house.agent.replicas)
    house.agent.slow.clear()
    again = await deployed(house, spec, version="v9", tasks=TASKS)
    assert again.phase is DeploymentPhase.SUCCEEDED


async def current(house: House) -> tuple[str, bool]:
    found = {row.name: row for row in await house.store.current_tasks(*DEFAULT)}["env.add"]
    shown = await house.control.tasks.get(*DEFAULT, "env.add")
    assert (shown.version, shown.current) == (found.version, found.version)
    return found.version, found.deployed


async def test_a_deployment_that_fails_leaves_current_what_was_current(house: House) -> None:
    await deployed(house, version="old", tasks=TASKS)
    await deployed(house, version="new", tasks=TASKS)
    house.agent.broken = wire.ErrorInfo(code="ModuleNotFoundError", message="no module named front")
    order = {"env": [], "front": ["env"]}
    for version in ("old", "other"):
        found = await deployed(house, app("front"), version=version, tasks=TASKS, order=order)
        assert found.phase is DeploymentPhase.FAILED
        assert await current(house) == ("new", True)


async def test_a_deployment_that_was_cut_off_leaves_current_what_was_current(house: House) -> None:
    await deployed(house, version="old", tasks=TASKS)
    await deployed(house, version="new", tasks=TASKS)
    order = {"env": [], "front": ["env"]}
    found = await cut_off(house, app("front"), stuck="front", version="old", tasks=TASKS, order=order)
    assert found.phase is DeploymentPhase.FAILED
    assert await current(house) == ("new", True)


async def test_a_deployment_that_was_complete_but_for_its_last_commit_is_finished(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def never(self: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    await deployed(house, app("front"))
    with monkeypatch.context() as patch:
        patch.setattr("tarmac.control.apps.underway.Underway.succeed", never)
        begun = await deploy(house, app("front", scaledown_after=1), version="v2")
        await reached.wait()
    control = await house.restart()
    assert (await control.deployments.get(begun.id)).phase is DeploymentPhase.SUCCEEDED
    await until(lambda: [o.replica.version for o in house.agent.replicas.values() if o.replica] == ["v2"])
    assert (await shown(house, "front")).version == "v2"


async def test_a_deployment_that_fails_is_taken_back_also_under_the_same_version(house: House) -> None:
    await deployed(house, app("first"), app("second"))
    old = dict(house.agent.replicas)
    house.agent.slow.add("second")
    begun = await deploy(house, app("first"), app("second"), env_vars={"A": "1"})
    await until(lambda: len(house.agent.replicas) == 4)
    stuck = list(house.agent.replicas)[-1]
    house.agent.end_replica(stuck)
    await until(lambda: house.agent.replicas == old)
    assert (await ended(house, begun)).phase is DeploymentPhase.FAILED
    assert (await shown(house, "first")).status is AppStatus.ACTIVE


async def statuses(house: House, name: str) -> list[str]:
    events = await house.store.events("/".join(("app", *DEFAULT, name)))
    return [event.phase for event in events]


async def test_an_app_that_is_stopped_and_started_again_moves_along_its_table(house: House) -> None:
    await deployed(house, app("front"))
    await house.control.apps.deactivate(DEFAULT.app("front"), 5, "owner")
    await house.control.apps.activate(DEFAULT.app("front"), 5, "owner")
    found = await statuses(house, "front")
    assert found == ["deploying", "active", "stopped", "sleeping", "active"]
    table = {(str(row.old), str(row.new)) for row in APP_TRANSITIONS}
    assert {pair for pair in pairwise(found) if pair[0] != pair[1]} <= table


async def test_an_app_that_is_stopped_while_a_request_wakes_it_stays_stopped(house: House, gateway: Gateway) -> None:
    await deployed(house, app("front", scaledown_after=1))
    await asleep(house, gateway)
    house.agent.slow.add("front")
    gateway.wake("front")
    await until(lambda: house.agent.replicas)
    await house.control.apps.deactivate(DEFAULT.app("front"), 5, "owner")
    await until(lambda: gateway.woken)
    assert not gateway.woken[0].ok
    assert (await shown(house, "front")).status is AppStatus.STOPPED


async def test_a_replica_that_was_told_to_end_is_stopped_and_one_that_dies_has_failed(house: House) -> None:
    await deployed(house, app("front", min_replicas=2, max_replicas=2))
    first, second = house.control._apps.find(DEFAULT.app("front")).replicas.values()
    house.agent.end_replica(first.unit)
    await first.gone
    await house.control.apps.deactivate(DEFAULT.app("front"), 5, "owner")
    assert (first.phase, second.phase) == ("failed", "stopped")


async def test_an_environment_that_cannot_be_deployed_is_said_to_have_failed(house: House) -> None:
    tasks = [msgspec.structs.replace(TASKS[0], docs="other")]
    found = await deployed(house, tasks=tasks, order={"env": []})
    assert (found.phase, [env.phase for env in found.environments]) == (DeploymentPhase.FAILED, ["failed"])
    assert "exists" in found.environments[0].message


async def test_what_the_order_does_not_name_is_deployed_too(house: House) -> None:
    found = await deployed(house, app("front"), version="v2", tasks=TASKS)
    assert {env.name: env.phase for env in found.environments} == {"env": "ready", "front": "ready"}


async def test_environments_that_need_each_other_are_refused_with_the_circle(house: House) -> None:
    order = {"a": ["b"], "b": ["c"], "c": ["b"]}
    with pytest.raises(DeploymentError, match=r"in a circle: (b → c → b|c → b → c)$"):
        await deploy(house, order=order)


# ------------------------------------------------------------------------------------------- what is on disk is shown


async def test_an_app_is_shown_as_it_is_on_disk_and_its_number_too(house: House, gateway: Gateway) -> None:
    assert (await deployed(house, app("front"))).phase is DeploymentPhase.SUCCEEDED
    before = await shown(house, "front")
    house.disk.hold()
    stopping = asyncio.create_task(house.control.apps.deactivate(DEFAULT.app("front"), None, "owner"))
    live = house.control._apps.live[DEFAULT.app("front")]
    await until(lambda: live.row.status is AppStatus.STOPPED)
    now = await shown(house, "front")
    assert (now.status, now.wanted, now.seq) == (AppStatus.ACTIVE, "active", before.seq)
    assert [each.status for each in await house.control.apps.list(DEFAULT)] == [AppStatus.ACTIVE]
    house.disk.go_on()
    assert (await stopping).status is AppStatus.STOPPED
    events = await house.store.events("app/" + "/".join((*DEFAULT, "front")))
    assert [event.phase for event in events if event.seq > now.seq] == ["stopped"]


async def test_an_app_that_is_activated_is_answered_as_it_is_on_disk(house: House, gateway: Gateway) -> None:
    await deployed(house, app("front"))
    await house.control.apps.deactivate(DEFAULT.app("front"), 5, "owner")
    assert (await house.control.apps.activate(DEFAULT.app("front"), 5, "owner")).status is AppStatus.ACTIVE
    assert [row.status for row in await house.store.apps(*DEFAULT)] == [AppStatus.ACTIVE]


async def test_an_app_whose_creation_is_not_on_disk_is_not_there(house: House, gateway: Gateway) -> None:
    begun = await deploy(house, app("front"))
    house.disk.hold()
    await until(lambda: DEFAULT.app("front") in house.control._apps.live)
    assert await house.control.apps.list(DEFAULT) == []
    with pytest.raises(AppNotFoundError, match="front"):
        await shown(house, "front")
    house.disk.go_on()
    assert (await ended(house, begun)).phase is DeploymentPhase.SUCCEEDED
    assert (await shown(house, "front")).status is AppStatus.ACTIVE


async def test_a_deployment_is_shown_as_it_is_on_disk(house: House, gateway: Gateway) -> None:
    gateway.is_slow = True
    begun = await deploy(house, app("front"))
    await until(lambda: gateway.barriers)
    house.disk.hold()
    gateway.apply()
    deployments = house.control.deployments
    await until(lambda: deployments._underway[begun.id].now.environments[0].phase == "ready")
    assert (await house.control.deployments.get(begun.id)).environments[0].phase == "starting"
    house.disk.go_on()
    gateway.is_slow = False
    assert (await ended(house, begun)).phase is DeploymentPhase.SUCCEEDED


# ----------------------------------------------------------------------------- what ends the agent whenever it starts


async def test_an_app_that_ends_the_agent_whenever_it_starts_has_failed_and_the_others_are_back(house: House) -> None:
    await deployed(house, *(app(name, min_replicas=1) for name in ("bad", "good", "fine")))
    house.agent.deadly.add("bad")
    house.agent.die()
    failed = AppStatus.FAILED
    await until(lambda: "is not started any more" in house.control._apps.find(DEFAULT.app("bad")).row.message)
    await until(lambda: all(house.control._apps.find(DEFAULT.app(name)).serving() for name in ("good", "fine")))
    bad = await shown(house, "bad")
    assert (bad.status, house.agent.deaths) == (failed, 3)
    assert bad.message == (
        "app 'bad' is not started any more, since the agent died 3 times in a row when it was; "
        "deploy another version of it, or try once more: flyte update app bad --activate"
    )
    with pytest.raises(DeploymentError):
        await house.control.apps.activate(DEFAULT.app("bad"), 5, "owner")
    assert house.agent.deaths == 4
    house.agent.deadly.clear()
    assert (await house.control.apps.activate(DEFAULT.app("bad"), 5, "owner")).status is AppStatus.ACTIVE


# ---------------------------------------------------------------------------------------------------------------- names


def named(name: str, **names: str) -> wire.AppSpec:
    return msgspec.structs.replace(app(name), **names)


@pytest.mark.parametrize(
    "name",
    [
        *("127.0.0.1", "127.1", "10.0.0.7", "0x7f.1", "2130706433", "127.0.0.1:30080"),
        *("localhost", "LOCALHOST", "localhost.", "flyte.localhost", "hello.flyte.localhost"),
    ],
)
async def test_no_app_is_given_a_name_of_the_front_door(house: House, name: str) -> None:
    with pytest.raises((DeploymentError, InvalidInputError)):
        await deploy(house, named("evil", custom_domain=name))
    assert await house.control.apps.list(DEFAULT) == []


async def test_an_app_with_the_name_of_another_is_refused_and_says_whose_it_is(house: House) -> None:
    assert (await deployed(house, named("one", custom_domain="app.example"))).phase is DeploymentPhase.SUCCEEDED
    for other in (named("two", subdomain="one"), named("two", custom_domain="APP.example")):
        with pytest.raises(DeploymentError, match="the app flytesnacks/development/one has that name"):
            await deploy(house, other)
    assert [each.name for each in await house.control.apps.list(DEFAULT)] == ["one"]


async def test_two_apps_of_one_deployment_do_not_share_a_name(house: House) -> None:
    with pytest.raises(DeploymentError, match="the app flytesnacks/development/one has that name"):
        await deploy(house, app("one"), named("two", subdomain="one"))


async def test_an_app_keeps_its_names_when_it_is_deployed_again(house: House) -> None:
    for version in ("v1", "v2"):
        done = await deployed(house, named("one", custom_domain="app.example", subdomain="sub"), version=version)
        assert done.phase is DeploymentPhase.SUCCEEDED


async def test_of_two_that_take_a_name_at_the_same_time_one_gets_it(house: House) -> None:
    begun = [
        await house.control.deployments.start(
            wire.DeployRequest(
                version="v1", root="/", project=project, apps=[named("one", custom_domain="app.example")]
            ),
            "owner",
        )
        for project in ("flytesnacks", "other")
    ]
    phases = sorted([(await ended(house, each)).phase for each in begun])
    assert phases == [DeploymentPhase.FAILED, DeploymentPhase.SUCCEEDED]


async def test_who_stopped_started_and_deleted_an_app_is_in_its_events(house: House) -> None:
    await deployed(house, app("front"))
    await house.control.apps.deactivate(DEFAULT.app("front"), 5, "ann")
    await house.control.apps.activate(DEFAULT.app("front"), 5, "ben")
    await house.control.apps.delete(DEFAULT.app("front"), "cleo")
    events = await house.store.events("/".join(("app", *DEFAULT, "front")))
    said = [(event.message, event.body["by"]) for event in events if "by" in event.body]
    assert said == [("deactivated", "ann"), ("activated", "ben"), ("deleted", "cleo")]
