"""HTTP to the platform: patience, and streams that survive a lost connection. `client` names the routes.

Patience: while nothing is connected (refused), or the gateway says that nobody is behind it (502, 503), a call is made
again, with growing pauses, for `patience` seconds. When a connection broke *after* the call went out, only a call that
may be made twice is made again. Then SystemUnavailableError, which names the address and the way out.

A stream (`lines`) is one response read line by line; a follower (see `follow`) opens it again after its last
offset. An outage is measured from the moment the line fell silent to the next byte that arrives, and is bounded too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from flyte import wire
from flyte._client.connections import Route, lines, sessions
from flyte._client.local_socket import NoLine
from flyte._client.request import Reply, Request
from flyte._failure import to_error
from flyte.backoff import Pauses
from flyte.errors import InitializationError, RuntimeSystemError, SystemUnavailableError, by_code

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds a call is tried again while the platform is away."""

OUTAGE = 60.0
"""Seconds a stream may be without connection before it gives up."""

SILENCE = 45.0
"""Seconds without a byte after which a stream counts as lost; the platform sends a heartbeat every 15."""

_PAGE = "text/html"
"""What no route of `/v1` answers, and most other servers do."""

_CHECK = "check FLYTE_ENDPOINT and the config file"

_NOBODY_THERE = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE})

forwarded: contextvars.ContextVar[tuple[tuple[str, str], ...]] = contextvars.ContextVar("flyte_forwarded", default=())
"""Headers that `remote.auth_metadata` put in scope."""


class _NotSent(Exception):
    """Nobody heard the call."""


class _Broken(Exception):
    """The connection broke; the call may have been heard."""


class Silence(ConnectionError):
    """Nothing arrived on an open stream for SILENCE seconds."""


