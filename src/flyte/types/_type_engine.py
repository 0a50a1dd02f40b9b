"""`TypeEngine`: the transformers that are registered, and conversion between values and Flyte's literals.

A class without a transformer of its own has a `CodecTransformer`: it makes literals of the JSON in which the values of
that class travel anyway. Literals are messages of the distribution `flyteidl2`, which is imported when one is made.
"""

from __future__ import annotations

import typing
from collections.abc import KeysView, Sequence
from typing import Any, ClassVar, TypeVar

from flyte import _plugins
from flyte._values import literals, registered
from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas
from flyte._values.table import codec_of
from flyte._values.transformers import TypeTransformer, TypeTransformerFailedError
from flyte.errors import RestrictedTypeError

T = TypeVar("T")

MESSAGEPACK = "msgpack"
CACHE_KEY_METADATA = "cache-key-metadata"
SERIALIZATION_FORMAT = "serialization-format"

_SIMPLE = {"integer": "INTEGER", "number": "FLOAT", "string": "STRING", "boolean": "BOOLEAN", "null": "NONE"}
"""Type of a JSON Schema → Flyte's simple type; everything else is a STRUCT."""

_CLASSES: dict[str, Any] = {
    "INTEGER": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
    "NONE": type(None),
    "STRUCT": dict,
}


class CodecTransformer(TypeTransformer[Any]):
    """The transformer of a class that has none of its own."""

    def __init__(self, name: str, t: Any) -> None:
        super().__init__(name, t, enable_type_assertions=False)

    def get_literal_type(self, t: Any) -> Any:
        from flyteidl2.core import types_pb2

        schema = Schemas().whole(codec_of(t))
        simple = types_pb2.SimpleType.Value(_SIMPLE.get(str(schema.get("type")), "STRUCT"))
        made = types_pb2.LiteralType(simple=simple)
        if made.simple == types_pb2.SimpleType.Value("STRUCT"):
            made.metadata.update(schema)
        return made

    async def to_literal(self, python_val: Any, python_type: Any, expected: Any) -> Any:
        from flyteidl2.core import literals_pb2

        try:
            data = codec_of(python_type).dump(python_val)
        except Mismatch as mismatch:
            raise TypeTransformerFailedError(mismatch.sentence("the value")) from None
        if data is None:
            return literals_pb2.Literal(scalar=literals_pb2.Scalar(none_type=literals_pb2.Void()))
        if isinstance(data, dict | list):
            return literals.packed(data, literals_pb2)
        return literals.from_json(data, expected)

    async def to_python_value(self, lv: Any, expected_python_type: Any) -> Any:
        try:
            return codec_of(expected_python_type).load(literals.value_of(lv))
        except Mismatch as mismatch:
            raise TypeTransformerFailedError(mismatch.sentence("the literal")) from None

    def codec(self, annotation: Any) -> Codec:
        raise TypeError(f"{self.name} is not for annotations: it converts what has a form already")


