"""A gateway to test: a real HAProxy, a real controller, real upstreams, and a control plane that does as it is told."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import psutil
from aiohttp import web

from flyte import wire
from flyte.wire import AnyFrame, Frame, Route, RouteReplica
from tarmac import auth
from tarmac import settings as rows
from tarmac.gateway import folder, runtime_api
from tarmac.gateway.routes import Server, wanted
from tarmac.gateway.steps import Present
from tarmac.home import Home
from tarmac.settings import Settings
from tests import ports

SOURCES = Path(__file__).parent.parent.parent / "src"
APP = "flytesnacks/development/hello"
KEY = "tk_a-key-of-the-tests"
PATIENCE = 30.0


async def until(fact: Callable[[], object], promise: str, seconds: float = PATIENCE) -> None:
    """Return as soon as `fact`, or what it awaits, is true. Fails with `promise` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = fact()
        if await found if isinstance(found, Awaitable) else found:
            return
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {promise}")
        await asyncio.sleep(0.01)


# ------------------------------------------------------------------------------------------------------------ upstreams


class Upstream:
    """A replica: a server that says what reached it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.requests = 0
        self.pausing = 0
        """Requests that asked for a pause."""
        self.turns = asyncio.Semaphore(0)
        """A stream with `turns` sends its next event only after a release of this."""
        self.cut_off = 0
        """WebSockets that ended otherwise than by a close from either side."""
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def replica(self) -> RouteReplica:
        return RouteReplica(name=self.name, address=self.address)

    async def start(self, **site: Any) -> None:
        application = web.Application()
        application.router.add_get("/ws", self._websocket)
        application.router.add_get("/stream", self._stream)
        application.router.add_route("*", "/{rest:.*}", self._echo)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        if "path" in site:
            await web.UnixSite(self._runner, site["path"]).start()
            return
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _echo(self, request: web.Request) -> web.Response:
        self.requests += 1
        if pause := request.query.get("pause"):
            self.pausing += 1
            await asyncio.sleep(float(pause))
        body = await request.text()
        seen = {"server": self.name, "method": request.method, "path": request.path_qs, "body": body}
        return web.json_response({**seen, "headers": {name.lower(): value for name, value in request.headers.items()}})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events with a pause after each."""
        self.requests += 1
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for number in range(int(request.query["count"])):
            await answer.write(f"data: {number}\n\n".encode())
            await asyncio.sleep(float(request.query["pause"]))
            if "turns" in request.query:
                await self.turns.acquire()
        return answer

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        self.requests += 1
        peer = web.WebSocketResponse(protocols=("chat",))
        await peer.prepare(request)
        async for message in peer:
            if message.data == "bye":
                await peer.close(code=4001)
            elif message.type == aiohttp.WSMsgType.TEXT:
                await peer.send_str(f"{self.name}: {message.data}")
            elif message.type == aiohttp.WSMsgType.BINARY:
                await peer.send_bytes(message.data)
        if peer.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
            self.cut_off += 1
        return peer


# ------------------------------------------------------------------------------------------------------- control plane


class FakeControl:
    """The control plane's end of the link, and on request its API."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._server: asyncio.AbstractServer | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.api = Upstream("control")
        self.routes: dict[str, Route] = {}
        self.keys: dict[str, str] = {hashlib.sha256(KEY.encode()).hexdigest(): "key/tests"}
        self.ended: list[str] = []
        self.keys_used: set[str] = set()
        self.hellos: list[wire.Hello] = []
        self.wakes: list[wire.Wake] = []
        self.quiets: list[wire.Quiet] = []
        self.applied: list[int] = []
        self.parted: list[wire.Parted] = []
        self.statuses: list[wire.GatewayStatus] = []
        self.pongs: list[wire.Pong] = []

    async def start(self) -> None:
        self._home.link_socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self._home.link_socket))

    async def stop(self) -> None:
        """As if it were killed: links end, the sockets stay behind."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.close()
        await until(lambda: not self._writers, "the links are closed")
        await self.api.stop()

    @property
    def linked(self) -> bool:
        return bool(self._writers)

    def send(self, frame: Frame) -> None:
        for writer in self._writers:
            writer.write(wire.pack(frame))

    def put(self, route: Route) -> None:
        self.routes[route.app] = route
        self.send(wire.RouteChanged(route=route))

    def remove(self, app: str) -> None:
        del self.routes[app]
        self.send(wire.RouteRemoved(app=app))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unpacker = wire.Unpacker()
        try:
            while data := await reader.read(65536):
                for frame in unpacker.feed(data):
                    self._receive(frame, writer)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _receive(self, frame: AnyFrame, writer: asyncio.StreamWriter) -> None:
        match frame:
            case wire.Hello() if frame.token != self._home.token():
                writer.write(wire.pack(wire.Refused(message="the token is not the owner's")))
                writer.close()
            case wire.Hello():
                self.hellos.append(frame)
                self._writers.add(writer)
                for answer in (
                    wire.Welcome(epoch=1),
                    wire.Keys(keys=self.keys, ended=self.ended),
                    wire.Routes(routes=list(self.routes.values())),
                ):
                    writer.write(wire.pack(answer))
            case wire.Applied():
                self.applied.append(frame.number)
            case wire.Wake():
                self.wakes.append(frame)
            case wire.Quiet():
                self.quiets.append(frame)
            case wire.Parted():
                self.parted.append(frame)
            case wire.KeysUsed():
                self.keys_used.update(frame.callers)
            case wire.GatewayStatus():
                self.statuses.append(frame)
            case wire.Pong():
                self.pongs.append(frame)
            case _:
                raise AssertionError(f"a gateway does not send {frame}")


