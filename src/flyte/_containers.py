"""Codecs of values that hold others, and the table that finds the codec of an annotation."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
import functools
import inspect
import pathlib
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from flyte import _pickles
from flyte._codecs import (
    FLOAT,
    INT,
    SCALARS,
    STR,
    Codec,
    EnumCodec,
    JsonSchema,
    LiteralCodec,
    Scalar,
    Schemas,
    derived_codec,
    path_codec,
)
from flyte._values import Mismatch, codec_of, from_bytes, to_bytes


class ListCodec(Codec):
    """list, set, frozenset and `tuple[T, ...]`. Sets are sorted by their JSON text: the same set is the same text."""

    def __init__(self, make: type, item: Codec, word: str) -> None:
        self.make = self.exact = make
        self.item = item
        self.name = word if isinstance(item, AnyCodec) else f"{word}[{item.name}{', ...' if make is tuple else ''}]"
        self.is_set = make in (set, frozenset)

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, (set, frozenset) if self.is_set else (list, tuple, collections.deque)):
            raise Mismatch(self.name, value)
        items = self._each(value, self.item.dump)
        return sorted(items, key=to_bytes) if self.is_set else items

    def _load(self, data: Any, strict: bool) -> Any:
        if not isinstance(data, list if strict else (list, tuple, set, frozenset)):
            raise Mismatch(self.name, data)
        return self.make(self._each(data, lambda item: self.item.load(item, strict)))

    @staticmethod
    def _each(values: Iterable[Any], change: Callable[[Any], Any]) -> list[Any]:
        changed = []
        for index, value in enumerate(values):
            try:
                changed.append(change(value))
            except Mismatch as mismatch:
                raise mismatch.under(f"[{index}]") from None
        return changed

    def schema(self, schemas: Schemas) -> JsonSchema:
        unique = {"uniqueItems": True} if self.is_set else {}
        return {"type": "array", "items": schemas.of(self.item), **unique}


class TupleCodec(Codec):
    """A tuple of fixed length."""

    exact = tuple

    def __init__(self, items: list[Codec]) -> None:
        self.items = items
        self.name = f"tuple[{', '.join(item.name for item in items) or '()'}]"

    def _dump(self, value: Any) -> Any:
        return [item.dump(each) for item, each in self._pairs(value, tuple)]

    def _load(self, data: Any, strict: bool) -> Any:
        return tuple(item.load(each, strict) for item, each in self._pairs(data, (list, tuple)))

    def _pairs(self, values: Any, accepted: Any) -> Iterable[tuple[Codec, Any]]:
        if not isinstance(values, accepted):
            raise Mismatch(self.name, values)
        if len(values) != len(self.items):
            raise Mismatch(self.name, values, f"it has {len(values)} elements, not {len(self.items)}")
        for index, (item, each) in enumerate(zip(self.items, values, strict=True)):
            yield _Step(item, f"[{index}]"), each

    def schema(self, schemas: Schemas) -> JsonSchema:
        count = len(self.items)
        items = [schemas.of(item) for item in self.items]
        return {"type": "array", "prefixItems": items, "minItems": count, "maxItems": count}


class _Step(Codec):
    """Another codec, with the step that leads to it, for messages."""

    def __init__(self, codec: Codec, step: str) -> None:
        self.codec, self.step = codec, step
        self.name, self.exact = codec.name, codec.exact

    def dump(self, value: Any) -> Any:
        try:
            return self.codec.dump(value)
        except Mismatch as mismatch:
            raise mismatch.under(self.step) from None

    def load(self, data: Any, strict: bool = False) -> Any:
        try:
            return self.codec.load(data, strict)
        except Mismatch as mismatch:
            raise mismatch.under(self.step) from None


class DictCodec(Codec):
    """A mapping. Keys that are text once dumped make a JSON object; other mappings are a list of pairs."""

    def __init__(self, make: type, key: Codec, value: Codec) -> None:
        self.make = self.exact = make
        self.key, self.value = key, value
        both_any = isinstance(key, AnyCodec) and isinstance(value, AnyCodec)
        self.name = "dict" if both_any else f"dict[{key.name}, {value.name}]"
        self.text_keys = isinstance(key, (Scalar, EnumCodec)) or (
            isinstance(key, LiteralCodec) and all(isinstance(form, str) for form in key.travel)
        )

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, collections.abc.Mapping):
            raise Mismatch(self.name, value)
        if isinstance(self.key, AnyCodec) and isinstance(self.value, AnyCodec):
            return ANY.dump(dict(value))
        pairs = [[self._key(key), self._at(key).dump(item)] for key, item in value.items()]
        if self.text_keys or all(isinstance(key, str) for key, _ in pairs):
            return {key if isinstance(key, str) else to_bytes(key).decode(): item for key, item in pairs}
        return pairs

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(self.key, AnyCodec) and isinstance(self.value, AnyCodec):
            loaded = ANY.load(data)
            if not isinstance(loaded, dict):
                raise Mismatch(self.name, data)
            return self.make(loaded)
        return self.make((self._read_key(key), self._at(key).load(item, strict)) for key, item in self._items(data))

    def _items(self, data: Any) -> Iterable[tuple[Any, Any]]:
        if isinstance(data, dict):
            return data.items()
        if isinstance(data, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in data):
            return ((key, item) for key, item in data)
        raise Mismatch(self.name, data)

    def _at(self, key: Any) -> _Step:
        return _Step(self.value, f"[{key!r}]")

    def _key(self, key: Any) -> Any:
        try:
            return self.key.dump(key)
        except Mismatch as mismatch:
            raise mismatch.under(f"[key {key!r}]") from None

    def _read_key(self, key: Any) -> Any:
        try:
            return self.key.load(key)
        except Mismatch as mismatch:
            if isinstance(key, str) and self.text_keys:
                try:
                    return self.key.load(from_bytes(key))
                except (Mismatch, ValueError):
                    pass
            raise mismatch.under(f"[key {key!r}]") from None

    def schema(self, schemas: Schemas) -> JsonSchema:
        if not self.text_keys and not isinstance(self.key, AnyCodec):
            pair = {"type": "array", "prefixItems": [schemas.of(self.key), schemas.of(self.value)]}
            return {"type": "array", "items": pair}
        values = schemas.of(self.value)
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}


class UnionCodec(Codec):
    """One of several types.

    What is dumped is the plain JSON of the member, unless loading that would give another member: then it is an
    object with the member's name, so that every value comes back as what it was.
    """

    TAG = "$type"

    def __init__(self, members: list[Codec]) -> None:
        self.exact = None
        self.members = members
        self.name = " | ".join(member.name for member in members)

    def _dump(self, value: Any) -> Any:
        index, data = self._dumped(value)
        chosen = None if self._is_tagged(data) else self._choose(data)
        return data if chosen is not None and chosen[0] == index else {self.TAG: index, "value": data}

    def _dumped(self, value: Any) -> tuple[int, Any]:
        """The member that the value belongs to, by its class if one is of that class, and its JSON."""
        by_class = [(i, member) for i, member in enumerate(self.members) if member.exact is type(value)]
        for index, member in by_class + list(enumerate(self.members)):
            try:
                return index, member._dump(value)
            except Mismatch:
                continue
        chosen = self._choose(value)
        if chosen is None:
            raise self._explained(value)
        return chosen[0], self.members[chosen[0]].dump(value)

    def _load(self, data: Any, strict: bool) -> Any:
        if self._is_tagged(data):
            return self.members[data[self.TAG]].load(data["value"], strict)
        chosen = self._choose(data, strict)
        if chosen is None:
            raise self._explained(data)
        return chosen[1]

    def _is_tagged(self, data: Any) -> bool:
        if type(data) is not dict or set(data) != {self.TAG, "value"}:
            return False
        return type(data[self.TAG]) is int and 0 <= data[self.TAG] < len(self.members)

    def _choose(self, data: Any, strict: bool = False) -> tuple[int, Any] | None:
        """The first member that takes `data` as it stands, else the first that takes it at all."""
        for strictly in (True,) if strict else (True, False):
            for index, member in enumerate(self.members):
                try:
                    return index, member.load(data, strictly)
                except Mismatch:
                    continue
        return None

    def _explained(self, value: Any) -> Mismatch:
        """Where one member is the only candidate, what is wrong inside it says more than the union's name."""
        others = [member for member in self.members if member.exact is not type(None)]
        if len(others) == 1:
            try:
                others[0].load(value)
            except Mismatch as mismatch:
                if mismatch.path or mismatch.why:
                    return mismatch
        return Mismatch(self.name, value)

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {"anyOf": [schemas.of(member) for member in self.members]}


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
        return {name: getattr(value, name) for name in self.fields}

    def _dump(self, value: Any) -> Any:
        values = self._values_of(value)
        self._check(values)
        return {name: _Step(self.fields[name][0], f".{name}").dump(item) for name, item in values.items()}

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(data, list) and issubclass(self.exact, tuple) and len(data) == len(self.fields):
            data = dict(zip(self.fields, data, strict=True))
        if self.exact is not dict and isinstance(data, self.cls):
            return data
        if not isinstance(data, dict):
            raise Mismatch(f"{self.name} (a JSON object)", data)
        self._check(data)
        values = {name: _Step(self.fields[name][0], f".{name}").load(item, strict) for name, item in data.items()}
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


