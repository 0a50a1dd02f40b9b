"""The codec of pydantic models.

Pydantic's JSON is made to be read, not to come back: a secret is dumped as asterisks, an excluded field not at all, NaN
as null, a field with another `serialization_alias` under a name that validation does not take. So what is dumped is
validated again at once, and travels in the first of these forms that gives the same model:

1. pydantic's own, `model_dump(mode="json", round_trip=True)`, which is what other programs expect;
2. the fields under the names that validation takes, excluded ones included, secrets in the clear;
3. pydantic's own without the fields that were not given, whose defaults need not pass validation;
4. `{"$model": …}`: the same with marks for what JSON has no word for (bytes that are not text, a set under `Any`).

All are loaded by the model's own validation, and nothing in them is unpickled. A model that comes back from none of
them, because its validators change their own results or because it holds what has no JSON form, is refused by the
field's name. Private attributes do not travel; of a subclass's instance the fields of the declared class do.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from flyte._values import pickles as _pickles
from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas, shorten
from flyte._values.scalars import SCALARS, instance, write_float
from flyte._values.text import from_bytes, to_bytes
from flyte._values.untyped import ANY, has_mark
from flyte.errors import InvalidInputError

MODEL = "$model"
"""The key of the last form."""

Change = tuple[str, Any, Any]
"""Where a model is not what it was, what stood there, and what stands there now."""

Leaf = Callable[[Any], Any]
Form = Callable[[Any, Any], Any]


def is_pydantic(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def secret_codec(cls: type) -> Codec | None:
    """The codec of pydantic's `SecretStr` and `SecretBytes`: the text travels, and arrives as a secret again."""
    if cls.__module__ != "pydantic.types" or cls.__name__ not in ("SecretStr", "SecretBytes"):
        return None
    inner = SCALARS[str if cls.__name__ == "SecretStr" else bytes]
    return dataclasses.replace(
        inner,
        name=cls.__name__,
        exact=cls,
        json_schema={**inner.json_schema, "format": "password", "writeOnly": True},
        write=instance(cls, lambda value: inner.write(value.get_secret_value())),
        read=lambda data: cls(inner.read(data)),
    )


class PydanticCodec(Codec):
    """A pydantic model; its own rules decide what fits."""

    def __init__(self, cls: Any) -> None:
        self.cls = self.exact = cls
        self.name = cls.__name__

    @functools.cached_property
    def _forms(self) -> tuple[Form, ...]:
        """The forms in the order in which they are tried.

        Pydantic writes a set in the order of this process, and a child action is found again by the text of its inputs.
        """
        text = repr(self.cls.__pydantic_core_schema__)
        has_sets = "'type': 'set'" in text or "'type': 'frozenset'" in text
        forms = (_field_form, _own_form) if has_sets else (_own_form, _field_form)
        return (*forms, _given_form, _marked_form)

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        problem = Mismatch(self.name, value)
        for form in self._forms:
            try:
                data = from_bytes(to_bytes(form(value, self.cls)))  # as it will arrive
                change = _change(self.cls, value, self._load(data, False))
            except Mismatch as mismatch:
                problem = mismatch
            except InvalidInputError as error:
                problem = Mismatch(self.name, value, str(error))
            except Exception as error:  # noqa: BLE001 - a stranger's serializers and validators
                problem = Mismatch(self.name, value, f"it has no JSON form: {error}")
            else:
                if change is None:
                    return data
                problem = Mismatch(self.name, value, _sentence(change))
        raise problem

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(data, self.cls):
            return data
        if type(data) is dict and set(data) == {MODEL}:
            if _pickles.holds_pickle(data):
                raise Mismatch(self.name, data, "a model is never pickled")
            data = ANY.load(data[MODEL])
        try:
            return self.cls.model_validate(data)
        except ValueError as error:  # pydantic.ValidationError
            problem = error
        try:  # a strict model takes text for a date, and a list for a tuple, from JSON only
            return self.cls.model_validate_json(to_bytes(data))
        except ValueError as error:
            raise self._mismatch(data, error) from None
        except TypeError:  # it is not plain JSON
            raise self._mismatch(data, problem) from None

    def _mismatch(self, data: Any, error: Any) -> Mismatch:
        problem: dict[str, Any] = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
        where = ".".join(str(step) for step in problem["loc"])
        return Mismatch(self.name, data, f"{where}: {problem['msg']}" if where else problem["msg"])

    def schema(self, schemas: Schemas) -> JsonSchema:
        schema: JsonSchema = self.cls.model_json_schema()
        schemas.definitions.update(schema.pop("$defs", {}))
        return schema


# ------------------------------------------------------------------------------------------------------ the three forms


def _own_form(value: Any, cls: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)


def _given_form(value: Any, cls: Any) -> Any:
    """Only what was given: a default such as None of `name: str = None` is nothing that validation would take."""
    return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False, exclude_unset=True)


def _field_form(value: Any, cls: Any) -> Any:
    return _fields(value, cls, _plain)


def _marked_form(value: Any, cls: Any) -> Any:
    return {MODEL: ANY.dump(_fields(value, cls, _marked))}


def _fields(model: Any, cls: Any, leaf: Leaf) -> Any:
    """The fields of `cls` under the names that its validation takes; of a root model, the root."""
    values = model.__dict__
    if cls.__pydantic_root_model__:
        return leaf(model.root)
    by_alias = cls.model_config.get("validate_by_alias", True)
    data: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        if name in values:
            try:
                _put(data, _way(name, field.validation_alias if by_alias else None), leaf(values[name]))
            except (TypeError, ValueError, AttributeError) as error:
                raise Mismatch(cls.__name__, model, f"its field {name!r} has no JSON form: {error}") from None
    return {**data, **{name: leaf(item) for name, item in (model.__pydantic_extra__ or {}).items()}}


