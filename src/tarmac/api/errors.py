"""The conversion of errors to answers, for all routes.

Every error becomes a status and an ErrorInfo. Requests below `/v1` get it as JSON (`ErrorBody`), people who asked for a
page get a page with the same text. An unexpected error is logged with its traceback under a reference, and the answer
contains only the reference.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.response import Redirect

from flyte.errors import BaseRuntimeError, NotAuthenticatedError
from flyte.wire import ErrorBody, ErrorInfo
from tarmac.store import StoreError

log = logging.getLogger("tarmac.api")

AnyRequest = Request[Any, Any, Any]
ErrorPage = Callable[[AnyRequest, int, ErrorInfo], str]

_CODES = {400: "InvalidInputError", 404: "NotFoundError", 405: "MethodNotAllowedError", 413: "TooLargeError"}


def handler(page: ErrorPage) -> Callable[[AnyRequest, Exception], Response[Any]]:
    """The application's only exception handler; `page` renders an error for people."""

    def answer(request: AnyRequest, error: Exception) -> Response[Any]:
        status, info = told(f"{request.method} {request.scope['path']}", error)
        headers = _headers(status, error)
        if is_for_people(request):
            if isinstance(error, NotAuthenticatedError) and request.method == "GET":
                return Redirect(path=f"/login?next={quote(_address(request))}", status_code=303)
            return Response(page(request, status, info), status_code=status, media_type="text/html", headers=headers)
        return Response(ErrorBody(error=info), status_code=status, media_type="application/json", headers=headers)

    return answer


def told(asked: str, error: Exception) -> tuple[int, ErrorInfo]:
    """The status and the ErrorInfo for `error`; `asked` is the request, such as `GET /v1/runs`."""
    match error:
        case BaseRuntimeError():
            return error.status, ErrorInfo(
                code=error.code, message=str(error), kind=error.kind, traceback=error.traceback or ""
            )
        case msgspec.ValidationError():
            return 422, ErrorInfo(code="InvalidInputError", message=f"the request's body does not fit: {error}")
        case msgspec.DecodeError():
            return 400, ErrorInfo(code="InvalidInputError", message=f"the request's body is not JSON: {error}")
        case ValidationException():
            return 422, ErrorInfo(code="InvalidInputError", message=_validation(error))
        case StoreError():  # this control plane ends, or waits for its database: the same request may be sent again
            return 503, ErrorInfo(code="SystemUnavailableError", kind="system", message=str(error))
        case HTTPException() if error.status_code < 500:
            return error.status_code, ErrorInfo(
                code=_CODES.get(error.status_code, "HTTPError"), message=_http(asked, error)
            )
        case _:
            return 500, _unexpected(asked, error)


def is_for_people(request: AnyRequest) -> bool:
    """Whether to answer with a page: the request is outside of the API and accepts HTML."""
    path = request.scope["path"]
    return path != "/v1" and not path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")


def _headers(status: int, error: Exception) -> dict[str, str]:
    headers = dict(getattr(error, "headers", None) or {})
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def _address(request: AnyRequest) -> str:
    query = request.scope["query_string"].decode("latin-1")
    return request.scope["path"] + (f"?{query}" if query else "")


def _validation(error: ValidationException) -> str:
    """One sentence from Litestar's list of problems with the parameters."""
    wrong = [item for item in error.extra or () if isinstance(item, dict)]
    return "; ".join(map(_parameter, wrong)) or error.detail


def _parameter(wrong: dict[str, Any]) -> str:
    if wrong.get("key") == "data":
        return "the request has no body; this route takes JSON"
    source = getattr(wrong.get("source"), "value", wrong.get("source")) or "the"
    return f"{source} parameter {wrong.get('key')!r}: {wrong.get('message')}"


def _http(asked: str, error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return f"there is no {asked}; /v1/docs lists every route"
        case 405:
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            allowed = sorted(headers.get("allow", "").split(", "))
            return f"{asked} is not allowed; this address takes {', '.join(allowed)}"
        case 413:
            return f"the body of {asked} is too large; larger values go to /v1/blobs, code goes to /v1/bundles"
        case _:
            return error.detail


def _unexpected(asked: str, error: Exception) -> ErrorInfo:
    reference = secrets.token_hex(4)
    log.error("%s: %s failed", reference, asked, exc_info=error)
    return ErrorInfo(
        code="InternalError",
        kind="system",
        message=f"the platform failed at this request; logs/platform/control.log has the cause at {reference}",
    )
