"""Apps that act as their caller: they send the caller's own credentials to the platform.

Use it together with `flyte.init_passthrough()`, with which the process has no key of its own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Headers:
    """A request's headers, for extractors: `request.headers.get("authorization")`."""

    def __init__(self, scope: Scope) -> None:
        raw: Iterable[tuple[bytes, bytes]] = scope.get("headers", ())
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


HeaderExtractor = Callable[[Any], tuple[str, str] | None]
"""A function of an object with `.headers` (lower-case names); it returns (name, value), or None without credentials."""


class FastAPIPassthroughAuthMiddleware:
    """ASGI middleware with which the SDK uses the caller's credentials during a request.

    Requests and WebSocket handshakes without credentials are refused (401 and 403), except on `excluded_paths`.
    """

    def __init__(
        self,
        app: ASGIApp,
        header_extractors: list[HeaderExtractor] | None = None,
        excluded_paths: Collection[str] | None = None,
    ) -> None:
        self.app = app
        self.header_extractors = header_extractors or [self.extract_authorization_header, self.extract_cookie_header]
        self.excluded_paths = frozenset(excluded_paths or ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in self.excluded_paths:
            await self.app(scope, receive, send)
            return
        request = Headers(scope)
        found = [pair for extract in self.header_extractors if (pair := extract(request)) is not None]
        if not found:
            await _refuse(scope, send)
            return
        from flyte.remote import auth_metadata

        with auth_metadata(*found):
            await self.app(scope, receive, send)

    @staticmethod
    def extract_authorization_header(request: Any) -> tuple[str, str] | None:
        """The `Authorization` header."""
        return _header(request, "authorization")

    @staticmethod
    def extract_cookie_header(request: Any) -> tuple[str, str] | None:
        """The `Cookie` header."""
        return _header(request, "cookie")

    @staticmethod
    def extract_custom_header(header_name: str) -> HeaderExtractor:
        """An extractor for a header of that name."""
        return lambda request: _header(request, header_name.lower())


def _header(request: Any, name: str) -> tuple[str, str] | None:
    value = request.headers.get(name)
    return (name, value) if value else None


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 3000, "reason": "credentials are required"})
        return
    body = json.dumps({"detail": "Authentication credentials required"}).encode()
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
