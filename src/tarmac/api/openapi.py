"""The OpenAPI document: paths from the routes, schemas from the records, words from the docstrings.

Litestar knows the routes and their parameters; msgspec knows exactly what it will decode. So the paths are Litestar's
and the schemas are msgspec's, and the docstrings under the records' fields become their descriptions.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, Reference, Schema, SecurityScheme, Tag
from litestar.plugins import OpenAPISchemaPlugin

import tarmac
from flyte import wire
from flyte.wire import ErrorBody, Record

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.typing import FieldDefinition

_REF = "#/components/schemas/{name}"
_JSON = "application/json"

DESCRIPTION = """\
Tasks, runs and apps of this platform. What the `flyte` package and command do goes through these routes.

Send `Authorization: Bearer KEY`, with the owner's token or a key made by `flyte create api-key`. Every answer with a
status of 400 or more holds one `error` with a `code` for programs and a `message` for people. Lists are newest first.
"""

TAGS = {
    "runs": "Runs and the actions they consist of.",
    "tasks": "What can be run.",
    "apps": "What is served.",
    "deployments": "How tasks and apps get here.",
    "bundles and blobs": "Code and large values, by the sha256 of their bytes.",
    "platform": "Health, secrets, keys and projects.",
}

EXAMPLES: dict[str, Any] = {
    "RunRequest": {"task": "processing.process_data", "inputs": {"data": {"id": 7}}, "labels": {"team": "search"}},
    "AbortRequest": {"reason": "wrong inputs"},
    "SecretRequest": {"name": "webhook-api-key", "value": "s3cr3t"},
    "KeyRequest": {"name": "github"},
    "Project": {"id": "search", "name": "Search", "description": "Everything about ranking"},
    "DeployRequest": {
        "version": "v1",
        "bundle": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "tasks": [
            {
                "name": "processing.process_data",
                "short_name": "process_data",
                "entry": "pipeline:process_data",
                "environment": {"name": "processing", "kind": "task"},
                "interface": {
                    "inputs": [{"name": "data", "schema": {"type": "object"}, "type": "dict"}],
                    "outputs": [{"name": "o0", "schema": {"type": "object"}, "type": "dict"}],
                },
            }
        ],
        "order": {"processing": []},
    },
    "Run": {
        "name": "r0m2x4hq9t7k3c8v1b5n",
        "project": "flytesnacks",
        "domain": "development",
        "task": "processing.process_data",
        "version": "v1",
        "phase": "succeeded",
        "url": "http://127.0.0.1:30080/v2/domain/development/project/flytesnacks/runs/r0m2x4hq9t7k3c8v1b5n",
        "created": 1767225600.0,
        "started": 1767225600.1,
        "ended": 1767225601.2,
        "outputs": [{"result": "processed"}],
    },
    "ErrorBody": {
        "error": {
            "code": "RemoteTaskNotFoundError",
            "message": "no task named 'process_dat' in flytesnacks/development; there is processing.process_data",
        }
    },
    "LogLine": {"text": "epoch 1: loss 0.31", "offset": 19},
}
"""Record name → one example of it."""


class RecordSchemas(OpenAPISchemaPlugin):
    """Keeps Litestar from describing records: it names them, and `document` puts msgspec's own schemas there."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return not field_definition.is_union and field_definition.is_subclass_of(Record)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema | Reference:
        return Reference(ref=_REF.format(name=field_definition.annotation.__name__))


def config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Tarmac",
        version=tarmac.__version__,
        description=DESCRIPTION,
        tags=[Tag(name=name, description=text) for name, text in TAGS.items()],
        security=[{"key": []}, {"session": []}],
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer", description="The owner's token or an API key."),
                "session": SecurityScheme(
                    type="apiKey", name="tarmac_session", security_scheme_in="cookie", description="The console's."
                ),
            }
        ),
        create_examples=False,
        use_handler_docstrings=True,
        path="/v1/schema",
        render_plugins=[],
    )


def document(described: Callable[[], Litestar]) -> bytes:
    """The document of the application that `described` makes, as JSON."""
    found: dict[str, Any] = described().openapi_schema.to_schema()
    components = found.setdefault("components", {})
    components["schemas"] = _schemas()
    components["responses"] = {
        "Error": {
            "description": "What is wrong, and what to do.",
            "content": {_JSON: {"schema": {"$ref": _REF.format(name=ErrorBody.__name__)}}},
        }
    }
    for operation in _operations(found["paths"]):
        operation["responses"].pop("400", None)
        operation["responses"]["4XX"] = {"$ref": "#/components/responses/Error"}
    return msgspec.json.encode(found)


def _operations(paths: Mapping[str, Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    return (operation for item in paths.values() for name, operation in item.items() if name != "parameters")


def _schemas() -> dict[str, Any]:
    """A JSON Schema for every record, as msgspec will decode it, with the docstrings as descriptions."""
    records = [value for value in vars(wire).values() if isinstance(value, type) and issubclass(value, Record)]
    _, schemas = msgspec.json.schema_components([r for r in records if r is not Record], ref_template=_REF)
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schemas))
    for name, schema in found.items():
        if not vars(vars(wire).get(name, object)).get("__doc__"):
            schema.pop("description", None)
        for field, text in _field_docs().get(name, {}).items():
            if field in schema.get("properties", {}):
                schema["properties"][field] = _described(schema["properties"][field], text)
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]
    return found


def _described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {**schema, "description": text}


@functools.cache
def _field_docs() -> dict[str, dict[str, str]]:
    """Record → field → the docstring below it in the source of `flyte.wire`; empty where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(wire))
    except OSError:
        return {}
    return {node.name: dict(_docs_in(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _docs_in(record: ast.ClassDef) -> Iterable[tuple[str, str]]:
    for statement, following in zip(record.body, record.body[1:], strict=False):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
