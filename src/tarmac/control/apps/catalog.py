"""Apps by name, as the API asks for them: listed, looked at, started, stopped and deleted, with their logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyte import wire
from flyte.wire import AppId, Scope
from tarmac.control.apps.apps import Apps
from tarmac.control.errands import Errands
from tarmac.home import Home


class Catalog:
    def __init__(self, apps: Apps, home: Home, errands: Errands) -> None:
        self._apps = apps
        self._home = home
        self._errands = errands

    async def get(self, app: AppId) -> wire.App:
        return self._apps.record(self._apps.find(app))

    async def activate(self, app: AppId, wait: float | None, by: str) -> wire.App:
        """Start the app; with `wait` return when it answers, or raise what keeps it from it."""
        found = self._apps.find(app)
        await self._within(self._apps.activate(found, by), wait)
        return self._apps.record(found)

    async def deactivate(self, app: AppId, wait: float | None, by: str) -> wire.App:
        found = self._apps.find(app)
        await self._apps.deactivate(found, by)
        if wait is not None:
            await self._within(self._apps.until_gone(found), wait)
        return self._apps.record(found)

    async def _within(self, coroutine: Any, seconds: float | None) -> None:
        """Wait for it, or (None) leave it to itself after giving it a moment to refuse."""
        task = asyncio.ensure_future(coroutine)
        done, _ = await asyncio.wait([task], timeout=0.05 if seconds is None else seconds)
        if done:
            task.result()
        else:
            self._errands.keep(task)

    async def delete(self, app: AppId, by: str) -> None:
        await self._apps.delete(self._apps.find(app), by)

    async def logs(self, app: AppId, replica: str | None) -> list[tuple[str, Path, Callable[[], bool]]]:
        """The logs of the app's replicas, the present ones first; a replica that is gone is found by its file."""
        live = self._apps.find(app)
        folder = self._home.replica_log(app, "x").parent
        files = sorted(folder.glob("r-*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        present = [path for path in files if path.stem in live.replicas]
        chosen = [path for path in files if path.stem == replica] if replica else (present or files[:1])
        return [(path.stem, path, lambda unit=path.stem: unit not in live.replicas) for path in chosen]  # type: ignore[misc]

    async def access_log(self, app: AppId) -> Path:
        self._apps.find(app)
        return self._home.access_log(app)

    async def list(self, scope: Scope, limit: int = 100) -> list[wire.App]:
        return [self._apps.record(app) for app in self._apps.of(scope)[:limit]]
