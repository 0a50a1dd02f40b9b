"""The classes of data frames, and how each is read from a file and written to one.

The libraries are optional: each is imported when a frame of it is read or written.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARQUET = "parquet"
CSV = "csv"
TSV = "tsv"
FORMATS = (PARQUET, CSV, TSV)

HEAD = 10
"""Rows in a preview."""
_WIDEST = 200
"""Characters of a cell in a preview."""
_COLUMNS = 100
"""Columns in a preview."""
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of data frames. A `format` is one of FORMATS."""

    name: str
    write: Callable[[Any, Path, str], None]
    read: Callable[[Path, str], Any]
    of_arrow: Callable[[Any], Any]
    """A frame of this class from a `pyarrow.Table`."""
    rows: Callable[[Any], int | None]
    """Number of rows; None if it would have to be computed."""
    head: Callable[[Any], tuple[list[str], list[list[Any]]]]
    """Names of columns, first rows."""
    of_json: Callable[[Any, Any], Any] = lambda cls, data: cls(data)
    """A frame of the class (first argument) from a list of records, or an object of columns."""


def kind_of(cls: Any) -> Kind | None:
    """The kind of a class; None for one that is not a known data frame."""
    return _KINDS.get((getattr(cls, "__module__", "").partition(".")[0], getattr(cls, "__name__", "")))


def format_of(path: str, named: str | None = None) -> str:
    """The format of a file: the one that is named, or that of its suffix, or Parquet."""
    if named:
        if named not in FORMATS:
            raise ValueError(f"{named!r} is not a format of data frames; there are {', '.join(FORMATS)}")
        return named
    suffix = path.rpartition(".")[2].lower()
    return suffix if suffix in FORMATS else PARQUET


def parts(path: Path, format: str, kind: Kind) -> Iterator[Any]:
    """The frame of a file in parts, without holding the whole."""
    if format == PARQUET:
        arrow, parquet = library("pyarrow"), library("pyarrow.parquet")
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        for file in files:
            with parquet.ParquetFile(file) as opened:
                for batch in opened.iter_batches(_ROWS_AT_ONCE):
                    yield kind.of_arrow(arrow.Table.from_batches([batch]))
        return
    arrow, csv = library("pyarrow"), library("pyarrow.csv")
    with csv.open_csv(path, parse_options=csv.ParseOptions(delimiter=_separator(format))) as batches:
        for batch in batches:
            yield kind.of_arrow(arrow.Table.from_batches([batch]))


def preview(kind: Kind, frame: Any) -> dict[str, Any]:
    """What the console and the command line show of a frame, without a library of frames of their own."""
    columns, first = kind.head(frame)
    cells = [[str(cell)[:_WIDEST] for cell in row[:_COLUMNS]] for row in first]
    return {"rows": kind.rows(frame), "columns": columns[:_COLUMNS], "width": len(columns), "head": cells}


def library(name: str) -> Any:
    """A module of an optional library. Raises ModuleNotFoundError with the package to install."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ModuleNotFoundError(f"a data frame needs {package} here: pip install {package}", name=package) from None


def _separator(format: str) -> str:
    return "\t" if format == TSV else ","


def _write_pandas(frame: Any, path: Path, format: str) -> None:
    if format == PARQUET:
        library("pyarrow")
        frame.to_parquet(path, engine="pyarrow")
    else:
        frame.to_csv(path, index=False, sep=_separator(format))


def _read_pandas(path: Path, format: str) -> Any:
    pandas = library("pandas")
    if format == PARQUET:
        library("pyarrow")
        return pandas.read_parquet(path, engine="pyarrow")
    return pandas.read_csv(path, sep=_separator(format))


def _head_of_pandas(frame: Any) -> tuple[list[str], list[list[Any]]]:
    return [str(name) for name in frame.columns], frame.head(HEAD).to_numpy().tolist()


def _write_polars(frame: Any, path: Path, format: str) -> None:
    if format == PARQUET:
        frame.lazy().sink_parquet(path)
    else:
        frame.lazy().sink_csv(path, separator=_separator(format))


def _scan_polars(path: Path, format: str) -> Any:
    polars = library("polars")
    if format == PARQUET:
        return polars.scan_parquet(path / "**/*.parquet" if path.is_dir() else path)
    return polars.scan_csv(path, separator=_separator(format))


def _head_of_polars(frame: Any) -> tuple[list[str], list[list[Any]]]:
    first = frame.lazy().head(HEAD).collect()
    return list(first.columns), [list(row) for row in first.rows()]


def _write_arrow(table: Any, path: Path, format: str) -> None:
    if format == PARQUET:
        library("pyarrow.parquet").write_table(table, path)
    else:
        csv = library("pyarrow.csv")
        csv.write_csv(table, path, csv.WriteOptions(delimiter=_separator(format)))


def _read_arrow(path: Path, format: str) -> Any:
    if format == PARQUET:
        return library("pyarrow.parquet").read_table(path)
    csv = library("pyarrow.csv")
    return csv.read_csv(path, parse_options=csv.ParseOptions(delimiter=_separator(format)))


def _arrow_of_json(cls: Any, data: Any) -> Any:
    return cls.from_pylist(data) if isinstance(data, list) else cls.from_pydict(data)


def _head_of_arrow(table: Any) -> tuple[list[str], list[list[Any]]]:
    return list(table.column_names), [list(row.values()) for row in table.slice(0, HEAD).to_pylist()]


_PANDAS = Kind("pandas.DataFrame", _write_pandas, _read_pandas, lambda table: table.to_pandas(), len, _head_of_pandas)
_POLARS = Kind(
    "polars.DataFrame",
    _write_polars,
    lambda path, format: _scan_polars(path, format).collect(),
    lambda table: library("polars").from_arrow(table),
    lambda frame: frame.height,
    _head_of_polars,
)
_LAZY = Kind(
    "polars.LazyFrame",
    _write_polars,
    _scan_polars,
    lambda table: library("polars").from_arrow(table).lazy(),
    lambda frame: None,
    _head_of_polars,
)
_ARROW = Kind(
    "pyarrow.Table",
    _write_arrow,
    _read_arrow,
    lambda table: table,
    lambda table: table.num_rows,
    _head_of_arrow,
    _arrow_of_json,
)

_KINDS: dict[tuple[str, str], Kind] = {
    ("pandas", "DataFrame"): _PANDAS,
    ("polars", "DataFrame"): _POLARS,
    ("polars", "LazyFrame"): _LAZY,
    ("pyarrow", "Table"): _ARROW,
}
