"""Secrets as the control plane handles them: sealed on disk, opened only into the environment of a process.

A value leaves this module in one direction: `values`, for a process that is about to start.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flyte import wire
from flyte.errors import SecretNotFoundError
from tarmac.events import Journal
from tarmac.model import subject_of_secret
from tarmac.secrets import Sealer
from tarmac.store import Change, Delete, SecretRow, Store


class Secrets:
    def __init__(self, store: Store, journal: Journal, sealer: Sealer, changed: Callable[[], None]) -> None:
        self._store = store
        self._journal = journal
        self._sealer = sealer
        self._changed = changed

    async def create(self, request: wire.SecretRequest, by: str) -> wire.SecretInfo:
        """Create a secret, or give it a new value."""
        now = time.time()
        old = await self._store.secret(request.project, request.domain, request.name)
        sealed = self._sealer.seal(request.project, request.domain, request.name, request.value)
        row = SecretRow(request.project, request.domain, request.name, sealed, old.created if old else now, now)
        subject = subject_of_secret(row.project, row.domain, row.name)
        event = self._journal.act(subject, "updated" if old else "created", by)
        await self._journal.write(Change(secrets=(row,), events=(event,)), self._changed)
        return _info(row)

    async def list(self, project: str, domain: str) -> list[wire.SecretInfo]:
        return [_info(row) for row in await self._store.secrets(project, domain)]

    async def get(self, project: str, domain: str, name: str) -> wire.SecretInfo:
        return _info(await self._row(project, domain, name))

    async def delete(self, project: str, domain: str, name: str, by: str) -> None:
        await self._row(project, domain, name)
        event = self._journal.act(subject_of_secret(project, domain, name), "deleted", by)
        deletes = (Delete("secrets", (project, domain, name)),)
        await self._journal.write(Change(deletes=deletes, events=(event,)), self._changed)

    async def values(self, project: str, domain: str, environment: wire.EnvironmentSpec) -> dict[str, str]:
        """Environment variable → value, for all secrets that `environment` names. Raises SecretNotFoundError."""
        found: dict[str, str] = {}
        for spec in environment.secrets:
            row = await self._row(project, domain, full_name(spec), environment.name)
            found[spec.env] = self._sealer.open(project, domain, row.name, row.sealed)
        return found

    async def _row(self, project: str, domain: str, name: str, wanted_by: str | None = None) -> SecretRow:
        row = await self._store.secret(project, domain, name)
        if row is None:
            who = f", which environment {wanted_by!r} needs" if wanted_by else ""
            raise SecretNotFoundError(
                f"no secret {name!r} in {project}/{domain}{who}; create it with: flyte create secret {name}"
            )
        return row


def full_name(spec: wire.SecretSpec) -> str:
    return f"{spec.group}_{spec.key}" if spec.group else spec.key


def _info(row: SecretRow) -> wire.SecretInfo:
    return wire.SecretInfo(
        name=row.name, project=row.project, domain=row.domain, created=row.created, updated=row.updated
    )
