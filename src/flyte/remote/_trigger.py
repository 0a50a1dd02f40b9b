"""Triggers on the platform: when deployed tasks are started by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

from flyte import wire
from flyte._client.triggers import Triggers
from flyte._session import state as _state
from flyte._sync import syncable_classmethod
from flyte.remote._listing import listing
from flyte.remote._record import Record
from flyte.remote._time_filter import moment

if TYPE_CHECKING:
    from flyte._declare.trigger import Trigger as Declared


class Trigger(Record[wire.Trigger]):
    """A trigger as the platform has it. Source of the names: `flyte.remote.Trigger` and `TriggerDetails`."""

    def __init__(self, record: wire.Trigger) -> None:
        self._record = record

    @syncable_classmethod
    @classmethod
    async def create(
        cls,
        trigger: Declared,
        task_name: str,
        task_version: str | None = None,
        *,
        active: bool | None = None,
        project: str | None = None,
        domain: str | None = None,
    ) -> Trigger:
        """Make a `flyte.Trigger` of a deployed task, or replace one that was made so under the same name.

        task_version: the version that it starts; None is always the current one. active: None is what the trigger's
        `auto_activate` says. Raises RemoteTaskNotFoundError, and InvalidInputError for inputs that do not fit the task,
        a table or time zone that is not valid, and the name of a trigger that stands in the task's code.
        """
        import msgspec

        client = _state.client().scoped(project, domain)
        task = await client.get_task(task_name, task_version)
        interface = wire.InterfaceSpec() if task.spec is None else task.spec.interface
        spec = trigger.for_deployed(task.name, interface)
        if active is not None:
            spec = msgspec.structs.replace(spec, active=active)
        return cls(await Triggers(client).create(task.name, spec, task_version))

    @syncable_classmethod
    @classmethod
    async def get(cls, *, name: str, task_name: str, project: str | None = None, domain: str | None = None) -> Trigger:
        """Raises NotFoundError."""
        return cls(await _triggers(project, domain).get(task_name, name))

    @listing
    @staticmethod
    async def listall(
        task_name: str | None = None,
        task_version: str | None = None,
        limit: int = 100,
        *,
        project: str | None = None,
        domain: str | None = None,
    ) -> AsyncIterator[Trigger]:
        """Those of a task (full name), or of all tasks of the project and domain."""
        for record in await _triggers(project, domain).list(task_name, limit):
            if task_version in (None, record.version):
                yield Trigger(record)

    @syncable_classmethod
    @classmethod
    async def update(
        cls, name: str, task_name: str, active: bool, *, project: str | None = None, domain: str | None = None
    ) -> Trigger:
        """Activate a trigger, or pause it. Raises NotFoundError."""
        return cls(await _triggers(project, domain).switch(task_name, name, active))

    @syncable_classmethod
    @classmethod
    async def delete(cls, name: str, task_name: str, project: str | None = None, domain: str | None = None) -> None:
        """Delete a trigger that was made by `create`. Raises NotFoundError, and InvalidInputError for one that
        stands in the task's code: it goes with a deployment without it.
        """
        await _triggers(project, domain).delete(task_name, name)

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def task_name(self) -> str:
        return self._record.task

    @property
    def is_active(self) -> bool:
        return self._record.active

    @property
    def automation_spec(self) -> wire.TriggerSpec:
        """When it is due, and the inputs of its runs."""
        return self._record.spec

    @property
    def next_fires(self) -> list[datetime]:
        """The next five times at which it is due, in UTC; none while it is paused."""
        return [found for each in self._record.next if (found := moment(each)) is not None]

    @property
    def last_fire(self) -> datetime | None:
        return moment(self._record.fired)

    @property
    def last_run(self) -> str | None:
        """The name of the run that it started last."""
        return self._record.run or None

    @property
    def message(self) -> str:
        """Why it started no run at `last_fire`, where that is so."""
        return self._record.message


def _triggers(project: str | None, domain: str | None) -> Triggers:
    return Triggers(_state.client().scoped(project, domain))


TriggerDetails = Trigger
"""What `Trigger.get` returns; the platform keeps no more of a trigger than its record."""
