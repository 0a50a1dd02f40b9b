"""Which tasks there are, by full or bare name and version, and what kind of process runs each.

A task version never changes once it is registered, so what was read once is kept. One version of each task is
*current*: that is what a call without a version means, and every list shows.
"""

from __future__ import annotations

import msgspec

from flyte import wire
from flyte.errors import AlreadyExistsError, RemoteTaskNotFoundError
from flyte.names import path_part
from tarmac.control.images import Images
from tarmac.control.live import KnownTask
from tarmac.control.recent import remember
from tarmac.store import Store, TaskRow

_KEPT = 5000


class Registry:
    def __init__(self, store: Store, endpoint: str, images: Images) -> None:
        self._store = store
        self._endpoint = endpoint
        self._images = images
        self._known: dict[tuple[str, str, str, str], KnownTask] = {}
        self._shown: dict[tuple[str, str, str, str | None], wire.Task] = {}
        """What was answered to who asked for a task, since one was registered or taken back."""
        self._meant: dict[tuple[str, str, str, str | None], KnownTask] = {}
        """What a name (full or bare), with a version or without, means since a task was registered or current moved."""
        self._changes = 0

    def rows_for(self, request: wire.DeployRequest, now: float) -> list[TaskRow]:
        """The rows that register the tasks of a deployment."""
        return [task_row(request, spec, now) for spec in request.tasks]

    async def is_registered(self, row: TaskRow) -> bool:
        """Whether this very task is registered already. Raises AlreadyExistsError when the version has other code."""
        stored = await self._store.task(row.project, row.domain, row.name, row.version)
        if stored is None:
            return False
        is_same = stored.spec == row.spec or _declared(stored) == _declared(row)
        if stored.bundle != row.bundle or not is_same:
            raise AlreadyExistsError(
                f"task {row.name} {row.version} exists in {row.project}/{row.domain} with other code; "
                "deploy under a new version, or without one to have it derived from the code"
            )
        return True

    def remember(self, row: TaskRow) -> KnownTask:
        """Keep a registered task at hand."""
        if len(self._known) >= _KEPT:
            self._known.clear()
        known = KnownTask(row, msgspec.json.decode(row.spec, type=wire.TaskSpec))
        self._known[row.project, row.domain, row.name, row.version] = known
        return known

    def _url(self, row: TaskRow) -> str:
        return f"{self._endpoint}/v2/domain/{row.domain}/project/{row.project}/tasks/{path_part(row.name)}"

    async def get(self, project: str, domain: str, name: str, version: str | None = None) -> wire.Task:
        """The task as the API shows it, with the versions there are. Raises RemoteTaskNotFoundError."""
        key = (project, domain, name, version)
        shown = self._shown.get(key)
        if shown is None:
            state = self._changes
            known = await self.find(project, domain, name, version)
            versions = [row.version for row in await self._store.task_versions(project, domain, known.row.name)]
            current = await self._store.current_task(project, domain, known.row.name)
            shown = task_record(known.row, self._url(known.row), versions[:100], current.version if current else "")
            if state == self._changes and len(self._shown) < _KEPT:  # what was read may be out of date already
                self._shown[key] = shown
        image = self._images.record_of(shown.spec.environment) if shown.spec is not None else None
        return shown if image is None else msgspec.structs.replace(shown, image=image)

    def changed(self) -> None:
        """Tasks were registered, made current, or taken back; to be called when that is on disk."""
        self._changes += 1
        self._shown.clear()
        self._meant.clear()

    def forget(self, keys: list[tuple[str, str, str, str]]) -> None:
        """Tasks (project, domain, name, version) that a failed deployment took back, or that were removed."""
        for key in keys:
            self._known.pop(key, None)

    def at_hand(self, project: str, domain: str, name: str, version: str) -> KnownTask | None:
        """The task if it was used before; no I/O."""
        return self._known.get((project, domain, name, version))

    async def find(self, project: str, domain: str, name: str, version: str | None) -> KnownTask:
        """The task called `name` (full, or bare when one environment has it), at `version` or the current one.

        Raises RemoteTaskNotFoundError that lists what there is instead.
        """
        key = (project, domain, name, version)
        known = self._meant.get(key)
        if known is None and version is not None:
            known = self.at_hand(project, domain, name, version)
        if known is not None:
            return known
        state = self._changes
        row = await self._row(project, domain, name, version)
        known = self.at_hand(project, domain, row.name, row.version) or self.remember(row)
        if state == self._changes:  # else what was read may be out of date already
            remember(self._meant, key, known, _KEPT)
        return known

    async def _row(self, project: str, domain: str, name: str, version: str | None) -> TaskRow:
        if version is None:
            exact = await self._store.current_task(project, domain, name)
        else:
            exact = await self._store.task(project, domain, name, version)
        if exact is not None:
            return exact
        candidates = await self._store.tasks_by_short_name(project, domain, name, version)
        names = sorted({row.name for row in candidates})
        if len(names) == 1:
            return candidates[0]
        raise RemoteTaskNotFoundError(await self._sentence(project, domain, name, version, names))

    async def _sentence(self, project: str, domain: str, name: str, version: str | None, names: list[str]) -> str:
        where = f"{project}/{domain}"
        if names:
            return f"{name!r} is the name of {len(names)} tasks in {where}; write one of: {', '.join(names)}"
        others = await self._store.task_versions(project, domain, name)
        others = others or await self._store.tasks_by_short_name(project, domain, name, None)
        if others and version is not None:
            found = ", ".join(dict.fromkeys(row.version for row in others[:10]))
            return f"no task named {name!r} in {where} at {version}; versions there: {found}"
        known = await self._store.tasks(project, domain, limit=10)
        listed = ", ".join(row.name for row in known)
        return f"no task named {name!r} in {where}; " + (
            f"tasks there: {listed}" if listed else "none is deployed there; deploy one with `flyte deploy FILE`"
        )

    async def list(
        self, project: str, domain: str, name: str | None = None, env: str | None = None, limit: int = 100
    ) -> list[wire.Task]:
        rows = await self._store.tasks(project, domain, name=name, env=env, limit=limit)
        return [task_record(row, self._url(row)) for row in rows]


def task_row(request: wire.DeployRequest, spec: wire.TaskSpec, now: float) -> TaskRow:
    return TaskRow(
        project=request.project,
        domain=request.domain,
        name=spec.name,
        version=request.version,
        short_name=spec.short_name or spec.name.rpartition(".")[2],
        environment=spec.environment.name,
        spec=msgspec.json.encode(spec),
        bundle=request.bundle,
        root=request.root,
        sys_path=request.sys_path,
        created=now,
    )


def _declared(row: TaskRow) -> wire.TaskSpec:
    """The spec without what our own list says of it: that one may differ from release to release."""
    return msgspec.structs.replace(msgspec.json.decode(row.spec, type=wire.TaskSpec), no_effect=[])


def task_record(row: TaskRow, url: str, versions: list[str] | None = None, current: str = "") -> wire.Task:
    """A task as the API shows it."""
    return wire.Task(
        project=row.project,
        domain=row.domain,
        name=row.name,
        version=row.version,
        short_name=row.short_name,
        environment=row.environment,
        spec=msgspec.json.decode(row.spec, type=wire.TaskSpec),
        bundle=row.bundle,
        created=row.created,
        url=url,
        versions=versions or [],
        current=current or row.version,
    )