class TypeEngine:
    """The transformers by the classes that they are for."""

    _REGISTRY: ClassVar[dict[Any, TypeTransformer[Any]]] = {}

    @classmethod
    def register(cls, transformer: TypeTransformer[Any], additional_types: Sequence[Any] | None = None) -> None:
        """Let values of the transformer's class, and of the additional ones, travel as the transformer says.

        Register where the module that declares the tasks is imported, so that every process does it. Raises ValueError
        for a class that has a transformer, and for a built-in one, whose form is fixed.
        """
        types = [transformer.python_type, *(additional_types or [])]
        for each in types:
            if (there := cls._there(each)) is not None:
                raise ValueError(
                    f"Transformer {there} for type {each} is already registered. "
                    f"Cannot override with {transformer.name}"
                )
        for each in types:
            cls._put(transformer, each)

    @classmethod
    def _there(cls, python_type: Any) -> str | None:
        """The name of the transformer that a class has."""
        if python_type in cls._REGISTRY:
            return cls._REGISTRY[python_type].name
        return python_type.__name__ if getattr(python_type, "__module__", "") == "builtins" else None

    @classmethod
    def register_additional_type(
        cls, transformer: TypeTransformer[Any], additional_type: Any, override: bool = False
    ) -> None:
        """Use a transformer for another class, too; with `override`, instead of the one that the class has."""
        if additional_type not in cls._REGISTRY or override:
            cls._put(transformer, additional_type)

    @classmethod
    def register_restricted_type(cls, name: str, type: Any) -> None:
        """Refuse values of a class as inputs and outputs. A task that declares one cannot be deployed or run."""
        cls.register(RestrictedTypeTransformer(name, type))

    @classmethod
    def _put(cls, transformer: TypeTransformer[Any], python_type: Any) -> None:
        cls._REGISTRY[python_type] = transformer
        if not isinstance(transformer, CodecTransformer):
            registered.register(python_type, transformer.codec)

    @classmethod
    def get_transformer(cls, python_type: Any) -> TypeTransformer[Any]:
        """The transformer for values of an annotation."""
        _plugins.load_types()
        if typing.get_origin(python_type) is typing.Annotated:
            inner, *metadata = typing.get_args(python_type)
            return next((mark for mark in metadata if isinstance(mark, TypeTransformer)), cls.get_transformer(inner))
        bare = typing.get_origin(python_type) or python_type
        for known in registered.ancestry(python_type):
            if known in cls._REGISTRY:
                return cls._REGISTRY[known]
        return CodecTransformer(getattr(bare, "__name__", str(bare)), python_type)

    @classmethod
    def get_available_transformers(cls) -> KeysView[Any]:
        """The classes that have a transformer of their own."""
        _plugins.load_types()
        return cls._REGISTRY.keys()

    @classmethod
    def to_literal_type(cls, python_type: Any) -> Any:
        """The `LiteralType` of values of an annotation."""
        return cls.get_transformer(python_type).get_literal_type(python_type)

    @classmethod
    async def to_literal(cls, python_val: Any, python_type: Any, expected: Any) -> Any:
        """The `Literal` of a value. Raises TypeTransformerFailedError for a value of another type."""
        transformer = cls.get_transformer(python_type)
        if transformer.type_assertions_enabled:
            transformer.assert_type(python_type, python_val)
        return await transformer.to_literal(python_val, python_type, expected)

    @classmethod
    async def to_python_value(cls, lv: Any, expected_python_type: Any) -> Any:
        """The value that a literal stands for. Raises TypeTransformerFailedError where it stands for none."""
        return await cls.get_transformer(expected_python_type).to_python_value(lv, expected_python_type)

    @classmethod
    def to_html(cls, python_val: Any, expected_python_type: Any) -> str:
        """A value as HTML, for reports."""
        return cls.get_transformer(expected_python_type).to_html(python_val, expected_python_type)

    @classmethod
    def guess_python_type(cls, flyte_type: Any) -> Any:
        """A class for values of a literal type. Raises ValueError where no transformer knows one."""
        for transformer in cls._REGISTRY.values():
            try:
                return transformer.guess_python_type(flyte_type)
            except ValueError:
                continue
        name = literals.simple_name(flyte_type)
        if name not in _CLASSES:
            raise ValueError(f"No transformers could reverse Flyte literal type {flyte_type}")
        return _CLASSES[name]


class RestrictedTypeTransformer(TypeTransformer[Any]):
    """Refuses the values of a class."""

    def codec(self, annotation: Any) -> Codec:
        return RestrictedCodec(self.python_type)


class RestrictedCodec(Codec):
    """The codec of a class whose values must not travel."""

    def __init__(self, cls: type) -> None:
        self.exact = cls
        self.name = cls.__qualname__

    def _refuse(self) -> RestrictedTypeError:
        return RestrictedTypeError(f"{self.name} is registered as a type that must not be an input or output of a task")

    def _dump(self, value: Any) -> Any:
        raise self._refuse()

    def _load(self, data: Any, strict: bool) -> Any:
        raise self._refuse()

    def schema(self, schemas: Schemas) -> JsonSchema:
        raise self._refuse()
