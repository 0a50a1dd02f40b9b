"""Secrets as the control plane handles them: sealed on disk, opened only into the environment of a process.

A value leaves this module in one direction: `open`, for a process that is about to start, and `open_for_image`, for the
one that makes an environment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flyte import rules, wire
from flyte.errors import InvalidInputError, SecretNotFoundError
from tarmac import checks
from tarmac.events import Journal
from tarmac.model import subject_of_secret
from tarmac.secrets import Sealer
from tarmac.store import Change, Delete, SecretRow, Store


@dataclass(frozen=True, slots=True)
class Opened:
    """The secrets of one environment, for its processes."""

    variables: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """Path within `rules.SECRETS_FOLDER` → value, for those that are mounted."""


class Secrets:
    def __init__(self, store: Store, journal: Journal, sealer: Sealer) -> None:
        self._store = store
        self._journal = journal
        self._sealer = sealer
        self.on_change: list[Callable[[], None]] = []
        """Called when another value of a secret, or its removal, is on disk."""

    async def create(self, request: wire.SecretRequest, by: str) -> wire.SecretInfo:
        """Create a secret, or give it a new value."""
        checks.check(request)
        now = time.time()
        old = await self._store.secret(request.project, request.domain, request.name)
        sealed = self._sealer.seal(request.project, request.domain, request.name, request.value)
        row = SecretRow(request.project, request.domain, request.name, sealed, old.created if old else now, now)
        subject = subject_of_secret(row.project, row.domain, row.name)
        event = self._journal.act(subject, "updated" if old else "created", by)
        await self._journal.write(Change(secrets=(row,), events=(event,)), self._changed)
        return _info(row)

    async def get(self, project: str, domain: str, name: str) -> wire.SecretInfo:
        return _info(await self._row(project, domain, name))

    async def delete(self, project: str, domain: str, name: str, by: str) -> None:
        await self._row(project, domain, name)
        event = self._journal.act(subject_of_secret(project, domain, name), "deleted", by)
        deletes = (Delete("secrets", (project, domain, name)),)
        await self._journal.write(Change(deletes=deletes, events=(event,)), self._changed)

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()

    async def open(self, project: str, domain: str, environment: wire.EnvironmentSpec) -> Opened:
        """All secrets that `environment` names. Raises SecretNotFoundError and InvalidInputError."""
        opened = Opened()
        for spec in environment.secrets:
            value = opened.variables[spec.env] = await self._value(project, domain, spec, environment.name)
            if spec.mount is not None:
                opened.files[_file(spec)] = value
        _check_files(opened.files, environment)
        return opened

    async def open_for_image(self, project: str, domain: str, environment: wire.EnvironmentSpec) -> dict[str, str]:
        """Variable → value, of the secrets that the image of `environment` names. Raises SecretNotFoundError."""
        specs = environment.image.secrets
        return {spec.env: await self._value(project, domain, spec, environment.name) for spec in specs}

    async def _value(self, project: str, domain: str, spec: wire.SecretSpec, environment: str) -> str:
        row = await self._row(project, domain, full_name(spec), environment)
        return self._sealer.open(project, domain, row.name, row.sealed)

    async def _row(self, project: str, domain: str, name: str, wanted_by: str | None = None) -> SecretRow:
        row = await self._store.secret(project, domain, name)
        if row is None:
            who = f", which environment {wanted_by!r} needs" if wanted_by else ""
            raise SecretNotFoundError(
                f"no secret {name!r} in {project}/{domain}{who}; create it with: flyte create secret {name}"
            )
        return row

    async def list(self, project: str, domain: str) -> list[wire.SecretInfo]:
        return [_info(row) for row in await self._store.secrets(project, domain)]


def full_name(spec: wire.SecretSpec) -> str:
    return f"{spec.group}_{spec.key}" if spec.group else spec.key


def _file(spec: wire.SecretSpec) -> str:
    return f"{spec.group}/{spec.key}" if spec.group else spec.key


def _check_files(files: dict[str, str], environment: wire.EnvironmentSpec) -> None:
    """Raise InvalidInputError where a name would be a file and a folder."""
    if both := sorted({name.partition("/")[0] for name in files if "/" in name}.intersection(files)):
        place = f"{rules.SECRETS_FOLDER}/{both[0]}"
        raise InvalidInputError(
            f"environment {environment.name!r} mounts a secret and a group of secrets at {place}; rename one"
        )


def not_mounted(environment: wire.EnvironmentSpec, profile: str) -> list[str]:
    """A warning where the environment mounts secrets and the profile that isolates processes makes no mounts."""
    mounted = [full_name(spec) for spec in environment.secrets if spec.mount is not None]
    if not mounted or profile in ("tidy", ""):
        return []
    return [
        f"environment {environment.name!r} mounts {', '.join(mounted)} at {rules.SECRETS_FOLDER}; no file is made, for "
        f"that takes mounts, and the isolation on this machine is {profile!r} (see `flyte status`): read the secret's "
        "environment variable"
    ]


def _info(row: SecretRow) -> wire.SecretInfo:
    return wire.SecretInfo(
        name=row.name, project=row.project, domain=row.domain, created=row.created, updated=row.updated
    )
