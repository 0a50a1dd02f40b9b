"""The API on a real socket, in front of a control plane in memory and the real gatekeeper."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import uvicorn
from litestar import Litestar

from flyte import wire
from flyte.wire import EnvironmentSpec, InputSpec, InterfaceSpec, OutputSpec, TaskSpec
from tarmac import settings as all_settings
from tarmac.api import make_app
from tarmac.auth import Authenticator, Identities
from tarmac.control.sessions import EndedSessions
from tarmac.store import KeyRow

from .fake_control import FakeControl

OWNER, KEY = "tk_owner", "ak_github"
VALUE_LIMIT = 100_000

ADD = TaskSpec(
    name="env.add",
    short_name="add",
    entry="module:add",
    environment=EnvironmentSpec(name="env", kind="task"),
    docs="Adds one.",
    interface=InterfaceSpec(
        inputs=[
            InputSpec(name="x", schema={"type": "integer"}, type="int"),
            InputSpec(
                name="by",
                schema={"type": "integer"},
                type="int",
                required=False,
                default=msgspec.Raw(b"1"),
                help="step",
            ),
        ],
        outputs=[OutputSpec(name="o0", schema={"type": "integer"}, type="int")],
    ),
)


@dataclass
class Server:
    """A running API, and clients to ask it with."""

    control: FakeControl
    authenticator: Authenticator
    app: Litestar
    address: str
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, token: str | None = OWNER, **headers: str) -> httpx.AsyncClient:
        """A client with its own cookies; without a token it is a browser that has not signed in."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        client = httpx.AsyncClient(base_url=self.address, headers=headers, timeout=20, verify=False)
        self.clients.append(client)
        return client

    def browser(self, subject: str = "owner") -> httpx.AsyncClient:
        """A client with a session, as a browser that asks for pages has it."""
        key = OWNER if subject == "owner" else KEY
        session = self.authenticator.session(self.authenticator.authenticate(key, None))
        client = self.client(None, Accept="text/html", Origin=self.address)
        client.cookies.set("tarmac_session", session)
        return client


class Seat:
    """Passes everything on to what sits on it: a new one for each test, where the application is the same for all."""

    def __init__(self) -> None:
        self.taken: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.taken, name)


@functools.cache
def _application() -> tuple[Litestar, Seat, Seat]:
    """The application, and the seats of its control plane and its authenticator.

    It takes longer to make than most tests take with it.
    """
    control, authenticator = Seat(), Seat()
    settings = all_settings.load(Path("/nowhere"), {"TARMAC_VALUE_LIMIT": str(VALUE_LIMIT)})
    return make_app(cast("Any", control), cast("Any", authenticator), settings), control, authenticator


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    """The API with `env.add` deployed, until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    control = FakeControl(folder, address_of(listener))
    control.add_task(ADD)
    github = KeyRow("k0", "github", hashlib.sha256(KEY.encode()).hexdigest())
    authenticator = Authenticator(
        OWNER, Identities(b"m" * 32), {github.digest: github}, EndedSessions(folder / "ended.json", lambda ended: None)
    )
    async with answering(listener, control, authenticator) as app:
        server = Server(control, authenticator, app, address_of(listener))
        yield server
        for client in server.clients:
            await client.aclose()


def address_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def answering(listener: socket.socket, control: Any, authenticator: Authenticator) -> AsyncIterator[Litestar]:
    """The API in front of this control plane, until the end of the block."""
    app, for_control, for_authenticator = _application()
    assert for_control.taken is None, "two servers at once would have one control plane"
    for_control.taken, for_authenticator.taken = control, authenticator
    config = uvicorn.Config(app, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=1)
    http = uvicorn.Server(config)
    http.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    running = asyncio.create_task(http.serve([listener]))
    try:
        yield app
    finally:
        http.should_exit = True
        await asyncio.wait_for(running, 10)
        for_control.taken = for_authenticator.taken = None


async def add(server: Server, **more: Any) -> str:
    """Start a run of `env.add`; its name."""
    body = {"task": "env.add", "inputs": {"x": 41}} | more
    answer = await server.client().post("/v1/runs", json=body)
    return msgspec.json.decode(answer.content, type=wire.Run).name


def told(answer: httpx.Response) -> wire.ErrorInfo:
    """The error that an answer holds."""
    return msgspec.json.decode(answer.content, type=wire.ErrorBody).error


@dataclass(frozen=True)
class Message:
    """A server-sent message."""

    id: int
    event: str
    data: dict[str, Any]


async def messages(response: httpx.Response) -> AsyncIterator[Message | None]:
    """The server-sent messages of a streaming answer; None for a ping."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line == ": ping":
            yield None
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Message(int(fields["id"]), fields["event"], msgspec.json.decode(fields["data"]))
            fields = {}


async def next_of(found: AsyncIterator[Message | None]) -> Message:
    """The next message that is no ping."""
    while (message := await asyncio.wait_for(anext(found), 10)) is None:
        pass
    return message
