"""What an annotation demands of a value besides its type: `Annotated[int, Field(gt=0)]`, and its kin.

Constraints of annotated_types, pydantic and msgspec are read by their attributes, so that none has to be imported. They
are kept by the codec, and so wherever a value comes in or goes out; those that JSON Schema has a word for are in the
schema, too, where the platform refuses a call before there is a run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas

_LIBRARIES = frozenset({"annotated_types", "pydantic", "msgspec"})

_LENGTHS = {"string": "Length", "array": "Items", "object": "Properties"}
"""JSON type → how the keywords for its size end."""


@dataclass(frozen=True, slots=True)
class Constraint:
    form: str
    """What completes the sentence `… must be FORM`."""
    holds: Callable[[Any], bool]
    keyword: str = ""
    """In JSON Schema; `min` and `max` for sizes, whose whole word depends on the type."""
    bound: Any = None

    def is_kept(self, value: Any) -> bool:
        """Whether the value has it; one that cannot be compared has not, and None, which a union allows, has."""
        try:
            return value is None or bool(self.holds(value))
        except (TypeError, ArithmeticError):
            return False


def constraints_of(metadata: Iterable[Any]) -> tuple[Constraint, ...]:
    """The constraints among what follows the type in `Annotated[T, …]`."""
    found: dict[tuple[str, str], Constraint] = {}
    for mark in metadata:
        for constraint in _of_mark(mark):
            found[constraint.keyword, constraint.form] = constraint
    return tuple(found.values())


def description_of(mark: Any) -> str:
    """What `Field(description=…)` or `Meta(description=…)` says."""
    text = getattr(mark, "description", None) if _is_known(mark) else None
    return text if isinstance(text, str) else ""


def _is_known(mark: Any) -> bool:
    return type(mark).__module__.partition(".")[0] in _LIBRARIES


def _of_mark(mark: Any) -> Iterator[Constraint]:
    if not _is_known(mark):
        return
    for name, make in _MAKERS.items():
        if (bound := getattr(mark, name, None)) is not None:
            yield make(bound)
    if type(mark).__name__ == "Predicate":
        yield Constraint(f"accepted by {getattr(mark.func, '__qualname__', mark.func)}", mark.func)
    if isinstance(nested := getattr(mark, "metadata", None), list):  # pydantic's Field(…)
        for inner in nested:
            yield from _of_mark(inner)


def _bound(keyword: str, words: str, holds: Callable[[Any, Any], bool]) -> Callable[[Any], Constraint]:
    return lambda bound: Constraint(f"{words} {bound}", lambda value: holds(value, bound), keyword, bound)


def _is_multiple(value: Any, step: Any) -> bool:
    rest = value % step
    return not rest or (isinstance(rest, float) and min(abs(rest), abs(step - rest)) < 1e-9 * abs(step))


def _pattern(pattern: str | re.Pattern[str]) -> Constraint:
    compiled = re.compile(pattern)
    text = compiled.pattern
    return Constraint(f"text that matches {text!r}", lambda value: compiled.search(value) is not None, "pattern", text)


def _least(count: int) -> Constraint:
    return Constraint(f"at least {count} long", lambda value: len(value) >= count, "min", count)


def _most(count: int) -> Constraint:
    return Constraint(f"at most {count} long", lambda value: len(value) <= count, "max", count)


_MAKERS: dict[str, Callable[[Any], Constraint]] = {
    "gt": _bound("exclusiveMinimum", "more than", lambda value, bound: value > bound),
    "ge": _bound("minimum", "at least", lambda value, bound: value >= bound),
    "lt": _bound("exclusiveMaximum", "less than", lambda value, bound: value < bound),
    "le": _bound("maximum", "at most", lambda value, bound: value <= bound),
    "multiple_of": _bound("multipleOf", "a multiple of", _is_multiple),
    "min_length": _least,
    "max_length": _most,
    "pattern": _pattern,
}
"""Attribute of a mark → what its value demands."""


class NotKept(Mismatch):
    """A value is of the right type, and does not keep a constraint."""


class ConstrainedCodec(Codec):
    """Another codec, whose values must keep constraints."""

    def __init__(self, codec: Codec, constraints: tuple[Constraint, ...]) -> None:
        self.codec, self.constraints = codec, constraints
        self.name, self.exact = codec.name, codec.exact

    def _dump(self, value: Any) -> Any:
        data = self.codec._dump(value)
        self._check(value)
        return data

    def _load(self, data: Any, strict: bool) -> Any:
        value = self.codec._load(data, strict)
        self._check(value)
        return value

    def _check(self, value: Any) -> None:
        for constraint in self.constraints:
            if not constraint.is_kept(value):
                raise NotKept(constraint.form, value)

    def schema(self, schemas: Schemas) -> JsonSchema:
        schema = self.codec.schema(schemas)
        return {**schema, **dict(filter(None, (_keyword(each, schema) for each in self.constraints)))}


def _keyword(constraint: Constraint, schema: JsonSchema) -> tuple[str, Any] | None:
    """The constraint as a part of the schema, where the schema's JSON is what the constraint is about."""
    kind, bound = str(schema.get("type")), constraint.bound
    if constraint.keyword in ("min", "max"):
        is_value = kind in _LENGTHS and "format" not in schema and "contentEncoding" not in schema
        if not is_value or (constraint.keyword == "max" and "uniqueItems" in schema):  # a set takes items twice
            return None
        return f"{constraint.keyword}{_LENGTHS[kind]}", bound
    if constraint.keyword == "pattern":
        return (constraint.keyword, bound) if kind == "string" and "format" not in schema else None
    is_number = isinstance(bound, int | float) and (kind in ("integer", "number") or "anyOf" in schema)
    return (constraint.keyword, bound) if constraint.keyword and is_number else None
