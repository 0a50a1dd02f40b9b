"""Projects: names that runs, tasks, apps and secrets are under, with a description and labels."""

from __future__ import annotations

import msgspec

from flyte import wire
from flyte.errors import AlreadyExistsError, NotFoundError
from tarmac import checks
from tarmac.events import Journal
from tarmac.model import subject_of_project
from tarmac.store import Change, ProjectRow, Store


class Projects:
    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def create(self, project: wire.Project, by: str) -> wire.Project:
        """Raises AlreadyExistsError where another project has the id; one that is the same is left as it is."""
        checks.check(project)
        named = msgspec.structs.replace(project, name=project.name or project.id)
        known = next((each for each in await self.list() if each.id == project.id), named)
        if known != named:
            raise AlreadyExistsError(f"project {project.id!r} exists; change it with `flyte.remote.Project.update`")
        return await self._put(named, "created", by)

    async def update(self, project: wire.Project, by: str) -> wire.Project:
        """Put the record in the place of the one that the project has. Raises NotFoundError."""
        checks.check(project)
        known = [each.id for each in await self.list()]
        if project.id not in known:
            raise NotFoundError(f"no project {project.id!r}; there are: {', '.join(known)}")
        return await self._put(project, "updated", by)

    async def _put(self, project: wire.Project, what: str, by: str) -> wire.Project:
        row = ProjectRow(project.id, project.name or project.id, project.description, project.labels, project.archived)
        event = self._journal.act(subject_of_project(project.id), what, by)
        await self._journal.write(Change(projects=(row,), events=(event,)))
        return project

    async def list(self) -> list[wire.Project]:
        rows = await self._store.projects()
        found = [msgspec.convert(row, wire.Project, from_attributes=True) for row in rows]
        default = wire.Project(id=wire.DEFAULT_PROJECT, name=wire.DEFAULT_PROJECT)
        return found if any(project.id == default.id for project in found) else [default, *found]
