"""Typed flags from a task's interface: one for each input, made from its JSON Schema (see `INPUTS`).

The values are in their JSON form; constraints that the schema does not have are checked when the task is bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from flyte.cli import paths
from flyte.json_schema import without_null
from flyte.wire import InputSpec

if TYPE_CHECKING:
    ParamType = click.ParamType[Any, Any]
else:
    ParamType = click.ParamType  # generic from click 8.4 on only

Schema = Mapping[str, Any]

INPUTS = """\b
How inputs are written:
  int, float, str          --x 3
  bool                     --x / --no-x
  Enum, Literal            --color red           members by name, values as they are
  datetime, date           --at 2026-01-31T12:00, now, today
  timedelta                --for 1h30m, PT90M, or seconds
  Path                     --to some/where
  File, Dir                --f data.txt          a path of this machine, a URI, or JSON
  list[File], list[Dir]    --f a.txt --f b.txt   one flag for each, or JSON
  DataFrame                --df table.csv        .parquet, .csv, .tsv or .json, or JSON
  everything else          --data '{"a": 1}'     JSON, or @FILE with JSON in it
"""


class Parsed(ParamType):
    """A flag whose text `parse` converts to the JSON form of the value; `parse` raises ValueError with the problem."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class OneOf(ParamType):
    """A flag that takes one of a few words; case is ignored unless that is ambiguous."""

    name = "choice"

    def __init__(self, words: Mapping[str, Any]) -> None:
        self.words = words

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.words)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self.words:
            return self.words[value]
        near = [word for word in self.words if word.lower() == str(value).lower()]
        if len(near) != 1:
            self.fail(f"{value!r} is not one of: {', '.join(self.words)}", param, ctx)
        return self.words[near[0]]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value from the command line; it distinguishes None from a flag that was not given."""

    value: Any


class Flag(click.Option):
    """The option for one input. Its value is None if the flag was not given, else a `_Given`."""

    def __init__(self, spec: InputSpec, taken: Sequence[str] = ()) -> None:
        names = dict.fromkeys(
            f"--{form}" for form in (spec.name.replace("_", "-"), spec.name) if f"--{form}" not in taken
        )
        schema, nullable = _essence(spec.schema)
        kind = _kind(schema, nullable, spec.type)
        words = list(names)
        if kind is None:
            words = [f"{name}/--no-{name[2:]}" for name in names]
        super().__init__(
            [_variable(spec.name), *words],
            type=kind,
            is_flag=kind is None,
            default=None,
            multiple=paths.is_list_by_path(schema),
            help=_help(spec),
            show_default=False,
        )
        self.spec = spec

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help of the first spelling; `--my_input` works as well as `--my-input` and needs no mention."""
        opts, self.opts = self.opts, self.opts[:1]
        others, self.secondary_opts = self.secondary_opts, self.secondary_opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts, self.secondary_opts = opts, others

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        cast = super().type_cast_value(ctx, value)
        if value is None or _is_unset(value) or (self.multiple and not value):
            return None
        return _Given(_joined(cast) if self.multiple else cast)


def _joined(parts: Sequence[Any]) -> list[Any]:
    """The items of a flag that was given several times; each may be one item or a whole list."""
    return [item for part in parts for item in (part if isinstance(part, list) else [part])]


def _is_unset(value: Any) -> bool:
    """Whether the flag was not given: click 8.3 and later have a special value for that."""
    return type(value).__name__ == "Sentinel"


def _variable(name: str) -> str:
    """The name under which click keeps the value; it differs from the names of other options."""
    return f"input_{name}"


def inputs_from(specs: Sequence[InputSpec], values: Mapping[str, Any]) -> dict[str, Any]:
    """The given inputs, by name. Raises UsageError that names the flags of missing ones."""
    given: dict[str, Any] = {}
    for spec in specs:
        value = values.get(_variable(spec.name))
        if isinstance(value, _Given):
            given[spec.name] = value.value
    missing = [spec for spec in specs if spec.required and spec.name not in given]
    if missing:
        names = ", ".join(f"--{spec.name.replace('_', '-')} ({spec.type})" for spec in missing)
        raise click.UsageError(f"Missing required input{'s' if len(missing) > 1 else ''}: {names}")
    return given


def _help(spec: InputSpec) -> str:
    default = bytes(spec.default).decode() or "null"
    if spec.required:
        mark = "[required]"
    elif default == "null":
        mark = "[optional]"
    else:
        mark = f"[default: {_shown(default, spec.schema)}]"
    words = spec.help.strip()
    return "  ".join(part for part in (f"{words} ({spec.type})" if words else spec.type, mark) if part)


