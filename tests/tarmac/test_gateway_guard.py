"""What a client cannot pretend, cannot take from others, and cannot do without a key; checked by HAProxy itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import psutil
import pytest

from tests.tarmac.gateway_world import KEY, World, until, world


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    """A gateway with the app `hello`, which is guarded, and the app `open`, which is not."""
    async with world() as made:
        await made.serve(await made.upstream(), requires_auth=True)
        await made.serve(await made.upstream("two"), app="flytesnacks/development/open", number=1)
        yield made


async def raw(port: int, sent: bytes) -> bytes:
    """What comes back until the other end closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


# -------------------------------------------------------------------------------- who the caller is said to be


async def test_no_client_says_itself_who_it_is(gateway: World) -> None:
    for name in ("X-Flyte-Caller", "X_Flyte_Caller", "x-FLYTE_caller", "X-Flyte-Other", "X_Flyte-Again"):
        answer = await raw(gateway.slot(1), _get(f"Connection: close\r\n{name}: owner\r\n{name}: owner\r\n"))
        assert b"200 OK" in answer, name
        assert b'"x-flyte-caller": "anonymous"' in answer, name
        assert b"owner" not in answer, name


async def test_an_open_app_is_told_that_the_caller_is_anonymous_also_of_one_with_a_key(gateway: World) -> None:
    _, seen, _ = await gateway.get(number=1, headers={"authorization": f"Bearer {KEY}"})
    assert seen["headers"]["x-flyte-caller"] == "anonymous"


# -------------------------------------------------------------------------------- pages of other origins


