"""The OpenAPI document: valid, complete, and true to what the API takes and gives."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from flyte import wire
from flyte._client.client import Client
from flyte._client.request import Request
from flyte._client.transport import Transport
from flyte.wire import ActionPhase, ErrorInfo, Record
from tarmac.api.openapi import EXAMPLES
from tarmac.api.queries import EVERYWHERE

from .api_server import ADD, Server, add, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def document(server: Server) -> dict[str, Any]:
    answer = await server.client(None).get("/v1/openapi.json")
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def fits(document: dict[str, Any], name: str, value: Any) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return bool(Draft202012Validator(schema).is_valid(value))


async def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    validate(document)


async def test_every_route_is_described(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name
        assert len(operation["tags"]) == 1, name
        assert operation["responses"]["4XX"], name
        assert all(parameter.get("description") for parameter in operation["parameters"]), name
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(ids)) == len(ids)


async def test_the_routes_are_those_of_the_plan(document: dict[str, Any]) -> None:
    assert set(operations(document)) == {
        "GET /v1/health",
        "GET /v1/me",
        *(f"{method} /v1/{kind}/{{digest}}" for method in ("HEAD", "PUT", "GET") for kind in ("bundles", "blobs")),
        "POST /v1/deployments",
        "GET /v1/deployments/{id}",
        "GET /v1/deployments/{id}/events",
        "GET /v1/cache",
        "GET /v1/triggers",
        "POST /v1/triggers",
        "GET /v1/triggers/{task}/{name}",
        "POST /v1/triggers/{task}/{name}/activate",
        "POST /v1/triggers/{task}/{name}/deactivate",
        "DELETE /v1/triggers/{task}/{name}",
        "DELETE /v1/cache",
        "GET /v1/artifacts",
        "POST /v1/artifacts",
        "GET /v1/artifacts/{name}",
        "DELETE /v1/artifacts/{name}/{version}",
        "GET /v1/images",
        "POST /v1/images",
        "GET /v1/images/{id}/log",
        "POST /v1/images/prune",
        "GET /v1/storage",
        "POST /v1/storage/prune",
        "GET /v1/tasks",
        "GET /v1/tasks/{name}",
        "POST /v1/runs",
        "GET /v1/runs",
        "GET /v1/runs/{run}",
        "POST /v1/runs/{run}/abort",
        "GET /v1/runs/{run}/events",
        "GET /v1/runs/{run}/logs",
        "GET /v1/runs/{run}/actions",
        "GET /v1/runs/{run}/actions/{action}",
        "POST /v1/runs/{run}/actions/{action}/abort",
        "GET /v1/runs/{run}/actions/{action}/report",
        "GET /v1/runs/{run}/actions/{action}/logs",
        "GET /v1/apps",
        "GET /v1/apps/{app}",
        "DELETE /v1/apps/{app}",
        "POST /v1/apps/{app}/activate",
        "POST /v1/apps/{app}/deactivate",
        "GET /v1/apps/{app}/events",
        "GET /v1/apps/{app}/logs",
        "GET /v1/apps/{app}/requests",
        "GET /v1/secrets",
        "POST /v1/secrets",
        "GET /v1/secrets/{name}",
        "DELETE /v1/secrets/{name}",
        "GET /v1/keys",
        "POST /v1/keys",
        "DELETE /v1/keys/{id}",
        "GET /v1/projects",
        "POST /v1/projects",
        "PUT /v1/projects/{id}",
        "POST /v1/login-codes",
    }


async def test_everything_that_is_sent_as_a_record_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            reference = json.dumps(content["schema"])
            if "$ref" in reference:
                assert any(f"schemas/{record}" in reference for record in EXAMPLES), name


@pytest.mark.parametrize("name", EXAMPLES)
async def test_every_example_is_what_the_api_takes(document: dict[str, Any], name: str) -> None:
    assert document["components"]["schemas"][name]["examples"] == [EXAMPLES[name]]
    assert fits(document, name, EXAMPLES[name])
    record: type[Record] = getattr(wire, name)
    msgspec.json.decode(json.dumps(EXAMPLES[name]), type=record)


async def test_what_the_api_gives_fits_the_document(server: Server, document: dict[str, Any]) -> None:
    name = await add(server)
    server.control.child(name, "c1", group="g")
    server.control.move(name, ActionPhase.RUNNING)
    error = ErrorInfo(code="ValueError", message="no", traceback="…")
    server.control.move(name, ActionPhase.FAILED, error=error, outputs=[1])
    for path, record in (
        (f"/v1/runs/{name}", "Run"),
        (f"/v1/runs/{name}/actions/a0", "ActionDetails"),
        ("/v1/tasks/add", "Task"),
        ("/v1/health", "Health"),
        ("/v1/runs/nope", "ErrorBody"),
    ):
        answer = (await server.client().get(path)).json()
        assert fits(document, record, answer), path
        assert not fits(document, record, []), path


async def test_a_required_field_and_a_wrong_type_do_not_fit(document: dict[str, Any]) -> None:
    assert not fits(document, "RunRequest", {})
    assert not fits(document, "RunRequest", {"task": 1})
    assert not fits(document, "Run", EXAMPLES["Run"] | {"phase": "flying"})
    assert fits(document, "TaskSpec", msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(ADD))))


async def test_the_docstrings_of_the_fields_are_in_the_document(document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"]["RunRequest"]["properties"]
    assert properties["task"]["description"] == "Full or bare name of the task."


async def test_the_reference_page_draws_every_route(server: Server, document: dict[str, Any]) -> None:
    answer = await server.client(None).get("/v1/docs")
    assert answer.status_code == 200
    for name in operations(document):
        method, path = name.split()
        assert f'data-method="{method}" data-path="{path}"' in answer.text
    assert "http://" not in answer.text.replace(EXAMPLES["Run"]["url"], "")
    assert "https://" not in answer.text


# ------------------------------------------------------------------------------------------- what our own client sends

_VALUES: dict[Any, Any] = {
    str: "x",
    int: 1,
    float: 1.0,
    bool: True,
    bytes: b"x",
    list[str]: ["a=b"],
    Any: ["failed"],
    wire.RunFilter: wire.RunFilter(
        phases=(wire.ActionPhase.FAILED,),
        task="x",
        task_contains="x",
        version="x",
        labels={"a": "b"},
        created_after=1.0,
        created_before=1.0,
        before_run="x",
    ),
    wire.ActionFilter: wire.ActionFilter(phases=(wire.ActionPhase.FAILED,), parent="a0", offset=1),
}


class _Sent(Exception):
    def __init__(self, request: Request) -> None:
        self.request = request


def _arguments(method: Any) -> dict[str, Any]:
    """Something for every parameter of the method, those with a default too."""
    given = {}
    for name, hint in typing.get_type_hints(method).items():
        if name == "return":
            continue
        kind = next(one for one in (typing.get_args(hint) or (hint,)) if one is not type(None))
        if hint in _VALUES:
            given[name] = _VALUES[hint]
        elif kind in _VALUES:
            given[name] = _VALUES[kind]
        else:
            given[name] = msgspec.json.decode(json.dumps(EXAMPLES[kind.__name__]), type=kind)
    return given


_METHODS = [
    name
    for name, member in vars(Client).items()
    if inspect.isfunction(member) and not name.startswith("_") and name != "scoped"
]


@pytest.mark.parametrize("name", _METHODS)
async def test_every_parameter_that_the_client_sends_is_in_the_document(
    name: str, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(self: Transport, request: Request) -> Any:
        raise _Sent(request)

    async def lines(self: Transport, request: Request) -> AsyncIterator[bytes]:
        raise _Sent(request)
        yield b""

    monkeypatch.setattr(Transport, "send", send)
    monkeypatch.setattr(Transport, "lines", lines)
    method = getattr(Client, name)
    asked = method(Client("http://127.0.0.1:9"), **_arguments(method))
    with pytest.raises(_Sent) as caught:
        await (asked if inspect.isawaitable(asked) else anext(asked))
    request = caught.value.request
    (operation,) = [
        operation
        for route, operation in operations(document).items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route), f"{request.method} {request.path}")
        and not ("{" in route and f"{request.method} {request.path}" in operations(document))
    ]
    taken = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert request.params.keys() <= taken | EVERYWHERE
    sent = request.params.keys() - EVERYWHERE
    given = _arguments(method)
    filters = given.pop("chosen").query() if "chosen" in given else {}
    assert len(sent) == len((given | filters).keys() & taken), "each filter that was given is sent"
