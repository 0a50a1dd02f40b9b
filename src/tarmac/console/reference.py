"""The page that describes the API: rendered from the OpenAPI document, with a form at every route to try it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from litestar import Response, get

from tarmac.api.plane import Document
from tarmac.console.rendering import render

_DEEPEST = 2
"""How deep records inside of records are shown inline."""


@dataclass(frozen=True, slots=True)
class Property:
    """One field of a record, in words."""

    name: str
    type: str
    required: bool
    text: str
    inside: list[Property] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    where: str
    """path, query or header."""
    type: str
    required: bool
    default: str
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One route."""

    id: str
    method: str
    path: str
    summary: str
    text: str
    parameters: list[Parameter]
    body: list[Property]
    body_type: str
    example: str
    answers: list[tuple[str, str, str, list[Property]]]
    """(status, description, type of the body, the body's fields)."""
    streams: bool


@get("/v1/docs", opt={"public": True}, include_in_schema=False, sync_to_thread=False)
def reference(document: Document) -> Response[str]:
    """The interactive reference of the API."""
    described = json.loads(document)
    page = render("reference.html", info=described["info"], sections=sections(described))
    return Response(page, media_type="text/html")


def sections(document: Mapping[str, Any]) -> list[tuple[str, str, list[Operation]]]:
    """(name, description, routes) for every tag."""
    schemas = document["components"]["schemas"]
    found = [
        (operation["tags"][0], _operation(path, method, operation, schemas))
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    return [
        (tag["name"], tag["description"], [operation for name, operation in found if name == tag["name"]])
        for tag in document["tags"]
    ]


def _operation(path: str, method: str, described: Mapping[str, Any], schemas: Mapping[str, Any]) -> Operation:
    body: Mapping[str, Any] = {}
    for content in described.get("requestBody", {}).get("content", {}).values():
        body = content["schema"]
    answers = [
        (status, answer.get("description", ""), _body_type(answer), list(_properties(_schema(answer), schemas, 1)))
        for status, answer in sorted(described["responses"].items())
        if status != "4XX"
    ]
    return Operation(
        id=f"{method}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '')}",
        method=method,
        path=path,
        summary=described.get("summary", ""),
        text=described.get("description", ""),
        parameters=[_parameter(parameter) for parameter in described.get("parameters", ())],
        body=list(_properties(body, schemas, _DEEPEST)),
        body_type=type_of(body) if body else "",
        example=_example(body, schemas),
        answers=answers,
        streams=any("event-stream" in kind for answer in described["responses"].values() for kind in _kinds(answer)),
    )


def _kinds(answer: Mapping[str, Any]) -> list[str]:
    return list(answer.get("content", {}))


def _body_type(answer: Mapping[str, Any]) -> str:
    schema = _schema(answer)
    return type_of(schema) if schema else ", ".join(_kinds(answer))


def _schema(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of an answer in JSON; empty for other answers."""
    found: Mapping[str, Any] = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _parameter(described: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=described["name"],
        where=described["in"],
        type=type_of(described.get("schema", {})),
        required=bool(described.get("required")),
        default=str(described.get("schema", {}).get("default", "")),
        text=described.get("description", ""),
    )


def type_of(schema: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words: `string`, `[Run]`, `integer or null`, `one of a, b`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(type_of(option) for option in options))
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"[{type_of(schema.get('items', {}) or {})}]"
    values = schema.get("additionalProperties")
    if kind == "object" and isinstance(values, Mapping) and values:
        return f"object of {type_of(values)}"
    return str(kind)


def _named(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    """The name of the record to which `schema` refers: itself, as the type of its items, or as a choice beside null."""
    for option in (schema, schema.get("items") or {}, *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        if "$ref" in option:
            found: Mapping[str, Any] = schemas.get(type_of(option), {})
            return found
    return {}


def _properties(schema: Mapping[str, Any], schemas: Mapping[str, Any], deep: int) -> Iterable[Property]:
    record = _named(schema, schemas)
    for name, described in record.get("properties", {}).items():
        yield Property(
            name=name,
            type=type_of(described),
            required=name in record.get("required", ()),
            text=described.get("description", ""),
            inside=list(_properties(described, schemas, deep - 1)) if deep else [],
        )


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    examples = _named(schema, schemas).get("examples")
    return json.dumps(examples[0], indent=2) if examples else ""
