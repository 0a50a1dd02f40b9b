"""The HTTP API under `/v1` and, on the same application, the console's pages.

`make_app` puts it together: the routes in one list, one gate in front of them (`authentication`), one check of query
parameters (`queries`), one conversion of errors to answers (`errors`), one document that describes all routes
(`openapi`).
"""

from __future__ import annotations

import functools
from typing import Any

from litestar import Litestar, Request, Response, Router, get
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from flyte.names import name_in_path
from tarmac.api import (
    admin,
    apps,
    artifacts,
    bundles,
    cache,
    deployments,
    errors,
    images,
    openapi,
    queries,
    runs,
    storage,
    tasks,
    triggers,
)
from tarmac.api.authentication import Gate, Hosts, add_security_headers
from tarmac.api.bodies import RecordBody
from tarmac.api.plane import Authenticator, ControlPlane, Document
from tarmac.settings import Settings

_ENVELOPE = 1024 * 1024
"""Bytes that a request may have in addition to its value."""


def make_app(control: ControlPlane, authenticator: Authenticator, settings: Settings) -> Litestar:
    """The ASGI application of the control plane."""
    from tarmac.console.pages import error_page  # the console is built on this package
    from tarmac.console.routes import routes

    dependencies = {
        "control": Provide(lambda: control, sync_to_thread=False),
        "authenticator": Provide(lambda: authenticator, sync_to_thread=False),
        "document": Provide(functools.cache(lambda: openapi.document(described)), sync_to_thread=False),
        "app_ports": Provide(lambda: settings.port_range(), sync_to_thread=False),
        "by": Provide(_caller, sync_to_thread=False),
    }
    common: dict[str, Any] = {
        "dependencies": dependencies,
        "dto": RecordBody,
        "return_dto": None,
        "request_max_body_size": settings.value_limit + _ENVELOPE,
        "logging_config": None,
    }
    api = _routes(settings)

    def described() -> Litestar:
        return Litestar(api, openapi_config=openapi.config(), plugins=[openapi.RecordSchemas()], **common)

    return Litestar(
        [*api, openapi_json, *routes()],
        middleware=[DefineMiddleware(Gate, authenticator=authenticator, hosts=Hosts.of(settings))],
        before_request=_read_address,
        before_send=[add_security_headers],
        exception_handlers={Exception: errors.handler(error_page)},
        openapi_config=None,
        **common,
    )


def _routes(settings: Settings) -> list[Router]:
    return [
        runs.ROUTES,
        tasks.ROUTES,
        apps.ROUTES,
        deployments.ROUTES,
        images.ROUTES,
        cache.ROUTES,
        artifacts.ROUTES,
        triggers.ROUTES,
        *bundles.routes(settings.value_limit),
        storage.ROUTES,
        admin.ROUTES,
    ]


@get("/v1/openapi.json", opt={"public": True}, media_type="application/json", sync_to_thread=False)
def openapi_json(document: Document) -> Response[bytes]:
    """The document that describes every route."""
    return Response(document, media_type="application/json")


def _read_address(request: Request[Any, Any, Any]) -> None:
    """Litestar's hook before a route's function: names in the path are read, and the query is checked."""
    names = {key: name_in_path(part) for key, part in request.scope["path_params"].items()}
    for name in names.values():
        queries.refuse_nul(name)
    request.scope["path_params"] = names  # a new one: Litestar gives the same to every request for the same path
    queries.refuse_unknown(request)


def _caller(request: Request[Any, Any, Any]) -> str:
    subject: str = request.user.subject
    return subject
