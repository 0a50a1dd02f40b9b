"""What a codec is: how the values of one annotation are dumped, loaded and described."""

from __future__ import annotations

import reprlib
from typing import Any

JsonSchema = dict[str, Any]

_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = 60
_SHORTENED.maxdict = _SHORTENED.maxlist = _SHORTENED.maxtuple = 3


class Mismatch(Exception):
    """A value is not of the expected type; codecs add the way to it from the inside out."""

    def __init__(self, expected: str, value: Any, why: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.value = value
        self.why = why
        self.path: list[str] = []

    def under(self, step: str) -> Mismatch:
        self.path.insert(0, step)
        return self

    def sentence(self, name: str) -> str:
        """What is wrong, in one line that names the thing, the value and what is expected."""
        place = name + "".join(self.path)
        if self.why:
            return f"{place} must be {self.expected}: {self.why}"
        if hasattr(type(self.value), "__await__"):
            return f"{place} must be {self.expected}, not something to be awaited: did you forget `await`?"
        return f"{place} must be {self.expected}, not {shorten(self.value)}"


def shorten(value: Any) -> str:
    """The value as a person would like to read it in one line, with its type where that is the point."""
    text = _SHORTENED.repr(value)
    return text if value is None or isinstance(value, bool) else f"{text} ({type(value).__name__})"


class Codec:
    """How the values of one annotation travel.

    Subclasses write `_dump` and `_load`; both raise Mismatch. `exact` is the class of what `load` returns, where all
    values are of one class.
    """

    name: str
    exact: type | None

    def dump(self, value: Any) -> Any:
        """`value` as JSON data. A value that already has its JSON form is taken as that."""
        try:
            return self._dump(value)
        except Mismatch:
            return self._dump(self._load(value, False))

    def load(self, data: Any, strict: bool = False) -> Any:
        """The value that `data` stands for. `strict` accepts only what `dump` may have written."""
        return self._load(data, strict)

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {}

    def _dump(self, value: Any) -> Any:
        raise NotImplementedError

    def _load(self, data: Any, strict: bool) -> Any:
        raise NotImplementedError


class Step(Codec):
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


class Schemas:
    """Makes one JSON Schema out of nested ones; a type that contains itself becomes a definition."""

    def __init__(self) -> None:
        self._open: list[Codec] = []
        self._recursive: dict[int, str] = {}
        self.definitions: dict[str, JsonSchema] = {}

    def whole(self, codec: Codec) -> JsonSchema:
        schema = self.of(codec)
        return {**schema, "$defs": self.definitions} if self.definitions else schema

    def of(self, codec: Codec) -> JsonSchema:
        if any(codec is other for other in self._open):
            self._recursive[id(codec)] = codec.name
            return {"$ref": f"#/$defs/{codec.name}"}
        self._open.append(codec)
        schema = codec.schema(self)
        self._open.pop()
        if id(codec) not in self._recursive:
            return schema
        self.definitions[codec.name] = schema
        return {"$ref": f"#/$defs/{codec.name}"}
