"""The check of a task's inputs when a run is created, for every kind of caller alike.

It reads the JSON Schema that the SDK made from the annotations. It refuses inputs that are certainly wrong, with a
sentence for their sender; the worker, which has the annotations themselves, decodes them and decides. A schema comes
from the task and may be anything: a meaningless keyword is ignored, and inputs that are not decided within STEPS are
left to the worker. So is `pattern`, since a regular expression may take any time.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import msgspec

from flyte.errors import InvalidInputError
from flyte.json_schema import target
from flyte.rules import NESTING
from flyte.wire import InputSpec, InterfaceSpec

_Schema = Mapping[str, Any]

STEPS = 20_000
"""How many schemas are checked for one call, some 50 ms; what is undecided then is left to the worker."""


class Undecided(Exception):
    """Raised when the schema takes more than STEPS, or refers to itself in a circle."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A part of an input that does not fit: its path, its value, and the reason."""

    value: Any
    wanted: str
    """The end of the sentence `… is VALUE, `; empty if the value is not of the input's declared type."""
    place: str = ""

    def under(self, step: str) -> Misfit:
        return replace(self, place=step + self.place)


@dataclass(slots=True)
class _Reading:
    """The check of one input."""

    root: _Schema
    steps: int

    def step(self, depth: int) -> None:
        self.steps -= 1
        if self.steps < 0 or depth > NESTING // 2:
            raise Undecided


def check(task: str, interface: InterfaceSpec, inputs: bytes) -> None:
    """Raise InvalidInputError unless `inputs`, a JSON object, fits `interface`."""
    try:
        given = msgspec.json.decode(inputs)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInputError(f"the inputs of {task} are not JSON: {error}") from error
    if not isinstance(given, dict):
        raise InvalidInputError(f"the inputs of {task} are {_shown(given)}, not a JSON object of name → value")
    declared = {spec.name: spec for spec in interface.inputs}
    missing = [name for name, spec in declared.items() if spec.required and name not in given]
    unknown = [name for name in given if name not in declared]
    if missing or unknown:
        raise InvalidInputError(_names_sentence(task, interface.inputs, missing, unknown))
    steps = STEPS
    for name, value in given.items():
        misfit, steps = _looked_at(value, declared[name].schema, steps)
        if misfit is not None:
            wanted = misfit.wanted or f"not {_article(declared[name].type)}"
            place = f"{name}{misfit.place}"
            raise InvalidInputError(f"input {place!r} of {task} is {_shown(misfit.value)}, {wanted}")


def fits(value: Any, schema: _Schema | bool, root: _Schema) -> bool:
    """Whether `value` may fit `schema`; a value that is not decided within STEPS fits."""
    try:
        return _misfit(value, schema, _Reading(root, STEPS), 0) is None
    except (Undecided, RecursionError):
        return True


def _looked_at(value: Any, schema: _Schema, steps: int) -> tuple[Misfit | None, int]:
    """The part that does not fit, if any, and the steps that are left."""
    reading = _Reading(schema, steps)
    try:
        return _misfit(value, schema, reading, 0), reading.steps
    except (Undecided, RecursionError):
        return None, max(0, reading.steps)


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


# ---------------------------------------------------------------------------------------------------------- the schema


def _misfit(value: Any, schema: Any, reading: _Reading, depth: int) -> Misfit | None:
    reading.step(depth)
    if not isinstance(schema, Mapping):
        return Misfit(value, "") if schema is False else None
    if isinstance(reference := schema.get("$ref"), str):
        return _misfit(value, target(reference, reading.root), reading, depth + 1)
    for word in ("anyOf", "oneOf"):
        if (found := _misfit_of_all(value, _list(schema, word), reading, depth)) is not None:
            return found
    for option in _list(schema, "allOf"):
        if (found := _misfit(value, option, reading, depth + 1)) is not None:
            return found
    if "const" in schema and value != schema["const"]:
        return Misfit(value, f"not {_shown(schema['const'])}" if depth else "")
    if (choices := _list(schema, "enum")) and value not in [*choices, *_list(schema, "x-names")]:
        return Misfit(value, f"not one of {_shown(choices)}" if depth else "")
    return _misfit_of_type(value, schema, depth) or _misfit_of_parts(value, schema, reading, depth)


