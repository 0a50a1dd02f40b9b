"""Pages for people, opened, clicked and read in a real Chromium: Streamlit, Gradio, and a page of one's own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page as Tab
from playwright.async_api import async_playwright, expect

from tests.platform_fixture import Platform
from tests.seed.platform_calls import deploy

PATTERN = "Browser → app"
PATIENCE = 30_000
"""Milliseconds for a page to show something; the first visit to a Streamlit or Gradio app loads megabytes."""

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE *.flyte.localhost",
)
"""Chromium talks to the platform and to nobody else."""


@pytest.fixture
async def tab(chromium_path: str) -> AsyncIterator[Tab]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=list(QUIET))
        try:
            opened = await browser.new_page()
            opened.set_default_timeout(PATIENCE)
            yield opened
        finally:
            await browser.close()


STREAMLIT = """
import pathlib
import sys

import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name="streamlit-app",
    args=[
        "streamlit", "run", "streamlit_app.py", "--server.port", "8080", "--server.headless", "true",
        "--browser.gatherUsageStats", "false", "--", "page",
    ],
    port=8080,
    image=flyte.Image.from_debian_base().with_pip_packages("streamlit"),
    requires_auth=False,
)


def page():
    import streamlit

    streamlit.title("Greeter")
    name = streamlit.text_input("Name")
    times = streamlit.number_input("Times", min_value=1, max_value=5, value=2)
    loud = streamlit.checkbox("Loud")
    if streamlit.button("Greet"):
        streamlit.session_state["greeted"] = streamlit.session_state.get("greeted", 0) + 1
        greeting = f"Hello {name}! " * int(times)
        streamlit.write(greeting.upper() if loud else greeting)
        streamlit.write(f"greeted: {streamlit.session_state['greeted']}")


if sys.argv[1:] == ["page"]:
    page()
"""


@pytest.mark.snippet(PATTERN, "Streamlit")
async def test_a_streamlit_app_is_filled_in_clicked_and_read(platform: Platform, tab: Tab) -> None:
    deploy(platform, "streamlit_app", STREAMLIT, "env")
    await tab.goto(platform.app_url("streamlit-app"))
    await expect(tab.get_by_role("heading", name="Greeter")).to_be_visible(timeout=PATIENCE)
    await tab.get_by_label("Name").fill("Ann")
    await tab.get_by_label("Name").press("Enter")
    await tab.get_by_text("Loud").click()
    await tab.get_by_role("button", name="Greet").click()
    await expect(tab.get_by_text("HELLO ANN! HELLO ANN!")).to_be_visible(timeout=PATIENCE)
    await tab.get_by_role("button", name="Greet").click()
    await expect(tab.get_by_text("greeted: 2")).to_be_visible(timeout=PATIENCE)


GRADIO = """
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name="gradio-app",
    image=flyte.Image.from_debian_base().with_pip_packages("gradio"),
    env_vars={"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"},
    port=7860,
    requires_auth=False,
)


@env.server
def serve():
    import gradio

    with gradio.Blocks(title="Adder") as page:
        first = gradio.Number(label="First")
        second = gradio.Number(label="Second")
        total = gradio.Textbox(label="Total")
        gradio.Button("Add").click(lambda a, b: f"it is {a + b:g}", [first, second], total)
    page.launch(server_name="127.0.0.1", server_port=7860, quiet=True)
"""


@pytest.mark.snippet(PATTERN, "Gradio")
async def test_a_gradio_app_is_filled_in_clicked_and_read(platform: Platform, tab: Tab) -> None:
    deploy(platform, "gradio_app", GRADIO, "env")
    await tab.goto(platform.app_url("gradio-app"))
    await tab.get_by_label("First").fill("40")
    await tab.get_by_label("Second").fill("2")
    await tab.get_by_role("button", name="Add").click()
    await expect(tab.get_by_label("Total")).to_have_value("it is 42", timeout=PATIENCE)


PLAIN = '''
import http.server

import flyte.app

env = flyte.app.AppEnvironment(name="plain-page", requires_auth=False, domain=flyte.app.Domain(subdomain="pages"))

PAGE = b"""<!doctype html><title>Counter</title><h1>Counter</h1>
<button onclick="fetch('/count', {method: 'POST'}).then(r => r.text()).then(t => shown.textContent = t)">
One more</button>
<output id="shown">none yet</output>"""


class Counter(http.server.BaseHTTPRequestHandler):
    count = 0

    def do_GET(self):
        self.answer(PAGE)

    def do_POST(self):
        Counter.count += 1
        self.answer(f"{Counter.count} so far".encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@env.server
def serve():
    http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Counter).serve_forever()
'''


@pytest.fixture(scope="module")
def plain(platform: Platform) -> None:
    deploy(platform, "plain_page", PLAIN, "env")


@pytest.mark.snippet(PATTERN, "@env.server")
async def test_a_page_of_ones_own_is_opened_clicked_and_read(platform: Platform, plain: None, tab: Tab) -> None:
    await tab.goto(platform.app_url("plain-page"))
    await expect(tab).to_have_title("Counter")
    await tab.get_by_role("button", name="One more").click()
    await expect(tab.locator("output")).to_have_text(re.compile(r"^\d+ so far$"))


@pytest.mark.snippet(PATTERN, "by host name")
async def test_a_browser_reaches_the_app_by_its_host_name_on_the_front_door(
    platform: Platform, plain: None, tab: Tab
) -> None:
    with platform.client() as http:
        host = http.get("/v1/apps/plain-page").json()["host"]
    assert host == f"http://pages.flyte.localhost:{platform.state['port']}"
    await tab.goto(host)
    await expect(tab.get_by_role("heading", name="Counter")).to_be_visible()
