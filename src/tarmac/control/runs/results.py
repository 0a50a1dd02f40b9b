"""The results in the cache: found, listed, deleted.

A stored result that cannot be used any more (it is too old, its blob or a file of it is gone) is like none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from flyte import wire
from flyte.cache_key import has_located, missing_file
from flyte.errors import BaseRuntimeError
from tarmac.blobs import Blobs
from tarmac.control.clock import Clock
from tarmac.events import Journal
from tarmac.store import CacheRow, Change, Delete, Store

log = logging.getLogger("tarmac.cache")

_DELETED = 100_000
"""How many results one call deletes at most."""


class Results:
    def __init__(self, store: Store, journal: Journal, blobs: Blobs, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._blobs = blobs
        self._clock = clock

    # ------------------------------------------------------------------ for actions that ask

    async def find(self, wanted: Mapping[str, wire.TaskSpec]) -> dict[str, CacheRow]:
        """The results that can be used, by their keys. `wanted`: key → the task that asks."""
        rows = await self._store.cached(list(wanted))
        found = {row.key: row for row in rows if await self._is_usable(row, wanted[row.key])}
        with_files = {key: row for key, row in found.items() if _has_files(row, wanted[key])}
        if with_files:
            outputs = {key: await self._stored(row) for key, row in with_files.items()}
            lost = await asyncio.to_thread(_without_files, with_files, outputs, wanted)
            found = {key: row for key, row in found.items() if key not in lost}
        return found

    async def _is_usable(self, row: CacheRow, task: wire.TaskSpec) -> bool:
        cache = task.cache
        if cache is None or (cache.max_age is not None and self._clock.since(row.created) > cache.max_age):
            return False
        if row.outputs_blob is not None and not await self._blobs.has(row.outputs_blob):
            log.info("the result of %s/%s in the cache is not used: its blob is gone", row.run, row.action)
            return False
        return True

    async def _stored(self, row: CacheRow) -> bytes:
        """The outputs; nothing where they are a blob that was lost since it was looked for."""
        if row.outputs_blob is None:
            return row.outputs or b"[]"
        try:
            return await self._blobs.get(row.outputs_blob)
        except (BaseRuntimeError, OSError) as error:
            log.info("the result of %s/%s in the cache cannot be read: %s", row.run, row.action, error)
            return b""

    # ------------------------------------------------------------------ for people

    async def delete(
        self, project: str, domain: str, task: str | None = None, key: str | None = None
    ) -> list[wire.CachedResult]:
        """Delete the results of a project and domain, or of one task there, or the one whose key begins so.

        Returns what was deleted. An action that is computing puts its result into the cache all the same.
        """
        rows = await self._store.cache(project, domain, task, _DELETED)
        chosen = [row for row in rows if key is None or row.key.startswith(key)]
        await self._journal.write(Change(deletes=tuple(Delete("cache", (row.key,)) for row in chosen)))
        return [_shown(row) for row in chosen]

    async def list(
        self, project: str, domain: str, task: str | None = None, limit: int = 100
    ) -> list[wire.CachedResult]:
        """The results in the cache, newest first."""
        return [_shown(row) for row in await self._store.cache(project, domain, task, limit)]


def _has_files(row: CacheRow, task: wire.TaskSpec) -> bool:
    return has_located(_outputs(task), row.outputs or b"")


def _without_files(
    rows: Mapping[str, CacheRow], outputs: Mapping[str, bytes], wanted: Mapping[str, wire.TaskSpec]
) -> set[str]:
    """The keys of results that name files of this machine which are gone, or that cannot be read."""
    lost = set()
    for key, row in rows.items():
        try:
            gone = missing_file(outputs[key], _outputs(wanted[key]))
        except (OSError, ValueError, RecursionError) as error:
            gone = str(error)
        if gone is not None:
            log.info("the result of %s/%s in the cache is not used: %s is gone", row.run, row.action, gone)
            lost.add(key)
    return lost


def _outputs(task: wire.TaskSpec) -> list[dict[str, object]]:
    return [spec.schema for spec in task.interface.outputs]


def _shown(row: CacheRow) -> wire.CachedResult:
    return wire.CachedResult(
        key=row.key,
        project=row.project,
        domain=row.domain,
        task=row.task,
        version=row.version,
        run=row.run,
        action=row.action,
        created=row.created,
        seconds=row.seconds,
        bytes=None if row.outputs is None else len(row.outputs),
    )
