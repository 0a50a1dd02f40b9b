"""What becomes of a request: found, cleaned and passed on, or refused in words."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flyte import wire
from tarmac.gateway import runtime_api
from tests.tarmac.gateway_world import APP, World, until, world

OTHER = "flytesnacks/development/other"


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@contextlib.asynccontextmanager
async def serving(gateway: World) -> AsyncIterator[None]:
    """The control plane's API is there, and HAProxy has noticed."""

    async def is_up() -> bool:
        async with runtime_api.session(gateway.home.haproxy_socket) as session:
            return " control 2 0 " in (await session.ask("show servers state control")).replace(" - ", " ")

    await gateway.control.api.start(path=str(gateway.home.api_socket))
    await until(is_up, "HAProxy has seen the control plane")
    try:
        yield
    finally:
        await gateway.control.api.stop()


def message(body: Any) -> str:
    """The message of an error in the API's shape."""
    assert set(body["error"]) >= {"code", "message"}
    text: str = body["error"]["message"]
    return text


# ------------------------------------------------------------------------------------------------------------- routing


async def test_a_request_to_an_apps_port_reaches_its_replica(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    status, seen, _ = await gateway.ask("POST", gateway.url("/some/path?x=1"), data="text")
    assert status == 200
    assert (seen["server"], seen["method"], seen["path"], seen["body"]) == ("one", "POST", "/some/path?x=1", "text")


async def test_the_front_door_finds_an_app_by_host_name_with_any_port_and_in_any_case(gateway: World) -> None:
    await gateway.serve(await gateway.upstream(), hosts=["hello.flyte.localhost", "Example.COM:443"])
    for host in ("hello.flyte.localhost", f"HELLO.flyte.localhost:{gateway.settings.port}", "example.com"):
        status, seen, _ = await gateway.ask("GET", gateway.door(), headers={"host": host})
        assert (status, seen["server"]) == (200, "one")


async def test_an_app_whose_port_cannot_be_had_is_served_by_host_name(gateway: World) -> None:
    outside = gateway.settings.port + 5000
    await gateway.serve(await gateway.upstream(), port=outside)
    status, seen, _ = await gateway.ask("GET", gateway.door(), headers={"host": "hello.flyte.localhost"})
    assert (status, seen["server"]) == (200, "one")
    assert f"port {outside} is outside of the range or in use; {APP} is served by host name only" in gateway.log()


async def test_two_apps_are_kept_apart(gateway: World) -> None:
    await gateway.serve(await gateway.upstream("one"))
    await gateway.serve(await gateway.upstream("two"), app=OTHER, number=1)
    assert (await gateway.get(number=0))[1]["server"] == "one"
    assert (await gateway.get(number=1))[1]["server"] == "two"


async def test_a_port_and_a_host_name_without_an_app_are_answered_404(gateway: World) -> None:
    status, body, _ = await gateway.get(number=3)
    assert (status, body["error"]["code"]) == (404, "AppNotFoundError")
    status, body, _ = await gateway.ask("GET", gateway.door(), headers={"host": 'no"body.flyte.localhost'})
    assert status == 404
    assert message(body).startswith('no app is served at no"body.flyte.localhost')


async def test_a_removed_app_is_gone_from_its_port_and_its_name(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    gateway.control.remove(APP)
    await gateway.until_applied()
    assert (await gateway.get())[0] == 404
    assert (await gateway.ask("GET", gateway.door(), headers={"host": "hello.flyte.localhost"}))[0] == 404


async def test_a_slot_that_changes_hands_serves_the_new_app_alone(gateway: World) -> None:
    await gateway.serve(await gateway.upstream("one"))
    two = await gateway.upstream("two")
    gateway.control.remove(APP)
    await gateway.serve(two, app=OTHER)
    assert {(await gateway.get())[1]["server"] for _ in range(5)} == {"two"}


# ------------------------------------------------------------------------------------------------------------- headers


async def test_what_a_client_says_about_itself_is_not_believed(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    lies = {"x-flyte-caller": "the owner", "X-Flyte-Other": "x"}
    more = {"x-forwarded-for": "8.8.8.8", "x-forwarded-proto": "https", "x-forwarded-host": "elsewhere"}
    _, seen, _ = await gateway.get(headers=lies | more)
    told = {name: value for name, value in seen["headers"].items() if name.startswith("x-flyte-")}
    assert told == {"x-flyte-caller": "anonymous"}
    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert seen["headers"]["x-forwarded-proto"] == "http"
    assert seen["headers"]["x-forwarded-host"] == f"127.0.0.1:{gateway.slot()}"


async def test_host_origin_and_authorization_of_an_open_app_are_left_alone(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    sent = {"host": "hello.localhost:1", "origin": "https://elsewhere.example", "authorization": "Bearer the-users-own"}
    _, seen, _ = await gateway.get(headers=sent)
    assert {name: seen["headers"][name] for name in sent} == sent


async def test_a_request_gets_an_id_unless_it_has_one(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    given = [(await gateway.get())[1]["headers"]["x-request-id"] for _ in range(2)]
    assert given[0] != given[1]
    _, seen, _ = await gateway.get(headers={"x-request-id": "mine"})
    assert seen["headers"]["x-request-id"] == "mine"


# ------------------------------------------------------------------------------------------------------- control plane


async def test_whatever_is_no_apps_goes_to_the_control_plane(gateway: World) -> None:
    async with serving(gateway):
        for path in ("/", "/v1/health", "/v2/domain/development/project/flytesnacks/runs"):
            status, seen, _ = await gateway.ask("GET", gateway.door(path), headers={"x-flyte-caller": "the owner"})
            assert (status, seen["server"], seen["path"]) == (200, "control", path)
            assert "x-flyte-caller" not in seen["headers"]
        sent = {"authorization": "Bearer key", "cookie": "tarmac_session=x"}
        _, seen, _ = await gateway.ask("POST", gateway.door("/v1/runs"), headers=sent)
        assert {name: seen["headers"][name] for name in sent} == sent


async def test_a_request_waits_for_a_control_plane_that_is_being_restarted(gateway: World) -> None:
    waiting = [asyncio.ensure_future(gateway.ask("POST", gateway.door(f"/v1/{n}"), data="body")) for n in range(20)]

    async def all_wait() -> bool:
        return int((await gateway.counters())["door", "FRONTEND"]["scur"]) == 20

    await until(all_wait, "all have come to HAProxy")
    assert not any(request.done() for request in waiting)
    async with serving(gateway):
        answers = await asyncio.gather(*waiting)
    assert {(status, seen["body"]) for status, seen, _ in answers} == {(200, "body")}


async def test_a_control_plane_that_stays_away_is_said_to_be_away(gateway: World) -> None:
    status, body, headers = await gateway.ask("GET", gateway.door("/v1/health"))
    assert (status, headers["retry-after"]) == (503, "1")
    assert message(body) == "the control plane is restarting; try again"


async def test_a_question_is_asked_again_when_the_control_plane_died_over_it(gateway: World) -> None:
    async with serving(gateway):
        asked = asyncio.ensure_future(gateway.ask("GET", gateway.door("/v1/runs?pause=30")))
        posted = asyncio.ensure_future(gateway.ask("POST", gateway.door("/v1/runs?pause=30")))
        await until(lambda: gateway.control.api.requests == 2, "both requests are there")
    status, body, _ = await posted
    assert (status, message(body)) == (502, "the control plane went away before it answered; try again")
    again = gateway.control.api.requests
    async with serving(gateway):
        await until(lambda: gateway.control.api.requests > again, "the question is asked again")
        asked.cancel()


# -------------------------------------------------------------------------------------------------- streams, WebSockets


async def test_an_event_stream_arrives_as_it_is_sent(gateway: World) -> None:
    upstream = await gateway.upstream()
    await gateway.serve(upstream, request_timeout=0.2)
    arrived = 0
    accept = {"accept": "text/event-stream"}
    async with gateway.http.get(gateway.url("/stream?count=3&pause=0.3&turns=1"), headers=accept) as got:
        async for line in got.content:
            if line.startswith(b"data:"):
                arrived += 1
                upstream.turns.release()  # the replica sends nothing more before this one has arrived
    assert arrived == 3


async def test_a_websocket_carries_text_binary_and_close_codes(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    megabyte = bytes(range(256)) * 4096
    async with gateway.http.ws_connect(gateway.url("/ws"), protocols=("chat",), max_msg_size=0) as socket:
        assert socket.protocol == "chat"
        await socket.send_str("hello")
        assert await socket.receive_str() == "one: hello"
        await socket.send_bytes(megabyte)
        assert await socket.receive_bytes() == megabyte
        await socket.send_str("bye")
        assert (await socket.receive()).data == 4001


async def test_an_upload_and_a_download_are_passed_on_whole(gateway: World) -> None:
    await gateway.serve(await gateway.upstream())
    body = "x" * 900_000
    _, seen, _ = await gateway.ask("PUT", gateway.url("/upload"), data=body)
    assert seen["body"] == body


# ------------------------------------------------------------------------------------------------------------- refusals


async def test_a_stopped_app_says_how_to_start_it(gateway: World) -> None:
    await gateway.serve(wanted="stopped")
    status, body, headers = await gateway.get()
    assert (status, headers["retry-after"]) == (503, "60")
    assert message(body) == "the app hello is stopped; `flyte update app hello --activate` starts it"
    assert gateway.control.wakes == []


async def test_an_answer_that_takes_longer_than_the_request_timeout_is_given_up(gateway: World) -> None:
    await gateway.serve(await gateway.upstream(), request_timeout=0.3)
    status, body, _ = await gateway.get("/?pause=5")
    assert status == 504
    assert "did not answer within the request timeout" in message(body)
    assert (await gateway.get("/?pause=0.01"))[0] == 200


async def test_a_route_answers_once_the_gateway_has_said_that_it_is_applied(gateway: World) -> None:
    for number in range(1, 6):
        one = await gateway.upstream(f"u{number}")
        gateway.control.put(gateway.route(one, app=f"{OTHER}{number}", number=number))
        gateway.control.send(wire.Barrier(number=number))
        await until(lambda number=number: number in gateway.control.applied, "it is applied")  # type: ignore[misc]
        status, seen, _ = await gateway.get(number=number)
        assert (status, seen["server"]) == (200, f"u{number}")


async def test_requests_over_an_apps_connection_limit_wait_for_their_turn(gateway: World) -> None:
    one = await gateway.upstream()
    await gateway.serve(one, max_connections=2)
    requests = [asyncio.ensure_future(gateway.get("/?pause=0.4")) for _ in range(4)]
    await until(lambda: one.requests == 2, "two requests are there")
    done, _ = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
    assert done
    assert one.requests < 4
    assert {status for status, _, _ in await asyncio.gather(*requests)} == {200}


# ------------------------------------------------------------------------------------------------------------------ TLS


def certificate(path: Path, serial: int) -> None:
    """A certificate of its own for *.flyte.localhost, with its key, as TARMAC_TLS_CERT wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "flyte.localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(serial).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("*.flyte.localhost")])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(pem) + secret)


async def test_the_front_door_speaks_tls_and_takes_a_renewed_certificate(tmp_path: Path) -> None:
    pem = tmp_path / "cert.pem"
    certificate(pem, 1)
    async with world(tls_cert=str(pem)) as gateway:
        await gateway.serve(await gateway.upstream())
        trusted = ssl.create_default_context(cafile=str(pem))
        url = f"https://127.0.0.1:{gateway.settings.tls_port}/"
        name = "hello.flyte.localhost"
        options: dict[str, Any] = {"headers": {"host": name}, "server_hostname": name}
        status, seen, _ = await gateway.ask("GET", url, ssl=trusted, **options)
        assert (status, seen["headers"]["x-forwarded-proto"]) == (200, "https")

        certificate(pem, 2)
        renewed = ssl.create_default_context(cafile=str(pem))

        async def is_renewed() -> bool:
            try:
                return (await gateway.ask("GET", url, ssl=renewed, **options))[0] == 200
            except aiohttp.ClientConnectorCertificateError:
                return False

        await until(is_renewed, "the new certificate is in use")
