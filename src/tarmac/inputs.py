"""Are these the inputs that a task declares? Checked where a run is created, for every kind of caller alike.

The check reads the JSON Schema that the SDK made from the annotations. It refuses what is surely wrong, with a sentence
for the person who sent it; the worker, which has the annotations themselves, decodes and has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flyte.errors import InvalidInputError
from flyte.wire import InputSpec, InterfaceSpec

_Schema = Mapping[str, Any]


def check(task: str, interface: InterfaceSpec, inputs: bytes) -> None:
    """Raise InvalidInputError unless `inputs`, a JSON object, fits `interface`."""
    try:
        given = msgspec.json.decode(inputs)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"the inputs of {task} are not JSON: {error}") from error
    if not isinstance(given, dict):
        raise InvalidInputError(f"the inputs of {task} are {_shown(given)}, not a JSON object of name → value")
    declared = {spec.name: spec for spec in interface.inputs}
    missing = [name for name, spec in declared.items() if spec.required and name not in given]
    unknown = [name for name in given if name not in declared]
    if missing or unknown:
        raise InvalidInputError(_names_sentence(task, interface.inputs, missing, unknown))
    for name, value in given.items():
        spec = declared[name]
        if not fits(value, spec.schema, spec.schema):
            raise InvalidInputError(f"input {name!r} of {task} is {_shown(value)}, not {_article(spec.type)}")


def _names_sentence(task: str, inputs: list[InputSpec], missing: list[str], unknown: list[str]) -> str:
    parts = []
    if missing:
        parts.append("needs " + ", ".join(f"{name!r}" for name in missing))
    if unknown:
        parts.append("takes no " + ", ".join(f"{name!r}" for name in unknown))
    takes = ", ".join(f"{spec.name}: {spec.type}{'' if spec.required else ' (optional)'}" for spec in inputs)
    return f"{task} {' and '.join(parts)}; its inputs are: {takes or 'none'}"


def _article(type_name: str) -> str:
    return f"{'an' if type_name[:1].lower() in 'aeiou' else 'a'} {type_name}"


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "…"


def fits(value: Any, schema: _Schema | bool, root: _Schema) -> bool:
    """Whether `value` may be what `schema` describes; what the schema does not speak of fits."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return fits(value, _resolve(schema["$ref"], root), root)
    for word in ("anyOf", "oneOf"):
        if word in schema and not _fits_one(value, schema[word], root):
            return False
    if "allOf" in schema and not all(fits(value, option, root) for option in schema["allOf"]):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in [*schema["enum"], *schema.get("x-names", ())]:
        return False
    return _fits_type(value, schema) and _fits_parts(value, schema, root)


def _fits_one(value: Any, options: list[_Schema], root: _Schema) -> bool:
    """Whether the value fits one of the options, or names the one that it is meant for: `{"$type": 1, "value": …}`."""
    if any(fits(value, option, root) for option in options):
        return True
    if not isinstance(value, dict) or set(value) != {"$type", "value"}:
        return False
    at = value["$type"]
    return isinstance(at, int) and 0 <= at < len(options) and fits(value["value"], options[at], root)


def _fits_type(value: Any, schema: _Schema) -> bool:
    wanted = schema.get("type")
    if wanted is None or _is_marked(value):
        return True
    return any(_is_a(value, name) for name in ([wanted] if isinstance(wanted, str) else wanted))


def _is_marked(value: Any) -> bool:
    """A pydantic model that no plain JSON stands for; what is in it only the worker can tell."""
    return isinstance(value, dict) and set(value) == {"$model"}


_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""The floats that JSON has no number for, as they travel."""


def _is_a(value: Any, name: str) -> bool:
    match name:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
        case "number":
            return value in _NOT_FINITE or (isinstance(value, int | float) and not isinstance(value, bool))
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case _:
            return True


def _fits_parts(value: Any, schema: _Schema, root: _Schema) -> bool:
    if isinstance(value, list):
        first: list[Any] = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        leading = all(fits(item, part, root) for item, part in zip(value, first, strict=False))
        return leading and all(fits(item, rest, root) for item in value[len(first) :])
    if isinstance(value, dict) and not _is_marked(value):
        properties: Mapping[str, Any] = schema.get("properties", {})
        extra = schema.get("additionalProperties", True)
        if any(name not in value for name in schema.get("required", ())):
            return False
        return all(fits(item, properties.get(name, extra), root) for name, item in value.items())
    return True


def _resolve(reference: str, root: _Schema) -> _Schema:
    """The part of `root` that a local reference (`#/$defs/Name`) names; anything else fits everything."""
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}
