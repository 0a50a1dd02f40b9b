"""Local mode's apps: each a child process of the one that serves it, on a free port of the loopback interface.

The child runs what a replica on a platform runs (`runtime.apphost`), from the code where it lies, and ends with its
parent. There is no gateway: no keys are asked for, nobody wakes a stopped app, one process serves.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from flyte import wire
from flyte._declare.environment import Environment
from flyte._ship import bundle as _bundle
from flyte._sync import syncable
from flyte.app._environment import AppEnvironment, set_local_endpoint
from flyte.backoff import Pauses
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
    def version(self) -> str:
        """The code is served as it lies."""
        return "local"

    @property
    def desired_state(self) -> Literal["active", "stopped"]:
        return "stopped" if self._process is None else "active"

    @property
    def status(self) -> str:
        return "active" if self.is_active() else "stopped"

    def is_of(self, env: AppEnvironment, values: Mapping[str, Any], env_vars: Mapping[str, str]) -> bool:
        """Whether it serves this very declaration."""
        return (self._env, self._values, self._env_vars) == (env, values, env_vars)

    def is_active(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_deactivated(self) -> bool:
        return not self.is_active()

    @syncable
    async def activate(self, wait: bool = False) -> LocalApp:
        """Start it, if it does not run; with `wait`, return when it answers. Raises DeploymentError."""
        if not self.is_active():
            self._start()  # on this thread: the child ends with the thread that started it
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
        null = os.open(os.devnull, os.O_WRONLY)
        order = _Order(
            replica=_replica(spec, self._values, self._env_vars, self._env.env_vars or {}),
            root=str(self._root),
            sys_path=_bundle.sys_path(self._root.resolve()),
            port=port,
            ready_fd=null,
            parent=os.getpid(),
        )
        command = [sys.executable, "-m", "flyte._local.app", msgspec.json.encode(order).decode()]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *_python_path()])}
        try:
            self._process = subprocess.Popen(  # what it prints goes to stderr: stdout is the program's own
                command, pass_fds=[null], env=environ, stdin=subprocess.DEVNULL, stdout=2
            )
        finally:
            os.close(null)
        self._port = port
        set_local_endpoint(self.name, self.endpoint)
        _remember(self)

    async def _until_it_answers(self) -> None:
        pauses = Pauses(limit=START_TIMEOUT)
        while not await asyncio.to_thread(self._answers):
            if not await pauses.wait():
                await self.deactivate.aio()
                raise DeploymentError(f"the app {self.name} did not answer within {START_TIMEOUT:g} s")

    def _answers(self) -> bool:
        """Whether any answer below 500 comes. Raises DeploymentError when the process has ended."""
        process = self._process
        if process is None or process.poll() is not None:
            code = process.returncode if process else None
            raise DeploymentError(f"the app {self.name} ended with exit code {code} before it answered; see above")
        import http.client

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
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __repr__(self) -> str:
        return f"LocalApp(name={self.name!r}, endpoint={self.endpoint!r}, status={self.status!r})"


_served: dict[str, LocalApp] = {}


def _remember(app: LocalApp) -> None:
    if not _served:
        atexit.register(_stop_all)
    _served[app.name] = app


def _stop_all() -> None:
    for app in _served.values():
        app.stop()


def _endpoints() -> dict[str, str]:
    return {name: app.endpoint for name, app in _served.items() if app.is_active()}


async def serve(
    environments: Iterable[Environment],
    root: Path,
    values: Mapping[str, Mapping[str, Any]],
    env_vars: Mapping[str, str],
) -> LocalApp:
    """Serve the apps among `environments`, in order, and return the last one's handle when all answer.

    One that runs already, of the same declaration, goes on.
    """
    app: LocalApp | None = None
    for env in environments:
        if not isinstance(env, AppEnvironment):
            continue
        app = _served.get(env.name)
        if app is None or app.is_deactivated() or not app.is_of(env, values.get(env.name, {}), env_vars):
            if app is not None:
                await app.deactivate.aio()
            app = LocalApp(env, root, values.get(env.name, {}), env_vars)
        await app.activate.aio(wait=True)
    assert app is not None, "the last environment is an app"
    return app


def _replica(
    spec: wire.AppSpec, values: Mapping[str, Any], env_vars: Mapping[str, str], own: Mapping[str, str]
) -> wire.ReplicaSpec:
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
            "FLYTE_APP_ENDPOINTS": json.dumps(_endpoints()),
            "FLYTE_PARAMETERS": json.dumps(parameters),
            "FLYTE_FILE_PARAMETERS": json.dumps(files),
        },
    )


def _value(parameter: wire.ParameterSpec, given: Mapping[str, Any]) -> str | None:
    """A parameter's value, as the app will see it."""
    if parameter.name in given:
        return str(given[parameter.name])
    if parameter.kind == "endpoint":
        name = parameter.app_name or ""
        if name not in _endpoints():
            raise InvalidInputError(f"the parameter {parameter.name!r} is the address of {name!r}; serve that first")
        return _endpoints()[name]
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
    from flyte.runtime import apphost, loader, unit_process

    order = msgspec.json.decode(text, type=_Order)
    unit_process.die_with(order.parent)
    loader.enter(order.root, order.sys_path)
    apphost.serve(order.replica, order.port, order.ready_fd)


if __name__ == "__main__":
    main(sys.argv[1])