def page(gateway: World, **headers: str) -> dict[str, str]:
    """The headers of a request that a browser makes whose user is signed in."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"cookie": f"tarmac_session={gateway.session()}", **named}


def own(gateway: World) -> str:
    return f"http://127.0.0.1:{gateway.slot()}"


OPENED = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}


COUNTS: list[tuple[str, dict[str, str]]] = [
    ("GET", {"sec_fetch_site": "same-origin"}),
    ("POST", {"sec_fetch_site": "same-origin", "origin": "OWN"}),
    ("GET", {"sec_fetch_site": "none", **OPENED}),
    ("GET", {"sec_fetch_site": "same-site", **OPENED}),
    ("GET", {"sec_fetch_site": "cross-site", **OPENED}),
    ("POST", {"origin": "OWN"}),
    ("GET", {}),
]


async def test_the_session_counts_where_the_apps_own_page_asks_or_a_person_opens_it(gateway: World) -> None:
    for method, headers in COUNTS:
        sent = {name: own(gateway) if value == "OWN" else value for name, value in headers.items()}
        status, seen, _ = await gateway.ask(method, gateway.url(), headers=page(gateway, **sent))
        assert status == 200, (method, headers)
        assert seen["headers"]["x-flyte-caller"] == "key/tests"


DOES_NOT_COUNT: list[tuple[str, dict[str, str]]] = [
    ("GET", {"sec_fetch_site": "same-site"}),
    ("GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}),
    ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"}),
    ("POST", {"sec_fetch_site": "same-site", **OPENED}),
    ("POST", {"sec_fetch_site": "same-site", "origin": "OWN"}),
    ("POST", {"origin": "http://127.0.0.1:1"}),
    ("GET", {"origin": "http://127.0.0.1:1"}),
    ("GET", {"origin": "null"}),
    ("POST", {}),
    ("DELETE", {}),
]


async def test_the_session_does_not_count_where_another_origin_asks(gateway: World) -> None:
    for method, headers in DOES_NOT_COUNT:
        sent = {name: own(gateway) if value == "OWN" else value for name, value in headers.items()}
        status, _, _ = await gateway.ask(method, gateway.url(), headers=page(gateway, **sent))
        assert status == 401, (method, headers)


async def test_a_websocket_is_opened_with_the_session_from_the_apps_own_page_alone(gateway: World) -> None:
    async with gateway.http.ws_connect(gateway.url("/ws"), headers=page(gateway), origin=own(gateway)) as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "one: hello"
    for origin in ("http://127.0.0.1:1", "null", None):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await gateway.http.ws_connect(gateway.url("/ws"), headers=page(gateway), origin=origin)
        assert refused.value.status == 401


# -------------------------------------------------------------------------------- preflights


PREFLIGHT = {
    "origin": "http://site.example",
    "access-control-request-method": "GET",
    "access-control-request-headers": "authorization",
}


async def test_the_app_answers_the_preflight_which_never_carries_a_key(gateway: World) -> None:
    status, seen, _ = await gateway.ask("OPTIONS", gateway.url("/x"), headers=PREFLIGHT)
    assert (status, seen["method"], seen["headers"]["x-flyte-caller"]) == (200, "OPTIONS", "anonymous")


async def test_what_is_not_a_preflight_still_needs_a_key(gateway: World) -> None:
    for name in ("origin", "access-control-request-method"):
        less = {other: value for other, value in PREFLIGHT.items() if other != name}
        assert (await gateway.ask("OPTIONS", gateway.url(), headers=less))[0] == 401
    assert (await gateway.ask("GET", gateway.url(), headers=PREFLIGHT))[0] == 401


async def test_a_preflight_does_not_wake_an_app_and_lets_the_request_with_the_key_do_it(gateway: World) -> None:
    await gateway.serve(requires_auth=True)
    status, _, headers = await gateway.ask("OPTIONS", gateway.url(), headers=PREFLIGHT)
    assert status == 204
    assert headers["access-control-allow-origin"] == "http://site.example"
    assert headers["access-control-allow-headers"] == "authorization"
    assert "access-control-allow-credentials" not in headers
    assert gateway.control.wakes == []


# -------------------------------------------------------------------------------- a person at a guarded app


PERSON = {
    "accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "sec-fetch-site": "none",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
}


async def test_a_person_who_opens_a_guarded_app_is_sent_to_the_sign_in_page(gateway: World) -> None:
    status, _, headers = await gateway.get("/a page?x=1&y=2", headers=PERSON, allow_redirects=False)
    assert status == 303
    port, slot = gateway.settings.port, gateway.slot()
    assert headers["location"] == f"http://127.0.0.1:{port}/login?app={slot}&next=%2Fa%2520page%3Fx%3D1%26y%3D2"


async def test_under_its_name_on_the_front_door_too(gateway: World) -> None:
    by_name = {**PERSON, "host": "hello.flyte.localhost"}
    status, _, headers = await gateway.ask("GET", gateway.door("/p"), headers=by_name, allow_redirects=False)
    assert status == 303
    port, slot = gateway.settings.port, gateway.slot()
    assert headers["location"] == f"http://flyte.localhost:{port}/login?app={slot}&next=%2Fp"


async def test_everybody_else_gets_the_refusal_as_json(gateway: World) -> None:
    for changed in ({"accept": "application/json"}, {"sec-fetch-mode": "cors"}, {"sec-fetch-dest": "iframe"}):
        status, body, _ = await gateway.get(headers=PERSON | changed, allow_redirects=False)
        assert (status, body["error"]["code"]) == (401, "NotAuthenticatedError"), changed


# -------------------------------------------------------------------------------- names


async def test_an_apps_port_answers_to_addresses_and_to_our_names(gateway: World) -> None:
    for host in ("localhost", "app.localhost", "127.0.0.1", "[::1]", "10.0.0.7", "hello.flyte.localhost"):
        assert (await gateway.get(number=1, headers={"host": f"{host}:{gateway.slot(1)}"}))[0] == 200, host


async def test_an_apps_port_does_not_answer_to_a_strangers_name(gateway: World) -> None:
    """A page that had its own name point at this machine would be one origin with the app."""
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost", "1e100"):
        status, body, _ = await gateway.get(number=1, headers={"host": f"{host}:{gateway.slot(1)}"})
        assert (status, body["error"]["code"]) == (421, "NotAllowedError"), host
        assert "TARMAC_APP_HOSTS" in body["error"]["message"]


@pytest.mark.parametrize(("setting", "answers"), [("mybox, mybox.lan", True), ("*", True), ("otherbox", False)])
async def test_the_setting_names_further_hosts(setting: str, answers: bool) -> None:
    async with world(app_hosts=setting) as gateway:
        await gateway.serve(await gateway.upstream())
        status, _, _ = await gateway.get(headers={"host": "MyBox.lan"})
        assert (status == 200) is answers


async def test_no_app_is_found_under_the_front_doors_own_names(gateway: World) -> None:
    """Also if the control plane should ever say so."""
    await gateway.control.api.start(path=str(gateway.home.api_socket))
    evil = await gateway.upstream("evil")
    await gateway.serve(evil, app="p/d/evil", number=2, hosts=["127.0.0.1", "localhost", "flyte.localhost"])
    for host in ("127.0.0.1", "localhost", "flyte.localhost", "LOCALHOST", "[::1]"):
        status, seen, _ = await gateway.ask("GET", gateway.door("/v1/me"), headers={"host": host})
        assert (status, seen["server"]) == (200, "control"), host


# -------------------------------------------------------------------------------- a proxy in front


FORWARDED = {
    "x-forwarded-for": "1.1.1.1, 203.0.113.5",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "hooks.example.org",
    "host": "hooks.example.org",
}


async def test_what_a_trusted_proxy_says_of_the_client_is_believed() -> None:
    async with world(trusted_proxies="127.0.0.0/8") as gateway:
        await gateway.serve(await gateway.upstream())
        status, seen, _ = await gateway.get(headers=FORWARDED)
        told = {name: value for name, value in seen["headers"].items() if name.startswith("x-forwarded-")}
        assert status == 200
        assert told == {
            "x-forwarded-for": "203.0.113.5",
            "x-forwarded-proto": "https",
            "x-forwarded-host": "hooks.example.org",
        }
        await until(lambda: gateway.access_entries(), "it is logged")
        assert gateway.access_entries()[-1]["client"] == "203.0.113.5"


async def test_what_anybody_else_says_of_the_client_is_not(gateway: World) -> None:
    _, seen, _ = await gateway.get(number=1, headers=FORWARDED | {"host": f"127.0.0.1:{gateway.slot(1)}"})
    told = {name: value for name, value in seen["headers"].items() if name.startswith("x-forwarded-")}
    assert told == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": f"127.0.0.1:{gateway.slot(1)}",
    }


async def test_without_the_headers_a_trusted_proxy_is_the_client() -> None:
    async with world(trusted_proxies="127.0.0.1") as gateway:
        await gateway.serve(await gateway.upstream())
        _, seen, _ = await gateway.get()
        assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
        assert seen["headers"]["x-forwarded-proto"] == "http"


# -------------------------------------------------------------------------------- sizes


async def test_long_heads_pass_and_longer_ones_are_refused(gateway: World) -> None:
    long = {f"x-part-{number}": "x" * 7000 for number in range(4)}
    status, seen, _ = await gateway.get(number=1, headers=long)
    assert (status, len(seen["headers"]["x-part-3"])) == (200, 7000)
    many = "".join(f"H{number}: v\r\n" for number in range(115))
    assert b"200 OK" in await raw(gateway.slot(1), _get(f"Connection: close\r\n{many}"))
    for head in (f"Cookie: {'x' * 40_000}\r\n", "".join(f"H{number}: v\r\n" for number in range(500))):
        assert (await raw(gateway.slot(1), _get(head))).startswith(b"HTTP/1.1 400 ")


def _get(headers: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode()


async def test_the_sign_in_form_is_small(gateway: World) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for data in (b"a=1&" * 24_000_000, _chunks(b"a=1&" * 5000)):
        status, body, _ = await _posted(gateway, data, form)
        assert (status, body["error"]["code"]) == (413, "TooLargeError")


async def _posted(gateway: World, data: Any, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
    """The answer to a POST to /login that says it all at once, though the body is not sent to its end."""
    if isinstance(data, bytes):
        head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        answer = await raw(gateway.settings.port, head + data[:1000])
        status, _, body = answer.partition(b"\r\n\r\n")
        return int(status.split()[1]), json.loads(body), {}
    return await gateway.ask("POST", gateway.door("/login"), data=data, headers=headers)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 5000):
        yield data[start : start + 5000]


# -------------------------------------------------------------------------------- many connections


async def half_sent(port: int, path: str = "/login") -> asyncio.StreamWriter:
    """A request whose body never comes."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nx".encode())
    return writer