class PydanticCodec(Codec):
    """A pydantic model; its own rules decide what fits."""

    def __init__(self, cls: Any) -> None:
        self.cls = self.exact = cls
        self.name = cls.__name__

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        return value.model_dump(mode="json", by_alias=True)

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(data, self.cls):
            return data
        try:
            return self.cls.model_validate(data)
        except ValueError as error:  # pydantic.ValidationError
            raise self._mismatch(data, error) from None

    def _mismatch(self, data: Any, error: Any) -> Mismatch:
        problem: dict[str, Any] = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
        where = ".".join(str(step) for step in problem["loc"])
        return Mismatch(self.name, data, f"{where}: {problem['msg']}" if where else problem["msg"])

    def schema(self, schemas: Schemas) -> JsonSchema:
        schema: JsonSchema = self.cls.model_json_schema()
        schemas.definitions.update(schema.pop("$defs", {}))
        return schema


class StructCodec(Codec):
    """A msgspec Struct."""

    def __init__(self, cls: type) -> None:
        self.cls = self.exact = cls
        self.name = cls.__name__

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        return msgspec.to_builtins(value)

    def _load(self, data: Any, strict: bool) -> Any:
        try:
            return msgspec.convert(data, self.cls)
        except msgspec.ValidationError as error:
            raise Mismatch(self.name, data, str(error)) from None

    def schema(self, schemas: Schemas) -> JsonSchema:
        (schema,), definitions = msgspec.json.schema_components([self.cls], ref_template="#/$defs/{name}")
        schemas.definitions.update(definitions)
        return schema


