"""A fork server and whoever drives it: tests talk to it over its socket pair as the agent does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from flyte import wire
from tests import ports
from tests.platform_fixture import ROOT, wait_for

F = TypeVar("F", bound=wire.Frame)
LIMIT = 30.0


class Conversation:
    """The agent's end of a fork server's socket pair."""

    def __init__(self, link: socket.socket, log: Path) -> None:
        self.link = link
        self.log = log
        link.settimeout(LIMIT)
        self._unpacker = wire.Unpacker()
        self._frames: list[wire.AnyFrame] = []

    def send(self, frame: wire.Frame) -> None:
        self.link.sendall(wire.pack(frame))

    def next(self, kind: type[F], unit: str | None = None) -> F:
        """The next frame of `kind`, of `unit` if given; others are kept for later."""
        while True:
            for frame in self._frames:
                if isinstance(frame, kind) and (unit is None or getattr(frame, "unit", None) == unit):
                    self._frames.remove(frame)
                    return frame
            data = self.link.recv(65536)
            assert data, f"the fork server hung up; it wrote: {self.log.read_text()}"
            self._frames += self._unpacker.feed(data)


class Driver(Conversation):
    """A fork server in an interpreter of its own, and the agent's end."""

    def __init__(self, log: Path, root: Path, free_port: Callable[[], int], env: dict[str, str]) -> None:
        self._root, self._free_port = root, free_port
        ours, theirs = socket.socketpair()
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "programs")])
        command = [sys.executable, "-P", "-m", "flyte.runtime.fork_server", "--fd", str(theirs.fileno())]
        with theirs, log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--worker", "stub_worker"],
                env={**os.environ, "PYTHONPATH": path, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        super().__init__(ours, log)

    def load(
        self,
        *modules: str,
        fork: bool | None = None,
        sys_path: tuple[str, ...] = (),
        isolation: wire.Isolation | None = None,
        env: dict[str, str] | None = None,
        secret_files: dict[str, str] | None = None,
    ) -> None:
        """Code of which a unit is to have a copy of its own comes from a bundle."""
        pool = wire.PoolSpec(
            id="pool",
            name="env@v1",
            python=sys.executable,
            root=str(self._root),
            modules=list(modules),
            fork=fork,
            sys_path=list(sys_path),
            bundle=None if isolation is None else "digest",
            env=env or {},
            secret_files=secret_files or {},
        )
        self.send(wire.LoadPool(pool=pool, isolation=isolation))

    def worker(self, unit: str = "w", stub: str = "wait", log: Path | None = None, **env: str) -> int:
        """Fork a worker whose life is `stub` (see stub_worker); its pid."""
        given = {"STUB": stub, **env}
        self.send(wire.ForkUnit(unit=unit, kind="worker", env=given, log=str(log or "")))
        return self.next(wire.UnitStarted, unit).pid

    def replica(self, kind: str, entry: str = "", *, unit: str = "r", port: int = 8080, **more: Any) -> int:
        """Fork a replica of an app that declares `port`; the port that it really gets."""
        env, argv = more.get("env", {}), more.get("argv", [])
        spec = wire.ReplicaSpec(
            app="app", project="p", domain="d", version="v", kind=kind, entry=entry, argv=argv, port=port, env=env
        )
        real = self._free_port()
        self.send(wire.ForkUnit(unit=unit, kind="replica", log=str(self.log), replica=spec, port=real))
        self.next(wire.UnitStarted, unit)
        return real

    def end(self) -> None:
        self.link.close()
        try:
            self.process.wait(5)
        finally:
            self.process.kill()
            self.process.wait()


ForkServers = Callable[..., Driver]


@contextmanager
def fork_servers(folder: Path) -> Iterator[ForkServers]:
    """Make fork servers whose code is in `folder`/code; all are gone at the end."""
    drivers: list[Driver] = []

    def free_port() -> int:
        return stack.enter_context(ports.one())

    def make(**env: str) -> Driver:
        drivers.append(Driver(folder / f"fork server{len(drivers)}.log", folder / "code", free_port, env))
        return drivers[-1]

    with ExitStack() as stack:
        try:
            yield make
        finally:
            for driver in drivers:
                driver.end()


def lines(log: Path, holds: Callable[[str], bool] = bool) -> str:
    """The content of `log`, once it is what the test waits for."""
    wait_for(lambda: log.exists() and holds(log.read_text()), f"{log} has what is expected")
    return log.read_text()


def gone(pid: int) -> bool:
    """Whether that process has ended; one that nobody has reaped has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
