"""The base of File and Dir: a path or URI with a name, and its JSON form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar

T = TypeVar("T")

_FIELDS = ("path", "name", "format", "hash")


class Located(Generic[T]):
    """A path or URI. Values are frozen, and equal where all fields are.

    Not a dataclass, because pydantic would then convert it field by field instead of calling its methods.
    """

    __slots__ = (*_FIELDS, "_flyte_metadata")

    FORMAT: ClassVar[str]
    """The `format` of values in a JSON Schema; the cache and the command line know them by it."""

    path: str
    name: str
    """The last part of the path, unless it was given."""
    format: str
    hash: str | None
    """The hash of the content, for cache keys."""

    def __init__(self, path: str | Path, name: str | None = None, format: str = "", hash: str | None = None) -> None:
        for field, value in zip(_FIELDS, (str(path), name or Path(path).name, format, hash), strict=True):
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen; make another one")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Located) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        shown = [f"{field}={value!r}" for field, value in self.to_dict().items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> Any:
        return type(self), self._fields()

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field) for field in _FIELDS)

    def get_flyte_metadata(self) -> Any:
        """What `flyte.artifacts.new` said of this value. Raises AttributeError for a value that is not an artifact."""
        return object.__getattribute__(self, "_flyte_metadata")

    def to_dict(self) -> dict[str, Any]:
        """The fields that are set."""
        return {field: value for field, value in zip(_FIELDS, self._fields(), strict=True) if value}

    def to_json(self) -> Any:
        """The path as text, or an object if other fields are set."""
        return self.path if self == type(self)(self.path) else self.to_dict()

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The value from text or an object, or that of an artifact. Raises TypeError for anything else."""
        if hasattr(data, "__flyte_artifact__"):
            data = data.__flyte_artifact__()
        if isinstance(data, cls):
            return data
        if isinstance(data, str):
            return cls(data)
        if not isinstance(data, dict) or "path" not in data:
            raise TypeError(f"{cls.__name__} takes a path, or an object with `path`")
        if unknown := sorted(set(data) - set(_FIELDS)):
            raise TypeError(f"{cls.__name__} has no field {unknown[0]!r}; its fields are {', '.join(_FIELDS)}")
        return cls(**{name: item for name, item in data.items() if item is not None})

    @classmethod
    def __flyte_codec__(cls) -> Any:
        from flyte._values.scalars import Scalar, instance

        return Scalar(
            cls.__name__,
            cls,
            cls._json_schema(),
            write=instance(cls, cls.to_json),
            read=cls.from_json,
            form="a path, or an object with `path`",
        )

    @classmethod
    def _json_schema(cls) -> dict[str, Any]:
        return {"type": ["string", "object"], "format": cls.FORMAT, "title": cls.__name__}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        return cls._json_schema()


def pydantic_schema(cls: Any) -> Any:
    """How pydantic reads and writes a class with `from_json` and `to_json`: a field of a model is its JSON form."""
    from pydantic_core import core_schema

    def validate(value: Any) -> Any:
        try:
            return cls.from_json(value)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def dump(value: Any) -> Any:
        return value.to_json()

    return core_schema.no_info_plain_validator_function(
        validate,
        json_schema_input_schema=core_schema.union_schema([core_schema.str_schema(), core_schema.dict_schema()]),
        serialization=core_schema.plain_serializer_function_ser_schema(dump, when_used="json"),
    )
