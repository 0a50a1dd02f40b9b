"""Reports on the page of a run, in a real browser: live, with tabs, and shut off from the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyte.report import Report
from flyte.wire import ActionPhase

from ..tarmac.api_server import Server, add
from .test_console_live import HOME, page, seen, server, without_reload

if TYPE_CHECKING:
    from playwright.async_api import Page

__all__ = ["page", "server"]  # fixtures

PROBE = """
<p id="found"></p>
<script>
  const found = [self.origin];
  try { found.push(parent.document.title); } catch (error) { found.push(error.name); }
  try { found.push(document.cookie); } catch (error) { found.push(error.name); }
  document.getElementById("found").textContent = found.join(" ");
</script>
"""


async def show(server: Server, run: str, **tabs: str) -> None:
    """What the root action shows from now on."""
    report = Report("daily")
    for name, content in tabs.items():
        report.get_tab(name).log(content)
    server.control.actions.reports[run, "a0"] = report.get_final_report()


async def test_a_report_is_shown_as_it_is_flushed_and_stays_at_its_tab(server: Server, page: Page) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    await page.goto(f"{HOME}/runs/{name}")
    assert await page.locator("iframe").count() == 0
    async with without_reload(page):
        await show(server, name, main="<b>first words</b>", plots="<p>no plot</p>")
        report = page.frame_locator("iframe[title='Report of add']")
        await report.get_by_text("first words").wait_for()
        await report.get_by_role("tab", name="plots").click()
        assert not await report.get_by_text("first words").is_visible()
        await show(server, name, main="<b>first words</b>", plots="<p>a plot at last</p>")
        await report.get_by_text("a plot at last").wait_for()
        assert await report.get_by_role("tab", name="plots").get_attribute("aria-selected") == "true"
        await report.get_by_role("tab", name="plots").press("ArrowLeft")
        assert await report.get_by_text("first words").is_visible()
        server.control.move(name, ActionPhase.SUCCEEDED)
        await seen(page, "h1 .phase", "succeeded")
        assert await report.get_by_text("first words").is_visible()


async def test_a_reports_scripts_run_and_reach_neither_the_console_nor_the_session(server: Server, page: Page) -> None:
    name = await add(server)
    await show(server, name, main=PROBE)
    server.control.move(name, ActionPhase.SUCCEEDED)
    await page.goto(f"{HOME}/runs/{name}")
    found = page.frame_locator("iframe").locator("#found")
    await found.get_by_text("null").wait_for()
    assert await found.inner_text() == "null SecurityError SecurityError"
    await page.get_by_role("link", name="open as a page").evaluate("link => link.removeAttribute('target')")
    await page.get_by_role("link", name="open as a page").click()
    await page.locator("#found", has_text="null").wait_for()
    assert (await page.locator("#found").inner_text()).endswith("SecurityError")
