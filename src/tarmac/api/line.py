"""The API for programs on this machine: its routes as frames on the link; `flyte._client.local_socket` calls it.

The three most frequent calls (find a task, start a run of it, look at the run) are answered here. Every other call goes
through the application, exactly as if it had come by HTTP, and so does an unusual form of these three: their parameters
are checked, and refused, only there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from flyte import wire
from flyte.errors import InvalidInputError, NotAuthenticatedError
from flyte.names import name_in_path
from flyte.wire import FRAME_LIMIT, Answer, AnyFrame, Ask, ErrorBody, ErrorInfo
from tarmac.api import queries
from tarmac.api.bodies import decoded
from tarmac.api.errors import told
from tarmac.api.parameters import LONGEST_WAIT
from tarmac.api.plane import Authenticator, ControlPlane
from tarmac.api.runs import with_key
from tarmac.auth import Principal
from tarmac.links.server import Link

Message = MutableMapping[str, Any]

_LARGEST = FRAME_LIMIT - 65_536
_run_request = msgspec.json.Decoder(wire.RunRequest)
_encode = msgspec.json.Encoder().encode


class Caller:
    """A program at the other end of a link; its calls are made as `principal`."""

    def __init__(self, link: Link, token: str, app: Any, control: ControlPlane, authenticator: Authenticator) -> None:
        """Raises PermissionError for an unknown key."""
        self._link, self._token, self._app, self._control, self._authenticator = (
            link,
            token,
            app,
            control,
            authenticator,
        )
        try:
            self._principal: Principal = authenticator.authenticate(token, None)
        except NotAuthenticatedError as error:
            raise PermissionError(str(error)) from error
        self._reading: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()
        link.send(wire.Welcome(epoch=0))

    def frame(self, frame: AnyFrame) -> None:
        if isinstance(frame, Ask):
            call = asyncio.get_running_loop().create_task(self._answer(frame))
            calls = self._reading if frame.method == "GET" else self._writing
            calls.add(call)
            call.add_done_callback(calls.discard)

    def unfit(self, frame: AnyFrame, problem: str) -> None:
        if isinstance(frame, Ask):
            self._refuse(frame, InvalidInputError(problem))

    def lost(self, link: Link) -> None:
        """The link has ended: cancel calls that only read; calls that change something are finished."""
        for call in self._reading:
            call.cancel()

    async def _answer(self, ask: Ask) -> None:
        try:
            queries.refuse_nul(ask.path)
            answer = await self._fast(ask) or await self._by_route(ask)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer, as in the application's handler
            self._refuse(ask, error)
        else:
            self._link.send(answer)

    def _refuse(self, ask: Ask, error: Exception) -> None:
        status, info = told(f"{ask.method} {ask.path}", error)
        self._link.send(Answer(key=ask.key, status=status, body=_encode(ErrorBody(error=info))))

    # ------------------------------------------------------------------ the three

    async def _fast(self, ask: Ask) -> Answer | None:
        """The answer to a plain form of the three calls; None for every other call."""
        self._check()
        path, _, query = ask.path.partition("?")
        place, _, last = path.rpartition("/")
        match ask.method, place:
            case "GET", "/v1/tasks" if last:
                return await self._task(ask, _name(last), query)
            case "GET", "/v1/runs" if last:
                return await self._run(ask, _name(last), query)
            case "POST", "/v1" if last == "runs":
                return await self._create(ask, query)
        return None

    def _check(self) -> None:
        """Raises NotAuthenticatedError for a key that was deleted since, or an identity that has expired."""
        expires = self._principal.expires
        if self._principal.kind == "key" or (expires is not None and expires <= time.time()):
            self._authenticator.authenticate(self._token, None)

    async def _task(self, ask: Ask, name: str, query: str) -> Answer | None:
        given = _plain(query, {"project", "domain", "version"})
        if given is None:
            return None
        project, domain = given.get("project", wire.DEFAULT_PROJECT), given.get("domain", wire.DEFAULT_DOMAIN)
        return _answer(ask, await self._control.tasks.get(project, domain, name, given.get("version")))

    async def _run(self, ask: Ask, name: str, query: str) -> Answer | None:
        wait = _wait(query)
        if wait is None:
            return None
        if not wait:
            return _answer(ask, await self._control.runs.get(name))
        async with self._authenticator.open_call(self._principal):
            return _answer(ask, await self._control.runs.wait(name, wait))

    async def _create(self, ask: Ask, query: str) -> Answer | None:
        wait = _wait(query)
        if wait is None:
            return None
        request = with_key(decoded(_run_request, ask.body), ask.headers.get("Idempotency-Key"))
        run, created = await self._control.runs.create(request, self._principal.subject, fresh=ask.fresh)
        if wait and not run.phase.is_terminal:
            run = await self._control.runs.wait(run.name, wait)
        return _answer(ask, run, 201 if created else 200)

    # ------------------------------------------------------------------ all others

    async def _by_route(self, ask: Ask) -> Answer:
        path, _, query = ask.path.partition("?")
        headers = {"Host": "localhost", "Authorization": f"Bearer {self._token}", **ask.headers}
        headers["Content-Length"] = str(len(ask.body))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": ask.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()],
            "client": None,
            "server": None,
            "state": {},
        }
        response = _Response(ask.body)
        await self._app(scope, response.receive, response.send)
        if len(response.body) > _LARGEST:
            info = ErrorInfo(code="TooLargeError", message=f"the answer to {ask.path} is too large; ask for less")
            return Answer(key=ask.key, status=413, body=_encode(ErrorBody(error=info)))
        return Answer(
            key=ask.key, status=response.status, body=bytes(response.body), content_type=response.content_type
        )


class _Response:
    """One answer of the application, collected from its messages."""

    def __init__(self, body: bytes) -> None:
        self._sent = body
        self._received = False
        self.status = 500
        self.content_type = ""
        self.body = bytearray()

    async def receive(self) -> Message:
        if self._received:
            await asyncio.Event().wait()  # the call is cancelled when its link is lost
        self._received = True
        return {"type": "http.request", "body": self._sent, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = dict(message["headers"])
            self.content_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


def _name(part: str) -> str:
    name = name_in_path(unquote(part))
    queries.refuse_nul(name)
    return name


def _answer(ask: Ask, record: wire.Record, status: int = 200) -> Answer:
    return Answer(key=ask.key, status=status, body=_encode(record))


def _plain(query: str, known: set[str]) -> dict[str, str] | None:
    """The parameters if all are known and none is empty; else None."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    return given if given.keys() <= known and all(given.values()) else None


def _wait(query: str) -> float | None:
    """The seconds that a plain call wants to wait; None if the query needs the application's checks."""
    given = _plain(query, {"project", "domain", "wait"})
    try:
        wait = None if given is None else float(given.get("wait", 0))
    except ValueError:
        return None
    return wait if wait is not None and 0 <= wait <= LONGEST_WAIT else None
