"""The OpenAPI document: paths from the routes, schemas from the records, descriptions from the docstrings.

Litestar describes the routes and their parameters, `schemas` the records of requests and answers.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, Schema, SecurityScheme, Tag
from litestar.plugins import OpenAPISchemaPlugin

import tarmac
from flyte.wire import ErrorBody, Record
from tarmac.api import schemas

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.typing import FieldDefinition

_JSON = "application/json"

BODIES = {"put_bundle": "application/gzip", "put_blob": _JSON}
"""Routes whose body is streamed → its media type."""

PUBLIC = {"health"}
"""Routes that need no key."""

_LITESTARS_WORDS = {status.description for status in HTTPStatus}
_MEANINGS = {"200": "Done.", "201": "Created.", "202": "Taken on.", "204": "Done; there is nothing to tell."}

DESCRIPTION = """\
Tasks, runs and apps of this platform. What the `flyte` package and command do goes through these routes.

Send `Authorization: Bearer KEY`, with the owner's token or a key made by `flyte create api-key`. Every answer with a
status of 400 or more holds one `error` with a `code` for programs and a `message` for people. Lists are newest first.

A query parameter that a route does not list is refused with 422; `project` and `domain` may come with every call.
"""

TAGS = {
    "runs": "Runs and the actions they consist of.",
    "tasks": "What can be run.",
    "apps": "What is served.",
    "triggers": "When tasks are started by themselves.",
    "cache": "Results by which later calls of the same task, with the same inputs, are answered.",
    "artifacts": "Files, folders and data frames that are known by a name and a version.",
    "images": "The Python and packages that images become.",
    "deployments": "How tasks and apps get here.",
    "storage": "How much lies in the platform's storage, and the removal of what is not used.",
    "bundles and blobs": "Code and large values, by the sha256 of their bytes.",
    "platform": "Health, secrets, keys and projects.",
}

EXAMPLES: dict[str, Any] = {
    "RunRequest": {"task": "processing.process_data", "inputs": {"data": {"id": 7}}, "labels": {"team": "search"}},
    "AbortRequest": {"reason": "wrong inputs"},
    "SecretRequest": {"name": "webhook-api-key", "value": "s3cr3t"},
    "KeyRequest": {"name": "github"},
    "BuildRequest": {
        "environments": [{"name": "etl", "kind": "task", "image": {"python": [3, 12], "packages": ["pandas<2"]}}]
    },
    "ArtifactRequest": {
        "spec": {"name": "small-model", "version": "1.0", "kind": "model"},
        "value": "blob://9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08/weights.pt",
        "schema": {"format": "file"},
        "external_ref": "hub/small-model",
    },
    "PruneRequest": {"older": 1209600},
    "PruneStorageRequest": {"older": 2592000, "dry_run": True},
    "TriggerRequest": {
        "task": "processing.process_data",
        "trigger": {"name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin"},
    },
    "TriggerSpec": {"name": "often", "every": 10, "inputs": {"folder": "cache"}},
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
    """Makes Litestar refer to records by name only; `document` adds their schemas."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return not field_definition.is_union and field_definition.is_subclass_of(Record)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        return schema_creator.create_component_schema(field_definition, required=[], property_fields={})


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
        operation_id_creator=lambda handler, method, path: handler.handler_name,
        create_examples=False,
        use_handler_docstrings=True,
        path="/v1/schema",
        render_plugins=[],
    )


def document(described: Callable[[], Litestar]) -> bytes:
    """The OpenAPI document of the application that `described` makes, as JSON."""
    found: dict[str, Any] = described().openapi_schema.to_schema()
    components = found.setdefault("components", {})
    components["schemas"] = _schemas()
    components["responses"] = {
        "Error": {
            "description": "What is wrong, and what to do.",
            "content": {_JSON: {"schema": {"$ref": schemas.reference(ErrorBody.__name__)}}},
        }
    }
    for item in found["paths"].values():
        for operation in item.values():
            _finish(operation)
    return msgspec.json.encode(found)


def _finish(operation: dict[str, Any]) -> None:
    """Add to a route's description what Litestar does not know, and remove defaults that need no mention."""
    name = operation["operationId"]
    operation.pop("deprecated", None)
    operation["parameters"] = [_parameter(parameter) for parameter in operation.get("parameters", ())]
    if name in BODIES:
        operation["requestBody"] = {"required": True, "content": {BODIES[name]: {"schema": {}}}}
    if name in PUBLIC:
        operation["security"] = []
    answers = operation["responses"]
    answers.pop("400", None)
    for status, text in _MEANINGS.items():
        if status in answers and answers[status]["description"] in _LITESTARS_WORDS:
            answers[status]["description"] = text
    answers["4XX"] = {"$ref": "#/components/responses/Error"}


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    """Remove defaults that need no mention; an absent parameter is not null."""
    schema = parameter["schema"]
    if options := schema.pop("oneOf", None):
        schema = {**schema, **next(option for option in options if option.get("type") != "null")}
    schema.pop("description", None)
    kept = {name: parameter[name] for name in ("name", "in", "description", "required") if parameter.get(name)}
    return {**kept, "schema": schema}


def _schemas() -> dict[str, Any]:
    found = schemas.of_records()
    for name, example in EXAMPLES.items():
        found[name]["examples"] = [example]
    return found