def _shown(default: str, schema: Schema) -> str:
    """The default in the form of the command line."""
    value = msgspec.json.decode(default)
    text = value if isinstance(value, str) and value else default
    if "enum" in schema:
        text = next((word for word, meant in _words(schema).items() if meant == value), text)
    return text if len(text) <= 60 else text[:59] + "…"


def _essence(schema: Schema) -> tuple[Schema, bool]:
    """The schema without null, and whether null was allowed."""
    members = schema.get("anyOf")
    if not isinstance(members, list):
        return schema, False
    rest = without_null(members)
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    if len(rest) == 1:
        return {**rest[0], **definitions}, len(rest) != len(members)
    return {"anyOf": rest, **definitions}, len(rest) != len(members)


def _kind(schema: Schema, nullable: bool, type_name: str) -> ParamType | None:
    """The type of the flag; None for a boolean, which is a pair of flags."""
    if "enum" in schema:
        return OneOf(_words(schema))
    if paths.is_by_path(schema) or paths.is_list_by_path(schema):
        return Parsed("path", lambda text: _by_path(text, schema, type_name))
    name = schema.get("type")
    if name == "boolean":
        return None
    if name == "string":
        return _STRINGS.get(str(schema.get("format", "")), click.STRING)
    parse = {"integer": _integer, "number": _number}.get(str(name))
    if parse is None:
        return Parsed("JSON", lambda text: _json(text, schema, type_name))
    return Parsed(str(name), (lambda text: None if text == "null" else parse(text)) if nullable else parse)


def _words(schema: Schema) -> dict[str, Any]:
    values = list(schema["enum"])
    names = schema.get("x-names") or [value if isinstance(value, str) else json.dumps(value) for value in values]
    return dict(zip(names, values, strict=True))


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _datetime(text: str) -> str:
    now = datetime.now(UTC)
    if text == "now":
        return now.isoformat()
    if text == "today":
        return datetime(now.year, now.month, now.day, tzinfo=UTC).isoformat()
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time; write it like 2026-01-31T12:00:00+00:00, or `now`, or `today`"
        ) from None


def _date(text: str) -> str:
    if text == "today":
        return datetime.now(UTC).date().isoformat()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is not a day; write it like 2026-01-31, or `today`") from None


def _duration(text: str) -> str:
    from flyte._values.scalars import read_duration, write_duration

    try:
        return f"PT{float(text)}S"
    except ValueError:
        pass
    try:
        return write_duration(read_duration(text))
    except ValueError:
        raise ValueError(f"{text!r} is not a duration; write it like 1h30m, PT90M, or 90 (seconds)") from None


_STRINGS: dict[str, ParamType] = {
    "date-time": Parsed("time", _datetime),
    "date": Parsed("day", _date),
    "duration": Parsed("duration", _duration),
    "path": Parsed("path", str),
    "uuid": Parsed("uuid", str),
}


def _by_path(text: str, schema: Schema, type_name: str) -> Any:
    """The value of a flag that takes a path, or JSON."""
    return _json(text, schema, type_name) if text.startswith("@") else paths.from_word(text, schema)


def _json(text: str, schema: Schema, type_name: str) -> Any:
    """The value of a flag that takes JSON; plain words are text if the type allows text."""
    content = _content(text)
    try:
        return paths.found_in(json.loads(content), schema)
    except json.JSONDecodeError as error:
        if _takes_text(schema) and content is text:
            return text
        raise ValueError(f"{type_name} is given as JSON, such as {_example(schema)}: {error}") from None


def _content(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text()
    except OSError as error:
        raise ValueError(f"the file {text[1:]} cannot be read: {error.strerror}") from None


def _takes_text(schema: Schema) -> bool:
    members = schema.get("anyOf")
    if isinstance(members, list):
        return any(_takes_text(member) for member in members)
    is_open = not {"type", "$ref", "properties"} & set(schema)
    return is_open or schema.get("type") == "string"


def _example(schema: Schema) -> str:
    """A value of the right form, for a message."""
    if schema.get("type") == "array":
        return "'[1, 2]'" if schema.get("items", {}).get("type") in ("integer", "number") else '\'["a", "b"]\''
    names = list(schema.get("properties", {}))[:2] or ["key"]
    return "'" + json.dumps(dict.fromkeys(names, "…"), ensure_ascii=False) + "'"
