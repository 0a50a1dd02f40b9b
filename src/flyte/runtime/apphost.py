"""One process of an app: serve its ASGI application, call its `@server` function, or become its command.

Everything listens on the loopback interface, on the unit's own port, whatever port the app declares. One byte on
`ready_fd` says that from now on it makes sense to ask whether the app answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from flyte.runtime import command, failures, loader, mounts
from flyte.runtime.shim import tarmac_bind
from flyte.runtime.trailers import without_trailers
from flyte.wire import ReplicaSpec

if TYPE_CHECKING:
    import uvicorn

PORT_TAKEN = 98
"""Exit code of a replica whose port was taken by somebody else in the meantime; the agent tries another."""

_READY = b"\x01"
_PING_INTERVAL = 20.0
_PING_TIMEOUT = 600.0
"""Seconds a WebSocket client may leave pings unanswered: some are blocked for minutes, and come back."""
_LARGEST_MESSAGE = 64 * 1024 * 1024
_KEEP_ALIVE = 120
"""Seconds an idle connection of the gateway stays open; longer than the gateway keeps it, so that it is never the one
that finds it closed."""

_Function = Callable[..., Any]


def serve(replica: ReplicaSpec, port: int, ready_fd: int) -> NoReturn:
    """Be a replica of the app on `port` until SIGTERM; never returns."""
    os.environ.update(replica.env)
    os.environ["FLYTE_APP_NAME"] = replica.app
    try:
        mounts.materialize()
        match replica.kind:
            case "asgi":
                _serve_asgi(replica, port, ready_fd)
            case "server":
                _call_server(replica, port, ready_fd)
            case _:
                _say_ready(ready_fd)
                command.execute(replica.argv, replica.port, port)
    except (command.BadCommand, loader.BrokenImport) as error:
        sys.exit(f"app {replica.app!r}: {error}")
    sys.exit(0)


def _say_ready(fd: int) -> None:
    os.write(fd, _READY)
    os.close(fd)


def _hook(environment: object, name: str) -> _Function | None:
    """The function that `@env.server`, `@env.on_startup` or `@env.on_shutdown` registered, if any."""
    function = getattr(environment, name, None)
    return function if callable(function) else None


def parameters() -> dict[str, Any]:
    """The app's parameters by name."""
    values: dict[str, Any] = json.loads(os.environ.get("FLYTE_PARAMETERS") or "{}")
    return values


