"""The table at the end tells the truth: a row is as good as the worst of its tests."""

from __future__ import annotations

import pytest

from tests.seed.table import PATTERNS, Table


@pytest.fixture
def table() -> Table:
    return Table()


def test_a_row_has_the_worst_result_of_its_tests(table: Table) -> None:
    for test, outcome in (("a", "passed"), ("b", "failed"), ("c", "passed")):
        table.add("WebSocket", 420, test, outcome, 1.0)
    assert table.lines()[-1].split() == ["WebSocket", "line", "420", "failed", "(1", "of", "3)", "3.0"]


def test_a_failure_in_the_set_up_or_tear_down_is_the_tests(table: Table) -> None:
    for outcome in ("passed", "passed", "failed"):
        table.add("Auth", "keys", "a", outcome, 0.1)
    assert "failed" in table.lines()[-1]


def test_rows_are_in_the_order_of_the_patterns_and_of_the_page(table: Table) -> None:
    for pattern in reversed(PATTERNS):
        for snippet in ("other", 505, 59):
            table.add(pattern, snippet, f"{pattern}{snippet}", "passed", 0)
    rows = [line for line in table.lines() if "passed" in line]
    assert [line.partition("  ")[0] for line in rows[::3]] == list(PATTERNS)
    assert ["line 59" in rows[0], "line 505" in rows[1], "other" in rows[2]] == [True] * 3


def test_nothing_collected_is_no_table(table: Table) -> None:
    assert table.lines() == []
