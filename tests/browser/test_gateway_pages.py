"""Pages of other origins and a guarded app, in a real browser whose user is signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.tarmac.gateway_world import KEY, World, world

if TYPE_CHECKING:
    from playwright.async_api import Page

CONNECT = """url => new Promise(done => {
  const socket = new WebSocket(url);
  socket.onopen = () => done("open");
  socket.onerror = () => done("refused");
})"""
POST = """url => fetch(url, {method: "POST", mode: "no-cors", credentials: "include"})
  .then(() => "sent", () => "failed")"""
READ = """([url, key]) => fetch(url, {headers: {authorization: "Bearer " + key}})
  .then(answer => answer.text(), error => "failed")"""


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    """The guarded app `hello`, and the open app `other`, whose pages are on another port of the same host."""
    async with world() as made:
        await made.serve(await made.upstream("hello"), requires_auth=True)
        await made.serve(await made.upstream("other"), app="flytesnacks/development/other", number=1)
        yield made


@pytest.fixture
async def page(gateway: World, chromium_path: str) -> AsyncIterator[Page]:
    api = pytest.importorskip("playwright.async_api", reason="playwright is not installed (group `browser`)")
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        context = await browser.new_context()
        session = {"name": "tarmac_session", "value": gateway.session(), "domain": "127.0.0.1", "path": "/"}
        await context.add_cookies([{**session, "httpOnly": True, "sameSite": "Lax"}])
        page = await context.new_page()
        page.set_default_timeout(15_000)
        yield page
        await browser.close()


async def test_the_apps_own_page_may_do_with_the_session_what_another_page_may_not(gateway: World, page: Page) -> None:
    socket = gateway.url("/ws").replace("http:", "ws:")
    hello = gateway._upstreams[0]

    answer = await page.goto(gateway.url("/"))
    assert answer is not None
    assert answer.status == 200, "a person who is signed in may open the app"
    assert await page.evaluate(CONNECT, socket) == "open"
    before = hello.requests
    await page.evaluate(POST, gateway.url("/change"))
    assert hello.requests == before + 1

    await page.goto(gateway.url("/", number=1))
    before = hello.requests
    assert await page.evaluate(CONNECT, socket) == "refused"
    await page.evaluate(POST, gateway.url("/change"))
    assert hello.requests == before


async def test_a_link_from_another_page_opens_the_app(gateway: World, page: Page) -> None:
    await page.goto(gateway.url("/", number=1))
    async with page.expect_response(gateway.url("/linked")) as opened:
        await page.evaluate("url => { location.href = url }", gateway.url("/linked"))
    assert (await opened.value).status == 200


async def test_a_page_of_another_origin_calls_a_guarded_app_with_a_key(gateway: World, page: Page) -> None:
    """The app allows it: the preflight, which has no key, reaches it."""
    headers = {"access-control-allow-origin": "*", "access-control-allow-headers": "authorization"}

    async def allowing(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {request.headers['x-flyte-caller']}", headers=headers)

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", allowing)
    upstream = await gateway.upstream("allowing")
    await upstream.stop()
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", upstream.port).start()
        await gateway.serve(upstream, app="flytesnacks/development/allowing", number=2, requires_auth=True)
        await page.goto(gateway.url("/", number=1))
        assert await page.evaluate(READ, [gateway.url("/x", number=2), KEY]) == "GET key/tests"
        assert await page.evaluate(READ, [gateway.url("/x", number=0), KEY]) == "failed", "that one allows nothing"
    finally:
        await runner.cleanup()
