"""The codec of models of pydantic 1, also as `pydantic.v1` offers them beside pydantic 2.

A model travels as its own JSON and is loaded by its own validation. One that does not come back the same (private
attributes, what a validator changes, a field of `Any` that was no JSON) is refused by its name.
"""

from __future__ import annotations

from typing import Any

from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas
from flyte._values.text import from_bytes


def is_pydantic_v1(cls: type) -> bool:
    return hasattr(cls, "parse_obj") and not hasattr(cls, "model_validate")  # `__fields__` warns in pydantic 2


class PydanticV1Codec(Codec):
    """A model of pydantic 1; its own rules decide what fits."""

    def __init__(self, cls: Any) -> None:
        self.cls = self.exact = cls
        self.name = cls.__name__

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        try:
            data = from_bytes(value.json(by_alias=True).encode())
        except Exception as error:  # noqa: BLE001 - a stranger's serializers
            raise Mismatch(self.name, value, f"it has no JSON form: {error}") from None
        if self._load(data, False) != value:
            raise Mismatch(self.name, value, "it would not arrive as it was sent")
        return data

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(data, self.cls):
            return data
        try:
            return self.cls.parse_obj(data)
        except ValueError as error:  # pydantic.ValidationError
            raise Mismatch(self.name, data, str(error)) from None

    def schema(self, schemas: Schemas) -> JsonSchema:
        schema: dict[str, Any] = self.cls.schema(ref_template="#/$defs/{model}")
        schemas.definitions.update(schema.pop("definitions", {}))
        return schema
