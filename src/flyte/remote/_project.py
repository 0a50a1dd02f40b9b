"""Projects. A project and a domain are the scope of every name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

import msgspec

from flyte import wire
from flyte._session import state as _state
from flyte._sync import syncable, syncable_classmethod
from flyte.errors import NotFoundError
from flyte.remote._listing import listing
from flyte.remote._record import Record


class Project(Record[wire.Project]):
    """A project."""

    def __init__(self, record: wire.Project) -> None:
        self._record = record

    @syncable_classmethod
    @classmethod
    async def get(cls, name: str) -> Project:
        """The project with that id. Raises NotFoundError that lists the projects."""
        found = await _state.client().list_projects(1000)
        record = next((project for project in found if project.id == name), None)
        if record is None:
            known = ", ".join(project.id for project in found)
            raise NotFoundError(f"no project {name!r}; there are: {known}")
        return cls(record)

    @syncable_classmethod
    @classmethod
    async def create(
        cls, id: str, name: str = "", description: str = "", labels: Mapping[str, str] | None = None
    ) -> Project:
        """Create a project. Raises AlreadyExistsError, and InvalidInputError for an invalid id."""
        record = wire.Project(id=id, name=name or id, description=description, labels=dict(labels or {}))
        return cls(await _state.client().create_project(record))

    @syncable
    async def update(
        self: Project | str,
        name: str | None = None,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Project:
        """Change the given fields: `project.update(name="…")`, or `Project.update("id", name="…")`.

        Raises NotFoundError.
        """
        changes = {"name": name, "description": description, "labels": None if labels is None else dict(labels)}
        return await _changed(self, {key: value for key, value in changes.items() if value is not None})

    @syncable
    async def archive(self: Project | str) -> Project:
        """Leave the project out of lists. Its runs and apps go on. Raises NotFoundError."""
        return await _changed(self, {"archived": True})

    @syncable
    async def unarchive(self: Project | str) -> Project:
        """Show the project in lists again. Raises NotFoundError."""
        return await _changed(self, {"archived": False})

    @listing
    @staticmethod
    async def listall(
        filters: Any = None,
        sort_by: tuple[str, Literal["asc", "desc"]] | None = None,
        archived: bool = False,
        limit: int = 100,
    ) -> AsyncIterator[Project]:
        """The projects; with `archived` only archived ones."""
        for record in await _state.client().list_projects(limit):
            if record.archived == archived:
                yield Project(record)

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def name(self) -> str:
        return self._record.name or self._record.id

    @property
    def description(self) -> str:
        return self._record.description

    @property
    def labels(self) -> dict[str, str]:
        return dict(self._record.labels)

    @property
    def archived(self) -> bool:
        return self._record.archived

    @property
    def domains(self) -> tuple[str, ...]:
        return wire.DOMAINS

    def __repr__(self) -> str:
        return f"Project(id={self.id!r})"


async def _changed(project: Project | str, changes: dict[str, Any]) -> Project:
    """The project after the change; a given object is updated as well."""
    known = await Project.get.aio(project if isinstance(project, str) else project.id)
    record = await _state.client().update_project(msgspec.structs.replace(known._record, **changes))
    if isinstance(project, Project):
        project._record = record
        return project
    return Project(record)
