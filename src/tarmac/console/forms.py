"""The form that starts a task, made from the JSON Schemas of its inputs, and the conversion of the submitted text.

A schema that a plain control can show (text, number, yes or no, one of several) gets that control; every other input is
typed as JSON. An empty field is left out if the task has a default, and is null if null is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from flyte.json_schema import target, without_null
from flyte.wire import InputSpec, InterfaceSpec

_LONGEST_CHAIN = 16
"""How many references and choices are followed from one schema to the next."""

Kind = Literal["text", "date", "integer", "number", "boolean", "choice", "json"]


@dataclass(frozen=True, slots=True)
class Field:
    """One input as the form shows it."""

    name: str
    type: str
    kind: Kind
    required: bool
    nullable: bool
    help: str = ""
    choices: tuple[str, ...] = ()
    """The values to choose from, as JSON."""
    text: str = ""
    """The content of the control."""
    placeholder: str = ""
    error: str = ""


class FormErrors(Exception):
    """Raised when the submitted text does not fit; `fields` have the reasons."""

    def __init__(self, fields: list[Field]) -> None:
        super().__init__("; ".join(f"{field.name}: {field.error}" for field in fields if field.error))
        self.fields = fields


def fields(interface: InterfaceSpec, given: Mapping[str, Any] | None = None) -> list[Field]:
    """The form's fields, filled with `given` or with the task's defaults."""
    return [_field(spec, given or {}) for spec in interface.inputs]


def _field(spec: InputSpec, given: Mapping[str, Any]) -> Field:
    schema, nullable = _plain(spec.schema, spec.schema, _LONGEST_CHAIN)
    kind, choices = _control(schema)
    value = given.get(spec.name, msgspec.json.decode(spec.default) if not spec.required else None)
    known = spec.name in given or not spec.required
    return Field(
        name=spec.name,
        type=spec.type,
        kind=kind,
        required=spec.required,
        nullable=nullable,
        help=spec.help,
        choices=choices,
        text=_text(kind, value) if known else "",
        placeholder=_placeholder(kind, schema),
    )


def _plain(schema: Mapping[str, Any], root: Mapping[str, Any], steps: int) -> tuple[Mapping[str, Any], bool]:
    """`schema` without references and without null, and whether null is allowed; `{}` after _LONGEST_CHAIN steps."""
    if not steps:
        return {}, True
    if "$ref" in schema:
        return _plain(target(schema["$ref"], root), root, steps - 1)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        others = without_null(options)
        if len(others) == 1:
            return _plain(others[0], root, steps - 1)[0], len(others) < len(options)
        return {}, len(others) < len(options)
    if isinstance(kinds := schema.get("type"), list):
        others = [kind for kind in kinds if kind != "null"]
        plain = {**schema, "type": others[0]} if len(others) == 1 else {}
        return plain, "null" in kinds
    return schema, not schema


def _control(schema: Mapping[str, Any]) -> tuple[Kind, tuple[str, ...]]:
    if "enum" in schema or "const" in schema:
        values = schema.get("enum") or [schema["const"]]
        return "choice", tuple(_json(value) for value in values)
    match schema.get("type"):
        case "string":
            return ("date" if schema.get("format") == "date" else "text"), ()
        case "integer":
            return "integer", ()
        case "number":
            return "number", ()
        case "boolean":
            return "boolean", ("true", "false")
        case _:
            return "json", ()


def _placeholder(kind: Kind, schema: Mapping[str, Any]) -> str:
    match kind, schema.get("type"), schema.get("format"):
        case "text", _, "date-time":
            return "2026-01-31T12:00:00Z"
        case "text", _, "duration":
            return "PT1H30M"
        case "json", "array", _:
            return "[1, 2, 3]"
        case "json", "object", _:
            return '{"name": "value"}'
        case "json", _, _:
            return "JSON"
        case _:
            return ""


def _text(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    if kind in ("text", "date") and isinstance(value, str):
        return value
    if kind == "json":
        return msgspec.json.format(_json(value), indent=2)
    return _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def inputs(interface: InterfaceSpec, typed: Mapping[str, str]) -> bytes:
    """The submitted inputs, as the JSON object of a run. Raises FormErrors."""
    read: dict[str, msgspec.Raw] = {}
    seen: list[Field] = []
    for empty in fields(interface):
        field = replace(empty, text=typed.get(empty.name, ""))
        try:
            if (value := _value(field)) is not None:
                read[field.name] = msgspec.Raw(value)
        except ValueError as error:
            field = replace(field, error=str(error))
        seen.append(field)
    if any(field.error for field in seen):
        raise FormErrors(seen)
    return msgspec.json.encode(read)


def _value(field: Field) -> bytes | None:
    """The field's value as JSON; None for the default. Raises ValueError."""
    text = field.text if field.kind == "text" else field.text.strip()
    if not text:
        if not field.required:
            return None
        if field.nullable:
            return b"null"
        if field.kind != "text":
            raise ValueError("is needed")
    if field.nullable and text == "null" and field.kind != "text":
        return b"null"
    return _READERS[field.kind](text)


def _whole(text: str) -> bytes:
    try:
        return str(int(text)).encode()
    except ValueError:
        raise ValueError("is not a whole number") from None


def _number(text: str) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.decode(text, type=float | int))
    except msgspec.DecodeError:
        raise ValueError("is not a number") from None


def _as_json(text: str) -> bytes:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    return text.encode()


def _string(text: str) -> bytes:
    return msgspec.json.encode(text)


_READERS: Mapping[Kind, Callable[[str], bytes]] = {
    "text": _string,
    "date": _string,
    "integer": _whole,
    "number": _number,
    "boolean": _as_json,
    "choice": _as_json,
    "json": _as_json,
}
