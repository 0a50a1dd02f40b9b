"""The control plane's process: store, use cases, links and the HTTP API, put together and kept running.

It may be killed at any time: everything acknowledged is on disk. So an error that it cannot handle (the disk is full,
another control plane has the writer lock) ends the process with a sentence in its log, and the supervisor starts the
next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from pathlib import Path

import uvicorn
import uvloop

from flyte.wire import Hello
from tarmac import heartbeat
from tarmac import home as homes
from tarmac import settings as all_settings
from tarmac.api import make_app
from tarmac.api.line import Caller
from tarmac.auth import Authenticator
from tarmac.console import routes as _  # noqa: F401 - the application is made of it; here the fork server imports it
from tarmac.control import Control
from tarmac.links.server import Link, Links, Peer, listen
from tarmac.store import Store, open_store

log = logging.getLogger("tarmac.server")

GC_THRESHOLDS = (20_000, 20, 50)
"""Thresholds of the garbage collector. A run of many actions makes objects that stay; with Python's own thresholds the
collector scans them again and again, for an eighth of the time of a fan-out.
"""


async def serve(home: homes.Home, settings: all_settings.Settings) -> None:
    """Run the control plane until SIGTERM, or until the store fails for good."""
    came_up = heartbeat.begin(home, settings.lease)
    store = await open_store(settings.database_url, home.database, settings.fsync)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    endpoint = f"http://{_reachable(settings.host)}:{settings.port}"

    def failed(error: BaseException) -> None:
        """Start again from what is on disk. Who ends in order, ends in order."""
        _fail(error, 0 if stop.is_set() else 1)

    control = Control(store, home, settings, endpoint, settings.port, failed)
    await control.start()
    authenticator = Authenticator(
        home.token(), control.identities, control.keys.by_digest, control.ended_sessions, control.keys.used
    )
    control.keys.on_revoked = authenticator.key_revoked
    app = make_app(control, authenticator, settings)
    server = _http(app, home.api_socket)

    def accept(link: Link, hello: Hello) -> Peer:
        if hello.kind == "client":
            return Caller(link, hello.token, app, control, authenticator)
        return control.accept(link, hello)

    links = await listen(home.link_socket, accept)
    upkeep = asyncio.create_task(control.upkeep())
    http = asyncio.create_task(server.serve())
    came_up()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    await asyncio.wait([asyncio.ensure_future(stop.wait()), http, upkeep], return_when=asyncio.FIRST_COMPLETED)
    for task in (http, upkeep):
        if task.done() and (error := task.exception()) is not None:
            log.error("the control plane ends", exc_info=error)
    await _close(server, http, links, upkeep, store)


def _http(app: object, socket: Path) -> uvicorn.Server:
    socket.unlink(missing_ok=True)
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        uds=str(socket),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=75,
        forwarded_allow_ips="*",
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    return server


async def _close(
    server: uvicorn.Server,
    http: asyncio.Task[None],
    links: Links,
    upkeep: asyncio.Task[None],
    store: Store,
) -> None:
    links.close()
    server.should_exit = True
    upkeep.cancel()
    await asyncio.wait([http, upkeep], timeout=4)
    await store.close()


def _fail(error: BaseException, code: int) -> None:
    """End at once, since the store has failed, even if the reason cannot be logged."""
    try:
        print(f"the control plane ends: {error}", file=sys.stderr, flush=True)
    finally:  # the disk that is full may be the log's too
        os._exit(code)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host


def main() -> None:
    # litestar imports pydantic where it is installed, for schemas that we do not have: 0.1 s and 10 MB
    sys.modules.setdefault("pydantic", None)  # type: ignore[arg-type]
    home = homes.find()
    settings = all_settings.load(home.path)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(serve(home, settings))


if __name__ == "__main__":
    main()
