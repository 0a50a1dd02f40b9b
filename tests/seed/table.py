"""The table at the end of a run of these tests: pattern, snippet, result.

A test says what it shows with `@pytest.mark.snippet(pattern, line or name)`. Tests that show the same are one row,
whose result is the worst of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

PATTERNS = (
    "Task → app",
    "App → task",
    "App → app",
    "WebSocket",
    "Browser → app",
    "Secrets",
    "Auth",
    "Serve",
    "Second machine",
    "The page",
)
"""The rows' order."""

_WORST_FIRST = ("failed", "skipped", "passed")


@dataclass
class Row:
    pattern: str
    snippet: str
    results: list[str] = field(default_factory=list)
    seconds: float = 0

    @property
    def result(self) -> str:
        worst = next((name for name in _WORST_FIRST if name in self.results), "not run")
        count = self.results.count(worst)
        return f"{worst} ({count} of {len(self.results)})" if worst != "passed" and len(self.results) > 1 else worst


class Table:
    """Collects the tests' outcomes, one phase of one test at a time: a plugin of pytest's.

    The reports tell it what a test shows, so that it is whole where other processes run the tests.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Row] = {}
        self._places: dict[str, int] = {}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if marker := item.get_closest_marker("snippet"):
            item.user_properties.append(("snippet", list(marker.args)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, shown in report.user_properties:
            if name == "snippet":
                pattern, snippet = cast("tuple[str, str | int]", shown)
                self.add(pattern, snippet, report.nodeid, report.outcome, report.duration)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if lines := self.lines():
            terminalreporter.section("the seed page")
            for line in lines:
                terminalreporter.line(line)

    def add(self, pattern: str, snippet: str | int, test: str, outcome: str, seconds: float) -> None:
        """Take in the outcome of set-up, call or tear-down of `test`; a failure of any of them is the test's."""
        name = f"line {snippet}" if isinstance(snippet, int) else snippet
        row = self._rows.setdefault((pattern, name), Row(pattern, name))
        row.seconds += seconds
        if test not in self._places:
            self._places[test] = len(row.results)
            row.results.append(outcome)
        elif _WORST_FIRST.index(outcome) < _WORST_FIRST.index(row.results[self._places[test]]):
            row.results[self._places[test]] = outcome

    def lines(self) -> list[str]:
        """The table as text; empty where nothing was collected."""
        rows = sorted(self._rows.values(), key=lambda row: (PATTERNS.index(row.pattern), _by_number(row.snippet)))
        if not rows:
            return []
        cells = [("pattern", "snippet", "result", "seconds")]
        cells += [(row.pattern, row.snippet, row.result, f"{row.seconds:.1f}") for row in rows]
        widths = [max(len(line[column]) for line in cells) for column in range(3)]
        texts = [
            "  ".join((*(cell.ljust(width) for cell, width in zip(line[:3], widths, strict=True)), line[3].rjust(7)))
            for line in cells
        ]
        return [texts[0], "-" * len(texts[0]), *texts[1:]]


def _by_number(snippet: str) -> tuple[int, str]:
    last = snippet.rpartition(" ")[2]
    return (int(last), "") if snippet.startswith("line ") and last.isdigit() else (10**9, snippet)
