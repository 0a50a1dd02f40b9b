"""Who may call an app: keys, identities and sessions, checked by HAProxy itself."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from flyte import wire
from tarmac.auth import Identities
from tarmac.gateway import folder
from tests.tarmac.gateway_world import KEY, World, until, world


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    """A gateway with the app `hello`, which is guarded."""
    async with world() as made:
        await made.serve(await made.upstream(), requires_auth=True)
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def basic(password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()}


async def test_a_guarded_app_refuses_who_brings_no_key_and_says_how_to_get_one(gateway: World) -> None:
    status, body, headers = await gateway.get()
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert body["error"]["code"] == "NotAuthenticatedError"
    assert "the app hello wants a key" in body["error"]["message"]
    assert "flyte create api-key" in body["error"]["message"]


async def test_a_websocket_handshake_without_a_key_is_refused_and_with_one_is_served(gateway: World) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await gateway.http.ws_connect(gateway.url("/ws"))
    assert refused.value.status == 401
    assert refused.value.headers is not None
    assert refused.value.headers["www-authenticate"] == "Bearer"
    async with gateway.http.ws_connect(gateway.url("/ws"), headers=bearer(KEY)) as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "one: hello"


async def test_a_key_opens_the_app_which_sees_the_caller_and_not_the_key(gateway: World) -> None:
    for headers in (bearer(KEY), basic(KEY)):
        status, seen, _ = await gateway.get(headers={**headers, "x-flyte-caller": "the owner"})
        assert status == 200
        assert seen["headers"]["x-flyte-caller"] == "key/tests"
        assert "authorization" not in seen["headers"]


async def test_a_key_in_the_url_opens_the_app(gateway: World) -> None:
    status, seen, _ = await gateway.ask("GET", gateway.url().replace("http://", f"http://x:{KEY}@"))
    assert (status, seen["headers"]["x-flyte-caller"]) == (200, "key/tests")


async def test_a_workloads_identity_opens_the_app(gateway: World) -> None:
    for headers in (bearer(gateway.token("r-42")), basic(gateway.token("r-42"))):
        status, seen, _ = await gateway.get(headers=headers)
        assert (status, seen["headers"]["x-flyte-caller"]) == (200, "r-42")
        assert "authorization" not in seen["headers"]


async def test_identities_that_are_late_forged_or_of_somebody_else_are_refused(gateway: World) -> None:
    good = gateway.token()
    head, body, signature = good.split(".")
    nobody = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    claims = json.dumps({"sub": "owner", "iss": "tarmac", "exp": 9e9}).encode()
    changed = base64.urlsafe_b64encode(claims).decode().rstrip("=")
    bad = {
        "late": gateway.token(seconds=-5),
        "without an end": gateway.token(exp=None),
        "of another platform": gateway.token(key="0" * 64),
        "of another issuer": gateway.token(iss="elsewhere"),
        "unsigned": f"{nobody}.{body}.",
        "changed": f"{head}.{changed}.{signature}",
        "cut short": good[:-10],
        "no token at all": "tk_unknown",
        "empty": "",
    }
    for what, token in bad.items():
        status, _, _ = await gateway.get(headers=bearer(token))
        assert status == 401, what


async def test_a_browsers_session_opens_the_app_which_does_not_see_the_cookie(gateway: World) -> None:
    session = gateway.session()
    cookies = f"a=1; tarmac_session={session}; b=2"
    status, seen, _ = await gateway.get(headers={"cookie": cookies, "authorization": "Bearer of-the-app-itself"})
    assert (status, seen["headers"]["x-flyte-caller"]) == (200, "key/tests")
    assert seen["headers"]["cookie"] == "a=1; b=2"
    assert seen["headers"]["authorization"] == "Bearer of-the-app-itself"
    bad = {
        "late": gateway.session(seconds=-5),
        "of a key that is not known": gateway.session(key="ak_unknown"),
        "of another issuer": gateway.session(iss="elsewhere"),
        "not a session": gateway.token(),
    }
    for what, cookie in bad.items():
        assert (await gateway.get(headers={"cookie": f"tarmac_session={cookie}"}))[0] == 401, what
    assert (await gateway.get(headers={"cookie": f"xtarmac_session={session}"}))[0] == 401


async def test_a_session_is_not_a_key(gateway: World) -> None:
    for headers in (bearer(gateway.session()), basic(gateway.session())):
        assert (await gateway.get(headers=headers))[0] == 401


async def test_a_session_ends_when_its_key_is_withdrawn_and_when_it_is_signed_out(gateway: World) -> None:
    cookie, other = ({"cookie": f"tarmac_session={gateway.session(sid=sid)}"} for sid in ("s1", "s2"))
    status, seen, _ = await gateway.get(headers=cookie)
    assert (status, seen["headers"]["x-flyte-caller"]) == (200, "key/tests")
    gateway.control.ended = ["s1", "no; such\nsession"]
    gateway.control.send(wire.Keys(keys=gateway.control.keys, ended=gateway.control.ended))
    await gateway.until_applied()
    assert [(await gateway.get(headers=headers))[0] for headers in (cookie, other)] == [401, 200]
    gateway.control.keys = {}
    gateway.control.send(wire.Keys(keys={}, ended=gateway.control.ended))
    await gateway.until_applied()
    assert (await gateway.get(headers=other))[0] == 401


async def test_who_signed_out_is_remembered_for_a_gateway_that_is_restarted_alone(gateway: World) -> None:
    gateway.control.ended = ["s1"]
    gateway.control.send(wire.Keys(keys=gateway.control.keys, ended=["s1"]))
    await gateway.until_applied()
    await until(lambda: (found := folder.remembered(gateway.home)) and found.ended == ["s1"], "it is remembered")


async def test_the_control_plane_hears_who_called_apps(gateway: World) -> None:
    assert (await gateway.get(headers=bearer(KEY)))[0] == 200
    await until(lambda: "key/tests" in gateway.control.keys_used, "the caller is reported")


async def test_a_token_that_the_platform_minted_opens_the_app(gateway: World) -> None:
    token = Identities(gateway.home.master_key()).mint("r-7", "workload", "flytesnacks", "development", 60)
    status, seen, _ = await gateway.get(headers=bearer(token))
    assert (status, seen["headers"]["x-flyte-caller"]) == (200, "r-7")


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("tarmac_session=s", None),
        ("tarmac_session=s; b=2", "b=2"),
        ("a=1;tarmac_session=s", "a=1;"),
        ("tarmac_session=s; b=2; tarmac_session=t", "b=2; "),
        ("xtarmac_session=s; b=tarmac_session", "xtarmac_session=s; b=tarmac_session"),
    ],
)
async def test_an_open_app_is_never_handed_the_consoles_session(sent: str, seen: str | None) -> None:
    async with world() as gateway:
        await gateway.serve(await gateway.upstream())
        _, body, _ = await gateway.get(headers={"cookie": sent})
        assert body["headers"].get("cookie", "").strip() == (seen or "").strip()


async def test_keys_are_taken_and_withdrawn_while_the_gateway_runs(gateway: World) -> None:
    new = hashlib.sha256(b"tk_new").hexdigest()
    assert (await gateway.get(headers=bearer("tk_new")))[0] == 401
    gateway.control.keys = {new: "key/with a; strange\nname"}
    gateway.control.send(wire.Keys(keys=gateway.control.keys))
    await gateway.until_applied()
    status, seen, _ = await gateway.get(headers=bearer("tk_new"))
    assert (status, seen["headers"]["x-flyte-caller"]) == (200, "key/with%20a%3B%20strange%0Aname")
    assert (await gateway.get(headers=bearer(KEY)))[0] == 401


async def test_nobody_without_a_key_wakes_or_probes_a_guarded_app(gateway: World) -> None:
    await gateway.serve(requires_auth=True)
    assert (await gateway.get())[0] == 401
    await gateway.serve(requires_auth=True, wanted="stopped")
    assert (await gateway.get())[0] == 401
    assert gateway.control.wakes == []


async def test_an_app_that_becomes_guarded_is_guarded_at_once(gateway: World) -> None:
    one = await gateway.upstream()
    await gateway.serve(one, requires_auth=False)
    assert (await gateway.get())[0] == 200
    await gateway.serve(one, requires_auth=True)
    assert (await gateway.get())[0] == 401
