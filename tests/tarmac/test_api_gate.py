"""Who may ask: a key or a session, meant for this platform, and from its own pages where a cookie decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tarmac import settings as all_settings
from tarmac.api.authentication import Hosts

from .api_server import KEY, Server, add, serving, told

PUBLIC = {("GET", "/v1/health")}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


async def routes(server: Server) -> list[tuple[str, str]]:
    document = (await server.client(None).get("/v1/openapi.json")).json()
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item]


async def test_every_route_but_health_needs_a_key(server: Server) -> None:
    found = await routes(server)
    assert len(found) > 35
    client = server.client(None)
    for method, path in found:
        answer = await client.request(method, path.replace("{", "").replace("}", ""))
        if (method, path) in PUBLIC:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_refusal_says_where_a_key_is_to_be_had(server: Server) -> None:
    for token in (None, "tk_wrong"):
        answer = await server.client(token).get("/v1/runs")
        assert told(answer).code == "NotAuthenticatedError"
        assert "flyte create api-key" in told(answer).message


@pytest.mark.parametrize("written", ["Bearer  tk_owner", "bearer tk_owner", "BEARER tk_owner"])
async def test_the_word_bearer_may_be_written_in_any_case(server: Server, written: str) -> None:
    assert (await server.client(None, Authorization=written).get("/v1/me")).status_code == 200


@pytest.mark.parametrize("written", ["tk_owner", "Basic tk_owner", "Bearer", "Bearer: tk_owner"])
async def test_anything_else_is_no_key(server: Server, written: str) -> None:
    assert (await server.client(None, Authorization=written).get("/v1/me")).status_code == 401


async def test_a_wrong_key_is_refused_even_beside_a_good_session(server: Server) -> None:
    browser = server.browser()
    assert (await browser.get("/v1/me")).status_code == 200
    assert (await browser.get("/v1/me", headers={"Authorization": "Bearer tk_wrong"})).status_code == 401


# ------------------------------------------------------------------------------------------------- the name we go by


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1:30080", "127.9.9.9", "[::1]:80", "flyte.localhost"]
)
async def test_the_platform_answers_to_its_own_names(server: Server, host: str) -> None:
    assert (await server.client(None, Host=host).get("/v1/health")).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:30080", "localhost.evil.example", "10.0.0.1", "[::2", "127.0.0.1.evil"]
)
async def test_a_request_that_is_meant_for_another_name_is_refused(server: Server, host: str) -> None:
    """DNS rebinding: the browser was told that a stranger's name is 127.0.0.1."""
    for path in ("/v1/runs", "/v1/health", "/login", "/static/console.js"):
        answer = await server.client(Host=host).get(path)
        assert answer.status_code == 421, path
        assert "TARMAC_DOMAIN" in told(answer).message


def test_a_platform_that_listens_everywhere_answers_to_every_address_but_not_to_every_name(tmp_path: Path) -> None:
    environ = {"TARMAC_HOST": "0.0.0.0", "TARMAC_DOMAIN": "flyte.example.org"}
    hosts = Hosts.of(all_settings.load(tmp_path, environ))
    assert hosts.include("192.168.1.7:30080")
    assert hosts.include("[fe80::1]:30080")
    assert hosts.include("Flyte.Example.org.")
    assert not hosts.include("evil.example")


# ------------------------------------------------------------------------------------------------- cookies and origins


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        {"Origin": "{address}"},
    ],
)
async def test_a_session_changes_things_from_our_own_pages(server: Server, headers: dict[str, str]) -> None:
    name = await add(server)
    browser = server.browser("github")
    del browser.headers["origin"]
    sent = {key: value.format(address=server.address) for key, value in headers.items()}
    assert (await browser.post(f"/v1/runs/{name}/abort", headers=sent)).status_code == 200
    assert server.control.did[-1][1] == "github"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:30100"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:30100"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_a_session_changes_nothing_from_anywhere_else(server: Server, headers: dict[str, str]) -> None:
    """The apps on this machine are other origins on the same host, and get the same cookies from a browser."""
    name = await add(server)
    browser = server.browser()
    del browser.headers["origin"]
    for method, path in (
        ("POST", f"/v1/runs/{name}/abort"),
        ("POST", "/v1/keys"),
        ("DELETE", "/v1/apps/x"),
        ("PUT", f"/v1/blobs/{'0' * 64}"),
    ):
        answer = await browser.request(
            method, path, headers=headers | {"Accept": "application/json"}, json={"name": "x"}
        )
        assert (answer.status_code, told(answer).code) == (403, "NotAllowedError")
    assert (await server.control.runs.get(name)).phase == "queued"


async def test_a_session_reads_from_anywhere_a_browser_lets_it(server: Server) -> None:
    browser = server.browser()
    answer = await browser.get("/v1/runs", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_a_key_changes_things_whatever_the_origin(server: Server) -> None:
    name = await add(server)
    answer = await server.client(KEY, Origin="http://evil.example").post(f"/v1/runs/{name}/abort")
    assert answer.status_code == 200


# ------------------------------------------------------------------------------------------------- every answer


async def test_every_answer_keeps_the_browser_strict(server: Server) -> None:
    browser = server.browser()
    for path in ("/v1/runs", "/v1/nope", "/login", "/v1/docs", "/v2/domain/development/project/flytesnacks/runs"):
        headers = (await browser.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
