"""HTML reports of actions: tabs that a task fills and `flyte.remote.Run.get_report` gives.

Declare the task with `report=True`, then `await flyte.report.log.aio("<h1>…</h1>", do_flush=True)`, or
`flyte.report.get_tab("Plots").log(...)`. What was flushed last is what is seen, on the page of the run too: in a frame
that runs the report's scripts and cannot reach the console.
"""

from __future__ import annotations

import datetime
import html
from dataclasses import dataclass, field
from typing import Any

from flyte._context import ctx, current_caller
from flyte._sync import syncable
from flyte.errors import NotInTaskContextError

__all__ = [
    "Report",
    "Tab",
    "Timeline",
    "abbreviate",
    "current_report",
    "duration_ms",
    "flush",
    "get_tab",
    "log",
    "replace",
]

MAIN_TAB = "main"

_LONGEST = 20_000
"""Characters of a value that `abbreviate` shows when it is opened."""

_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 12px; color: #1c2128; background: #fff }
[role=tablist] { display: flex; flex-wrap: wrap; gap: 4px; border-bottom: 1px solid #d0d7de; margin-bottom: 12px }
[role=tab] { font: inherit; border: 0; background: none; color: inherit; padding: 6px 12px; cursor: pointer }
[role=tab][aria-selected=true] { font-weight: 600; box-shadow: inset 0 -2px #0a5fd0 }
table { border-collapse: collapse } th, td { border: 1px solid #d0d7de; padding: 3px 8px }
img, svg, video { max-width: 100% }
"""

_SCRIPT = """
const tabs = [...document.querySelectorAll("[role=tab]")];
function choose(at) {
  tabs.forEach((tab, n) => {
    tab.setAttribute("aria-selected", n === at);
    tab.tabIndex = n === at ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = n !== at;
  });
  dispatchEvent(new Event("resize"));
}
tabs.forEach((tab, at) => {
  tab.onclick = () => { window.name = tab.textContent; choose(at); };
  tab.onkeydown = event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (at + step + tabs.length) % tabs.length;
    tabs[next].focus();
    tabs[next].click();
  };
});
choose(Math.max(0, tabs.findIndex(tab => tab.textContent === window.name)));
"""
"""One tab is shown at a time; the name of the window keeps which one when the report is flushed again."""


@dataclass(slots=True)
class Tab:
    """One page of a report; its content is trusted HTML, written by the task."""

    name: str
    content: list[str] = field(default_factory=list)

    def log(self, content: str) -> None:
        """Add HTML."""
        self.content.append(content)

    def replace(self, content: str) -> None:
        """Put HTML in the place of all there was."""
        self.content[:] = [content]

    def get_html(self) -> str:
        return "\n".join(self.content)


@dataclass(slots=True)
class Report:
    """An action's report."""

    name: str
    tabs: dict[str, Tab] = field(default_factory=dict)

    def get_tab(self, name: str) -> Tab:
        """The tab of that name; made if need be."""
        return self.tabs.setdefault(name, Tab(name))

    def has_content(self) -> bool:
        """Whether anything was logged to it."""
        return any(tab.content for tab in self.tabs.values())

    def get_final_report(self) -> str:
        """The whole report as one HTML page; with several tabs there is a row of buttons above them."""
        tabs = [tab for tab in self.tabs.values() if tab.content] or list(self.tabs.values())
        head = f"<meta charset='utf-8'><title>{html.escape(self.name)}</title><style>{_STYLE}</style>"
        body = "".join(_panel(number, tab, len(tabs) > 1) for number, tab in enumerate(tabs))
        if len(tabs) > 1:
            buttons = "".join(
                f"<button role='tab' id='tab-{number}' aria-controls='panel-{number}'>{html.escape(tab.name)}</button>"
                for number, tab in enumerate(tabs)
            )
            body = (
                f"<div role='tablist' aria-label='Tabs of the report'>{buttons}</div>{body}<script>{_SCRIPT}</script>"
            )
        return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>"


def _panel(number: int, tab: Tab, is_one_of_many: bool) -> str:
    if not is_one_of_many:
        return f"<main>{tab.get_html()}</main>"
    attributes = f"role='tabpanel' id='panel-{number}' aria-labelledby='tab-{number}' tabindex='0'"
    return f"<section {attributes}>{tab.get_html()}</section>"


def current_report() -> Report:
    """The report of the action that this code runs in. Raises NotInTaskContextError outside one."""
    context = ctx()
    if not context:
        raise NotInTaskContextError("flyte.report can be used inside a task only")
    report: Report = context.data.setdefault("flyte.report", Report(context.task_name or "report"))
    return report


def get_tab(name: str, create_if_missing: bool = True) -> Tab:
    """A tab of the current action's report. Raises ValueError for one that is missing and not to be made."""
    report = current_report()
    if not create_if_missing and name not in report.tabs:
        raise ValueError(f"the report has no tab {name!r}; it has {', '.join(report.tabs) or 'none'}")
    return report.get_tab(name)


@syncable
async def log(content: str, do_flush: bool = False) -> None:
    """Add HTML to the main tab; with `do_flush` it is shown at once."""
    get_tab(MAIN_TAB).log(content)
    if do_flush:
        await flush.aio()


@syncable
async def replace(content: str, do_flush: bool = False) -> None:
    """Replace the main tab's HTML; with `do_flush` it is shown at once."""
    get_tab(MAIN_TAB).replace(content)
    if do_flush:
        await flush.aio()


@syncable
async def flush() -> None:
    """Show the report as it is now."""
    caller = current_caller()
    if caller is not None:
        caller.progress("report", {"report": current_report().get_final_report()})


# ------------------------------------------------------------------------------------------------------------- widgets


def abbreviate(value: Any, limit: int = 300) -> str:
    """`value` as HTML text. What is longer than `limit` characters is cut, and a click shows up to 20,000 of them."""
    text = "" if value is None else str(value)
    if len(text) <= limit:
        return html.escape(text)
    whole = html.escape(text[:_LONGEST])
    if len(text) > _LONGEST:
        whole += f"\n… {len(text) - _LONGEST:,} more characters"
    summary = f"{html.escape(text[:limit])}… (+{len(text) - limit:,})"
    return f"<details><summary>{summary}</summary><pre style='white-space:pre-wrap'>{whole}</pre></details>"


def duration_ms(start_iso: Any, end_iso: Any) -> str:
    """The time between two ISO 8601 moments, as `120 ms`; empty where one of them is none."""
    try:
        start, end = (datetime.datetime.fromisoformat(str(moment)) for moment in (start_iso, end_iso))
        return f"{(end - start).total_seconds() * 1000:.0f} ms"
    except (ValueError, TypeError):
        return ""


class Timeline:
    """A tab of the report that lists what happened, one row after the other.

    Outside an action it does nothing, so that code which is also called elsewhere may use it.
    """

    def __init__(self, tab_name: str = MAIN_TAB) -> None:
        self._tab = tab_name

    def heading(self, text: Any) -> None:
        """Add a heading."""
        self._log(f"<h2 style='font-size:16px;margin:12px 0 4px'>{html.escape(str(text))}</h2>")

    def row(self, *, icon: str = "•", label: Any = "", meta: str = "", detail: str = "", error: Any = None) -> None:
        """Add a row. `detail` is HTML (see `abbreviate`), all else is text."""
        parts = [html.escape(icon), f"<b>{html.escape(str(label))}</b>"]
        if meta:
            parts.append(f"<span style='color:#57606a'>{html.escape(meta)}</span>")
        if detail:
            parts.append(f"— {detail}")
        if error:
            parts.append(f"<span style='color:#b3261e'>⚠ {abbreviate(error, 200)}</span>")
        self._log(f"<div style='padding:3px 0;border-bottom:1px solid #d0d7de'>{' '.join(parts)}</div>")

    def _log(self, content: str) -> None:
        if ctx():
            get_tab(self._tab).log(content)