def _list(schema: _Schema, word: str) -> list[Any]:
    found = schema.get(word)
    return found if isinstance(found, list) else []


def _misfit_of_all(value: Any, options: list[Any], reading: _Reading, depth: int) -> Misfit | None:
    """The problem of a value that fits no option, nor the option that it names: `{"$type": 1, "value": …}`."""
    if not options:
        return None
    found = []
    for option in options:
        misfit = _misfit(value, option, reading, depth + 1)
        if misfit is None:
            return None
        found.append((option, misfit))
    if isinstance(value, dict) and set(value) == {"$type", "value"}:
        at = value["$type"]
        if isinstance(at, int) and 0 <= at < len(options):
            return _misfit(value["value"], options[at], reading, depth + 1)
    meant = [misfit for option, misfit in found if option != {"type": "null"}]
    if len(meant) == 1 and (meant[0].place or meant[0].wanted):
        return meant[0]
    words = [word for option, _ in found if (word := _words(option))]
    return Misfit(value, f"not {' or '.join(words)}" if depth and words else "")


_NAMES = {
    "integer": "an int",
    "number": "a float",
    "string": "a str",
    "boolean": "a bool",
    "null": "None",
    "array": "a list",
    "object": "a dict",
}


def _words(schema: Any) -> str:
    """The types that the schema allows, for people."""
    wanted = schema.get("type") if isinstance(schema, Mapping) else None
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    return " or ".join(_NAMES[name] for name in names if isinstance(name, str) and name in _NAMES)


def _misfit_of_type(value: Any, schema: _Schema, depth: int) -> Misfit | None:
    if _is_marked(value):
        return None
    form = _form_of(schema)
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    taken_as_number = form in ("duration", "decimal") and _is_a(value, "number")
    if names and not taken_as_number and not any(_is_a(value, name) for name in names):
        return Misfit(value, f"not {_FORMS[form][1]}" if form else f"not {_words(schema)}" if depth else "")
    if form and isinstance(value, str) and not _has_form(value, _FORMS[form][0]):
        return Misfit(value, f"not {_FORMS[form][1]}")
    return _misfit_of_size(value, schema)


def _is_marked(value: Any) -> bool:
    """Whether it is a pydantic model in the marked form, which only the worker can check."""
    return isinstance(value, dict) and set(value) == {"$model"}


