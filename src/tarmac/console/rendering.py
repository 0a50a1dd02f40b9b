"""Templates, and the text forms of times, durations and values. All content of the templates is escaped."""

from __future__ import annotations

import datetime
import hashlib
import re
import time
from importlib import resources
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from flyte import moments
from flyte.moments import ago
from flyte.tracebacks import readable
from flyte.wire import ErrorInfo

_CODE = re.compile(r"`([^`\n]+)`")

LONGEST_VALUE = 20_000
"""How many characters of a value a page shows; a link leads to the rest."""


ROWS_SHOWN, COLUMNS_SHOWN, LONGEST_CELL = 100, 20, 200
"""How much of a list of objects is shown as a table; a list with more columns is shown as JSON."""


def duration(seconds: float | None) -> str:
    """`32 ms`, `1.2 s`, `1m 15s`, `2h 5m`, `3d 4h`; empty for None."""
    return "" if seconds is None else moments.duration(seconds)


def clock(moment: float | None) -> str:
    """The moment itself, in UTC, to the second."""
    if not moment:
        return ""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def pretty(value: Any) -> str:
    """A value as JSON for reading, cut at LONGEST_VALUE characters."""
    raw = bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
    text = msgspec.json.format(raw, indent=2).decode()
    return (
        text
        if len(text) <= LONGEST_VALUE
        else f"{text[:LONGEST_VALUE]}\n… {len(text) - LONGEST_VALUE:,} more characters"
    )


def frame(value: Any) -> Any:
    """The first rows of a data frame in a file, for a table; None for any other value."""
    raw = bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
    if not raw.startswith(b'{"') or b'"preview"' not in raw:
        return None
    try:
        return msgspec.json.decode(raw, type=_Frame)
    except msgspec.ValidationError:
        return None


class _Preview(msgspec.Struct):
    columns: list[str]
    head: list[list[str]]
    width: int
    rows: int | None = None


class _Frame(msgspec.Struct):
    uri: str
    preview: _Preview


def records(value: Any) -> Records | None:
    """A list of objects with plain fields, as a table of its first rows; None for any other value."""
    raw = bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
    if not raw.startswith(b"[{"):
        return None
    try:
        rows = msgspec.json.decode(raw, type=list[dict[str, str | int | float | bool | None]])
    except msgspec.ValidationError:
        return None
    columns = list(dict.fromkeys(name for row in rows[:ROWS_SHOWN] for name in row))
    if len(rows) < 2 or len(columns) > COLUMNS_SHOWN:
        return None
    shown = [["" if row.get(name) is None else _cell(row[name]) for name in columns] for row in rows[:ROWS_SHOWN]]
    return Records(columns, shown, len(rows))


def _cell(value: str | float | bool | None) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"


class Records(msgspec.Struct):
    columns: list[str]
    rows: list[list[str]]
    count: int


def code(text: str) -> Markup:
    """Words in `backticks` as code; everything else is escaped."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def frames(error: ErrorInfo) -> str:
    """The traceback of an error, without the message, which the page shows above it."""
    text = readable(error.traceback).rstrip()
    for sentence in (f"{error.code}: {error.message}".rstrip(), error.message.rstrip()):
        if sentence and text.endswith(sentence):
            above = text[: len(text) - len(sentence)]
            return above.rpartition("\n")[0].rstrip()
    return text


def spent(record: Any) -> float | None:
    """Seconds that a run, an action or an attempt has taken so far; None before its start."""
    if record.started is None:
        return None
    return float((record.ended or time.time()) - record.started)


def asset(name: str) -> str:
    """The address of a static file; it changes when the file does."""
    return f"/static/{name}?v={_digest(name)}"


def static_file(name: str) -> bytes:
    """A file of the console's own; `name` is one of `pages.STATIC`."""
    return (resources.files(__package__) / "static" / name).read_bytes()


def _digest(name: str) -> str:
    if name not in _digests:
        _digests[name] = hashlib.sha256(static_file(name)).hexdigest()[:12]
    return _digests[name]


_digests: dict[str, str] = {}


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration,
        ago=ago,
        clock=clock,
        pretty=pretty,
        spent=spent,
        code=code,
        frames=frames,
        frame=frame,
        records=records,
    )
    environment.globals.update(asset=asset)
    return environment


_templates = _environment()


def render(template: str, **context: Any) -> str:
    """The page as HTML."""
    return _templates.get_template(template).render(context)
