"""Errors as answers: one body for programs, one page for people, and nothing of our insides in either."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyte import errors
from flyte.errors import BaseRuntimeError

from .api_server import Server, serving, told


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


def raising(server: Server, error: BaseException) -> None:
    async def run(name: str) -> None:
        raise error

    server.control.runs.get = run  # type: ignore[method-assign,assignment]


async def test_an_unknown_route_is_a_404_that_says_where_the_routes_are(server: Server) -> None:
    for path in ("/v1", "/v1/", "/v1/nope", "/v1/runs/a/b/c/d", "/nope"):
        answer = await server.client().get(path)
        assert (answer.status_code, told(answer).code) == (404, "NotFoundError")
        assert "/v1/docs" in told(answer).message


@pytest.mark.parametrize(("method", "path", "allowed"), [("PUT", "/v1/runs", "POST"), ("DELETE", "/v1/health", "GET")])
async def test_a_wrong_method_is_a_405_that_says_which_is_right(
    server: Server, method: str, path: str, allowed: str
) -> None:
    answer = await server.client().request(method, path)
    assert (answer.status_code, told(answer).code) == (405, "MethodNotAllowedError")
    assert allowed in answer.headers["allow"]
    assert allowed in told(answer).message


ANSWERED = [
    (errors.InvalidInputError("no"), 422),
    (errors.RunNotFoundError("no"), 404),
    (errors.AlreadyExistsError("no"), 409),
    (errors.NotAllowedError("no"), 403),
    (errors.TooLargeError("no"), 413),
    (errors.DeploymentError("no"), 422),
    (errors.SystemUnavailableError("no"), 503),
    (errors.RuntimeUserError("ValueError", "no"), 400),
    (errors.RuntimeSystemError("DiskFull", "no"), 500),
]


@pytest.mark.parametrize(("error", "status"), ANSWERED, ids=lambda value: type(value).__name__)
async def test_each_error_has_the_status_of_its_class_and_keeps_its_code(
    server: Server, error: BaseRuntimeError, status: int
) -> None:
    raising(server, error)
    answer = await server.client().get("/v1/runs/x")
    assert answer.status_code == status
    assert (told(answer).code, told(answer).kind, told(answer).message) == (error.code, error.kind, "no")


async def test_what_nobody_expected_is_logged_and_told_without_its_insides(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    raising(server, KeyError("secret-detail"))
    with caplog.at_level(logging.ERROR, "tarmac.api"):
        answer = await server.client().get("/v1/runs/x")
    assert (answer.status_code, told(answer).kind) == (500, "system")
    assert "secret-detail" not in answer.text
    (record,) = caplog.records
    assert "secret-detail" in (record.exc_text or str(record.exc_info))
    reference = record.getMessage().partition(":")[0]
    assert reference in told(answer).message


async def test_people_get_a_page_that_says_the_same(server: Server) -> None:
    browser = server.browser()
    for path in ("/nope", "/v2/domain/development/project/flytesnacks/runs/nope"):
        answer = await browser.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "NotFoundError" in answer.text
    assert (await browser.get("/v1/runs/nope")).headers["content-type"] == "application/json"


# ------------------------------------------------------------------------------------------------- unknown parameters


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_a_query_parameter_that_a_route_does_not_have_is_refused_by_name(server: Server, method: str) -> None:
    path = f"/v1/bundles/{'0' * 64}" if method == "HEAD" else "/v1/runs"
    answer = await server.client().request(method, path, params={"creatd_before": 1, "project": "flytesnacks"})
    assert answer.status_code == 422
    if method == "GET":
        message = told(answer).message
        assert message.startswith(
            "GET /v1/runs has no query parameter 'creatd_before' (did you mean 'created_before'?)"
        )
        assert "it takes before_run, created_after, created_before, domain, label, limit, phase" in message


async def test_a_route_without_parameters_says_so_and_takes_project_and_domain_all_the_same(server: Server) -> None:
    assert (await server.client().get("/v1/me?project=p&domain=d")).status_code == 200
    answer = await server.client().get("/v1/me?when=now")
    assert told(answer).message == "GET /v1/me has no query parameter 'when'; it takes none"


async def test_who_may_not_ask_hears_nothing_of_parameters(server: Server) -> None:
    assert (await server.client(None).get("/v1/runs?when=now")).status_code == 401
