"""From what is wanted to the steps that lead there: every order is safe, and nothing is done that need not be."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from flyte.wire import Route, RouteReplica
from tarmac.gateway.routes import Server, wanted
from tarmac.gateway.shape import HOSTS, KEYS, SLOTS
from tarmac.gateway.steps import (
    AddEntry,
    AddServer,
    CloseServer,
    DropEntry,
    LimitServer,
    MoveServer,
    OpenServer,
    Present,
    SetEntry,
    steps,
    without_backend,
)

DIGEST = hashlib.sha256(b"key").hexdigest()
APP = "p/development/a"


def route(*replicas: str, **given: Any) -> Route:
    """An app on port 30100; a replica is given as `name=host:port`."""
    pairs = (replica.split("=") for replica in replicas)
    values: dict[str, Any] = {"app": APP, "port": 30100, "hosts": ["a.flyte.localhost"], "requires_auth": True, **given}
    return Route(**values, replicas=[RouteReplica(name=name, address=address) for name, address in pairs])


def applied(routes: list[Route], present: Present, keys: dict[str, str] | None = None) -> list[Any]:
    """The steps, after they were taken; nothing may be left to do then."""
    want, refused = wanted(routes, keys or {})
    assert refused == []
    taken = steps(want, present)
    for step in taken:
        step.take(present)
    assert steps(want, present) == []
    return taken


def test_a_new_app_gets_its_replica_before_its_route() -> None:
    present = Present(servers={30100: {}})
    assert applied([route("r1=127.0.0.1:4000")], present, {DIGEST: "ci"}) == [
        AddServer(30100, "r1", "127.0.0.1:4000", 10000),
        OpenServer(30100, "r1"),
        AddEntry(SLOTS, "30100", f"{APP}|guarded|ready|0"),
        AddEntry(HOSTS, "a.flyte.localhost", "30100"),
        AddEntry(KEYS, DIGEST, "ci"),
    ]
    assert present.is_served(APP)


def test_a_new_replica_is_there_before_the_old_one_goes() -> None:
    present = Present(servers={30100: {}})
    applied([route("r1=127.0.0.1:4000")], present)
    assert applied([route("r2=127.0.0.1:4001")], present) == [
        AddServer(30100, "r2", "127.0.0.1:4001", 10000),
        OpenServer(30100, "r2"),
        CloseServer(30100, "r1"),
    ]
    assert list(present.closed()) == [(30100, "r1")]


def test_an_app_that_falls_asleep_holds_requests_before_its_last_replica_goes() -> None:
    present = Present(servers={30100: {}})
    applied([route("r1=127.0.0.1:4000")], present)
    assert applied([route()], present) == [
        SetEntry(SLOTS, "30100", f"{APP}|guarded|asleep|0"),
        CloseServer(30100, "r1"),
    ]
    assert not present.is_served(APP)


def test_a_slot_that_changes_hands_has_no_route_while_its_replicas_are_exchanged() -> None:
    present = Present(servers={30100: {}})
    applied([route("r1=127.0.0.1:4000", requires_auth=False)], present)
    taken = applied([route("r2=127.0.0.1:4001", app="p/development/b", hosts=[])], present)
    assert taken == [
        DropEntry(SLOTS, "30100"),
        DropEntry(HOSTS, "a.flyte.localhost"),
        AddServer(30100, "r2", "127.0.0.1:4001", 10000),
        OpenServer(30100, "r2"),
        CloseServer(30100, "r1"),
        AddEntry(SLOTS, "30100", "p/development/b|guarded|ready|0"),
    ]


def test_a_replica_that_comes_back_is_opened_again_where_it_is_now() -> None:
    present = Present(servers={30100: {"r1": Server("127.0.0.1:4000", None, open=False)}})
    assert applied([route("r1=[::1]:4001", max_connections=5)], present)[:3] == [
        MoveServer(30100, "r1", "[::1]:4001"),
        LimitServer(30100, "r1", 5),
        OpenServer(30100, "r1"),
    ]
    assert MoveServer(30100, "r1", "[::1]:4001").command == "set server p30100/r1 addr ::1 port 4001"


def test_a_removed_app_leaves_nothing_but_its_closed_servers() -> None:
    present = Present(servers={30100: {}})
    applied([route("r1=127.0.0.1:4000")], present, {DIGEST: "ci"})
    applied([], present)
    assert all(entries == {} for entries in present.maps.values())
    assert present.servers == {30100: {"r1": Server("127.0.0.1:4000", 10000, open=False)}}


def test_a_slot_without_a_backend_is_named() -> None:
    want, _ = wanted([route(port=40000)], {})
    assert without_backend(want, Present(servers={30100: {}})) == {40000}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"app": "a;disable frontend x"}, "is not `project/domain/app`"),
        ({"app": "p/d/a\nshow info"}, "is not `project/domain/app`"),
        ({"port": 0}, "is not a port"),
        ({"hosts": ["a b"]}, "is not a valid host name"),
        ({"hosts": ["a;b"]}, "is not a valid host name"),
    ],
)
def test_words_that_haproxy_could_misread_are_refused(given: dict[str, Any], complaint: str) -> None:
    want, refused = wanted([route(**given), route(app="p/d/good", port=30101, hosts=["good"])], {})
    assert [complaint in str(error) for error in refused] == [True]
    assert list(want.slots) == ["30101"]


@pytest.mark.parametrize("seconds", [1e308, float("inf"), float("nan"), -1.0, 2**31 / 1000])
def test_a_timeout_that_haproxy_cannot_have_leaves_out_that_route(seconds: float) -> None:
    want, refused = wanted([route(request_timeout=seconds), route(app="p/d/good", port=30101, hosts=["good"])], {})
    assert [(each.about, "its request_timeout is" in each.why) for each in refused] == [(APP, True)]
    assert list(want.slots) == ["30101"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("", "its name is empty"), ("x" * 20_000, "20,000 bytes"), ("é" * 100, "600 bytes"), ("\ud800", "")],
)
def test_a_key_whose_name_no_header_can_have_is_left_out_alone(name: str, complaint: str) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    want, refused = wanted([route()], {DIGEST: name, other: "good"})
    assert [each.about for each in refused] == [DIGEST]
    assert complaint in refused[0].why
    assert want.maps[KEYS] == {other: "good"}
    assert list(want.slots) == ["30100"]


def test_an_address_is_a_host_and_a_port_and_nothing_else() -> None:
    for bad in ("127.0.0.1", "127.0.0.1:80 disabled", "unix@/x:1", "a:b"):
        assert wanted([route(f"r1={bad}")], {})[1], bad


def test_a_port_and_a_host_name_belong_to_who_came_first() -> None:
    want, refused = wanted([route(), route(app="p/d/b"), route(app="p/d/c", port=30102)], {})
    assert sorted(want.slots) == ["30100", "30102"]
    assert [str(error) for error in refused] == [
        f"p/d/b: port 30100 belongs to {APP}",
        f"p/d/c: the host name a.flyte.localhost belongs to {APP}",
    ]


def test_a_replicas_odd_name_becomes_one_that_haproxy_can_bear() -> None:
    want, _ = wanted([route("r 1;x=127.0.0.1:1", "again=127.0.0.1:2")], {})
    assert len(want.servers[30100]) == 2
    assert all(name.startswith("x-") for name in want.servers[30100])
