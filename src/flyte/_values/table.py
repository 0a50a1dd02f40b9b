"""The table that finds the codec of an annotation."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
import functools
import inspect
import pathlib
import types
import typing
from typing import Any

import msgspec

from flyte._values import registered
from flyte._values.codec import Codec
from flyte._values.constraints import ConstrainedCodec, constraints_of
from flyte._values.containers import DictCodec, ListCodec, TupleCodec, UnionCodec
from flyte._values.fields import FieldsCodec, StructCodec, or_none
from flyte._values.frame_kinds import kind_of
from flyte._values.pydantic import PydanticCodec, is_pydantic, secret_codec
from flyte._values.pydantic_v1 import PydanticV1Codec, is_pydantic_v1
from flyte._values.scalars import FLOAT, INT, SCALARS, STR, EnumCodec, LiteralCodec, derived_codec, path_codec
from flyte._values.transformers import TypeTransformer
from flyte._values.untyped import ANY, PickledCodec, register

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


def codec_of(annotation: Any) -> Codec:
    """The compiled form of an annotation."""
    if isinstance(annotation, type):
        return SCALARS.get(annotation) or _codec_of_class(annotation, None, registered.state())
    try:
        # `int | str` equals `str | int`, so that the text has to tell them apart.
        return _codec_of_class(annotation, str(annotation), registered.state())
    except TypeError:  # not hashable, such as Annotated[int, {}]
        return _compile(annotation)


@functools.cache
def _codec_of_class(annotation: Any, text: str | None, registrations: int) -> Codec:
    return _compile(annotation)


def _compile(annotation: Any) -> Codec:
    if annotation in (Any, object, inspect.Parameter.empty) or isinstance(annotation, str | typing.ForwardRef):
        return ANY
    if annotation is None:
        return SCALARS[type(None)]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        codec = _annotated(args[0], annotation)
        constraints = constraints_of(annotation.__metadata__)
        return ConstrainedCodec(codec, constraints) if constraints else codec
    if origin in _WRAPPERS:
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
    return _container(cls, args) or _class(cls, args, annotation) or PickledCodec(annotation, _name_of(annotation))


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


def _class(cls: Any, args: tuple[Any, ...], annotation: Any) -> Codec | None:
    if not isinstance(cls, type):
        return None
    if cls in SCALARS:
        return SCALARS[cls]
    if (found := registered.find(annotation)) is not None:
        return found
    if hasattr(cls, "__flyte_codec__"):
        return typing.cast("Codec", cls.__flyte_codec__())
    if issubclass(cls, enum.Enum):
        return EnumCodec(cls)
    if issubclass(cls, pathlib.PurePath):
        return path_codec(cls)
    if typing.is_typeddict(cls):
        return FieldsCodec(cls, cls.__name__, functools.partial(typeddict_fields, cls))
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return FieldsCodec(cls, cls.__name__, functools.partial(namedtuple_fields, cls))
    if (secret := secret_codec(cls)) is not None:
        return secret
    if is_pydantic_v1(cls):
        return PydanticV1Codec(cls)
    if is_pydantic(cls):
        return PydanticCodec(cls)
    if dataclasses.is_dataclass(cls):
        return FieldsCodec(cls, cls.__name__, functools.partial(dataclass_fields, cls, args))
    if issubclass(cls, msgspec.Struct):
        return StructCodec(cls)
    if (kind := kind_of(cls)) is not None:
        from flyte._values.dataframes import FrameCodec

        return FrameCodec(cls, kind)
    return next((derived_codec(cls, base) for base in (INT, FLOAT, STR) if issubclass(cls, base.exact)), None)


def _annotated(inner: Any, annotation: Any) -> Codec:
    """The codec with what the metadata says: the format of `Annotated[DataFrame, "csv"]`, or a TypeTransformer."""
    metadata = annotation.__metadata__
    transformer = next((mark for mark in metadata if isinstance(mark, TypeTransformer)), None)
    if transformer is not None:
        return transformer.codec(annotation)
    codec = codec_of(inner)
    annotated = getattr(codec, "annotated", None)
    return codec if annotated is None else typing.cast("Codec", annotated(metadata))


def _name_of(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise TypeError(f"{cls.__qualname__}: the annotation {error.name!r} cannot be found at run time") from None


def dataclass_fields(cls: type, args: tuple[Any, ...]) -> dict[str, tuple[Codec, bool]]:
    hints = _hints(cls)
    bound = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
    return {
        field.name: (
            codec_of(or_none(bound.get(hints[field.name], hints[field.name]), field.default)),
            _is_required(field),
        )
        for field in dataclasses.fields(cls)
        if field.init
    }


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def typeddict_fields(cls: Any) -> dict[str, tuple[Codec, bool]]:
    return {name: (codec_of(hint), _is_required_key(cls, name, hint)) for name, hint in _hints(cls).items()}


def _is_required_key(cls: Any, name: str, hint: Any) -> bool:
    """`__required_keys__` is wrong where annotations are text (`from __future__ import annotations`)."""
    origin = typing.get_origin(hint)
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.Required
    return name in cls.__required_keys__


def namedtuple_fields(cls: Any) -> dict[str, tuple[Codec, bool]]:
    hints = _hints(cls)
    defaults = cls._field_defaults
    return {
        name: (codec_of(or_none(hints.get(name, Any), defaults.get(name, ...))), name not in defaults)
        for name in cls._fields
    }


for _collection in (tuple, set, frozenset):
    register(f"${_collection.__name__}", _collection, _compile(_collection))  # no plugin is asked while we are imported
