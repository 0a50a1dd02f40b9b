"""A run as it was last seen, with its properties; `RunDetails` is a run with its root action's details."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flyte import wire
from flyte._sync import syncable_classmethod
from flyte.remote._action import (
    ActionDetails,
    runs_in_force,
)
from flyte.remote._io import (
    ActionInputs,
    ActionOutputs,
    as_dict,
)
from flyte.remote._record import Record
from flyte.remote._time_filter import moment
from flyte.wire import ActionPhase


class RunRecord(Record[wire.Run]):
    """What is known of a run. Properties read the record and do no I/O."""

    def __init__(self, record: wire.Run) -> None:
        self._record = record

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def id(self) -> str:
        """The same as `name`."""
        return self._record.name

    @property
    def url(self) -> str:
        """The run's page in the console."""
        return self._record.url

    @property
    def phase(self) -> ActionPhase:
        return self._record.phase

    @property
    def raw_phase(self) -> ActionPhase:
        return self._record.phase

    @property
    def status(self) -> str:
        """The phase as text, such as `succeeded`."""
        return self._record.phase.value

    @property
    def message(self) -> str:
        return self._record.message

    @property
    def project(self) -> str:
        return self._record.project

    @property
    def domain(self) -> str:
        return self._record.domain

    @property
    def task_name(self) -> str:
        return self._record.task

    @property
    def version(self) -> str:
        return self._record.version

    @property
    def labels(self) -> dict[str, str]:
        return dict(self._record.labels)

    @property
    def created_at(self) -> datetime | None:
        return moment(self._record.created)

    @property
    def started_at(self) -> datetime | None:
        return moment(self._record.started)

    @property
    def ended_at(self) -> datetime | None:
        return moment(self._record.ended)

    @property
    def error_info(self) -> wire.ErrorInfo | None:
        """The run's error: code, message, kind, traceback; None without one."""
        return self._record.error

    def done(self) -> bool:
        """Whether the run has ended, by its last known record."""
        return self._record.phase.is_terminal


class RunDetails(RunRecord):
    """A run with its root action's details."""

    def __init__(self, record: wire.Run, root: ActionDetails) -> None:
        super().__init__(record)
        self.action_details = root

    @syncable_classmethod
    @classmethod
    async def get(cls, name: str) -> RunDetails:
        """The run of that name. Raises RunNotFoundError."""
        runs = runs_in_force()
        return cls(await runs.get_run(name), ActionDetails(await runs.get_action(name), runs))

    @property
    def action_id(self) -> str:
        return self.action_details.action_id

    async def inputs(self) -> ActionInputs:
        return await self.action_details.inputs()

    async def outputs(self) -> ActionOutputs:
        return await self.action_details.outputs()

    def to_dict(self) -> dict[str, Any]:
        return {"run": as_dict(self._record), "action": self.action_details.to_dict()}

    def to_json(self) -> str:
        import json

        return json.dumps(self.to_dict())