def bind(function: _Function, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for `function`: those of the values that it names, or all if it has `**kwargs`.

    Raises BadCommand when it needs one that the app does not declare.
    """
    declared = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in declared):
        return dict(values)
    needed = [p.name for p in declared if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    missing = [name for name in needed if name not in values]
    if missing:
        known = ", ".join(values) or "none"
        raise command.BadCommand(
            f"{function.__name__}() asks for {', '.join(missing)}; the app's parameters are: {known}. "
            f"Declare it: parameters=[flyte.app.Parameter(name={missing[0]!r}, value=...)]"
        )
    return {p.name: values[p.name] for p in declared if p.name in values}


async def _call(function: _Function | None) -> None:
    if function is not None:
        result = function(**bind(function, parameters()))
        if isinstance(result, Awaitable):
            await result


@contextlib.asynccontextmanager
async def _lifetime(environment: object) -> AsyncIterator[None]:
    """Between `@on_startup` and `@on_shutdown`."""
    await _call(_hook(environment, "_on_startup"))
    try:
        yield
    finally:
        await _call(_hook(environment, "_on_shutdown"))


def _new_loop(fast: bool = True) -> asyncio.AbstractEventLoop:
    """A loop, uvloop's where it is to be had, in which the SDK's blocking calls let other tasks go on."""
    make = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        if fast:
            import uvloop

            make = uvloop.new_event_loop
    loop = make()
    with contextlib.suppress(ImportError):  # no greenlet in the user's environment: then such calls warn
        from flyte.runtime import greenlets

        greenlets.install(loop)
    return loop


# ---------------------------------------------------------------------------------------------------------------- asgi


def _serve_asgi(replica: ReplicaSpec, port: int, ready_fd: int) -> None:
    environment = loader.resolve(replica.entry)
    sock = _listening_place(port)
    os.environ["PORT"] = str(port)
    config = _config(environment, port)
    config.app = failures.contained(config.app, replica.app)
    signal.signal(signal.SIGTERM, _leave)
    with asyncio.Runner(loop_factory=lambda: _new_loop(config.loop != "asyncio")) as runner:
        runner.run(_run_server(environment, config, sock, ready_fd))


def _listening_place(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.exit(PORT_TAKEN)
    return sock


def _config(environment: object, port: int) -> uvicorn.Config:
    """The server's settings: the user's own where there are any, except for the place where it listens."""
    try:
        import uvicorn
    except ModuleNotFoundError:
        hint = 'add it to the environment\'s image: .with_pip_packages("uvicorn")'
        raise command.BadCommand(f"there is no uvicorn to serve it with; {hint}") from None
    own = getattr(environment, "uvicorn_config", None)
    if isinstance(own, uvicorn.Config):
        own.host, own.port, own.fd, own.uds, own.workers, own.reload = "127.0.0.1", port, None, None, 1, False
        without_trailers(own)
        return own
    app: Any = getattr(environment, "app", environment)
    config = uvicorn.Config(
        app,
        port=port,
        access_log=False,
        proxy_headers=True,
        timeout_keep_alive=_KEEP_ALIVE,
        ws_max_size=_LARGEST_MESSAGE,
        ws_ping_interval=_PING_INTERVAL,
        ws_ping_timeout=_PING_TIMEOUT,
    )
    without_trailers(config)
    return config


async def _run_server(environment: object, config: uvicorn.Config, sock: socket.socket, ready_fd: int) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            _say_ready(ready_fd)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """The first signal lets open requests finish; the second says that time is up, and cancels them."""
            if not self.started:
                _leave(sig, frame)
            elif self.should_exit:
                loop.call_soon_threadsafe(self.cut_short)
            else:
                super().handle_exit(sig, frame)

        def cut_short(self) -> None:
            for connection in list(self.server_state.connections):
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()
            for task in list(self.server_state.tasks):
                task.cancel()

    loop = asyncio.get_running_loop()
    async with _lifetime(environment):
        for number in (signal.SIGTERM, signal.SIGINT):  # the server raises what stopped it once more when it is done
            signal.signal(number, lambda number, frame: None)
        await Server(config).serve(sockets=[sock])


def warm_up() -> None:
    """Serve one request of a small application of our own, to have the server stack imported and warm.

    Called in a fork server: what is forked from it then answers in a fraction of the time. Nothing of the user's runs.
    """
    with contextlib.suppress(ImportError), asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_warm_up())


async def _warm_up() -> None:
    import uvicorn

    sock = _listening_place(0)
    server = uvicorn.Server(uvicorn.Config(_small_app(), log_config=None, access_log=False))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    async with asyncio.timeout(10):  # not server.serve(): that looks for its end ten times a second
        await server.startup(sockets=[sock])
        await server.on_tick(0)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"GET /?a=b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        await reader.read()
        writer.close()
        await server.lifespan.shutdown()
        for listener in server.servers:
            listener.close()
    sock.close()


def _small_app() -> Any:
    if "fastapi" in sys.modules:
        import fastapi

        app = fastapi.FastAPI()

        async def answer(a: str) -> dict[str, str]:
            return {"a": a}

        app.get("/")(answer)
        return app

    async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return bare


# ------------------------------------------------------------------------------------------------- a @server function


def _call_server(replica: ReplicaSpec, port: int, ready_fd: int) -> None:
    environment = loader.resolve(replica.entry)
    function = _hook(environment, "_server")
    if function is None:
        raise command.BadCommand(f"{replica.entry} has no @server function")
    os.environ.update(command.variables(replica.port, port, os.environ))
    os.environ.update(command.shimmed(replica.port, port, os.environ))
    tarmac_bind.install(replica.port, port)
    signal.signal(signal.SIGTERM, _leave)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        _say_ready(ready_fd)
        if inspect.iscoroutinefunction(function):
            runner.run(_until_told(environment, function))
        else:
            _in_this_thread(runner, environment, function)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


async def _until_told(environment: object, function: _Function) -> None:
    """Run an async server; SIGTERM cancels it, and then `@on_shutdown` runs."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        async with _lifetime(environment):
            await _call(function)


def _in_this_thread(runner: asyncio.Runner, environment: object, function: _Function) -> None:
    """A server that blocks has the main thread for itself, since only there can it have signal handlers of its own."""
    runner.run(_call(_hook(environment, "_on_startup")))
    try:
        function(**bind(function, parameters()))
    finally:
        runner.run(_call(_hook(environment, "_on_shutdown")))
