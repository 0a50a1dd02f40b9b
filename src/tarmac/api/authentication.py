"""Authentication: the one gate in front of every route of the API and the console.

It makes three checks, in this order, before any route runs:

1. *Host*: the request must be addressed to this platform. A page of another site can make a browser resolve the site's
   own name to 127.0.0.1 (DNS rebinding) and then call this API as the user; the Host header reveals that.
2. *Identity*: `Authorization: Bearer`, else the session cookie of the console. Routes marked `public` need none.
3. *Origin*: a request that changes something by means of a cookie must come from the console's own pages. Cookies do
   not depend on the port: the apps on this machine are other origins on the same host, so SameSite alone does not
   exclude them.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from flyte.errors import NotAllowedError, NotAuthenticatedError
from tarmac.api.plane import Authenticator
from tarmac.auth import Principal
from tarmac.settings import Settings

log = logging.getLogger("tarmac.api.authentication")

SESSION_COOKIE = "tarmac_session"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"frame-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class MisdirectedRequest(NotAllowedError):
    """Raised when the Host header is not a name of this platform."""

    status = 421


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names this platform answers to."""

    names: frozenset[str]
    any_address: bool
    """Whether every literal address counts: the front door listens on all addresses."""

    @classmethod
    def of(cls, settings: Settings) -> Hosts:
        names = {"localhost", settings.domain.lower(), settings.host.lower()}
        return cls(frozenset(names), settings.host in ("0.0.0.0", "::"))

    def include(self, host: str) -> bool:
        """Whether a Host header, with or without a port, names this platform."""
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback


class Gate:
    """The middleware: it makes the three checks and sets `request.user` to the caller's principal."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, hosts: Hosts) -> None:
        self.app = app
        self._authenticator = authenticator
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            request: Request[Any, Any, Any] = Request(scope)
            caller = self._check(request)
            if caller is not None and request.method == "GET":  # what changes something is not broken off
                await self._read(caller, scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _read(self, caller: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        """A call that may be open for long. It is broken off when the caller's key is revoked."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with self._authenticator.open_call(caller):
                await self.app(scope, receive, noting)
        except NotAuthenticatedError:
            if not begun:
                raise
            log.info("an open call of %s is broken off: its key was revoked, or its session ended", caller.subject)

    def _check(self, request: Request[Any, Any, Any]) -> Principal | None:
        """The caller; None where a route needs none."""
        check_host(request, self._hosts)
        if request.route_handler.opt.get("public"):
            return None
        bearer = bearer_of(request)
        caller = self._authenticator.authenticate(bearer, request.cookies.get(SESSION_COOKIE))
        request.scope["user"] = caller
        if bearer is None:
            check_origin(request)
        return caller


def bearer_of(request: Request[Any, Any, Any]) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def check_host(request: Request[Any, Any, Any], hosts: Hosts) -> None:
    host = request.headers.get("host", "")
    if not _readable(host) or not hosts.include(host):
        raise MisdirectedRequest(
            f"this platform does not answer to the name {host!r}; if it is its name, set TARMAC_DOMAIN to it"
        )


def _readable(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname is not None
    except ValueError:
        return False


def check_origin(request: Request[Any, Any, Any]) -> None:
    """Raises NotAllowedError for a request that changes something and does not come from a page of the console."""
    if request.method in _SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    same = site == "same-origin" if site else bool(origin) and urlsplit(origin).netloc == request.headers.get("host")
    if not same:
        raise NotAllowedError(
            "a session may change things only from the console's own pages; programs send Authorization: Bearer instead"
        )


_ADDED = (*SECURITY_HEADERS, (b"cache-control", b"no-store"))


async def add_security_headers(message: Message, scope: Scope) -> None:
    """Add headers to every answer, but for those that the route sets itself; `no-store`, since answers are private."""
    if message["type"] == "http.response.start":
        headers = list(message["headers"])
        given = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in _ADDED if name not in given]
        message["headers"] = headers
