"""Inputs that are given by a path of this machine: files, folders and data frames.

A relative path is relative to the folder in which `flyte` was called. A file or folder is uploaded when the platform is
known (`sent`), because its destination depends on the platform's machine; a data frame is read at once.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyte.json_schema import resolved, without_null

Schema = Mapping[str, Any]

FRAME = "parquet"
_READ_AT_ONCE = 64 * 1024
"""Bytes of the largest table that is read here; the file of a larger one is sent, and the task reads it."""

FORMATS = ("file", "dir", FRAME)
"""The formats that the schemas of File, Dir and DataFrame name."""


@dataclass(frozen=True, slots=True)
class Here:
    """A file or folder of this machine, with other given fields of the value."""

    path: Path
    fields: Mapping[str, Any] = field(default_factory=dict)


def is_by_path(schema: Schema) -> bool:
    """Whether a value of this schema can be given as a path."""
    return schema.get("format") in FORMATS


def is_list_by_path(schema: Schema) -> bool:
    items = schema.get("items")
    return schema.get("type") == "array" and isinstance(items, Mapping) and is_by_path(items)


def from_word(text: str, schema: Schema) -> Any:
    """The value of one word of the command line: a path, a URI, or JSON. Raises ValueError with the problem."""
    if text[:1] in ('"', "{", "["):
        try:
            return found_in(json.loads(text), schema)
        except json.JSONDecodeError as error:
            raise ValueError(f"{text} begins like JSON and is not JSON: {error}") from None
    one = schema["items"] if is_list_by_path(schema) else schema
    if one["format"] == FRAME:
        return _frame(_here(text))
    return text if "://" in text else Here(_existing(text, one["format"]))


def found_in(value: Any, schema: Schema, root: Schema | None = None) -> Any:
    """JSON data with the relative paths of files and folders replaced by `Here`.

    URIs and absolute paths, which are on the platform's machine, stay unchanged. Raises ValueError for a relative path
    that does not exist.
    """
    root = root or schema
    schema = resolved(schema, root)
    if schema.get("format") in ("file", "dir"):
        return _located(value, str(schema["format"]))
    members = without_null(schema.get("anyOf", ()))
    if len(members) == 1 and value is not None:
        return found_in(value, members[0], root)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [found_in(item, schema["items"], root) for item in value]
    if isinstance(value, dict):
        named, others = schema.get("properties") or {}, schema.get("additionalProperties")
        kinds = {key: named.get(key, others if isinstance(others, Mapping) else {}) for key in value}
        return {key: found_in(item, kinds[key], root) for key, item in value.items()}
    return value


def in_place(value: Any) -> Any:
    """The value with absolute paths of this machine, for a run in this process."""
    return _each(value, lambda here: str(here.path))


def sent(value: Any) -> Any:
    """The value with its files and folders uploaded, or in place on the platform's machine. Blocks.

    Raises TooLargeError for a file above 100 MiB that has to be sent to another machine.
    """
    from flyte.io import _place

    return _each(value, lambda here: _place.keep(here.path, None))


def _each(value: Any, place: Callable[[Here], str]) -> Any:
    if isinstance(value, Here):
        path = place(value)
        return {**value.fields, "path": path} if value.fields else path
    if isinstance(value, list):
        return [_each(item, place) for item in value]
    if isinstance(value, dict):
        return {key: _each(item, place) for key, item in value.items()}
    return value


def _located(value: Any, kind: str) -> Any:
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str) or "://" in path or Path(path).expanduser().is_absolute():
        return value
    fields = {key: item for key, item in value.items() if key != "path"} if isinstance(value, dict) else {}
    return Here(_existing(path, kind), fields)


def _here(text: str) -> Path:
    return Path.cwd() / Path(text).expanduser()


def _existing(text: str, kind: str) -> Path:
    """The absolute path. Raises ValueError unless it exists and is a file or folder, as the input requires."""
    path = _here(text)
    wanted = "folder" if kind == "dir" else "file"
    if not path.exists():
        raise ValueError(f"there is no {wanted} {path}; JSON names one on the platform's machine: '\"/its/path\"'")
    if path.is_dir() != (kind == "dir"):
        raise ValueError(f"{path} is {'not a folder' if kind == 'dir' else 'a folder, not a file'}")
    return path.absolute()


def _frame(path: Path) -> Any:
    """The JSON form of a data frame that is read from a file."""
    from flyte._values.dataframes import MARK

    read = {".csv": ",", ".tsv": "\t"}
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".json", *read):
        raise ValueError(f"{path.name}: a DataFrame is read from .parquet, .csv, .tsv or .json, or given as JSON")
    try:
        if suffix != ".json" and path.stat().st_size > _READ_AT_ONCE:
            return Here(path, {"format": suffix[1:]})
        if suffix in read:
            return _table(path, read[suffix])
        data = path.read_bytes()
        return {MARK: base64.b64encode(data).decode()} if suffix == ".parquet" else json.loads(data)
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # JSON, text that is not UTF-8, a table that pandas cannot take apart
        raise ValueError(f"{path.name} cannot be read as a table: {error}") from None


def _table(path: Path, separator: str) -> Any:
    try:
        import pandas  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError:
        raise ValueError("reading it takes pandas, which is not installed here: pip install pandas") from None
    from flyte._values.table import codec_of

    return codec_of(pandas.DataFrame).dump(pandas.read_csv(path, sep=separator))
