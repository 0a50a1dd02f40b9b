"""Environments on demand: made without a deployment, listed, and removed when nothing needs them any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from flyte import wire
from flyte.errors import BaseRuntimeError, NotFoundError
from tarmac import checks
from tarmac.control.images import Environment, Images
from tarmac.home import Home
from tarmac.images import request_of
from tarmac.store import Store

LOOK = 1.0
"""Seconds after which it is said how far the environments are; who wants to know more asks again."""

LONGEST_LOG = 1024 * 1024
"""Bytes of a build log that are shown: its end."""


class Builds:
    """`in_use`: the keys of environments that processes run in."""

    def __init__(self, home: Home, store: Store, images: Images, in_use: Callable[[], set[str]]) -> None:
        self._home = home
        self._store = store
        self._images = images
        self._in_use = in_use
        self._running: dict[str, asyncio.Task[Environment]] = {}
        """By request."""
        self._said: dict[str, str] = {}
        """How far each is."""

    async def build(self, request: wire.BuildRequest) -> list[wire.ImageBuild]:
        """Have the environments made, and say how far they are after a moment. What goes on is joined by the next call.

        Raises ImageBuildError for a requirement that nobody could read.
        """
        checks.check(request)
        specs = {spec.name: spec for spec in request.environments}.values()
        running = [self._begun(request, spec) for spec in specs if self._images.needs_none(spec) is None]
        if running:
            await asyncio.wait(running, timeout=LOOK)
        return [self._state(spec) for spec in specs]

    def _begun(self, request: wire.BuildRequest, spec: wire.EnvironmentSpec) -> asyncio.Task[Environment]:
        id = request_of(spec).id
        task = self._running.get(id)
        if task is None:
            making = self._images.prepare(
                request.project, request.domain, spec, lambda said: self._said.__setitem__(id, said), request.force
            )
            task = self._running[id] = asyncio.ensure_future(making)
        return task

    def _state(self, spec: wire.EnvironmentSpec) -> wire.ImageBuild:
        """How far it is. What has ended is told once."""
        own = self._images.needs_none(spec)
        if own is not None:
            return wire.ImageBuild(environment=spec.name, state="own", warnings=list(own.warnings))
        id = request_of(spec).id
        task = self._running.get(id)
        if task is None or not task.done():
            said = self._said.get(id, "waiting for its turn")
            return wire.ImageBuild(environment=spec.name, state="building", message=said)
        del self._running[id]
        self._said.pop(id, None)
        try:
            made = task.result()
        except BaseRuntimeError as error:
            return wire.ImageBuild(environment=spec.name, state="failed", message=error.message)
        record, warnings = self._images.record_of(spec), list(made.warnings)
        state = "ready" if made.key else "own"
        return wire.ImageBuild(environment=spec.name, state=state, image=record, warnings=warnings)  # type: ignore[arg-type]

    async def prune(self, request: wire.PruneRequest) -> list[wire.ImageRecord]:
        """Remove what no deployment asked for that long, nothing deployed names and nothing runs in; what that was."""
        checks.check(request)
        limit, in_use = time.time() - request.older, self._in_use()
        found = [
            record
            for record in self._images.records()
            if record.used <= limit and record.key not in in_use and not await self._is_deployed(record)
        ]
        if found:
            await self._images.remove([record.id for record in found])
        return found

    async def _is_deployed(self, record: wire.ImageRecord) -> bool:
        """Whether the current version of a task names it."""
        for place in record.environments:
            project, domain, environment = place.split("/", 2)
            for row in await self._store.tasks(project, domain, env=environment):
                spec = msgspec.json.decode(row.spec, type=wire.TaskSpec)
                if request_of(spec.environment).id == record.id:
                    return True
        return False

    async def log(self, id: str) -> wire.ImageLog:
        """The log of the image of that id, or of those that begin with it, the last. Raises NotFoundError."""
        record = self.get(id)
        path = self._home.image_log(record.id)
        if not path.exists():
            raise NotFoundError(f"there is no build log of an image {id!r}; `flyte images list` shows what there is")
        text = await asyncio.to_thread(path.read_bytes)
        return wire.ImageLog(id=record.id, text=text[-LONGEST_LOG:].decode(errors="replace"))

    def get(self, id: str) -> wire.ImageRecord:
        """The image of that id, or of those that begin with it, the last. Raises NotFoundError."""
        record = next((record for record in self._images.records() if id and record.id.startswith(id)), None)
        if record is None:
            raise NotFoundError(f"there is no image {id!r}; `flyte images list` shows what there is")
        return record

    def list(self) -> list[wire.ImageRecord]:
        return self._images.records()
