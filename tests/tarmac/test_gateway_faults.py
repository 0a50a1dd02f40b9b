"""Requests are served while the controller, HAProxy, the control plane or a replica dies, and during reloads."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import pytest

from flyte import wire
from flyte.errors import InitializationError
from tarmac import aside
from tarmac.gateway import folder, runtime_api, shape
from tarmac.gateway.config import BACKENDS_FILE
from tarmac.gateway.runtime_api import HAProxyAway
from tests.tarmac.gateway_world import APP, World, until, world


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@dataclass(slots=True)
class Load:
    """What became of the requests so far."""

    good: int = 0
    bad: list[str] = field(default_factory=list)

    async def more(self, count: int = 200) -> None:
        """Wait for more requests to be served."""
        goal = self.good + count
        await until(lambda: self.good >= goal or self.bad, "requests are served")


@asynccontextmanager
async def load(gateway: World, clients: int = 8) -> AsyncIterator[Load]:
    """Clients that POST all the time, each over a connection of its own, and never try twice."""
    seen = Load()
    ending = asyncio.Event()

    async def client() -> None:
        async with aiohttp.ClientSession() as session:
            while not ending.is_set():
                try:
                    async with session.post(gateway.url(), data=b"x" * 500) as answer:
                        await answer.read()
                        if answer.status == 200:
                            seen.good += 1
                        else:
                            seen.bad.append(f"{answer.status} {await answer.text()}")
                except aiohttp.ClientError as error:
                    seen.bad.append(repr(error))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
        await seen.more()
        try:
            yield seen
            await seen.more()
        finally:
            ending.set()


async def until_reloaded(gateway: World, old: runtime_api.Info) -> None:
    async def is_so() -> bool:
        try:
            return (await gateway.worker()).pid != old.pid
        except HAProxyAway:
            return False

    await until(is_so, f"HAProxy is reloaded; the log:\n{gateway.log()}")


# ------------------------------------------------------------------------------------------------------- the controller


async def test_no_request_fails_when_the_controller_is_killed_and_comes_back(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    before = await gateway.present()
    async with load(gateway) as seen:
        gateway.kill_controller()
        await seen.more()
        gateway.start_controller()
        await until(lambda: len(gateway.control.statuses) > 1, "the new controller is linked")
        await seen.more()
    assert seen.bad == []
    after = await gateway.present()
    assert (after.maps, after.servers) == (before.maps, before.servers)


async def test_a_controller_that_comes_back_applies_what_changed_meanwhile(gateway: World) -> None:
    await gateway.serve(await gateway.upstream("one"))
    gateway.kill_controller()
    gateway.control.routes[APP] = gateway.route(await gateway.upstream("two"))
    gateway.start_controller()
    await gateway.until_applied()
    assert (await gateway.get())[1]["server"] == "two"


async def test_a_ping_is_answered(gateway: World) -> None:
    gateway.control.send(wire.Ping(at=5))
    await until(lambda: gateway.control.pongs == [wire.Pong(at=5)], "the pong is there")


# -------------------------------------------------------------------------------------------------------------- HAProxy


async def test_no_request_and_no_websocket_is_lost_in_a_reload(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    old = await gateway.worker()
    async with gateway.http.ws_connect(gateway.url("/ws")) as opened, load(gateway) as seen:
        gateway.kill_controller()
        gateway.start_controller(hold_timeout=7.0)
        await until_reloaded(gateway, old)
        await seen.more()
        await opened.send_str("still there?")
        assert await opened.receive_str() == "one: still there?"
        assert seen.bad == []
    assert seen.bad == []


async def test_requests_that_an_old_worker_holds_are_served_after_a_reload(gateway: World) -> None:
    await gateway.serve()
    requests = [asyncio.ensure_future(gateway.get()) for _ in range(10)]
    await until(lambda: gateway.control.wakes, "the control plane is asked")
    old = await gateway.worker()
    gateway.kill_controller()
    gateway.start_controller(hold_timeout=7.0)
    await until_reloaded(gateway, old)
    await gateway.serve(await gateway.upstream())
    assert {status for status, _, _ in await asyncio.gather(*requests)} == {200}


async def test_an_haproxy_that_was_restarted_is_filled_again(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    gateway.kill_haproxy()
    folder.remember(gateway.home, folder.Memory())  # so that it comes up with nothing
    gateway.start_haproxy()
    await gateway.until_applied()
    assert (await gateway.get())[0] == 200


async def test_an_haproxy_that_is_restarted_alone_has_its_routes(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    await until(lambda: APP in (gateway.home.gateway / "memory.json").read_text(), "the route is remembered")
    gateway.kill_controller()
    gateway.controller = None
    await gateway.control.stop()
    gateway.kill_haproxy()
    gateway.start_haproxy()
    await gateway.until_applied()
    assert (await gateway.get())[0] == 200


async def test_a_certificate_that_cannot_be_used_leaves_everything_as_it_is(tmp_path: Path) -> None:
    from tests.tarmac.test_gateway_requests import certificate

    pem = tmp_path / "cert.pem"
    certificate(pem, 1)
    async with world(tls_cert=str(pem)) as gateway:
        await gateway.serve(await gateway.upstream())
        old = await gateway.worker()
        pem.write_text("no certificate at all")
        await until(lambda: gateway.control.statuses[-1].message, "the control plane is told")
        assert "HAProxy keeps its old configuration" in gateway.control.statuses[-1].message
        assert await gateway.worker() == old
        await gateway.serve(await gateway.upstream("two"))
        assert (await gateway.get())[1]["server"] == "two"
        certificate(pem, 2)
        await until_reloaded(gateway, old)
        await until(lambda: gateway.control.statuses[-1].message == "", "the trouble is over")


async def test_a_configuration_that_cannot_be_written_leaves_everything_as_it_is(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    old = await gateway.worker()
    gateway.kill_controller()
    backends = gateway.home.gateway / BACKENDS_FILE
    backends.unlink()
    backends.mkdir()  # stands for a full disk: root may write everywhere
    gateway.start_controller(hold_timeout=7.0)
    await until(lambda: gateway.control.statuses[-1].message, "the control plane is told")
    assert BACKENDS_FILE in gateway.control.statuses[-1].message
    await gateway.serve(await gateway.upstream("two"))
    assert (await gateway.get())[1]["server"] == "two"
    assert await gateway.worker() == old
    assert gateway.controller is not None
    assert gateway.controller.poll() is None


# ---------------------------------------------------------------------------------------------------- the control plane


async def test_apps_are_served_while_the_control_plane_is_away(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    async with load(gateway) as seen:
        await gateway.control.stop()
        await seen.more()
        await gateway.control.start()
        await until(lambda: gateway.control.linked, "the controller is back on the link")
    assert seen.bad == []


async def test_a_controller_without_a_control_plane_goes_on_by_its_memory(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    await until(lambda: APP in (gateway.home.gateway / "memory.json").read_text(), "the route is remembered")
    await gateway.control.stop()
    gateway.kill_controller()
    gateway.home.wake_socket.unlink()
    gateway.start_controller()
    await until(gateway.home.wake_socket.exists, "the controller is there")
    gateway.kill_haproxy()
    folder.remember(gateway.home, folder.Memory())  # so that HAProxy comes up with nothing
    gateway.start_haproxy()
    await gateway.until_applied()
    assert (await gateway.get())[0] == 200


async def test_replicas_of_an_earlier_platform_are_not_believed(gateway: World) -> None:
    one = await gateway.upstream()
    await gateway.serve(one)
    await until(lambda: APP in (gateway.home.gateway / "memory.json").read_text(), "the route is remembered")
    memory = folder.remembered(gateway.home)
    assert memory is not None
    gateway.kill_controller()
    gateway.controller = None
    gateway.kill_haproxy()
    folder.remember(gateway.home, folder.Memory(memory.life + "1", memory.routes, memory.keys))
    gateway.start_haproxy()
    await until(lambda: answers(gateway.settings.port), "HAProxy listens")
    await until(gateway.listens, "HAProxy's runtime API answers")
    present = await gateway.present()
    assert present.slots[str(gateway.slot())] == f"{APP}|open|asleep|0"
    assert not any(present.servers.values())


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------- replicas


async def test_requests_go_to_the_other_replica_when_one_dies(gateway: World) -> None:
    one, two = await gateway.upstream("one"), await gateway.upstream("two")
    await gateway.serve(one, two)
    await one.stop()
    answers = await asyncio.gather(*(gateway.ask("POST", gateway.url()) for _ in range(10)))
    assert {(status, seen["server"]) for status, seen, _ in answers} == {(200, "two")}


async def test_a_request_whose_only_replica_died_waits_for_the_next(gateway: World) -> None:
    one = await gateway.upstream("one")
    await gateway.serve(one)
    await one.stop()
    requests = [asyncio.ensure_future(gateway.ask("POST", gateway.url(), data="body")) for _ in range(5)]

    async def are_refused() -> bool:
        counted = (await gateway.counters())[f"p{gateway.slot()}", "BACKEND"]
        return int(counted["scur"]) == 5 and int(counted["wretr"]) >= 5

    await until(are_refused, "all connections are refused; nobody has noticed but HAProxy")
    gateway.control.put(gateway.route())
    await until(lambda: gateway.control.wakes, "the control plane is asked")
    await gateway.serve(await gateway.upstream("two"))
    answers = await asyncio.gather(*requests)
    assert {(status, seen["server"], seen["body"]) for status, seen, _ in answers} == {(200, "two", "body")}


async def test_a_request_that_a_dying_replica_had_begun_is_not_repeated(gateway: World) -> None:
    one, two = await gateway.upstream("one"), await gateway.upstream("two")
    await gateway.serve(one)
    request = asyncio.ensure_future(gateway.get("/?pause=20"))
    await until(lambda: one.requests == 1, "the request is there")
    await gateway.serve(one, two)
    await one.stop()
    status, body, _ = await request
    assert status == 502
    assert "ended the connection before it answered" in body["error"]["message"]
    assert two.requests == 0


async def test_a_new_version_takes_over_and_what_was_open_goes_on(gateway: World) -> None:
    one, two = await gateway.upstream("one"), await gateway.upstream("two")
    await gateway.serve(one)
    async with gateway.http.ws_connect(gateway.url("/ws")) as opened, load(gateway) as seen:
        slow = asyncio.ensure_future(gateway.get("/?pause=1"))
        await until(lambda: one.pausing, "the slow request is under way")
        await gateway.serve(two)
        assert (await gateway.get())[1]["server"] == "two"
        assert (await slow)[1]["server"] == "one"
        await opened.send_str("still there?")
        assert await opened.receive_str() == "one: still there?"
        assert "one" in (await gateway.present()).servers[gateway.slot()]
    assert seen.bad == []
    assert one.cut_off == 0

    async def is_deleted() -> bool:
        return set((await gateway.present()).servers[gateway.slot()]) == {"two"}

    await one.stop()
    await until(is_deleted, "the old replica is deleted when its last connection has ended")


async def test_a_replica_that_comes_back_while_it_is_drained_is_used_again(gateway: World) -> None:
    one, two = await gateway.upstream("one"), await gateway.upstream("two")
    await gateway.serve(one)
    async with gateway.http.ws_connect(gateway.url("/ws")):
        await gateway.serve(two)
        await gateway.serve(one)
        assert (await gateway.get())[1]["server"] == "one"


async def test_one_route_that_haproxy_refuses_does_not_hold_up_the_others(gateway: World) -> None:
    unknown = wire.RouteReplica(name="r-far", address="no-such-host.invalid:80")
    bad = gateway.route(app="flytesnacks/development/far", number=1)
    gateway.control.put(msgspec.structs.replace(bad, replicas=[unknown]))
    gateway.control.put(msgspec.structs.replace(bad, app="a;b", port=gateway.slot(2)))
    gateway.control.put(gateway.route(await gateway.upstream()))

    async def is_served() -> bool:
        return (await gateway.get())[0] == 200

    await until(is_served, "the good app is served")
    assert "'a;b' is not `project/domain/app`" in gateway.log()


@pytest.mark.parametrize("name", ["", "x" * 20_000, "é" * 6000])
async def test_a_key_that_haproxy_cannot_have_holds_up_no_other_and_is_told_of(gateway: World, name: str) -> None:
    bad, late = (hashlib.sha256(key).hexdigest() for key in (b"bad", b"late"))
    await gateway.serve(await gateway.upstream(), requires_auth=True)
    gateway.control.keys[bad] = name
    gateway.control.send(wire.Keys(keys=gateway.control.keys))
    await until(lambda: bad in gateway.control.statuses[-1].left_out, "the control plane is told")
    [told] = aside.read(gateway.home)
    assert told.what == "an API key"
    gateway.control.keys[late] = "late"
    gateway.control.send(wire.Keys(keys=gateway.control.keys))
    await gateway.barrier()
    assert (await gateway.get(headers={"Authorization": "Bearer late"}))[0] == 200
    assert (await gateway.get(headers={"Authorization": "Bearer bad"}))[0] == 401
    gateway.kill_controller()  # neither it nor HAProxy trips over what is remembered
    gateway.kill_haproxy()
    gateway.start_haproxy()
    gateway.start_controller()
    await until(lambda: len(gateway.control.hellos) == 2, "the controller is back")
    await gateway.barrier()
    assert (await gateway.get(headers={"Authorization": "Bearer late"}))[0] == 200


async def test_a_key_that_haproxy_has_without_a_name_ends_no_controller(gateway: World) -> None:
    digest = hashlib.sha256(b"bad").hexdigest()
    async with runtime_api.session(gateway.home.haproxy_socket) as session:
        await session.ask(f"add map {shape.KEYS} {digest} ")
    gateway.kill_controller()
    gateway.start_controller()
    await until(lambda: len(gateway.control.hellos) == 2, "the controller is back")
    await gateway.barrier()


async def test_an_error_that_nobody_foresaw_is_no_end_of_the_comparisons(gateway: World) -> None:
    gateway.control.put(gateway.route(app="flytesnacks/development/far", number=1, request_timeout=1e308))
    await gateway.serve(await gateway.upstream())
    assert (await gateway.get())[0] == 200
    assert "its request_timeout is 1e+308 s" in gateway.control.statuses[-1].left_out["flytesnacks/development/far"]


# ---------------------------------------------------------------------------------------------------------------- ports


async def test_ports_that_others_hold_are_reported_and_the_rest_is_used() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with world(app_ports=f"{port}-{port + 3}") as gateway:
            assert port in gateway.control.statuses[-1].unusable_ports
            usable = next(n for n in range(1, 4) if port + n not in gateway.control.statuses[-1].unusable_ports)
            await gateway.serve(await gateway.upstream("two"), app="flytesnacks/development/other", number=usable)
            await gateway.serve(await gateway.upstream("one"))
            assert (await gateway.get(number=usable))[1]["server"] == "two"
            _, seen, _ = await gateway.ask("GET", gateway.door(), headers={"host": "hello.flyte.localhost"})
            assert seen["server"] == "one"


async def test_a_front_door_that_is_taken_is_said_to_be_taken(gateway: World) -> None:
    with pytest.raises(InitializationError, match=f"port {gateway.settings.port} of 127.0.0.1 is in use"):
        folder.prepare(gateway.home, gateway.settings, "a-life")


async def test_a_second_gateway_does_not_share_a_port_with_the_first(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    async with world(app_ports=gateway.settings.app_ports) as second:
        status = second.control.statuses[-1]
        assert set(status.unusable_ports) == set(gateway.settings.port_range())
        assert (await gateway.get())[0] == 200


async def test_a_client_that_stops_waiting_for_the_control_plane_leaves_no_word_in_the_log(gateway: World) -> None:
    async def held() -> int:
        async with runtime_api.session(gateway.home.haproxy_socket) as session:
            sessions = (await session.ask("show sess")).splitlines()
        return sum("fe=waiting" in line for line in sessions)

    async def all_held() -> bool:
        return await held() == 4

    async def none_held() -> bool:
        return await held() == 0

    writers = []
    for _ in range(4):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.settings.port)
        writer.write(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        writers.append(writer)
    await until(all_held, "they wait")
    for number, writer in enumerate(writers):
        writer.transport.abort() if number % 2 else writer.close()
    await until(none_held, "nobody waits any more")
    assert "yield not allowed" not in gateway.log()
