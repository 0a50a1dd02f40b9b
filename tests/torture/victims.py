"""Which processes there are to be hit, and which were: what was lost with them has its reason."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.world import World

_IMPORT_PATIENCE = 5.0
"""Seconds to wait for a module that is being imported."""


@dataclass(slots=True)
class Victims:
    world: World
    busy: Callable[[], set[int]]
    """The processes in which something runs now."""
    app: str
    importing: Path
    """The folder in which a process that imports slowly leaves its pid."""
    pids: set[int] = field(default_factory=set)
    """Whom we killed, stopped or told to end: they, and what they had forked, lost what they were at."""

    def hurt(self, *pids: int) -> None:
        self.pids.update(pids)

    def of(self, kind: str) -> list[psutil.Process]:
        match kind:
            case "fork_server":
                return self.world.fork_servers()
            case "preload":
                found = self.world.preloads()
                for preload in found:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        self.hurt(*(child.pid for child in preload.children()))
                return found
            case "replica":
                return [unit for unit in self.world.units() if unit.pid in self._replicas()]
            case "importing":
                return self._importing()
        raise ValueError(f"there is no kind {kind}")

    def workers(self, busy: bool) -> list[psutil.Process]:
        """Those that run something, or those that wait for something to run."""
        replicas, running = self._replicas(), self.busy()
        return [unit for unit in self.world.units() if unit.pid not in replicas and (unit.pid in running) == busy]

    def _replicas(self) -> set[int]:
        found = self.world.call("GET", f"/v1/apps/{self.app}")
        return {replica["pid"] for replica in found["replicas"] if replica.get("pid")}

    def _importing(self) -> list[psutil.Process]:
        """A process in the middle of its import. The one that is done with it is killed first, so that there is one."""
        end = time.monotonic() + _IMPORT_PATIENCE
        while not (found := self._in_import()) and time.monotonic() < end:
            for fork_server in self.world.fork_servers():
                if fork_server.pid in self._imported():
                    self.hurt(fork_server.pid)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        fork_server.kill()
            time.sleep(0.05)
        return found

    def _in_import(self) -> list[psutil.Process]:
        return [
            fork_server for fork_server in self.world.fork_servers() if (self.importing / str(fork_server.pid)).exists()
        ]

    def _imported(self) -> set[int]:
        done = self.importing.parent / "imported"
        return {int(file.name) for file in done.iterdir()} if done.exists() else set()
