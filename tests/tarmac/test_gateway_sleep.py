"""Which apps the gateway calls quiet, and that no request is lost while an app falls asleep."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyte.wire import Parted, Quiet, Route, RouteReplica
from tarmac.gateway import activity, runtime_api
from tarmac.gateway.activity import Activity, Look
from tarmac.gateway.runtime_api import Traffic
from tests.tarmac.gateway_world import APP, Upstream, World, until, world

# --------------------------------------------------------------------------------------------- what is quiet, by facts

ONE = RouteReplica(name="one", address="127.0.0.1:1")


class Watched:
    """An `Activity` with a clock that is turned by hand, and one app that may sleep after ten seconds."""

    def __init__(self) -> None:
        self.now = 100.0
        self.activity = Activity(lambda: self.now)
        self.route = Route(app=APP, port=1, hosts=[], requires_auth=False, replicas=[ONE], scaledown_after=10)

    def after(self, seconds: float, *, open: int = 0, total: int = 5, worker: int = 1, **changed: object) -> bool:
        """Whether the app is called quiet by a look that is taken so much later."""
        self.now += seconds
        route = Route(**{**{f: getattr(self.route, f) for f in Route.__struct_fields__}, **changed})
        return bool(self.activity.see(Look(worker, {1: Traffic(open, total)}), [route]))


@pytest.fixture
def watched() -> Watched:
    made = Watched()
    made.after(0)
    return made


def test_an_app_is_quiet_when_its_counters_stood_still_for_its_time(watched: Watched) -> None:
    assert not watched.after(9.9)
    assert watched.after(0.1)
    assert watched.after(1), "and it is said again for as long as nobody acts on it"


def test_a_request_between_two_looks_starts_the_time_anew(watched: Watched) -> None:
    assert not watched.after(9)
    assert not watched.after(9, total=6)
    assert not watched.after(9, total=6)
    assert watched.after(1, total=6)


def test_what_is_open_keeps_the_app_awake_and_its_end_starts_the_time(watched: Watched) -> None:
    assert not watched.after(1000, open=1)
    assert not watched.after(1)
    assert not watched.after(9)
    assert watched.after(1)


@pytest.mark.parametrize("changed", [{"worker": 2}, {"replicas": [RouteReplica(name="two", address="127.0.0.1:2")]}])
def test_what_is_not_known_counts_as_busy_from_now_on(watched: Watched, changed: dict[str, object]) -> None:
    assert not watched.after(1000, **changed)  # type: ignore[arg-type]
    assert watched.after(10, **changed)  # type: ignore[arg-type]


def test_an_app_that_was_touched_counts_as_busy_until_the_next_look(watched: Watched) -> None:
    watched.activity.touch(APP)
    assert not watched.after(1000)
    watched.activity.forget()
    assert not watched.after(1000)


@pytest.mark.parametrize("changed", [{"scaledown_after": None}, {"replicas": []}])
def test_an_app_that_may_not_sleep_or_does_already_is_never_quiet(watched: Watched, changed: dict[str, object]) -> None:
    assert not watched.after(1000, **changed)  # type: ignore[arg-type]
    assert not watched.after(1000, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(("limits", "pause"), [([300, None], 10), ([300, 20], 2), ([300, 0.1], 1)])
def test_looks_are_as_far_apart_as_the_shortest_time_allows(limits: list[float | None], pause: float) -> None:
    now = 100.0
    watched = Activity(lambda: now)
    routes = [
        Route(app=f"p/d/a{n}", port=n + 1, hosts=[], requires_auth=False, replicas=[ONE], scaledown_after=limit)
        for n, limit in enumerate(limits)
    ]
    assert watched.is_due(routes)
    watched.see(Look(1, {}), routes)
    now += pause - 0.01
    assert not watched.is_due(routes)
    now += 0.01
    assert watched.is_due(routes)
    assert not watched.is_due(routes[1:] if limits[1] is None else [])


# ------------------------------------------------------------------------------------------------- with a real HAProxy


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def quiet(gateway: World, number: int = 1) -> Quiet:
    await until(lambda: len(gateway.control.quiets) >= number, "the app is called quiet")
    return gateway.control.quiets[number - 1]


async def test_an_app_without_requests_is_called_quiet_and_parts_from_its_replicas(gateway: World) -> None:
    one = await gateway.upstream()
    await gateway.serve(one, scaledown_after=0.1)
    assert (await gateway.get())[0] == 200
    assert await quiet(gateway) == Quiet(app=APP, replicas=["one"])
    gateway.control.put(gateway.route(scaledown_after=0.1))
    await until(lambda: gateway.control.parted, "nothing is open any more")
    assert gateway.control.parted == [Parted(app=APP)]
    assert not (await gateway.present()).servers[gateway.slot()]


async def test_an_open_websocket_and_a_stream_keep_an_app_awake_also_across_a_reload(gateway: World) -> None:
    """The counters of the real HAProxy, also those of a worker that was replaced and sees its connections through."""
    one = await gateway.upstream()
    await gateway.serve(one)

    async def opened() -> tuple[int, int]:
        seen = await activity.look(gateway.home.haproxy_socket, gateway.home.haproxy_master_socket)
        return seen.traffic[gateway.slot()].open, seen.worker

    async with gateway.http.ws_connect(gateway.url("/ws")) as socket:
        stream = asyncio.ensure_future(gateway.get("/stream?count=2&pause=0.3"))
        await until(lambda: one.requests == 2, "both have reached the replica")
        count, worker = await opened()
        assert count == 2
        await stream
        assert (await opened())[0] == 1
        await runtime_api.reload(gateway.home.haproxy_master_socket)
        count, now = await opened()
        assert now != worker
        assert count == 1
        await socket.send_str("still there")
        assert await socket.receive_str() == "one: still there"

    async def is_over() -> bool:
        return (await opened())[0] == 0

    await until(is_over, "nothing is open")


async def test_what_is_open_when_an_app_parts_from_its_replicas_is_waited_for(gateway: World) -> None:
    one = await gateway.upstream()
    await gateway.serve(one)
    slow = asyncio.ensure_future(gateway.get("/?pause=1"))
    await until(lambda: one.pausing, "it is open")
    gateway.control.put(gateway.route())
    await gateway.until_applied()
    assert not gateway.control.parted
    assert (await slow)[0] == 200
    await until(lambda: gateway.control.parted, "nothing is open any more")


async def test_replicas_that_are_taken_back_are_not_parted_from(gateway: World) -> None:
    one = await gateway.upstream()
    await gateway.serve(one)
    async with gateway.http.ws_connect(gateway.url("/ws")) as socket:
        gateway.control.put(gateway.route())
        await gateway.until_applied()
        await gateway.serve(one)
        await socket.send_str("hello")
        assert await socket.receive_str() == "one: hello"
    assert (await gateway.get())[0] == 200
    gateway.control.put(gateway.route(wanted="stopped"))
    await until(lambda: gateway.control.parted, "the end of the second time")
    assert len(gateway.control.parted) == 1


class Sleeper:
    """A control plane that sends its app to sleep whenever it is told to, and wakes it when it is asked."""

    def __init__(self, gateway: World) -> None:
        self._gateway = gateway
        self._names = iter(range(10_000))
        self._serving: Upstream | None = None
        self._dozing: Upstream | None = None
        self.slept = self.recalled = 0

    @property
    def is_asleep(self) -> bool:
        return self._serving is None and self._dozing is None

    async def wake(self) -> None:
        if self._dozing is not None:
            self.recalled += 1
            self._serving, self._dozing = self._dozing, None
        elif self._serving is None:
            started = Upstream(f"u{next(self._names)}")
            await started.start()
            self._serving = started
        self._gateway.control.put(self._gateway.route(self._serving))

    def doze(self) -> None:
        if self._serving is not None:
            self._dozing, self._serving = self._serving, None
            self._gateway.control.put(self._gateway.route())

    async def live(self) -> None:
        """Answer the gateway for as long as the test goes on."""
        control = self._gateway.control
        while True:
            if control.wakes:
                control.wakes.clear()
                await self.wake()
            if control.parted:
                control.parted.clear()
                if self._dozing is not None:
                    self.slept += 1
                    ended, self._dozing = self._dozing, None
                    await ended.stop()
            await asyncio.sleep(0)

    async def end(self) -> None:
        for upstream in (self._serving, self._dozing):
            if upstream is not None:
                await upstream.stop()


async def test_no_request_is_lost_that_arrives_while_an_app_falls_asleep(gateway: World) -> None:
    """Hundreds of requests within some turns of the loop of the moment at which the replicas leave the routes."""
    sleeper = Sleeper(gateway)
    await sleeper.wake()
    await gateway.until_applied()
    living = asyncio.ensure_future(sleeper.live())
    chance = random.Random(7)

    async def turns(most: int) -> None:
        for _ in range(chance.randrange(most)):
            await asyncio.sleep(0)

    async def request() -> int:
        await turns(100)
        return (await gateway.ask("POST", gateway.url("/"), data="x" * 1000))[0]

    for round_ in itertools.count():  # until both things have happened often
        if sleeper.slept >= 20 and sleeper.recalled >= 20:
            break
        requests = [asyncio.ensure_future(request()) for _ in range(8)]
        await turns(100)
        sleeper.doze()
        assert set(await asyncio.gather(*requests)) == {200}
        assert not living.done(), living
        if round_ % 3 == 0:  # and now and then for good
            sleeper.doze()
            await until(lambda: sleeper.is_asleep, "it sleeps")
    living.cancel()
    await asyncio.wait([living])
    await sleeper.end()


async def test_without_an_haproxy_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(runtime_api.HAProxyAway):
        await activity.look(tmp_path / "none", tmp_path / "none")
