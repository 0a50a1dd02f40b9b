"""Flyte's literals ⇄ JSON.

A literal is a protobuf message of the distribution `flyteidl2`. Only programs and plugins that convert their own types
make them, and they import that distribution themselves: nothing here does. A number, a text or a bool whose type says
so is the plain JSON value, which people can read and write; every other literal is `{"$literal": …}` with protobuf's
own JSON form.
"""

from __future__ import annotations

import importlib
from typing import Any

from flyte._values.codec import Codec, JsonSchema
from flyte._values.scalars import BOOL, FLOAT, INT, STR

MARK = "$literal"

_PLAIN: dict[str, tuple[str, Codec, JsonSchema]] = {
    "INTEGER": ("integer", INT, {"type": "integer"}),
    "FLOAT": ("float_value", FLOAT, {"type": "number"}),
    "STRING": ("string_value", STR, {"type": "string"}),
    "BOOLEAN": ("boolean", BOOL, {"type": "boolean"}),
}
"""Simple type → the field of a primitive that holds its value, the codec and the JSON Schema of that value."""


def simple_name(literal_type: Any) -> str:
    """The name of a simple type, such as `INTEGER`; an empty text for any other type."""
    if literal_type.WhichOneof("type") != "simple":
        return ""
    field = literal_type.DESCRIPTOR.fields_by_name["simple"]
    return str(field.enum_type.values_by_number[literal_type.simple].name)


def to_json(literal: Any, literal_type: Any) -> Any:
    """The JSON of a literal. Raises TypeError for a literal of another simple type than `literal_type` says."""
    plain = _PLAIN.get(simple_name(literal_type))
    if plain is None:
        from google.protobuf.json_format import MessageToDict

        return {MARK: MessageToDict(literal, preserving_proto_field_name=True)}
    field, codec, _ = plain
    found = _primitive(literal)
    if found != field:
        raise TypeError(
            f"the literal type is {simple_name(literal_type)}, and the literal has {found or 'no primitive'}"
        )
    return codec.dump(getattr(literal.scalar.primitive, field))


def _primitive(literal: Any) -> str | None:
    is_primitive = literal.HasField("scalar") and literal.scalar.HasField("primitive")
    return literal.scalar.primitive.WhichOneof("value") if is_primitive else None


def from_json(data: Any, literal_type: Any, strict: bool = False) -> Any:
    """The literal that `data` stands for. Raises TypeError or ValueError for data that stands for none.

    Plain JSON for a type that is not simple, such as an object for a struct, becomes msgpack, as in Flyte.
    """
    literals = _literals(literal_type)
    if isinstance(data, dict) and set(data) == {MARK}:
        from google.protobuf.json_format import ParseDict

        return ParseDict(data[MARK], literals.Literal())
    plain = _PLAIN.get(simple_name(literal_type))
    if plain is not None:
        field, codec, _ = plain
        primitive = literals.Primitive(**{field: codec.load(data, strict)})
        return literals.Literal(scalar=literals.Scalar(primitive=primitive))
    if strict or not isinstance(data, dict | list):
        raise TypeError("it is neither a literal nor an object")
    return packed(data, literals)


def value_of(literal: Any) -> Any:
    """The JSON data in a literal that `from_json` or `packed` made. Raises TypeError for other literals."""
    import msgspec

    if (field := _primitive(literal)) is not None:
        return getattr(literal.scalar.primitive, field)
    if literal.HasField("scalar") and literal.scalar.HasField("none_type"):
        return None
    if literal.HasField("scalar") and literal.scalar.HasField("binary") and literal.scalar.binary.tag == "msgpack":
        return msgspec.msgpack.decode(literal.scalar.binary.value)
    raise TypeError(f"a literal of {literal.WhichOneof('value') or 'nothing'} has no JSON form here")


def packed(data: Any, literals: Any) -> Any:
    """JSON data as a literal of msgpack."""
    import msgspec

    binary = literals.Binary(value=msgspec.msgpack.encode(data), tag="msgpack")
    return literals.Literal(scalar=literals.Scalar(binary=binary))


def schema(literal_type: Any, title: str) -> JsonSchema:
    """The JSON Schema of literals of that type, as they travel."""
    plain = _PLAIN.get(simple_name(literal_type))
    return {**(plain[2] if plain else {"type": "object"}), "title": title}


def _literals(literal_type: Any) -> Any:
    """The module of the messages for values, which is beside the one for types."""
    return importlib.import_module(type(literal_type).__module__.replace("types_pb2", "literals_pb2"))