class PickledCodec(Codec):
    """A class that nothing is known of."""

    def __init__(self, cls: Any, name: str) -> None:
        self.cls = cls
        self.exact = cls if isinstance(cls, type) else None
        self.name = name

    def _dump(self, value: Any) -> Any:
        if self.exact is not None and not isinstance(value, self.exact):
            raise Mismatch(self.name, value)
        return _pickles.dump(value)

    def _load(self, data: Any, strict: bool) -> Any:
        if not _pickles.is_pickle(data):
            raise Mismatch(f"{self.name} (pickled)", data)
        value = _pickles.load(data)
        if self.exact is not None and not isinstance(value, self.exact):
            raise Mismatch(self.name, value)
        return value

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {"type": "object", "properties": {_pickles.MARK: {"type": "string"}}, "title": self.name}


class AnyCodec(Codec):
    """JSON-like values as they are; other standard types under a mark; the rest pickled."""

    name = "Any"
    exact = None
    PAIRS = "$pairs"

    def _dump(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if isinstance(value, list):
            return [self._dump(item) for item in value]
        if isinstance(value, dict):
            return self._dump_dict(value)
        if kind is float:
            number = FLOAT.dump(value)
            return {"$float": number} if isinstance(number, str) else number
        if kind.__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
            return self._dump(value.item())
        for mark, marked in _marked().items():
            if kind is marked or (marked is pathlib.Path and isinstance(value, marked)):
                return {mark: codec_of(marked).dump(value)}
        return _pickles.dump(value)

    def _dump_dict(self, value: dict[Any, Any]) -> Any:
        if all(type(key) is str for key in value):
            return {_escaped(key): self._dump(item) for key, item in value.items()}
        return {self.PAIRS: [[self._dump(key), self._dump(item)] for key, item in value.items()]}

    def _load(self, data: Any, strict: bool) -> Any:
        if type(data) is list:
            return [self._load(item, strict) for item in data]
        if type(data) is not dict:
            return data
        if _pickles.is_pickle(data):
            return _pickles.load(data)
        if len(data) == 1:
            ((key, item),) = data.items()
            if key == self.PAIRS and isinstance(item, list):
                return {self._load(k, strict): self._load(v, strict) for k, v in item}
            if key in _marked():
                return codec_of(_marked()[key]).load(item)
        return {_unescaped(key): self._load(item, strict) for key, item in data.items()}


ANY = AnyCodec()


@functools.cache
def _marked() -> dict[str, Any]:
    """Mark → the type whose codec takes what is under it."""
    known = {f"${cls.__name__.lower()}": cls for cls in SCALARS if cls not in (int, str, bool, type(None))}
    from flyte.io import Dir, File

    return {**known, "$tuple": tuple, "$set": set, "$frozenset": frozenset, "$path": pathlib.Path} | {
        "$file": File,
        "$dir": Dir,
    }


def _is_mark(key: str) -> bool:
    return key in (AnyCodec.PAIRS, _pickles.MARK, UnionCodec.TAG) or key in _marked()


def _escaped(key: Any) -> Any:
    """A user's own key that reads like a mark gets one more `$`, so that it cannot be taken for one."""
    return f"${key}" if key[:1] == "$" and _is_mark("$" + key.lstrip("$")) else key


def _unescaped(key: Any) -> Any:
    return key[1:] if isinstance(key, str) and key[:2] == "$$" and _is_mark("$" + key.lstrip("$")) else key


_SEQUENCES: dict[Any, tuple[type, str]] = {
    list: (list, "list"),
    set: (set, "set"),
    frozenset: (frozenset, "frozenset"),
    collections.deque: (collections.deque, "deque"),
    collections.abc.Set: (set, "set"),
    collections.abc.MutableSet: (set, "set"),
    collections.abc.Sequence: (list, "list"),
    collections.abc.MutableSequence: (list, "list"),
    collections.abc.Iterable: (list, "list"),
    collections.abc.Collection: (list, "list"),
}
_MAPPINGS: dict[Any, type] = {
    dict: dict,
    collections.OrderedDict: collections.OrderedDict,
    collections.defaultdict: dict,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}
_WRAPPERS = (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar)


def compile_codec(annotation: Any) -> Codec:
    """The codec of an annotation; see `_values.codec_of`, which remembers it."""
    if annotation in (Any, object, inspect.Parameter.empty) or isinstance(annotation, str | typing.ForwardRef):
        return ANY
    if annotation is None:
        return SCALARS[type(None)]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated or origin in _WRAPPERS:
        return codec_of(args[0])
    if origin is typing.Literal:
        return LiteralCodec(args)
    if origin in (typing.Union, types.UnionType):
        return UnionCodec([codec_of(member) for member in args])
    if isinstance(annotation, typing.TypeVar):
        return codec_of(annotation.__bound__ or Any)
    if isinstance(annotation, typing.NewType):
        return codec_of(annotation.__supertype__)
    if hasattr(annotation, "__value__") and not isinstance(annotation, type):  # `type X = …` of Python 3.12
        return codec_of(annotation.__value__)
    cls = origin or annotation
    return _container(cls, args) or _class(cls, args) or PickledCodec(annotation, _name_of(annotation))


def _container(cls: Any, args: tuple[Any, ...]) -> Codec | None:
    if cls is tuple:
        if args and args[-1] is not Ellipsis:
            return TupleCodec([] if args == ((),) else [codec_of(arg) for arg in args])
        return ListCodec(tuple, codec_of(args[0]) if args else ANY, "tuple")
    if cls in _SEQUENCES:
        make, word = _SEQUENCES[cls]
        return ListCodec(make, codec_of(args[0]) if args else ANY, word)
    if cls in _MAPPINGS:
        key, value = args if len(args) == 2 else (Any, Any)
        return DictCodec(_MAPPINGS[cls], codec_of(key), codec_of(value))
    return None


def _class(cls: Any, args: tuple[Any, ...]) -> Codec | None:
    if not isinstance(cls, type):
        return None
    if cls in SCALARS:
        return SCALARS[cls]
    if hasattr(cls, "__flyte_codec__"):
        return typing.cast("Codec", cls.__flyte_codec__())
    if issubclass(cls, enum.Enum):
        return EnumCodec(cls)
    if issubclass(cls, pathlib.PurePath):
        return path_codec(cls)
    if typing.is_typeddict(cls):
        return FieldsCodec(cls, cls.__name__, functools.partial(_typeddict_fields, cls))
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return FieldsCodec(cls, cls.__name__, functools.partial(_namedtuple_fields, cls))
    if _is_pydantic(cls):
        return PydanticCodec(cls)
    if dataclasses.is_dataclass(cls):
        return FieldsCodec(cls, cls.__name__, functools.partial(_dataclass_fields, cls, args))
    if issubclass(cls, msgspec.Struct):
        return StructCodec(cls)
    if cls.__name__ == "DataFrame" and cls.__module__.partition(".")[0] == "pandas":
        from flyte._frames import PandasCodec

        return PandasCodec(cls)
    return next((derived_codec(cls, base) for base in (INT, FLOAT, STR) if issubclass(cls, base.exact)), None)


def _is_pydantic(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise TypeError(f"{cls.__qualname__}: the annotation {error.name!r} cannot be found at run time") from None


def _dataclass_fields(cls: type, args: tuple[Any, ...]) -> dict[str, tuple[Codec, bool]]:
    hints = _hints(cls)
    bound = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
    return {
        field.name: (codec_of(bound.get(hints[field.name], hints[field.name])), _is_required(field))
        for field in dataclasses.fields(cls)
        if field.init
    }


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _typeddict_fields(cls: Any) -> dict[str, tuple[Codec, bool]]:
    return {name: (codec_of(hint), _is_required_key(cls, name, hint)) for name, hint in _hints(cls).items()}


def _is_required_key(cls: Any, name: str, hint: Any) -> bool:
    """`__required_keys__` is wrong where annotations are text (`from __future__ import annotations`)."""
    origin = typing.get_origin(hint)
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.Required
    return name in cls.__required_keys__


def _namedtuple_fields(cls: Any) -> dict[str, tuple[Codec, bool]]:
    hints = _hints(cls)
    return {name: (codec_of(hints.get(name, Any)), name not in cls._field_defaults) for name in cls._fields}


def _name_of(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