_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""The floats without a JSON number, as they are sent."""


def _is_a(value: Any, name: Any) -> bool:
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


def _misfit_of_parts(value: Any, schema: _Schema, reading: _Reading, depth: int) -> Misfit | None:
    if isinstance(value, list):
        first = _list(schema, "prefixItems")
        rest = schema.get("items", True)
        for at, item in enumerate(value):
            found = _misfit(item, first[at] if at < len(first) else rest, reading, depth + 1)
            if found is not None:
                return found.under(f"[{at}]")
    elif isinstance(value, dict) and not _is_marked(value):
        for name in _list(schema, "required"):
            if isinstance(name, str) and name not in value:
                return Misfit(value, f"which lacks {name!r}")
        known = schema.get("properties")
        properties = known if isinstance(known, Mapping) else {}
        extra = schema.get("additionalProperties", True)
        for name, item in value.items():
            if (found := _misfit(item, properties.get(name, extra), reading, depth + 1)) is not None:
                return found.under(f".{name}" if name.isidentifier() else f"[{name!r}]")
    return None


# -------------------------------------------------------------------------------------------------- formats and sizes


def _date(text: str) -> None:
    dt.datetime.fromisoformat(text)  # which reads dates, too


_CLOCK = re.compile(r"[-+]?(\d{1,9}\s*(d|days?)?,?\s+)?\d{1,9}:\d{1,2}(:\d{1,2}(\.\d{1,9})?)?")
_DURATION = re.compile(
    r"[-+]?P?(\d+W)?(\d+(\.\d+)?Y)?(\d+(\.\d+)?M)?(\d+(\.\d+)?D)?T?(\d+(\.\d+)?H)?(\d+(\.\d+)?M)?(\d+(\.\d+)?S)?",
    re.IGNORECASE,
)


def _duration(text: str) -> None:
    text = text.strip()
    whole = any(letter.isdigit() for letter in text) and _DURATION.fullmatch(text)
    if len(text) > 100 or not (whole or _CLOCK.fullmatch(text)):
        raise ValueError


def _base64(text: str) -> None:
    base64.b64decode(text, validate=True)


_FORMS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "date-time": (dt.datetime.fromisoformat, "a datetime (ISO text, such as 2026-01-31T12:00:00Z)"),
    "date": (_date, "a date (ISO text, such as 2026-01-31)"),
    "time": (dt.time.fromisoformat, "a time (ISO text, such as 12:30:00)"),
    "duration": (_duration, "a timedelta (seconds, or text such as PT1H30M or 1h30m)"),
    "uuid": (uuid.UUID, "a UUID"),
    "decimal": (decimal.Decimal, "a Decimal"),
    "base64": (_base64, "bytes (base64 text)"),
}
"""Format → a function that raises unless a text has this format, and the format's name for people."""


def _form_of(schema: _Schema) -> str:
    form = schema.get("format", schema.get("contentEncoding"))
    return form if isinstance(form, str) and form in _FORMS else ""


def _has_form(text: str, read: Callable[[str], object]) -> bool:
    try:
        read(text)
    except (ValueError, ArithmeticError):
        return read not in (_base64, uuid.UUID) and bool(re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?", text))
    return True  # a pydantic model also accepts a number as text for a time


_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("minimum", lambda value, bound: value >= bound, "which must be at least"),
    ("maximum", lambda value, bound: value <= bound, "which must be at most"),
    ("exclusiveMinimum", lambda value, bound: value > bound, "which must be more than"),
    ("exclusiveMaximum", lambda value, bound: value < bound, "which must be less than"),
)
_LENGTHS = (
    ("minLength", "maxLength", str, "characters"),
    ("minItems", "maxItems", list, "items"),
    ("minProperties", "maxProperties", dict, "entries"),
)


def _misfit_of_size(value: Any, schema: _Schema) -> Misfit | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        for word, holds, text in _BOUNDS:
            if _is_number(bound := schema.get(word)) and not holds(value, bound):
                return Misfit(value, f"{text} {bound}")
        if _is_number(step := schema.get("multipleOf")) and step > 0 and not _is_multiple(value, step):
            return Misfit(value, f"which must be a multiple of {step}")
    for least, most, kind, unit in _LENGTHS:
        if isinstance(value, kind):
            low, high = schema.get(least), schema.get(most)
            if isinstance(low, int) and len(value) < low:
                return Misfit(value, f"which must have at least {low} {unit}")
            shortest = len(value.strip()) if isinstance(value, str) else len(value)  # a model may strip it
            if isinstance(high, int) and shortest > high:
                return Misfit(value, f"which must have at most {high} {unit}")
    return None


def _is_number(bound: Any) -> TypeGuard[float]:
    return isinstance(bound, int | float) and not isinstance(bound, bool)


def _is_multiple(value: float, step: float) -> bool:
    """Whether it may be a multiple: with floats, 0.3 counts as a multiple of 0.1; indivisible values fit."""
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        rest = value % step
    except (ArithmeticError, ValueError):
        return True
    return not (1e-9 * step < rest < step - 1e-9 * step)