async def test_half_sent_sign_ins_leave_the_front_door_and_the_apps_answering() -> None:
    async with world(connections=400) as gateway:
        await gateway.serve(await gateway.upstream())
        await gateway.control.api.start(path=str(gateway.home.api_socket))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(600):
                stack.callback((await half_sent(gateway.settings.port)).close)
            assert (await gateway.get())[0] == 200
            status, seen, _ = await gateway.ask("GET", gateway.door("/v1/health"))
            assert (status, seen["server"]) == (200, "control")


async def test_an_app_whose_clients_take_all_they_can_leaves_the_front_door_answering() -> None:
    async with world(connections=400) as gateway:
        await gateway.serve(await gateway.upstream())
        await gateway.control.api.start(path=str(gateway.home.api_socket))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(300):
                stack.callback((await half_sent(gateway.slot(), "/")).close)
            status, seen, _ = await gateway.ask("GET", gateway.door("/v1/health"))
            assert (status, seen["server"]) == (200, "control")


def other_address() -> str:
    """An address of this machine that is not loopback: to HAProxy, another machine's."""
    found = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == socket.AF_INET
    ]
    others = [address for address in found if not address.startswith("127.")]
    if not others:
        pytest.skip("this machine has no address but loopback")
    return others[0]


async def is_taken(stack: contextlib.AsyncExitStack, port: int, source: str) -> bool:
    """Whether one more connection from `source` is answered. It stays open."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        stack.callback(writer.close)
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return bool(await asyncio.wait_for(reader.readline(), 10))
    except ConnectionError:
        return False


async def test_one_address_of_another_machine_cannot_take_all_connections_of_the_apps() -> None:
    other = other_address()
    async with world(connections_per_address=5) as gateway:
        await gateway.serve(await gateway.upstream())
        async with contextlib.AsyncExitStack() as stack:
            taken = [await is_taken(stack, gateway.slot(), other) for _ in range(9)]
            assert taken == [True] * 5 + [False] * 4
            assert [await is_taken(stack, gateway.slot(), "127.0.0.1") for _ in range(9)] == [True] * 9


async def test_a_trusted_proxy_has_no_limit_for_one_address() -> None:
    """All its clients have its address."""
    other = other_address()
    async with world(connections_per_address=5, trusted_proxies=other) as gateway:
        await gateway.serve(await gateway.upstream())
        async with contextlib.AsyncExitStack() as stack:
            assert [await is_taken(stack, gateway.slot(), other) for _ in range(9)] == [True] * 9
