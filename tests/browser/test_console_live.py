"""The console in a real browser: live without a reload, quiet when nothing is to come, safe with hostile values."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flyte.cli.signin import page_for
from flyte.log_times import RECORD, file_of
from flyte.wire import ActionPhase, App, AppStatus, ErrorInfo, Replica

from ..tarmac.api_server import OWNER, Server, add, serving

if TYPE_CHECKING:
    from playwright.async_api import Page

HOME = "/v2/domain/development/project/flytesnacks"
PHONE = {"width": 390, "height": 844}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def page(server: Server, chromium_path: str) -> AsyncIterator[Page]:
    """A page that is signed in; whatever the browser complains of fails the test at its end."""
    api = pytest.importorskip("playwright.async_api", reason="playwright is not installed (group `browser`)")
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        page = await browser.new_page(base_url=server.address)
        page.set_default_timeout(15_000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        code = server.authenticator.login_code(server.authenticator.authenticate(OWNER, None))
        await page.goto(f"/login?code={code}")
        yield page
        await browser.close()
        assert complaints == []


@contextlib.asynccontextmanager
async def without_reload(page: Page) -> AsyncIterator[None]:
    """What happens in the block happens on the page that is there."""
    await page.evaluate("window.stillHere = true")
    yield
    assert await page.evaluate("window.stillHere === true"), "the page was loaded anew"


def put(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def put_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def seen(page: Page, selector: str, text: str) -> None:
    """Wait until an element that `selector` finds holds `text`."""
    await page.locator(selector, has_text=text).first.wait_for()


async def test_a_run_is_watched_to_its_end_without_a_reload(server: Server, page: Page) -> None:
    name = await add(server)
    await page.goto(f"{HOME}/runs/{name}")
    async with without_reload(page):
        server.control.move(name, ActionPhase.RUNNING)
        await seen(page, "h1 .phase", "running")
        server.control.child(name, "c1", task="env.child")
        await seen(page, "#tree .row", "child")
        put(server.control.log_file(name), "step 1\n")
        await seen(page, "pre.log", "step 1")
        put(server.control.log_file(name), "the last words")
        server.control.move(name, ActionPhase.SUCCEEDED, outputs=[{"sum": 42}])
        await seen(page, "h1 .phase", "succeeded")
        await seen(page, "#detail", '"sum": 42')
        await seen(page, "pre.log", "the last words")
        shown = await page.locator("pre.log").inner_text()
        assert shown.splitlines() == ["step 1", "the last words"]


async def test_a_page_of_a_finished_run_asks_for_nothing_more(server: Server, page: Page) -> None:
    name = await add(server)
    await page.goto(f"{HOME}/runs/{name}")
    server.control.move(name, ActionPhase.ABORTED)
    await seen(page, "h1 .phase", "aborted")
    await page.locator("pre.log[data-read=all]").wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.wait_for_timeout(1_000)  # the look that the last event asked for may be on its way
    looked = len(asked)
    await page.wait_for_timeout(4_000)  # the browser would connect anew after three seconds
    assert looked <= 1, asked
    assert asked[looked:] == []


async def test_actions_are_unfolded_and_chosen_without_a_reload_and_back_goes_back(server: Server, page: Page) -> None:
    name = await add(server)
    server.control.child(name, "c1", task="env.child")
    server.control.child(name, "g1", parent="c1", task="env.grandchild")
    put(server.control.log_file(name, "c1"), "the child's log\n")
    await page.goto(f"{HOME}/runs/{name}")
    async with without_reload(page):
        await page.locator("#t-c1").click()
        await seen(page, "#tree .row", "grandchild")
        assert await page.locator("#t-c1").get_attribute("aria-expanded") == "true"
        assert await page.evaluate("document.activeElement.id") == "t-c1", "the focus stays where it was"
        await page.locator("#a-c1").click()
        await seen(page, "pre.log", "the child's log")
        assert "action=c1" in page.url
        await page.go_back()
        await page.locator("#a-a0[aria-current]").wait_for()
        await seen(page, "#tree .row", "grandchild")


async def test_the_list_of_runs_is_live(server: Server, page: Page) -> None:
    await page.goto(f"{HOME}/runs")
    async with without_reload(page):
        name = await add(server)
        await page.locator(f"a[href='{HOME}/runs/{name}']").wait_for()


async def test_a_run_is_started_with_the_form_and_aborted_after_a_question(server: Server, page: Page) -> None:
    await page.goto(f"{HOME}/tasks/env.add")
    await page.get_by_label("x int").fill("41")
    await page.get_by_role("button", name="Run").click()
    await page.wait_for_url("**/runs/r*")
    await seen(page, "#detail", "41")
    questions: list[str] = []

    async def answer(dialog: Any) -> None:
        questions.append(dialog.message)
        await (dialog.accept() if len(questions) > 1 else dialog.dismiss())

    page.on("dialog", answer)
    await page.get_by_role("button", name="Abort").click()
    assert server.control.did[-1][0] == "create_run", "the question was answered with no"
    await page.get_by_role("button", name="Abort").click()
    await seen(page, "h1 .phase", "aborted")
    assert len(questions) == 2


async def test_an_app_is_live(server: Server, page: Page) -> None:
    replica = Replica(name="r-1", version="v1", phase="ready")
    server.control.add_app(
        App(
            project="flytesnacks",
            domain="development",
            name="adder",
            version="v1",
            status=AppStatus.ACTIVE,
            url="http://127.0.0.1:30100",
            replicas=[replica],
        )
    )
    await page.goto(f"{HOME}/apps/adder")
    async with without_reload(page):
        put(server.control.replica_log("adder", "r-1"), "served\n")
        await seen(page, "pre.log", "served")
        server.control.app_status("adder", AppStatus.SLEEPING, replicas=[])
        await seen(page, "h1 .phase", "sleeping")
        await seen(page, "#replicas", "the next request starts one")


async def test_hostile_values_run_nothing(server: Server, page: Page) -> None:
    evil = "<script>alert('x')</script><img src=x onerror=alert(1)>"
    name = await add(server, labels={evil: evil})
    put(server.control.log_file(name), f"{evil}\n")
    alerts: list[str] = []

    async def note(dialog: Any) -> None:
        alerts.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", note)
    await page.goto(f"{HOME}/runs/{name}")
    server.control.child(name, "c1", task=evil, group=evil)
    server.control.move(name, ActionPhase.FAILED, evil, error=ErrorInfo(code=evil, message=evil), outputs=[evil])
    await seen(page, "#tree .row", "<script>")
    await seen(page, "pre.log", "<script>")
    await seen(page, "#detail .error", "<script>")
    assert alerts == []
    assert await page.locator("main script, main img").count() == 0


async def test_a_log_shows_the_times_of_its_lines_when_they_are_asked_for(server: Server, page: Page) -> None:
    name = await add(server)
    log = server.control.log_file(name)
    put(log, "one\ntwo\n")
    put_bytes(Path(file_of(str(log))), RECORD.pack(4, 1_700_000_000.25) + RECORD.pack(8, 1_700_000_001.5))
    await page.goto(f"{HOME}/runs/{name}")
    await seen(page, "pre.log", "two")
    assert await page.locator("pre.log").inner_text() == "one\ntwo\n"
    await page.get_by_label("times").check()
    shown = (await page.locator("pre.log").inner_text()).splitlines()
    assert [(line[5:12], line[13:]) for line in shown] == [(":20.250", "one"), (":21.500", "two")], shown


async def test_every_page_fits_a_phone(server: Server, page: Page) -> None:
    name = await add(server, labels={"label": "long" * 30})
    for n in range(4):
        server.control.child(name, f"c{n}", task="env." + "long_name_" * 12)
    server.control.move(name, ActionPhase.FAILED, error=ErrorInfo(code="ValueError", message="word" * 60))
    put(server.control.log_file(name), "line " * 200 + "\n")
    replica = Replica(name="r-" + "x" * 20, version="v" * 40, phase="ready")
    server.control.add_app(
        App(
            project="flytesnacks",
            domain="development",
            name="adder",
            version="v" * 40,
            status=AppStatus.ACTIVE,
            url="http://127.0.0.1:30100",
            host="adder.flyte.localhost:30080",
            replicas=[replica],
        )
    )
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    for path in (
        "/runs",
        f"/runs/{name}",
        "/tasks",
        "/tasks/env.add",
        "/apps",
        "/apps/adder",
        "/images",
        "/triggers",
        "/v1/docs",
    ):
        await page.goto(path if path.startswith("/v1") else HOME + path)
        width = await page.evaluate("document.scrollingElement.scrollWidth")
        assert width <= PHONE["width"], path


async def test_a_route_is_tried_in_the_reference(server: Server, page: Page) -> None:
    await page.goto("/v1/docs")
    await page.locator("#post-v1-runs > summary").click()
    form = page.locator("#post-v1-runs form")
    await form.locator("textarea").fill('{"task": "env.add", "inputs": {"x": 1}}')
    await form.get_by_role("button", name="Send").click()
    await seen(page, "#post-v1-runs output", '"phase": "queued"')
    await page.locator("#get-v1-me > summary").click()
    await page.locator("#get-v1-me").get_by_role("button", name="Send").click()
    await seen(page, "#get-v1-me output", '"subject": "owner"')


async def test_the_page_that_the_command_line_writes_signs_in(
    server: Server, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    code = server.authenticator.login_code(server.authenticator.authenticate(OWNER, None))
    file = page_for(f"{server.address}/login?code={code}&next=%2Fv2%2Fdomain%2Fd%2Fproject%2Fp%2Ftasks")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await page.context.clear_cookies()
    await page.goto(file.as_uri())
    await page.wait_for_url(f"{server.address}/v2/domain/d/project/p/tasks")


async def test_a_person_who_signs_in_for_an_app_goes_on_to_its_port(server: Server, page: Page) -> None:
    """Also in a browser that keeps forms to their own origin."""
    await page.context.clear_cookies()
    await page.goto("/login?app=30107&next=/page")
    reached: list[str] = []
    await page.context.route("http://127.0.0.1:30107/**", lambda route: app(route, reached))
    await page.fill("#token", OWNER)
    await page.click("button")
    await page.wait_for_url("http://127.0.0.1:30107/page")
    assert reached == ["http://127.0.0.1:30107/page"]


async def app(route: Any, reached: list[str]) -> None:
    reached.append(route.request.url)
    await route.fulfill(status=200, content_type="text/html", body="<link rel=icon href=data:,>the app")
