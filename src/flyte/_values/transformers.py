"""Transformers: how programs and plugins say in which form values of their own classes travel.

A transformer converts a value to a literal of Flyte and back. Its codec carries the literal as JSON (`literals`).
"""

from __future__ import annotations

import typing
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from flyte._loop_thread import LoopThread
from flyte._sync import on_a_thread_of_its_own
from flyte._values import literals
from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas
from flyte.errors import BaseRuntimeError, RestrictedTypeError

T = TypeVar("T")
R = TypeVar("R")


class TypeTransformerFailedError(TypeError, AssertionError, ValueError):
    """Raised by a transformer for a value or a literal that it cannot convert."""


class TypeTransformer(Generic[T]):
    """Converts values of the class `t` for their way between actions. Subclasses write `get_literal_type`,
    `to_literal` and `to_python_value`.

    `TypeEngine.register(transformer)` puts it in force for the class and its subclasses; in an annotation,
    `Annotated[T, transformer]` does so for one input or output.
    """

    def __init__(self, name: str, t: type[T], enable_type_assertions: bool = True) -> None:
        self._name = name
        self._t = t
        self._type_assertions_enabled = enable_type_assertions

    @property
    def name(self) -> str:
        """What the transformer is called in messages."""
        return self._name

    @property
    def python_type(self) -> type[T]:
        """The class whose values it converts."""
        return self._t

    @property
    def type_assertions_enabled(self) -> bool:
        """Whether `assert_type` is asked before a value is converted."""
        return self._type_assertions_enabled

    def assert_type(self, t: Any, v: Any) -> None:
        """Raise TypeTransformerFailedError unless the value `v` is of the annotated type `t`."""
        cls = _class_of(t)
        if cls is not None and not isinstance(v, cls):
            raise TypeTransformerFailedError(f"Expected value of type {t} but got {v!r} of type {type(v)}")

    def get_literal_type(self, t: type[T]) -> Any:
        """The `LiteralType` (of flyteidl2) of the values."""
        raise NotImplementedError("get_literal_type")

    async def to_literal(self, python_val: T, python_type: type[T], expected: Any) -> Any:
        """The `Literal` (of flyteidl2) of a value; `expected` is what `get_literal_type` returned."""
        raise NotImplementedError("to_literal")

    async def to_python_value(self, lv: Any, expected_python_type: type[T]) -> T | None:
        """The value that a literal stands for."""
        raise NotImplementedError("to_python_value")

    def guess_python_type(self, literal_type: Any) -> type[T]:
        """The class of values of a literal type. Raises ValueError where it cannot be told."""
        raise ValueError(f"{self.name} cannot tell the class of {literal_type}")

    def schema_match(self, schema: dict[str, Any]) -> bool:
        """Whether a JSON Schema describes values of the class."""
        return False

    def to_html(self, python_val: T, expected_python_type: type[T]) -> str:
        """A value as HTML, for reports."""
        return str(python_val)

    def codec(self, annotation: Any) -> Codec:
        """How the values of an annotation travel."""
        return TransformedCodec(self, annotation)

    def __repr__(self) -> str:
        return f"{self._name} Transforms ({self._t}) to Flyte native"


def _bare(annotation: Any) -> Any:
    """The annotation without the metadata of `Annotated`."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _class_of(annotation: Any) -> type | None:
    """The class of an annotation's values; None where that cannot be told."""
    bare = _bare(annotation)
    cls = typing.get_origin(bare) or bare
    return cls if isinstance(cls, type) and cls is not object else None


_thread = LoopThread("flyte-types")
"""Where transformers run when they are needed by code that is not async: their methods are coroutines."""


def _result(coro: Coroutine[Any, Any, R]) -> R:
    """The result of a transformer's method, for whichever thread waits for it."""
    if _thread.is_current():  # a transformer calls another one, by code that is not async
        return on_a_thread_of_its_own(coro)
    return _thread.call(coro)


class TransformedCodec(Codec):
    """Values of a class that has a transformer."""

    def __init__(self, transformer: TypeTransformer[Any], annotation: Any) -> None:
        self.transformer = transformer
        self.annotation = annotation
        self.exact = _class_of(annotation)
        bare = _bare(annotation)
        self.name = bare.__qualname__ if isinstance(bare, type) else str(bare)

    def annotated(self, metadata: tuple[Any, ...]) -> Codec:
        """The codec of `Annotated[T, …]`: the transformer is given the whole annotation."""
        return TransformedCodec(self.transformer, typing.Annotated[(self.annotation, *metadata)])

    def dump(self, value: Any) -> Any:
        """As every codec does; but for what the transformer itself refused it is not tried as the JSON form."""
        try:
            return self._dump(value)
        except Mismatch as mismatch:
            if mismatch.why:
                raise
            return self._dump(self._load(value, False))

    def _dump(self, value: Any) -> Any:
        transformer = self.transformer
        try:
            if transformer.type_assertions_enabled:
                transformer.assert_type(self.annotation, value)
        except Exception:  # noqa: BLE001 - a stranger's transformer
            raise Mismatch(self.name, value) from None
        try:
            expected = transformer.get_literal_type(self.annotation)
            return literals.to_json(_result(transformer.to_literal(value, self.annotation, expected)), expected)
        except Exception as error:
            raise self._failed(value, error) from error

    def _load(self, data: Any, strict: bool) -> Any:
        if self.exact is not None and isinstance(data, self.exact):
            return data
        try:
            literal = literals.from_json(data, self.transformer.get_literal_type(self.annotation), strict)
        except Exception:  # noqa: BLE001 - a stranger's transformer; protobuf's parser has errors of its own
            raise Mismatch(self.name, data) from None
        try:
            return _result(self.transformer.to_python_value(literal, self.annotation))
        except Exception as error:
            raise self._failed(data, error) from error

    def _failed(self, value: Any, error: Exception) -> Exception:
        """What to raise for an error of the transformer."""
        if isinstance(error, BaseRuntimeError):
            return error
        name = self.transformer.name
        if isinstance(error, NotImplementedError):
            return Mismatch(
                self.name, value, f"its transformer {name!r} does not implement {error or 'this direction'}"
            )
        if isinstance(error, TypeTransformerFailedError):
            return Mismatch(self.name, value, str(error) or f"its transformer {name!r} refused it")
        return Mismatch(self.name, value, f"its transformer {name!r} failed with {type(error).__name__}: {error}")

    def schema(self, schemas: Schemas) -> JsonSchema:
        """The schema of the literals. Raises RestrictedTypeError where the transformer has no literal type."""
        try:
            return literals.schema(self.transformer.get_literal_type(self.annotation), self.name)
        except Exception as error:
            raise RestrictedTypeError(
                f"a {self.name} cannot be an input or output: its transformer {self.transformer.name!r} gives no "
                f"literal type ({type(error).__name__}: {error})"
            ) from error
