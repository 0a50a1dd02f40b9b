"""Codecs of values with named fields: dataclasses, TypedDicts, NamedTuples, msgspec Structs."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from typing import Any, Optional

import msgspec

from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas, Step
from flyte._values.scalars import NOT_FINITE, write_float


class FieldsCodec(Codec):
    """An object with named fields: dataclass, TypedDict, NamedTuple. The fields' types are looked at on first use."""

    def __init__(self, cls: Any, name: str, fields: Callable[[], dict[str, tuple[Codec, bool]]]) -> None:
        self.cls = cls
        self.exact: type = dict if typing.is_typeddict(cls) else cls
        self.name = name
        self._fields = fields

    @functools.cached_property
    def fields(self) -> dict[str, tuple[Codec, bool]]:
        """Field → codec, and whether it must be there."""
        return self._fields()

    def _values_of(self, value: Any) -> dict[str, Any]:
        if self.exact is dict:
            if not isinstance(value, dict):
                raise Mismatch(self.name, value)
            return value
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        if lost := [name for name in _names(type(value)) if name not in _names(self.cls)]:
            raise Mismatch(self.name, value, f"its field {lost[0]!r} would be lost: annotate {type(value).__name__}")
        return {name: getattr(value, name) for name in self.fields}

    def _dump(self, value: Any) -> Any:
        values = self._values_of(value)
        self._check(values)
        return {name: Step(self.fields[name][0], f".{name}").dump(item) for name, item in values.items()}

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(data, list) and issubclass(self.exact, tuple) and len(data) == len(self.fields):
            data = dict(zip(self.fields, data, strict=True))
        if self.exact is not dict and isinstance(data, self.cls):
            return data
        if not isinstance(data, dict):
            raise Mismatch(f"{self.name} (a JSON object)", data)
        self._check(data)
        values = {name: Step(self.fields[name][0], f".{name}").load(item, strict) for name, item in data.items()}
        return self._made(values)

    def _made(self, values: dict[str, Any]) -> Any:
        try:
            return self.cls(**values)
        except (TypeError, ValueError, AssertionError) as error:
            raise Mismatch(self.name, values, str(error) or type(error).__name__) from None

    def _check(self, values: dict[str, Any]) -> None:
        for name in values:
            if name not in self.fields:
                known = ", ".join(self.fields)
                raise Mismatch(self.name, values, f"it has no field {name!r}; its fields are {known}")
        for name, (_, required) in self.fields.items():
            if required and name not in values:
                raise Mismatch(self.name, values, f"its field {name!r} is missing")

    def schema(self, schemas: Schemas) -> JsonSchema:
        properties = {name: schemas.of(codec) for name, (codec, _) in self.fields.items()}
        required = [name for name, (_, needed) in self.fields.items() if needed]
        schema: JsonSchema = {"type": "object", "title": self.name, "properties": properties}
        return {**schema, "required": required, "additionalProperties": False}


class StructCodec(Codec):
    """A msgspec Struct."""

    def __init__(self, cls: type) -> None:
        self.cls = self.exact = cls
        self.name = cls.__name__

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        try:
            return _changed(msgspec.to_builtins(value), _worded)
        except TypeError as error:  # a field of a type that msgspec does not know
            raise Mismatch(self.name, value, str(error)) from None

    def _load(self, data: Any, strict: bool) -> Any:
        try:
            return msgspec.convert(data, self.cls)
        except msgspec.ValidationError as error:
            problem = error
        try:  # msgspec reads the words for infinity and NaN as text
            return msgspec.convert(_changed(data, _unworded), self.cls)
        except msgspec.ValidationError:
            raise Mismatch(self.name, data, str(problem)) from None

    def schema(self, schemas: Schemas) -> JsonSchema:
        (schema,), definitions = msgspec.json.schema_components([self.cls], ref_template="#/$defs/{name}")
        schemas.definitions.update(definitions)
        return schema


def _changed(data: Any, change: Callable[[Any], Any]) -> Any:
    """JSON data with every single value in it changed."""
    if isinstance(data, dict):
        return {key: _changed(item, change) for key, item in data.items()}
    return [_changed(item, change) for item in data] if isinstance(data, list | tuple) else change(data)


def _worded(item: Any) -> Any:
    return write_float(item) if isinstance(item, float) else item


def _unworded(item: Any) -> Any:
    return NOT_FINITE.get(item, item) if isinstance(item, str) else item


def _names(cls: Any) -> tuple[str, ...]:
    """The fields of a dataclass or NamedTuple."""
    return tuple(getattr(cls, "__dataclass_fields__", ()) or getattr(cls, "_fields", ()))


def or_none(hint: Any, default: Any) -> Any:
    """`name: str = None` means that it may be None."""
    return Optional[hint] if default is None else hint  # noqa: UP045 - `|` does not take text