# ----------------------------------------------------------------------------------------------------------- the world


def _addresses(servers: Mapping[str, Server]) -> dict[str, str]:
    return {name: server.address for name, server in servers.items() if server.open}


class World:
    """One gateway with everything around it; `open` starts it."""

    def __init__(self, folder_: Path, free: range, **given: Any) -> None:
        self.home = Home(folder_ / "home")
        self.home.prepare()
        values = {row.name: row.default for row in rows.SETTINGS}
        values |= {"port": free[0], "tls_port": free[1], "app_ports": f"{free[2]}-{free[-1]}"}
        values |= {"log_level": "INFO", "hold_timeout": 20.0}
        self.settings: Settings = replace(Settings(**values), **given)
        self.control = FakeControl(self.home)
        self.haproxy: subprocess.Popen[bytes] | None = None
        self.controller: subprocess.Popen[bytes] | None = None
        self._upstreams: list[Upstream] = []
        self._barriers = itertools.count(1000)
        self._log = (folder_ / "gateway.log").open("ab")
        self.http: aiohttp.ClientSession = None  # type: ignore[assignment]  # made in `open`, inside of the loop

    # --- processes

    def start_haproxy(self) -> None:
        command = folder.prepare(self.home, self.settings, str(os.getpid()))
        self.haproxy = subprocess.Popen(command, stdout=self._log, stderr=self._log, start_new_session=True)

    def start_controller(self, **changed: Any) -> None:
        self.settings = replace(self.settings, **changed)
        names = (
            *("port", "tls_port", "app_ports", "log_level", "hold_timeout", "tls_cert", "threads"),
            *("connections", "connections_per_address", "trusted_proxies", "app_hosts"),
        )
        own = {f"TARMAC_{name.upper()}": str(getattr(self.settings, name)) for name in names}
        env = {**os.environ, **own, "TARMAC_HOME": str(self.home.path), "PYTHONPATH": str(SOURCES)}
        command = [sys.executable, "-m", "tarmac.gateway"]
        self.controller = subprocess.Popen(command, env=env, stdout=self._log, stderr=self._log)

    def kill_controller(self) -> None:
        assert self.controller is not None
        self.controller.kill()
        self.controller.wait()

    def kill_haproxy(self) -> None:
        """As the kernel would: the master and its workers at once."""
        assert self.haproxy is not None
        os.killpg(self.haproxy.pid, signal.SIGKILL)
        self.haproxy.wait()

    def stop(self) -> None:
        ended = 0
        if self.controller is not None:
            self.controller.terminate()
            ended = self.controller.wait(PATIENCE)
        if self.haproxy is not None:
            if self.haproxy.poll() is None:
                os.killpg(self.haproxy.pid, signal.SIGTERM)
            self.haproxy.wait(PATIENCE)
        self._log.close()
        assert ended == 0, self.log()

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    # --- apps

    def slot(self, number: int = 0) -> int:
        return self.settings.port_range()[number]

    async def upstream(self, name: str = "one") -> Upstream:
        made = Upstream(name)
        await made.start()
        self._upstreams.append(made)
        return made

    def route(self, *replicas: Upstream, app: str = APP, number: int = 0, **given: Any) -> Route:
        host = f"{app.rpartition('/')[2]}.flyte.localhost"
        values: dict[str, Any] = {"port": self.slot(number), "hosts": [host], "requires_auth": False}
        return Route(app=app, replicas=[replica.replica for replica in replicas], **{**values, **given})

    async def serve(self, *replicas: Upstream, **given: Any) -> Route:
        """Announce a route and wait until HAProxy has it."""
        route = self.route(*replicas, **given)
        self.control.put(route)
        await self.until_applied()
        return route

    async def until_applied(self) -> None:
        """Wait until HAProxy has the control plane's routes and keys, apart from servers that are on their way out."""
        want, _ = wanted(self.control.routes.values(), self.control.keys, self.control.ended)

        async def is_so() -> bool:
            try:
                present = await self.present()
            except runtime_api.HAProxyAway:
                return False
            open_servers = {slot: _addresses(servers) for slot, servers in present.servers.items()}
            servers = all(open_servers.get(slot) == _addresses(named) for slot, named in want.servers.items())
            return servers and present.maps == want.maps

        await until(is_so, f"HAProxy has the routes; its log:\n{self.log()}")

    async def listens(self) -> bool:
        """Whether HAProxy's runtime API answers."""
        try:
            await self.present()
        except runtime_api.HAProxyAway:
            return False
        return True

    async def present(self) -> Present:
        async with runtime_api.session(self.home.haproxy_socket) as session:
            return await session.present()

    async def worker(self) -> runtime_api.Info:
        async with runtime_api.session(self.home.haproxy_socket) as session:
            return await session.info()

    async def counters(self) -> dict[tuple[str, str], dict[str, str]]:
        """What HAProxy has counted, by proxy and server (or `FRONTEND`, `BACKEND`), under the names of `show stat`."""
        async with runtime_api.session(self.home.haproxy_socket) as session:
            lines = (await session.ask("show stat")).removeprefix("# ").splitlines()
        return {(row["pxname"], row["svname"]): row for row in csv.DictReader(lines)}

    def held(self) -> int:
        """The requests that HAProxy has put to the controller and that have no answer yet."""
        assert self.controller is not None
        path = str(self.home.wake_socket)
        sockets = psutil.Process(self.controller.pid).net_connections("unix")
        return sum(str(each.laddr) == path for each in sockets) - 1  # one is listened on

    async def barrier(self) -> None:
        """Wait until the controller has applied everything that the control plane has sent."""
        number = next(self._barriers)
        self.control.send(wire.Barrier(number=number))
        await until(lambda: number in self.control.applied, "it is applied")

    def url(self, path: str = "/", number: int = 0) -> str:
        return f"http://127.0.0.1:{self.slot(number)}{path}"

    def door(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.settings.port}{path}"

    async def get(self, path: str = "/", number: int = 0, **options: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON body and headers of a GET on an app's port."""
        return await self.ask("GET", self.url(path, number), **options)

    async def ask(self, method: str, url: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        async with self.http.request(method, url, **options) as answer:
            text = await answer.text()
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text, headers

    # --- keys and logs

    def token(self, subject: str = "r-unit", seconds: float = 60, key: str | None = None, **claims: Any) -> str:
        """An identity, by default as the platform mints it."""
        body = {"sub": subject, "kind": "workload", "iss": auth.ISSUER, "exp": int(time.time() + seconds), **claims}
        return jwt.encode(body, key or auth.signing_secret(self.home.master_key()), algorithm="HS256")

    def session(self, seconds: float = 60, key: str = KEY, **claims: Any) -> str:
        """A browser's session, by default as the platform makes it for whoever signed in with KEY."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        body = {"sub": "session", "use": "session", "sid": "s1", "key": digest, "iss": auth.ISSUER} | claims
        secret = auth.signing_secret(self.home.master_key())
        return jwt.encode({"exp": int(time.time() + seconds), **body}, secret, algorithm="HS256")

    def access_entries(self, app: str = "hello") -> list[dict[str, Any]]:
        path = self.home.access_log(wire.Scope().app(app))
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@asynccontextmanager
async def world(controller: bool = True, **given: Any) -> AsyncIterator[World]:
    """A running gateway, linked to a control plane that has nothing yet."""
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-")))
        made = World(place, stack.enter_context(ports.block())[:10], **given)
        stack.callback(made.stop)
        connector = aiohttp.TCPConnector(limit=0)
        made.http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))
        )
        await made.control.start()
        stack.push_async_callback(made.control.stop)
        made.start_haproxy()
        if controller:
            made.start_controller()
            await until(lambda: made.control.statuses, f"the controller is linked; its log:\n{made.log()}")
        try:
            yield made
        finally:
            for upstream in made._upstreams:
                await upstream.stop()
