"""The result of a run for people: JSON, and data frames as tables of their first rows."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from flyte._values.dataframes import MARK
from flyte.cli.render import json_without_controls, printable

ROWS = 10
"""Rows of a data frame that are shown."""


def text_of(value: Any) -> str:
    """The text of one result: a data frame is a table; a data frame inside of another value is only described."""
    if _is_frame(value):
        return printable(_table(value))
    if has_preview(value):
        return printable(_preview(value))
    return json_without_controls(json.dumps(_named(value), ensure_ascii=False, default=str))


def _is_frame(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {MARK}


def has_preview(value: Any) -> bool:
    """Whether the value is a data frame in a file, which travels with its first rows."""
    return isinstance(value, dict) and "uri" in value and isinstance(value.get("preview"), dict)


def _preview(value: Any) -> str:
    preview = value["preview"]
    rows = [preview["columns"], *preview["head"]]
    widths = [max(len(cell[:60]) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell[:60].rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    count = preview["rows"]
    shown = "" if count is None else f"{len(preview['head'])} of {count:,} rows, "
    return "\n".join([*lines, f"{shown}{preview['width']} columns, in {value['uri']}"])


def _named(value: Any) -> Any:
    """The value, with each data frame replaced by a description."""
    if _is_frame(value):
        return _size(value)
    if isinstance(value, list):
        return [_named(item) for item in value]
    return {key: _named(item) for key, item in value.items()} if isinstance(value, dict) else value


def _table(value: Any) -> str:
    try:
        import pandas  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError:
        return f"{_size(value)}; to see it here: pip install pandas pyarrow"
    frame = pandas.read_parquet(_content(value))
    shown: str = frame.head(ROWS).to_string(max_colwidth=60, line_width=None)
    if len(frame) <= ROWS:
        return shown
    return f"{shown}\n… {ROWS} of {len(frame):,} rows, {len(frame.columns)} columns; -o json gives all of it as Parquet"


def _size(value: Any) -> str:
    """The description of a data frame: its size, without reading its rows."""
    try:
        import pyarrow.parquet  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError:
        return f"DataFrame ({len(value[MARK]) * 3 // 4:,} bytes of Parquet)"
    found = pyarrow.parquet.read_metadata(_content(value))
    return f"DataFrame ({found.num_rows:,} rows × {found.num_columns} columns)"


def _content(value: Any) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(value[MARK]))
