"""Local mode's apps: each a child process of the one that serves it, on a free port of the loopback interface.

The child runs what a replica on a platform runs (`runtime.apphost`), from the code where it lies, and ends with its
parent. There is no gateway: no keys are asked for, nobody wakes a stopped app, one process serves.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from flyte import _bundle, wire
from flyte._sync import syncable
from flyte.app._environment import AppEnvironment, set_local_endpoint
from flyte.errors import DeploymentError, InvalidInputError

START_TIMEOUT = 60.0
"""Seconds an app has to answer."""

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class _Order:
    """What the child needs to know."""

    replica: wire.ReplicaSpec
    root: str
    sys_path: list[str]
    port: int
    ready_fd: int
    parent: int


class LocalApp:
    """The handle of an app that a child of this process serves; the same verbs as `remote.App`."""

    def __init__(self, env: AppEnvironment, root: Path, values: Mapping[str, Any], env_vars: Mapping[str, str]) -> None:
        self._env = env
        self._root = root
        self._values = values
        self._env_vars = env_vars
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def name(self) -> str:
        return self._env.name

    @property
    def endpoint(self) -> str:
        """Where it answers, without a slash at the end; empty before it was activated."""
        return f"http://127.0.0.1:{self._port}" if self._port else ""

    @property
    def url(self) -> str:
        """The same: local mode has no console."""
        return self.endpoint

    @property
    def status(self) -> str:
        return "active" if self.is_active() else "stopped"

    def is_active(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_deactivated(self) -> bool:
        return not self.is_active()

    @syncable
    async def activate(self, wait: bool = False) -> LocalApp:
        """Start it, if it does not run; with `wait`, return when it answers. Raises DeploymentError."""
        if not self.is_active():
            await asyncio.to_thread(self._start)
        if wait:
            await self._until_it_answers()
        return self

    @syncable
    async def deactivate(self, wait: bool = False) -> LocalApp:
        """Stop it."""
        await asyncio.to_thread(self.stop)
        return self

    @contextlib.asynccontextmanager
    async def ephemeral_ctx(self) -> AsyncIterator[LocalApp]:
        """Let it serve for the time of an `async with` block."""
        await self.activate.aio(wait=True)
        try:
            yield self
        finally:
            await self.deactivate.aio()

    @contextlib.contextmanager
    def ephemeral_ctx_sync(self) -> Iterator[LocalApp]:
        """Let it serve for the time of a `with` block."""
        self.activate(wait=True)
        try:
            yield self
        finally:
            self.deactivate()

    def _start(self) -> None:
        spec = self._env.spec(self._root)
        port = self._port or _free_port()
        ready, ready_fd = os.pipe()
        order = _Order(
            replica=_replica(spec, self._values, self._env_vars, self._env.env_vars or {}),
            root=str(self._root),
            sys_path=_bundle.sys_path(self._root.resolve()),
            port=port,
            ready_fd=ready_fd,
            parent=os.getpid(),
        )
        command = [sys.executable, "-m", "flyte._local_app", msgspec.json.encode(order).decode()]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *_python_path()])}
        try:
            self._process = subprocess.Popen(command, pass_fds=[ready_fd], env=environ, stdin=subprocess.DEVNULL)
        finally:
            os.close(ready_fd)
            os.close(ready)
        self._port = port
        set_local_endpoint(self.name, self.endpoint)
        _served.append(self)
        _stop_at_exit()

    async def _until_it_answers(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not await asyncio.to_thread(self._answers):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            await self.deactivate.aio()
            raise DeploymentError(f"the app {self.name} did not answer within {START_TIMEOUT:g} s") from None

    def _answers(self) -> bool:
        """Whether any answer below 500 comes. Raises DeploymentError when the process has ended."""
        process = self._process
        if process is None or process.poll() is not None:
            code = process.returncode if process else None
            raise DeploymentError(f"the app {self.name} ended with exit code {code} before it answered; see above")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after GRACE."""
        set_local_endpoint(self.name, None)
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __repr__(self) -> str:
        return f"LocalApp(name={self.name!r}, endpoint={self.endpoint!r}, status={self.status!r})"


_served: list[LocalApp] = []
_lock = threading.Lock()


def _stop_at_exit() -> None:
    with _lock:
        if len(_served) == 1:
            atexit.register(_stop_all)


def _stop_all() -> None:
    for app in _served:
        app.stop()


def _replica(
    spec: wire.AppSpec, values: Mapping[str, Any], env_vars: Mapping[str, str], own: Mapping[str, str]
) -> wire.ReplicaSpec:
    from flyte.app._environment import _local_endpoints

    parameters = {p.name: value for p in spec.parameters if (value := _value(p, values)) is not None}
    files = {
        p.name: {"kind": p.kind, "env": p.env, "mount": p.mount, "download": p.download}
        for p in spec.parameters
        if p.kind in ("file", "dir")
    }
    return wire.ReplicaSpec(
        app=spec.name,
        project="local",
        domain="local",
        version="local",
        kind=spec.kind,
        entry=spec.entry,
        argv=spec.argv,
        port=spec.port,
        env={
            **env_vars,
            **own,
            **{p.env: parameters[p.name] for p in spec.parameters if p.env and p.name in parameters},
            "FLYTE_APP_ENDPOINTS": json.dumps(_local_endpoints),
            "FLYTE_PARAMETERS": json.dumps(parameters),
            "FLYTE_FILE_PARAMETERS": json.dumps(files),
        },
    )


def _value(parameter: wire.ParameterSpec, given: Mapping[str, Any]) -> str | None:
    """A parameter's value, as the app will see it."""
    from flyte.app._environment import _local_endpoints

    if parameter.name in given:
        return str(given[parameter.name])
    if parameter.kind == "endpoint":
        name = parameter.app_name or ""
        if name not in _local_endpoints:
            raise InvalidInputError(f"the parameter {parameter.name!r} is the address of {name!r}; serve that first")
        return _local_endpoints[name]
    if parameter.kind == "run_output":
        raise InvalidInputError(f"the parameter {parameter.name!r} is a run's output, which only a platform keeps")
    return parameter.value


def _python_path() -> list[str]:
    return [os.path.abspath(place or os.curdir) for place in sys.path if not place.endswith(".zip")]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port: int = place.getsockname()[1]
        return port


def main(text: str) -> None:
    """The child: serve the app of this order until SIGTERM."""
    from flyte.runtime import apphost, loader, offspring

    order = msgspec.json.decode(text, type=_Order)
    offspring.die_with(order.parent)
    loader.enter(order.root, order.sys_path)
    apphost.serve(order.replica, order.port, order.ready_fd)


if __name__ == "__main__":
    main(sys.argv[1])
