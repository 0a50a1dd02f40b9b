"""Values for a task whose annotations are not here: it was fetched by name, and only its JSON Schema is known.

A value goes as the JSON that a person would write for it: a date as ISO text, an enum by value or name, a dataclass
or a pydantic model as an object, a path as text, bytes as base64. Where the schema says nothing (`Any`, a bare `dict`),
what a stranger sent must stay plain data: a key that reads like one of our marks (`{"$pickle": …}`) is escaped there.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from flyte._values import from_json, to_json
from flyte._values import pickles as _pickles
from flyte._values.codec import Schemas
from flyte._values.dataframes import located_class
from flyte._values.table import codec_of
from flyte.errors import InvalidInputError
from flyte.json_schema import resolved
from flyte.wire import InputSpec

Schema = Mapping[str, Any]

_SAYS_SOMETHING = frozenset({"type", "enum", "const", "anyOf", "oneOf", "allOf", "properties"})


def dump_inputs(values: Mapping[str, Any], declared: list[InputSpec]) -> dict[str, Any]:
    """The inputs as a JSON object; the platform checks their names. Raises InvalidInputError."""
    schemas = {spec.name: spec.schema for spec in declared}
    return {name: _Dumper(f"input {name!r}", schemas.get(name, {})).dump(value) for name, value in values.items()}


def load(data: Any, schema: Schema) -> Any:
    """An output of a fetched task. Marks become what they stand for, data frames a DataFrame; nothing is unpickled."""
    if schema.get("format") == "parquet" and isinstance(data, Mapping):
        return located_class().from_json(data)
    return from_json(data, Any) if not _says_something(schema) and not _pickles.holds_pickle(data) else data


def _says_something(schema: Schema) -> bool:
    return not _SAYS_SOMETHING.isdisjoint(schema)


@dataclasses.dataclass(frozen=True, slots=True)
class _Dumper:
    name: str
    """What the value is called in messages."""
    root: Schema

    def dump(self, value: Any) -> Any:
        return self._shaped(value, self.root)

    def _shaped(self, value: Any, schema: Any) -> Any:
        """`value` as JSON that fits `schema` where it can."""
        if hasattr(value, "__flyte_artifact__"):
            value = value.__flyte_artifact__()
        schema = self._chosen(value, resolved(schema, self.root))
        if not _says_something(schema):
            return to_json(self._plain(value), Any, self.name)
        if _is_model(value):
            return to_json(value, type(value), self.name)
        if isinstance(value, enum.Enum):
            return value.value if value.value in schema.get("enum", ()) else value.name
        data = _opened(value)
        if isinstance(data, Mapping):
            return self._object(data, schema)
        if isinstance(data, list | tuple | set | frozenset):
            return self._array(list(data), schema)
        return self._scalar(data)

    def _object(self, data: Mapping[Any, Any], schema: Schema) -> Any:
        known: Mapping[str, Any] = schema.get("properties", {})
        rest = schema.get("additionalProperties", {})
        if not known and not (isinstance(rest, Mapping) and rest):
            return to_json(self._plain(data), dict, self.name)
        if _pickles.MARK in known:  # a class that nothing is known of: plain data is none
            return to_json(self._plain(data), Any, self.name)
        return {str(key): self._shaped(item, known.get(str(key), rest)) for key, item in data.items()}

    def _array(self, data: list[Any], schema: Schema) -> list[Any]:
        first = schema.get("prefixItems", [])
        rest = schema.get("items", {})
        return [self._shaped(item, first[at] if at < len(first) else rest) for at, item in enumerate(data)]

    def _scalar(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        codec = codec_of(type(value))
        if isinstance(value, float) or _pickles.MARK not in codec.schema(Schemas()).get("properties", {}):
            return to_json(value, type(value), self.name)
        raise InvalidInputError(
            f"{self.name} holds a {type(value).__qualname__}, which has no JSON form; send what it is made of"
        )

    def _plain(self, value: Any) -> Any:
        """`value` with nothing in it but JSON's own types and the scalars that have a mark."""
        if isinstance(value, enum.Enum):
            return value.name
        data = _opened(value)
        if isinstance(data, Mapping):
            return {str(key): self._plain(item) for key, item in data.items()}
        if isinstance(data, list | tuple | set | frozenset):
            return [self._plain(item) for item in data]
        self._scalar(data)
        return data

    def _chosen(self, value: Any, schema: Schema) -> Schema:
        """Of a union, the member that a value of this kind is meant for."""
        options = [resolved(option, self.root) for option in schema.get("anyOf") or schema.get("oneOf") or ()]
        if not options:
            return schema
        data = _opened(value)
        if isinstance(value, enum.Enum):
            return next((option for option in options if "enum" in option), options[0])
        if isinstance(data, Mapping):
            objects = [option for option in options if option.get("type") == "object" or not _says_something(option)]
            fitting = [option for option in objects if set(data) <= set(option.get("properties", ()))]
            return (fitting or objects or options)[0]
        if isinstance(data, list | tuple | set | frozenset):
            return next((option for option in options if option.get("type") == "array"), options[0])
        return next((option for option in options if not _says_something(option)), {"type": "any"})


def _opened(value: Any) -> Any:
    """Dataclasses, pydantic models and msgspec structs as dicts of their fields; anything else as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not _has_scalar_form(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if _is_model(value):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if hasattr(type(value), "__struct_fields__"):
        return {name: getattr(value, name) for name in type(value).__struct_fields__}
    return value


def _is_model(value: Any) -> bool:
    return hasattr(type(value), "model_fields") and not _has_scalar_form(value)


def _has_scalar_form(value: Any) -> bool:
    """`File` and `Dir` travel as they do elsewhere, whatever they are made of."""
    return type(value).__module__.startswith("flyte.io")