class Transport:
    """Calls and streams over one route, with one identity."""

    def __init__(self, route: Route, token: str | None = None, *, patience: float = PATIENCE, outage: float = OUTAGE):
        self.route = route
        self.token = token
        self.patience = patience
        self.outage = outage

    async def send(self, request: Request) -> Reply:
        """The answer, whatever its status below 500; see `check`. Raises SystemUnavailableError."""
        pauses = Pauses(limit=self.patience)
        while True:
            try:
                reply = await self._once(request)
                if reply.status not in _NOBODY_THERE:
                    return reply
                may_repeat, reason = request.repeatable or reply.status == 503, _said(reply)
            except _NotSent as error:
                may_repeat, reason = True, str(error)
            except _Broken as error:
                may_repeat, reason = request.repeatable, str(error)
            if not may_repeat or not await pauses.wait():
                raise self.unavailable(reason)
            request = dataclasses.replace(request, fresh=False)

    async def _once(self, request: Request) -> Reply:
        if self.route.shortcut is not None and request.is_small and not forwarded.get():
            try:
                reply = await self._call(request, self.route.shortcut)
            except NoLine:
                pass  # nothing was sent
            else:
                if request.method != "GET" or reply.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    return reply  # else the answer is too large for a line: a question never is
        return await self._by_http(request)

    async def _call(self, request: Request, link: str) -> Reply:
        """By the line. Raises NoLine where nothing was sent."""
        line = await lines.get(link, self.token)
        try:
            async with asyncio.timeout(request.timeout):
                answer = await line.call(
                    request.method, request.target, request.body or b"", dict(request.headers), request.fresh
                )
        except NoLine:
            raise
        except (ConnectionError, TimeoutError) as error:
            raise _Broken(_words(error)) from error
        return Reply(answer.status, answer.body, answer.content_type)

    async def _by_http(self, request: Request) -> Reply:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=request.timeout, sock_connect=10)
        async with self._open(request, timeout) as response:
            try:
                return await _read(response)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _Broken(_words(error)) from error

    @contextlib.asynccontextmanager
    async def _open(self, request: Request, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        try:
            response = await self._request(request, timeout)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise InitializationError(
                "TlsError", "user", f"no secure connection to {self.route.endpoint}: {error}"
            ) from error
        except (aiohttp.ClientConnectorDNSError, aiohttp.InvalidURL) as error:
            raise InitializationError(
                "BadEndpoint", "user", f"{self.route.endpoint} is not to be found: {error}"
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _NotSent(_words(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _Broken(_words(error)) from error
        try:
            yield response
        finally:
            response.release()  # closes the connection where the answer was not read to its end

    async def _request(self, request: Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        session = await sessions.get(self.route)
        return await session.request(
            request.method,
            self.route.base + request.path,
            params=request.params,
            data=request.body,
            headers={**self._identity(), **request.headers},
            timeout=timeout,
            proxy=self.route.proxy,
            allow_redirects=False,
        )

    def _identity(self) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        for name, value in forwarded.get():
            headers[name.title()] = value
        return headers

    async def lines(self, request: Request) -> AsyncGenerator[bytes, None]:
        """The lines of a streaming answer, without their ends. Raises ConnectionError when the connection is lost.

        A refusal by the platform (404, 401 …) is raised as its own error.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE)
        try:
            async with self._open(request, timeout) as response:
                if response.status != HTTPStatus.OK or response.content_type == _PAGE:
                    await self._refused(response)
                rest = b""
                async for chunk in response.content.iter_any():
                    *complete, rest = (rest + chunk).split(b"\n")
                    for line in complete:
                        yield line.removesuffix(b"\r")
                if rest:
                    yield rest
        except (_NotSent, _Broken) as error:
            raise ConnectionError(str(error)) from error
        except aiohttp.SocketTimeoutError as error:
            raise Silence(f"silent for {SILENCE:g} s") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionError(_words(error)) from error

    async def _refused(self, response: aiohttp.ClientResponse) -> None:
        reply = await _read(response)
        if reply.status in _NOBODY_THERE:
            raise _NotSent(_said(reply))
        self.check(reply)
        raise self.unexpected(f"{reply.status} to a stream")

    def unavailable(self, reason: str) -> SystemUnavailableError:
        return SystemUnavailableError(
            f"the platform at {self.route.endpoint} does not answer ({reason}); "
            "start it with `flyte up`, or check FLYTE_ENDPOINT and the config file"
        )

    def check(self, reply: Reply) -> Reply:
        """`reply`, if it is a success. Raises the error that it carries; for a redirect, RuntimeSystemError.

        Redirects are not followed: they would carry the key to wherever they lead.
        """
        if reply.status < HTTPStatus.MULTIPLE_CHOICES and reply.content_type != _PAGE:
            return reply
        if reply.status < HTTPStatus.BAD_REQUEST:
            raise self._elsewhere(reply)
        try:
            info = msgspec.json.decode(reply.body, type=wire.ErrorBody).error
        except msgspec.DecodeError:
            raise self._bare(reply) from None
        raise to_error(info)

    def decode(self, reply: Reply, kind: type[T]) -> T:
        """The record in a successful answer. Raises RuntimeSystemError where there is something else."""
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except msgspec.MsgspecError as error:
            raise self.unexpected(f"{_said(reply)} with {reply.content_type or 'no content type'} ({error})") from error

    def _elsewhere(self, reply: Reply) -> RuntimeSystemError:
        """The error for an answer that does not come from a platform, but from a proxy or another program."""
        if not reply.location:
            return self.unexpected(f"{_said(reply)} with {reply.content_type or 'no content type'}")
        parts = urlsplit(reply.location)
        place = f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else ""
        way = f"set FLYTE_ENDPOINT to {place}" if place not in ("", self.route.endpoint) else _CHECK
        return RuntimeSystemError(
            "UnexpectedAnswer", f"{self.route.endpoint} answered {_said(reply)}, to {reply.location}; {way}"
        )

    def _bare(self, reply: Reply) -> Exception:
        """The error for an answer without our body: somebody between us and the platform wrote it."""
        named = {401: "NotAuthenticatedError", 403: "NotAllowedError", 404: "NotFoundError", 413: "TooLargeError"}
        code = named.get(reply.status)
        if code is None:
            return self.unexpected(_said(reply))
        return by_code()[code](f"{self.route.endpoint} answered {_said(reply)}, in words that are not a platform's")

    def unexpected(self, answer: str) -> RuntimeSystemError:
        return RuntimeSystemError(
            "UnexpectedAnswer", f"{self.route.endpoint} answered {answer}, which a platform does not; {_CHECK}"
        )


async def _read(response: aiohttp.ClientResponse) -> Reply:
    location = response.headers.get("Location", "")
    return Reply(response.status, await response.read(), response.content_type, location)


def _said(reply: Reply) -> str:
    try:
        return msgspec.json.decode(reply.body, type=wire.ErrorBody).error.message
    except msgspec.DecodeError:
        pass
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = ""
    text = reply.body[:200].decode(errors="replace").strip() if reply.content_type.startswith("text/plain") else ""
    return f"{reply.status} {phrase}".strip() + (f": {text}" if text else "")


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def probe(endpoint: str, timeout: float = 2.0) -> wire.Health | None:
    """What the platform at an `http://` address says of its health; None when it does not answer. Blocks."""
    import http.client

    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", "/v1/health")
        answer = connection.getresponse()
        return msgspec.json.decode(answer.read(), type=wire.Health) if answer.status == HTTPStatus.OK else None
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()
