"""Output of records: a table on a terminal, plain columns in a pipe, or JSON.

JSON is complete: defaults are included, which the wire format omits, so that `jq .message` never depends on the value.
For each time in seconds since 1970 there is a second field in ISO 8601, and for start and end a duration in seconds.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

import click
import msgspec

from flyte.cli import tables
from flyte.cli.tables import Column
from flyte.moments import duration

R = TypeVar("R")

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Every control character except tab and newline, and the marks that turn the direction of text around."""

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
"""The only escape sequence that is harmless: it sets colours."""

COLORS = {
    "succeeded": "green",
    "recovered": "green",
    "active": "green",
    "ready": "green",
    "unchanged": "green",
    "running": "cyan",
    "initializing": "cyan",
    "building": "cyan",
    "starting": "cyan",
    "deploying": "cyan",
    "failed": "red",
    "timed_out": "red",
    "rolled_back": "red",
    "aborted": "yellow",
    "paused": "yellow",
}
"""A phase's or a status's colour; the others have none."""


def printable(text: str, colors: bool = False) -> str:
    """`text` of another origin without control characters, so that a terminal only displays it.

    Names, messages and log lines come from other people. A terminal obeys escape sequences in them: they can set its
    title, write its clipboard, or hide text. A control character is shown as `\\x1b`; tabs and newlines stay, and with
    `colors` so do the sequences that set colours.
    """
    if not colors:
        return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
    parts, kept = _COLOR.split(text), _COLOR.findall(text)
    return "".join(printable(part) + color for part, color in zip(parts, [*kept, ""], strict=True))


def listing(records: Sequence[R], columns: Sequence[Column[R]], form: str, empty: str = "nothing") -> None:
    """Print `records` in the format; without records, print `empty` on stderr."""
    if form in ("json", "json-raw"):
        show_json([as_data(record) for record in records], form)
        return
    if form in ("name", "url"):
        for record in records:
            click.echo(printable(getattr(record, form, "")))
        return
    if not records:
        click.echo(empty, err=True)
        return
    rows = [[one_line(column.text(record)) for column in columns] for record in records]
    if form == "table" and sys.stdout.isatty():
        _table(columns, rows)
    else:
        _columns([column.title for column in columns], rows)


def details(record: Any, facts: Iterable[tuple[str, str]], form: str) -> None:
    """Print one record: `facts` as label and text, or the whole record as JSON."""
    if form in ("json", "json-raw"):
        show_json(as_data(record), form)
    elif form in ("name", "url"):
        click.echo(printable(getattr(record, form, "")))
    else:
        shown = [(label, printable(text)) for label, text in facts if text]
        width = max((len(label) for label, _ in shown), default=0)
        for label, text in shown:
            body = text.replace("\n", "\n" + " " * (width + 2))
            click.echo(f"{label.ljust(width)}  {colored(body)}")


def _table(columns: Sequence[Column[R]], rows: Sequence[Sequence[str]]) -> None:
    table = tables.fitted(columns, rows, shutil.get_terminal_size().columns)
    click.echo(click.style("  ".join(table.head).rstrip(), bold=True))
    click.echo(click.style("  ".join("─" * width for width in table.widths), dim=True))
    for row in table.rows:
        click.echo("  ".join(_coloured_cell(cell) for cell in row).rstrip())
    if table.left_out:
        click.echo(f"(no room for: {', '.join(table.left_out)}; a wider terminal or -o json shows them)", err=True)


def _coloured_cell(cell: str) -> str:
    word = cell.rstrip()
    return colored(word) + cell[len(word) :]


def _columns(titles: list[str], rows: list[list[str]]) -> None:
    lines = [[title.upper() for title in titles], *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show_json(data: Any, form: str = "json") -> None:
    """Print JSON on stdout: indented, or (`json-raw`) in one line."""
    text = json.dumps(data, ensure_ascii=False, indent=None if form == "json-raw" else 2, default=str)
    click.echo(json_without_controls(text))


def json_without_controls(text: str) -> str:
    """The same JSON: `json` leaves some control characters as they are, all in strings, where \\u means the same."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_data(value: Any) -> Any:
    """A record as plain data with every field, in the order of its declaration."""
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value) if bytes(value) else None
    if isinstance(value, msgspec.Struct):
        plain = {name: as_data(getattr(value, name)) for name in value.__struct_fields__}
        return {**plain, **_times(plain)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [as_data(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_data(item) for key, item in value.items()}
    return value


TIMES = ("created", "started", "ended", "updated", "ready", "last_used")
"""The fields of records that are a time, in seconds since 1970."""


def _times(record: dict[str, Any]) -> dict[str, Any]:
    """A record's times in ISO 8601, and its duration in seconds."""
    named = {f"{name}_at": iso(record[name]) for name in TIMES if isinstance(record.get(name, ""), float | int | None)}
    if {"started", "ended"} <= record.keys():
        ended, started = record["ended"], record["started"]
        named["duration"] = round(ended - started, 6) if ended and started else None
    return named


def iso(at: float | None) -> str | None:
    """A time as ISO 8601 in UTC, to the millisecond; None for None."""
    if not at:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def words(phase: str) -> str:
    """A phase or status as words: `timed out`, `rolled back`."""
    return phase.replace("_", " ")


def colored(word: str) -> str:
    """A phase or status in its colour; click removes the colour if stdout is not a terminal."""
    color = COLORS.get(word.replace(" ", "_"))
    return click.style(word, fg=color) if color else word


def one_line(text: str, longest: int | None = None) -> str:
    """`text` without line breaks, cut with … after `longest` characters."""
    flat = printable(re.sub(r"\s+", " ", text).strip())
    return flat if longest is None or len(flat) <= longest else flat[: longest - 1] + "…"


def lasted(started: float | None, ended: float | None) -> str:
    """The duration until the end, or until now; empty before the start."""
    if started is None:
        return ""
    return duration((ended if ended is not None else time.time()) - started)


def clock(at: float | None) -> str:
    """The local time, to the second."""
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds") if at else ""
