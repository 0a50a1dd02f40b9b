"""Request bodies: JSON is decoded into its record without dicts in between, so that `Raw` fields stay unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec
from litestar.dto import AbstractDTO

from flyte.errors import InvalidInputError
from flyte.rules import NESTING
from flyte.wire import Record

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.openapi.spec import Reference, Schema
    from litestar.typing import FieldDefinition

T = TypeVar("T")


class RecordBody(AbstractDTO[Record]):
    """Litestar's hook for reading bodies: the parameter `data` of a route is decoded as its declared record.

    If the record is optional, an empty body is None. Raises msgspec.DecodeError and msgspec.ValidationError.
    """

    _decoders: ClassVar[dict[str, msgspec.json.Decoder[Any]]] = {}

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        cls._decoders[handler_id] = msgspec.json.Decoder(field_definition.annotation)

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: SchemaCreator
    ) -> Reference | Schema:
        return schema_creator.for_field_definition(field_definition)

    def decode_bytes(self, value: bytes) -> Any:
        return decoded(self._decoders[self.asgi_connection.route_handler.handler_id], value or b"null")


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The record in a body. Raises msgspec.DecodeError, msgspec.ValidationError and InvalidInputError.

    `tarmac.control` applies the rules of its fields, for every kind of caller alike.
    """
    try:
        return decoder.decode(body)
    except RecursionError:
        raise InvalidInputError(
            f"the request's body is nested too deeply; lists and objects may be {NESTING} deep in each other"
        ) from None
