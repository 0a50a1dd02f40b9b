"""Records and frames, checked as a whole against the rules that their fields name (`flyte.rules`).

The API checks every body before it uses it, the links every frame. A record's class is compiled to plain functions
once, so that the check of a frame takes some microseconds.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from flyte.errors import InvalidInputError
from flyte.rules import FLOAT, INTEGER, ITEMS, JSON, TEXT, Problem, Rule, shown

Look = Callable[[Any], Problem | None]
"""Returns the problem with a value, or None."""


def problem(record: msgspec.Struct) -> Problem | None:
    """The first field of a record or frame that breaks its rule, or None."""
    return _of_record(type(record))(record)


def check(record: msgspec.Struct) -> None:
    """Raise InvalidInputError for the first field that breaks its rule, with its path and the allowed values."""
    if (found := problem(record)) is not None:
        raise InvalidInputError(str(found))


def fields_of(record: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of a record with their types, rules included."""
    hints = typing.get_type_hints(record, include_extras=True)
    return {name: hints[name] for name in record.__struct_fields__}


@functools.cache
def _of_record(record: Any) -> Look:
    looks = [(name, of) for name, hint in fields_of(record).items() if (of := _of_type(hint)) is not None]
    is_range = {"min_replicas", "max_replicas"} <= set(record.__struct_fields__)

    def look(value: Any) -> Problem | None:
        for name, of in looks:
            if (part := getattr(value, name)) is not None and (found := of(part)) is not None:
                return found.under(name)
        return _range_problem(value) if is_range else None

    return look


def _range_problem(value: Any) -> Problem | None:
    if value.min_replicas <= value.max_replicas:
        return None
    return Problem("min_replicas", str(value.min_replicas), f"be at most max_replicas, which is {value.max_replicas}")


def _of_type(hint: Any) -> Look | None:
    """The function that checks a value of the type; None if every value is allowed."""
    rule: Rule | None = None
    if typing.get_origin(hint) is Annotated:
        rule = next((mark for mark in hint.__metadata__ if isinstance(mark, Rule)), None)
        hint = hint.__origin__
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _of_union(inner)
    if origin is list or (origin is tuple and inner[-1] is Ellipsis):
        return _of_items(rule or ITEMS, _of_type(inner[0]))
    if origin is tuple:
        return _of_items(rule or ITEMS, _of_type(inner[0]))
    if origin is dict:
        return _of_mapping(rule or ITEMS, _of_type(inner[0]), _of_type(inner[1]))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return problem
    if rule is None and not (isinstance(hint, type) and issubclass(hint, enum.Enum)):
        rule = _DEFAULTS.get(hint)
    return None if rule is None else rule.problem


_DEFAULTS: dict[Any, Rule] = {str: TEXT, int: INTEGER, float: FLOAT, Any: JSON, msgspec.Raw: JSON}


def _of_union(options: tuple[Any, ...]) -> Look | None:
    looks = {_class_of(option): of for option in options if (of := _of_type(option)) is not None}
    if len(options) == 2 and types.NoneType in options:
        return _of_optional(next(iter(looks.values()), None))

    def look(value: Any) -> Problem | None:
        of = looks.get(type(value))
        return of(value) if of is not None else None

    return look


def _of_optional(of: Look | None) -> Look | None:
    """A field that is None is left out before, but an item of a list or mapping may be None, too."""
    return None if of is None else lambda value: None if value is None else of(value)


def _class_of(hint: Any) -> Any:
    plain = hint.__origin__ if typing.get_origin(hint) is Annotated else hint
    return typing.get_origin(plain) or plain


def _of_items(size: Rule, of: Look | None) -> Look:
    def look(values: Any) -> Problem | None:
        if (found := size.problem(values)) is not None:
            return found
        if of is not None:
            for at, value in enumerate(values):
                if (found := of(value)) is not None:
                    return found.under(f"[{at}]")
        return None

    return look


def _of_mapping(size: Rule, of_key: Look | None, of_value: Look | None) -> Look:
    def look(values: Any) -> Problem | None:
        if (found := size.problem(values)) is not None:
            return found
        for key, value in values.items():
            found = (of_key(key) if of_key is not None else None) or (of_value(value) if of_value is not None else None)
            if found is not None:
                return found.under(f"[{shown(key)}]")
        return None

    return look
