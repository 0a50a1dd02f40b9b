"""A table that fits its terminal: free text is cut, then columns are left out; a name or an address is never cut.

A truncated name could not be used in the next command. If even the columns that are always shown are too wide, the
terminal wraps their lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R")

GAP = 2
"""Blanks between two columns."""


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """One column: its title, its cells, and how it gives way in a narrow terminal."""

    title: str
    text: Callable[[R], str]
    leaves: int = 0
    """Columns with a higher number are left out first; those with 0 never."""
    least: int = 0
    """Characters to which free text may be cut; 0: it is never cut."""


@dataclass(frozen=True, slots=True)
class Table:
    """The printed table: cells of one width in each column, and the titles of the columns that are left out."""

    head: list[str]
    widths: list[int]
    rows: list[list[str]]
    left_out: list[str]


def fitted(columns: Sequence[Column[Any]], rows: Sequence[Sequence[str]], width: int) -> Table:
    """The rows as a table of at most `width` characters, if possible."""
    natural = [max(_len(column.title), *(_len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    shown = [at for at in range(len(columns)) if columns[at].leaves == 0 or any(row[at] for row in rows)]
    left_out = []
    while _total(shown, columns, natural, least=True) > width and any(columns[at].leaves for at in shown):
        first = max(shown, key=lambda at: columns[at].leaves)
        left_out.append(columns[first].title)
        shown.remove(first)
    widths = _widths(shown, columns, natural, width)
    cells = [[_cell(row[at], widths[at]) for at in shown] for row in rows]
    head = [_cell(columns[at].title, widths[at]) for at in shown]
    return Table(head, [widths[at] for at in shown], cells, left_out)


def _total(shown: Sequence[int], columns: Sequence[Column[Any]], natural: Sequence[int], least: bool) -> int:
    """The width of the table with its free text cut as far as allowed, or in full."""
    needed = (min(natural[at], _floor(columns[at])) if least and columns[at].least else natural[at] for at in shown)
    return sum(needed) + GAP * (len(shown) - 1)


def _floor(column: Column[Any]) -> int:
    return max(column.least, _len(column.title))


def _widths(shown: Sequence[int], columns: Sequence[Column[Any]], natural: Sequence[int], width: int) -> dict[int, int]:
    """The width of each column; the last of those with free text gives way first, as it says the least."""
    widths = {at: natural[at] for at in shown}
    excess = _total(shown, columns, natural, least=False) - width
    for at in reversed(shown):
        if excess > 0 and columns[at].least:
            given = min(excess, max(natural[at] - _floor(columns[at]), 0))
            widths[at] -= given
            excess -= given
    return widths


def _cell(text: str, width: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(text, width) if _len(text) <= width else set_cell_size(text, width - 1) + "…"


def _len(text: str) -> int:
    """The width of the text in a terminal; some characters take two columns."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
