"""Artifacts of a project and domain: versions of files, folders and data frames, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from flyte import artifacts, wire
from flyte._context import ctx
from flyte._session import state as _state
from flyte._sync import syncable, syncable_classmethod
from flyte._values import from_json, schema, to_json
from flyte._values.text import to_bytes
from flyte.artifacts._new import check_kind
from flyte.errors import InvalidInputError
from flyte.io import DataFrame, Dir, File
from flyte.remote._listing import listing
from flyte.remote._record import Record
from flyte.remote._time_filter import moment

_TYPES: Mapping[str, Any] = {"file": File, "dir": Dir, "parquet": DataFrame}
_PAGE = 100


class Artifact(Record[wire.Artifact]):
    """One version of an artifact. It can be an input of a run in the place of its value."""

    def __init__(self, record: wire.Artifact) -> None:
        self._record = record

    @syncable_classmethod
    @classmethod
    async def create(
        cls,
        value: Any,
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        attrs: Mapping[str, str] | None = None,
        kind: artifacts.Kind | None = None,
        card: artifacts.Card | None = None,
        python_type: Any = None,
        project: str | None = None,
        domain: str | None = None,
        external_ref: str | None = None,
    ) -> Artifact:
        """Make a version of an artifact of a File, a Dir or a DataFrame.

        A value that was marked by `flyte.artifacts.new` brings name, version and the rest along; what is given here
        counts before that. In a task, the task is recorded as its source, unless `external_ref` names another.
        A version that is there already is replaced. Raises TypeError for other values, ValueError without a name.
        """
        check_kind(value)
        given = {
            "name": name,
            "version": version,
            "description": description,
            "attrs": attrs,
            "kind": kind,
            "card": card,
        }
        metadata = _metadata(value, {field: item for field, item in given.items() if item is not None})
        annotation = python_type or type(value)
        client = _state.client().scoped(project, domain)
        request = wire.ArtifactRequest(
            spec=metadata.to_wire(),
            project=client.project,
            domain=client.domain,
            value=msgspec.Raw(to_bytes(to_json(value, annotation, "the artifact"))),
            schema=schema(annotation),
            external_ref=external_ref,
            **({} if external_ref is not None else _source()),
        )
        return cls(await client.create_artifact(request))

    @syncable_classmethod
    @classmethod
    async def get(
        cls,
        name: str,
        version: str | Literal["latest"] = "latest",
        *,
        project: str | None = None,
        domain: str | None = None,
    ) -> Artifact:
        """The version, or the one that was made last. Raises NotFoundError."""
        client = _state.client().scoped(project, domain)
        return cls(await client.get_artifact(name, None if version == "latest" else version))

    @listing
    @staticmethod
    async def listall(
        name: str | None = None,
        created_after: datetime | None = None,
        limit: int = -1,
        *,
        project: str | None = None,
        domain: str | None = None,
        source_run: str | None = None,
        source_action: str | None = None,
        source_external_ref: str | None = None,
        kind: artifacts.Kind | None = None,
        attrs: Mapping[str, str | Sequence[str]] | None = None,
    ) -> AsyncIterator[Artifact]:
        """The artifacts, newest first; of a value of `attrs` that is a list, any will do. `limit` -1 gives all."""
        client = _state.client().scoped(project, domain)
        after = created_after and (created_after if created_after.tzinfo else created_after.replace(tzinfo=UTC))
        shown = 0
        async for record in _pages(client, name=name, run=source_run, action=source_action, of_kind=kind):
            if after is not None and record.created <= after.timestamp():
                return
            if source_external_ref not in (None, record.external_ref) or not _has(record, attrs or {}):
                continue
            if shown == limit:
                return
            shown += 1
            yield Artifact(record)

    @listing
    @staticmethod
    async def list_names(
        search: str | None = None, limit: int = -1, *, project: str | None = None, domain: str | None = None
    ) -> AsyncIterator[ArtifactGroup]:
        """The names of artifacts, those made last first; `search` is a part of the name."""
        client = _state.client().scoped(project, domain)
        shown = 0
        async for record in _pages(client, latest=True):
            if search is not None and search not in record.name:
                continue
            if shown == limit:
                return
            shown += 1
            yield ArtifactGroup(Artifact(record), len([each async for each in _pages(client, name=record.name)]))

    @syncable
    async def delete(self) -> None:
        """Forget this version; its file stays where it is. Raises NotFoundError."""
        client = _state.client().scoped(self._record.project, self._record.domain)
        await client.delete_artifact(self.name, self.version)

    # --- what is known

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def version(self) -> str:
        return self._record.version

    @property
    def project(self) -> str:
        return self._record.project

    @property
    def domain(self) -> str:
        return self._record.domain

    @property
    def tracker(self) -> str:
        """The artifact in one word: PROJECT/DOMAIN/NAME@VERSION."""
        return f"{self.project}/{self.domain}/{self.name}@{self.version}"

    @property
    def kind(self) -> artifacts.Kind:
        kind: artifacts.Kind = self._record.kind  # type: ignore[assignment]
        return kind

    @property
    def description(self) -> str:
        return self._record.description

    @property
    def attrs(self) -> dict[str, str]:
        return dict(self._record.attrs)

    @property
    def card(self) -> artifacts.Card | None:
        card: Any = self._record.card
        return None if card is None else artifacts.Card(uri=card.uri, format=card.format, card_type=card.card_type)

    @property
    def source(self) -> str:
        """What made it, in words: the run, the action and the attempt, or its `external_ref`; empty if neither."""
        record = self._record
        if record.run is not None:
            return f"run {record.run}/{record.action} (attempt {record.attempt})"
        return record.external_ref or ""

    @property
    def run_name(self) -> str | None:
        """The run that made it; None where it was not made by a task."""
        return self._record.run

    @property
    def created_by(self) -> str:
        return self._record.created_by

    @property
    def created_at(self) -> datetime | None:
        return moment(self._record.created)

    @property
    def url(self) -> str:
        """The page of the artifact."""
        return self._record.url

    async def to_python(self, python_type: Any = None) -> Any:
        """The File, Dir or DataFrame, or a value of `python_type`."""
        return self._value(python_type)

    def _value(self, python_type: Any = None) -> Any:
        found = str(self._record.schema.get("format"))
        if python_type is None and found not in _TYPES:
            raise InvalidInputError(f"the artifact {self.tracker} is of an unknown kind, {found}; give a python_type")
        data = msgspec.json.decode(self._record.value)
        return from_json(data, python_type or _TYPES[found], f"the artifact {self.tracker}")

    def __flyte_artifact__(self) -> Any:
        """The value, where the artifact is given as an input."""
        return self._value()

    def __repr__(self) -> str:
        return f"Artifact({self.tracker!r})"


class ArtifactGroup:
    """One name, with its latest version and the number of versions."""

    def __init__(self, latest: Artifact, versions: int) -> None:
        self.latest = latest
        self.versions = versions

    @property
    def name(self) -> str:
        return self.latest.name

    def __repr__(self) -> str:
        return f"ArtifactGroup(name={self.name!r}, versions={self.versions})"


def _metadata(value: Any, given: dict[str, Any]) -> artifacts.Metadata:
    """What the value says of itself, with what is given in its place. Raises ValueError without a name."""
    if isinstance(value, artifacts.Artifact):
        return dataclasses.replace(value.get_flyte_metadata(), **given)
    if "name" not in given:
        raise ValueError("an artifact needs a name: give name=, or a value of flyte.artifacts.new()")
    return artifacts.Metadata(**given)


async def _pages(client: Any, **chosen: Any) -> AsyncIterator[wire.Artifact]:
    offset = 0
    while page := await client.list_artifacts(**chosen, limit=_PAGE, offset=offset):
        for record in page:
            yield record
        if len(page) < _PAGE:
            return
        offset += len(page)


def _has(record: wire.Artifact, attrs: Mapping[str, str | Sequence[str]]) -> bool:
    return all(
        record.attrs.get(key) in ([wanted] if isinstance(wanted, str) else wanted) for key, wanted in attrs.items()
    )


def _source() -> dict[str, Any]:
    """The action that this code runs in; nothing outside of one."""
    context = ctx()
    if context.mode != "remote":
        return {}
    return {"run": context.action.run_name, "action": context.action.name, "attempt": context.attempt}
