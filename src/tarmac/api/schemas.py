"""JSON Schemas of the records, with descriptions from the docstrings below their fields.

They are made from msgspec's type information, by which it also decodes. (msgspec's own generator cannot show a default
that is `Raw`, and ignores these docstrings.)
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import sys
from collections.abc import Iterable
from typing import Any

from msgspec import inspect as known

from flyte import wire
from flyte.wire import Record

Schema = dict[str, Any]

_PLAIN: dict[type[known.Type], Schema] = {
    known.BoolType: {"type": "boolean"},
    known.IntType: {"type": "integer"},
    known.FloatType: {"type": "number"},
    known.StrType: {"type": "string"},
    known.NoneType: {"type": "null"},
    known.AnyType: {},
    known.RawType: {"description": "Any JSON."},
}


def reference(name: str) -> str:
    """The reference to the schema of the record `name`."""
    return f"#/components/schemas/{name}"


def of_records() -> dict[str, Schema]:
    """Name → schema, for every record of `flyte.wire` and every enumeration in them."""
    modules = {record.__module__ for record in _records().values()}
    found = {name: _of_record(record) for name, record in _records().items()}
    for name, value in vars(wire).items():
        if isinstance(value, type) and issubclass(value, enum.Enum) and value.__module__ in modules:
            found[name] = _of_enum(value)
    return found


@functools.cache
def _records() -> dict[str, type[Record]]:
    return {
        name: value
        for name, value in vars(wire).items()
        if isinstance(value, type) and issubclass(value, Record) and value is not Record
    }


def _of_record(record: type[Record]) -> Schema:
    info = known.type_info(record)
    assert isinstance(info, known.StructType)
    docs = _field_docs().get(record.__name__, {})
    properties = {field.encode_name: _of_field(field, docs.get(field.name)) for field in info.fields}
    schema: Schema = {"type": "object", "properties": properties}
    if required := [field.encode_name for field in info.fields if field.required]:
        schema["required"] = required
    return _described(schema, vars(record).get("__doc__"))


def _of_enum(values: type[enum.Enum]) -> Schema:
    return _described({"type": "string", "enum": [member.value for member in values]}, vars(values).get("__doc__"))


def _of_field(field: known.Field, text: str | None) -> Schema:
    schema = _described(of_type(field.type), text)
    if isinstance(field.default, str | int | float | None):
        schema["default"] = field.default.value if isinstance(field.default, enum.Enum) else field.default
    return schema


def _described(schema: Schema, text: str | None) -> Schema:
    return {**schema, "description": inspect.cleandoc(text)} if text else dict(schema)


def of_type(kind: known.Type) -> Schema:
    """The schema of a field's type. Raises TypeError for an unsupported type."""
    if (plain := _PLAIN.get(type(kind))) is not None:
        return dict(plain)
    match kind:
        case known.StructType() | known.EnumType():
            return {"$ref": reference(kind.cls.__name__)}
        case known.LiteralType():
            return {"enum": list(kind.values)}
        case known.ListType() | known.VarTupleType():
            return {"type": "array", "items": of_type(kind.item_type)}
        case known.TupleType():
            count = len(kind.item_types)
            items = [of_type(item) for item in kind.item_types]
            return {"type": "array", "prefixItems": items, "minItems": count, "maxItems": count}
        case known.DictType():
            return {"type": "object", "additionalProperties": of_type(kind.value_type)}
        case known.UnionType():
            return {"anyOf": [of_type(option) for option in kind.types]}
        case _:
            raise TypeError(f"a record has a field of the type {kind}, for which there is no schema yet")


@functools.cache
def _field_docs() -> dict[str, dict[str, str]]:
    """Record → field → the docstring below it in the source of `flyte.wire`; empty without a source."""
    try:
        modules = {sys.modules[record.__module__] for record in _records().values()}
        trees = [ast.parse(inspect.getsource(module)) for module in modules]
    except OSError:
        return {}
    return {node.name: dict(_docs_in(node)) for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def _docs_in(record: ast.ClassDef) -> Iterable[tuple[str, str]]:
    for statement, following in zip(record.body, record.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, text
