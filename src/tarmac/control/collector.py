"""The collector: it removes runs that have ended, and then the blobs, files, code and logs that nobody refers to.

Everything that is in use is named by a row of the database, or by a value that such a row names. So the collector reads
all these texts and spares everything whose name is in one of them: the digest of a blob, the number of a file's folder.
It does not have to know the meaning of the texts, and so it cannot overlook a kind of reference.

Something new may not be named yet. So everything that was written or asked for after the cutoff is spared: in the last
`grace` seconds, or since the oldest run began that is still under way, whose actions may hold it in memory. A client
that finds a blob stored instead of sending it sets its time anew (`tarmac.blobs`), also at the moment of its removal.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Protocol

import msgspec

from flyte import wire
from flyte.errors import InvalidInputError, NotFoundError, RunNotFoundError
from tarmac import checks, disk
from tarmac.blobs import Blobs, ObjectBlobs, Stored
from tarmac.control.folders import Folders
from tarmac.control.live import LiveRun
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.store import Change, Delete, RunRow, Store, TaskRow

_NAME = re.compile(rb"[0-9a-f]{32,}")
_OVERLAP = 128
"""Bytes of a piece that are looked at again with the next one: a name may begin in one and end in the other."""

_AT_ONCE = 500
"""Runs that are removed in one transaction."""

_MOST = 1_000_000
"""Runs, or versions of tasks, that one call removes at most."""

_GZIP = b"\x1f\x8b"
"""The first bytes of a code bundle, which names nothing."""


class Place(Protocol):
    """What the collector looks through."""

    def list(self) -> AsyncIterator[Stored]: ...
    async def remove(self, name: str, unused_since: float) -> bool: ...


@dataclasses.dataclass(slots=True)
class Finding:
    """What a place has that is older than the cutoff; what is in use is taken out of it by and by."""

    kind: str
    place: Place
    old: dict[str, Stored]


class Collector:
    """`live` are the runs that are under way, `code_in_use` gives the bundles that processes have loaded.

    `forget` is told which rows were removed, for what remembers them.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        journal: Journal,
        blobs: Blobs,
        live: Mapping[str, LiveRun],
        code_in_use: Callable[[], Collection[str]],
        forget: Callable[[list[RunRow], list[TaskRow]], None],
    ) -> None:
        self._home, self._store, self._journal, self._blobs = home, store, journal, blobs
        self._live = live
        self._code_in_use, self._forget = code_in_use, forget
        self._turn = asyncio.Lock()

    async def prune(self, request: wire.PruneStorageRequest, by: str) -> wire.PrunedStorage:
        """Remove what is asked for; one call after the other.

        Raises RunNotFoundError, and InvalidInputError for a run that is under way.
        """
        checks.check(request)
        async with self._turn:
            runs = await self._chosen_runs(request)
            tasks = await self._chosen_tasks(request)
            if not request.dry_run:
                await self._remove_rows(runs, tasks, by)
            cutoff = self._cutoff(request.grace)
            findings = await self._unused(cutoff, {run.name for run in runs}, tasks)
            removed = [await self._removed(finding, cutoff, request.dry_run) for finding in findings]
        return wire.PrunedStorage(
            runs=[run.name for run in runs],
            tasks=len(tasks),
            removed=[use for use in removed if use.items],
            dry_run=request.dry_run,
        )

    async def use(self) -> wire.StorageUse:
        """What lies in the platform's folder, and in the object store if there is one."""
        use, store = await asyncio.to_thread(disk.use, self._home), ""
        if isinstance(self._blobs, ObjectBlobs):
            store = self._blobs.url
            sizes = [each.size async for each in self._blobs.list()]
            use.append(wire.DiskUse(kind="objects", bytes=sum(sizes), items=len(sizes)))
        return wire.StorageUse(place=str(self._home.path), store=store, use=use, free=disk.free(self._home))

    # ------------------------------------------------------------------ runs and versions of tasks

    async def _chosen_runs(self, request: wire.PruneStorageRequest) -> list[RunRow]:
        chosen: dict[str, RunRow] = {}
        for name in request.runs:
            if name in self._live:
                raise InvalidInputError(f"run {name!r} is under way; abort it first: flyte abort run {name}")
            found = (await self._store.run(name)).found
            if found is None:
                raise RunNotFoundError(f"no run named {name!r}")
            chosen[name] = found.run
        if request.older is not None:
            for run in await self._store.runs_ended(time.time() - request.older, _MOST):
                if not self._is_called_by_live(run):
                    chosen.setdefault(run.name, run)
        return list(chosen.values())

    def _is_called_by_live(self, run: RunRow) -> bool:
        """Whether an action that is under way called the run: when it is tried again, it looks for it."""
        caller = msgspec.json.decode(run.request, type=_Caller).spawned_by
        return run.name in self._live or (caller or "").partition("/")[0] in self._live

    async def _chosen_tasks(self, request: wire.PruneStorageRequest) -> list[TaskRow]:
        if request.older is None:
            return []
        return await self._store.unused_tasks(time.time() - request.older, _MOST)

    async def _remove_rows(self, runs: list[RunRow], tasks: list[TaskRow], by: str) -> None:
        """Remove the rows. The event that tells of it is newer than all events that go: no number is given twice."""
        deletes = tuple(Delete("tasks", (task.project, task.domain, task.name, task.version)) for task in tasks)
        for at in range(0, max(len(runs), len(deletes)), _AT_ONCE):
            some, gone = runs[at : at + _AT_ONCE], tasks[at : at + _AT_ONCE]
            event = self._journal.act("storage", f"{len(some)} runs removed", by)
            change = Change(removed_runs=tuple(some), deletes=deletes[at : at + _AT_ONCE], events=(event,))
            await self._journal.write(change, functools.partial(self._forget, some, gone))
        for run in runs:
            await asyncio.to_thread(shutil.rmtree, self._home.run_logs(run.name), ignore_errors=True)
            await asyncio.to_thread(shutil.rmtree, self._home.checkpoints(run.name), ignore_errors=True)

    # ------------------------------------------------------------------ what nobody refers to

    def _cutoff(self, grace: float) -> float:
        """The time after which everything is spared that was written or asked for."""
        now = time.time()
        return min(now - grace, *(run.row.created for run in self._live.values()), now)

    async def _unused(self, cutoff: float, runs: set[str], tasks: Collection[TaskRow]) -> list[Finding]:
        """What may be removed: old, and named by nothing that stays. The rows of `runs` and `tasks` do not count."""
        stored = {each.name: each async for each in self._blobs.list()}
        values = Finding("values", self._blobs, {name: each for name, each in stored.items() if each.at <= cutoff})
        files = await _old("files", Folders(self._home.files, _is_name), cutoff)
        code = await _old("code", Folders(self._home.code, _is_name), cutoff)
        named = [values, files, code]
        kept = set(stored) - set(values.old)
        versions = {(task.project, task.domain, task.name, task.version) for task in tasks}
        async for table, key, text in self._store.referring():
            if (table in ("runs", "actions", "reports") and key[0] in runs) or (table == "tasks" and key in versions):
                continue
            kept |= _spare(text, named)
        await self._spare_from_blobs(kept, named)
        for name in self._code_in_use():
            values.old.pop(name, None)
            code.old.pop(name, None)
        code.old = {name: each for name, each in code.old.items() if name not in stored or name in values.old}
        return [*named, await self._logs(cutoff, runs), await self._checkpoints(cutoff)]

    async def _spare_from_blobs(self, kept: set[str], named: list[Finding]) -> None:
        """Spare what the values name that are kept, and what these name, and so on."""
        waiting = list(kept)
        while waiting and any(finding.old for finding in named):
            try:
                async for text in self._texts(waiting.pop()):
                    waiting += await asyncio.to_thread(_spare, text, named)  # it may be much: others go on meanwhile
            except NotFoundError:  # it is named, and was lost; or it was removed by hand meanwhile
                continue

    async def _texts(self, digest: str) -> AsyncIterator[bytes]:
        before = b""
        async for piece in self._blobs.stream(digest):
            if not before and piece.startswith(_GZIP):
                return
            yield before + piece
            before = piece[-_OVERLAP:]

    async def _logs(self, cutoff: float, removed: set[str]) -> Finding:
        """The logs of runs that are not stored any more: those of `removed` runs, in a dry run."""
        found = await _old("logs", Folders(self._home.run_logs("x").parent, _is_visible), cutoff)
        stored = await self._store.run_names(found.old) - removed
        found.old = {name: each for name, each in found.old.items() if name not in stored}
        return found

    async def _checkpoints(self, cutoff: float) -> Finding:
        found = await _old("checkpoints", Folders(self._home.checkpoints("x").parent, _is_visible), cutoff)
        found.old = {name: each for name, each in found.old.items() if name not in self._live}
        return found

    async def _removed(self, finding: Finding, cutoff: float, dry_run: bool) -> wire.DiskUse:
        """Remove what was found; how much that was."""
        removed = list(finding.old.values())
        if not dry_run:
            removed = [each for each in removed if await finding.place.remove(each.name, cutoff)]
        return wire.DiskUse(kind=finding.kind, bytes=sum(each.size for each in removed), items=len(removed))


class _Caller(msgspec.Struct):
    """Of a stored request only the action that called it."""

    spawned_by: str | None = None


async def _old(kind: str, place: Place, cutoff: float) -> Finding:
    return Finding(kind, place, {each.name: each async for each in place.list() if each.at <= cutoff})


def _spare(text: bytes, named: list[Finding]) -> set[str]:
    """Take what the text names out of the findings; returns the blobs among it that were there."""
    spared: set[str] = set()
    for found in _NAME.findall(text):
        name = found.decode()
        for finding in named:
            if finding.old.pop(name, None) is not None and finding.kind == "values":
                spared.add(name)
    return spared


def _is_name(name: str) -> bool:
    """Whether it is the number of a file's folder, or a digest."""
    return re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", name) is not None


def _is_visible(name: str) -> bool:
    return not name.startswith(".")
