"""Apps by name, as the API asks for them: listed, looked at, started, stopped and deleted, with their logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyte import wire
from tarmac.control.apps.apps import Apps
from tarmac.control.errands import Errands
from tarmac.home import Home


class Catalog:
    def __init__(self, apps: Apps, home: Home, errands: Errands) -> None:
        self._apps = apps
        self._home = home
        self._errands = errands

    async def get(self, project: str, domain: str, name: str) -> wire.App:
        return self._apps.record(self._apps.find(project, domain, name))

    async def activate(self, project: str, domain: str, name: str, wait: float | None, by: str) -> wire.App:
        """Start the app; with `wait` return when it answers, or raise what keeps it from it."""
        app = self._apps.find(project, domain, name)
        await self._within(self._apps.activate(app, by), wait)
        return self._apps.record(app)

    async def deactivate(self, project: str, domain: str, name: str, wait: float | None, by: str) -> wire.App:
        app = self._apps.find(project, domain, name)
        await self._apps.deactivate(app, by)
        if wait is not None:
            await self._within(self._apps.until_gone(app), wait)
        return self._apps.record(app)

    async def _within(self, coroutine: Any, seconds: float | None) -> None:
        """Wait for it, or (None) leave it to itself after giving it a moment to refuse."""
        task = asyncio.ensure_future(coroutine)
        done, _ = await asyncio.wait([task], timeout=0.05 if seconds is None else seconds)
        if done:
            task.result()
        else:
            self._errands.keep(task)

    async def delete(self, project: str, domain: str, name: str, by: str) -> None:
        await self._apps.delete(self._apps.find(project, domain, name), by)

    async def logs(
        self, project: str, domain: str, name: str, replica: str | None
    ) -> list[tuple[str, Path, Callable[[], bool]]]:
        """The logs of the app's replicas, the present ones first; a replica that is gone is found by its file."""
        app = self._apps.find(project, domain, name)
        folder = self._home.replica_log(project, domain, name, "x").parent
        files = sorted(folder.glob("r-*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        present = [path for path in files if path.stem in app.replicas]
        chosen = [path for path in files if path.stem == replica] if replica else (present or files[:1])
        return [(path.stem, path, lambda unit=path.stem: unit not in app.replicas) for path in chosen]  # type: ignore[misc]

    async def access_log(self, project: str, domain: str, name: str) -> Path:
        self._apps.find(project, domain, name)
        return self._home.access_log(project, domain, name)

    async def list(self, project: str, domain: str, limit: int = 100) -> list[wire.App]:
        return [self._apps.record(app) for app in self._apps.of(project, domain)[:limit]]
