"""Artifacts: files, folders and data frames that are known by a name, each version with who made it.

What a task produces is written in the same transaction as its success. A version that is made again replaces the one
that was there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from flyte import wire
from flyte.cache_key import LOCATED
from flyte.errors import InvalidInputError, NotFoundError
from tarmac import checks
from tarmac.control.live import LiveAction
from tarmac.events import Journal
from tarmac.model import subject_of_project
from tarmac.store import ArtifactRow, Change, Delete, Store


class Artifacts:
    def __init__(self, store: Store, journal: Journal, endpoint: str) -> None:
        self._store = store
        self._journal = journal
        self._endpoint = endpoint

    async def create(self, request: wire.ArtifactRequest, by: str) -> wire.Artifact:
        """Raises InvalidInputError for a value that is not a file, a folder or a data frame."""
        checks.check(request)
        if request.schema.get("format") not in LOCATED:
            raise InvalidInputError("an artifact is a flyte.io.File, Dir or DataFrame, by its schema")
        row = _row(request.spec, request.project, request.domain, bytes(request.value), request.schema, by)
        row = replace(
            row,
            run=request.run,
            action=request.action,
            attempt=request.attempt,
            external_ref=request.external_ref,
        )
        event = self._journal.act(subject_of_project(request.project), f"artifact {row.name}@{row.version} created", by)
        await self._journal.write(Change(artifacts=(row,), events=(event,)))
        return self._record(row)

    async def get(self, project: str, domain: str, name: str, version: str | None = None) -> wire.Artifact:
        """The version, or the one that was made last. Raises NotFoundError."""
        rows = await self._store.artifacts(project, domain, name=name, version=version, limit=1)
        if not rows:
            which = f"{name!r}" if version is None else f"{name!r} at version {version!r}"
            raise NotFoundError(f"no artifact {which} in {project}/{domain}; see `flyte get artifact`")
        return self._record(rows[0])

    async def list(
        self,
        project: str,
        domain: str,
        name: str | None = None,
        run: str | None = None,
        action: str | None = None,
        kind: str | None = None,
        latest: bool = False,
        limit: int = 100,
        offset: int = 0,
    ) -> list[wire.Artifact]:
        """Newest first; `latest` gives one version of each name."""
        chosen = {"name": name, "run": run, "action": action, "kind": kind}
        rows = await self._store.artifacts(project, domain, latest=latest, limit=limit, offset=offset, **chosen)
        return [self._record(row) for row in rows]

    async def delete(self, project: str, domain: str, name: str, version: str, by: str) -> None:
        """Forget the version; its file stays where it is. Raises NotFoundError."""
        await self.get(project, domain, name, version)
        event = self._journal.act(subject_of_project(project), f"artifact {name}@{version} deleted", by)
        removed = Delete("artifacts", (project, domain, name, version))
        await self._journal.write(Change(deletes=(removed,), events=(event,)))

    def _record(self, row: ArtifactRow) -> wire.Artifact:
        place = f"{self._endpoint}/v2/domain/{row.domain}/project/{row.project}/artifacts/{row.name}"
        return wire.Artifact(
            project=row.project,
            domain=row.domain,
            name=row.name,
            version=row.version,
            kind=row.kind,
            description=row.description,
            attrs=row.attrs,
            card=None if row.card is None else msgspec.json.decode(row.card, type=wire.ArtifactCard),
            value=msgspec.Raw(row.content),
            schema=msgspec.json.decode(row.json_schema),
            created=row.created,
            created_by=row.created_by,
            run=row.run,
            action=row.action,
            attempt=row.attempt,
            external_ref=row.external_ref,
            url=f"{place}?version={row.version}",
        )


def produced_by(action: LiveAction, found: Sequence[wire.ProducedArtifact]) -> tuple[ArtifactRow, ...]:
    """The rows of what a task produced. A version without a name is that of its action: attempts make the same one."""
    outputs, run = action.task_spec.interface.outputs, action.run.row
    rows = []
    for each in found:
        if each.output >= len(outputs):
            continue  # a worker of another version; its outputs do not fit either
        spec = msgspec.structs.replace(each.spec, version=each.spec.version or f"{run.name}.{action.name}")
        row = _row(spec, run.project, run.domain, each.value, outputs[each.output].schema, run.created_by)
        rows.append(replace(row, run=run.name, action=action.name, attempt=action.attempt))
    return tuple(rows)


def _row(
    spec: wire.ArtifactSpec, project: str, domain: str, content: bytes, schema: dict[str, object], by: str
) -> ArtifactRow:
    now = time.time()
    return ArtifactRow(
        project=project,
        domain=domain,
        name=spec.name,
        version=spec.version or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}.{int(now % 1 * 1e6):06}",
        kind=spec.kind,
        description=spec.description,
        attrs=spec.attrs,
        card=None if spec.card is None else msgspec.json.encode(spec.card),
        content=content,
        json_schema=msgspec.json.encode(schema),
        created=now,
        created_by=by,
        run=None,
        action=None,
        attempt=None,
        external_ref=None,
    )
