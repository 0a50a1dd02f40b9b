"""HTML reports of actions: tabs that a task fills and `flyte.remote.Run.get_report` gives.

Declare the task with `report=True`, then `await flyte.report.log.aio("<h1>…</h1>", do_flush=True)`, or
`flyte.report.get_tab("Plots").log(...)`. What was flushed last is what is seen.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

from flyte._absent import missing
from flyte._context import ctx, current_caller
from flyte._sync import syncable
from flyte.errors import NotInTaskContextError

__all__ = ["Report", "Tab", "current_report", "flush", "get_tab", "log", "replace"]

MAIN_TAB = "main"


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

    def get_final_report(self) -> str:
        """The whole report as one HTML page."""
        parts = [
            f"<section><h2>{html.escape(tab.name)}</h2>\n{tab.get_html()}\n</section>" for tab in self.tabs.values()
        ]
        title = html.escape(self.name)
        return f"<!doctype html><html><head><meta charset='utf-8'><title>{title}</title></head>" + (
            f"<body>{''.join(parts)}</body></html>"
        )


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


def __getattr__(name: str) -> Any:
    raise missing("flyte.report", name)