def _way(name: str, alias: Any) -> list[str | int]:
    """The keys that lead to a field in what is validated: one, or those of the first of its aliases."""
    alias = getattr(alias, "choices", [alias])[0]
    return list(getattr(alias, "path", [alias or name]))


def _put(data: Any, way: list[str | int], value: Any) -> None:
    """`data[way[0]][way[1]]… = value`, with dicts for keys and lists for numbers."""
    for step, following in zip(way, [*way[1:], None], strict=True):
        if isinstance(step, int):
            data.extend([None] * (step + 1 - len(data)))
            present = data[step]
        else:
            present = data.get(step)
        if following is None:
            data[step] = value
        elif present is None:
            data[step] = [] if isinstance(following, int) else {}
        data = data[step]


def _opened(value: Any, leaf: Leaf) -> Any:
    """What is in a value that both forms take apart in the same way; None where it is a leaf."""
    if is_pydantic(type(value)):
        return _fields(value, type(value), leaf)
    if hasattr(value, "get_secret_value"):
        return leaf(value.get_secret_value())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: leaf(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return None


def _plain(value: Any) -> Any:
    """JSON that pydantic's validation understands."""
    if isinstance(value, float) and not math.isfinite(value):
        return write_float(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else _key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=to_bytes)
    if isinstance(value, list | tuple | collections.deque):
        return [_plain(item) for item in value]
    opened = _opened(value, _plain)
    return _jsonable(value) if opened is None else opened


def _marked(value: Any) -> Any:
    """Python's own types only: what `ANY` writes without a pickle."""
    if type(value) is dict:
        return {_marked(key): _marked(item) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_marked(item) for item in value)
    if isinstance(value, enum.Enum):
        return _marked(value.value)
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.isoformat()  # the mark would make it UTC
    if value is None or type(value) in (bool, int, str) or has_mark(value):
        return value
    opened = _opened(value, _marked)
    return _jsonable(value) if opened is None else opened


def _untouched(value: Any) -> Any:
    """Every single value as it is, and what holds them open for validation."""
    if is_pydantic(type(value)):
        return _fields(value, type(value), _untouched)
    if type(value) is dict:
        return {key: _untouched(item) for key, item in value.items()}
    return type(value)(map(_untouched, value)) if type(value) in (list, tuple) else value


def _key(key: Any) -> str:
    (text,) = _jsonable({key: None})
    return str(text)


def _jsonable(value: Any) -> Any:
    if hasattr(type(value), "__flyte_codec__"):
        return type(value).__flyte_codec__().dump(value)
    if isinstance(value, enum.Enum):
        return _jsonable(value.value)
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


# ---------------------------------------------------------------------------------------------------- the same, or not


def _change(cls: Any, value: Any, back: Any) -> Change | None:
    """Where `back` is not what `value` was.

    Pydantic does not validate defaults and what is assigned: a `Path` may hold a str. Such a value is made what its
    field declares on the way, which does not count as a change if validation alone does the same.
    """
    if _equal(value, back):
        return None
    changes = list(islice(_changes(value, back, ""), 100))
    if not changes:
        return None
    same_type = next((change for change in changes if type(change[1]) is type(change[2])), None)
    return same_type or (None if _is_validation_alone(cls, value, back) else changes[0])


def _is_validation_alone(cls: Any, value: Any, back: Any) -> bool:
    try:
        validated = cls.model_validate(_fields(value, cls, _untouched))
    except ValueError:
        return False
    return next(_changes(validated, back, ""), None) is None


def _changes(was: Any, now: Any, place: str) -> Iterator[Change]:
    if is_pydantic(type(now)) and isinstance(was, type(now)):
        fields = {**now.__dict__, **(now.__pydantic_extra__ or {})}
        known = {**was.__dict__, **(was.__pydantic_extra__ or {})}
        for name, item in fields.items():
            yield from _changes(known.get(name), item, f"{place}.{name}" if place else name)
    elif type(was) is type(now) and isinstance(now, list | tuple) and len(was) == len(now):
        for at, (before, after) in enumerate(zip(was, now, strict=True)):
            yield from _changes(before, after, f"{place}[{at}]")
    elif type(was) is type(now) and isinstance(now, dict) and was.keys() == now.keys():
        for key in now:
            yield from _changes(was[key], now[key], f"{place}[{key!r}]")
    elif not _equal(was, now):
        yield place, was, now


def _equal(was: Any, now: Any) -> bool:
    if isinstance(was, float) and isinstance(now, float) and math.isnan(was):
        return math.isnan(now)
    try:
        equal = bool(was == now)
    except Exception:  # noqa: BLE001 - a stranger's `==`, such as numpy's, may give anything
        return type(was) is type(now)
    return equal or (type(was) is type(now) and "__eq__" not in _names(type(now)))


def _names(cls: type) -> set[str]:
    """What the class and those it is made of define, `object` aside."""
    return {name for base in cls.__mro__[:-1] for name in vars(base)}


def _sentence(change: Change) -> str:
    place, was, now = change
    return (
        f"{place or 'it'} is {shorten(was)} and would arrive as {shorten(now)}; a model's validators and serializers "
        "have to give back what they gave"
    )
