"""Triggers: what starts a task by itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flyte import wire
    from flyte._declare.interface import Interface


@dataclass(frozen=True, slots=True)
class Cron:
    """A time table of five fields: minute, hour, day, month, weekday."""

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if len(self.expression.split()) != 5 and not self.expression.startswith("@"):
            raise ValueError(f"a cron expression has five fields (minute hour day month weekday): {self.expression!r}")


@dataclass(frozen=True, slots=True)
class FixedRate:
    """Every so many minutes."""

    interval_minutes: int
    start_time: dt.datetime | None = None

    def __post_init__(self) -> None:
        if self.interval_minutes < 1:
            raise ValueError("FixedRate.interval_minutes must be at least 1")


class _TriggerTime:
    """Stands for the time at which a trigger fired, among a trigger's inputs."""

    def __repr__(self) -> str:
        return "flyte.TriggerTime"


TriggerTime = _TriggerTime()


@dataclass(frozen=True)
class Trigger:
    """What starts a task by itself."""

    name: str
    automation: Cron | FixedRate | None = None
    description: str = ""
    auto_activate: bool = True
    inputs: Mapping[str, Any] | None = None
    env_vars: Mapping[str, str] | None = None
    interruptible: bool | None = None
    overwrite_cache: bool = False
    queue: str | None = None
    max_action_concurrency: int | None = None
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    notifications: Any = None
    custom_context: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a trigger needs a name")

    def to_wire(self, interface: Interface) -> wire.TriggerSpec:
        """The trigger as it is registered with the task whose inputs these are. Raises InvalidInputError for an input
        that the task does not have, or of another type.
        """
        return self._spec(interface.owner, interface.inputs, interface.dump_given)

    def for_deployed(self, task: str, interface: wire.InterfaceSpec) -> wire.TriggerSpec:
        """The same for a task of which only the interface is known. Raises InvalidInputError."""
        from flyte._values import by_schema

        names = [each.name for each in interface.inputs]
        return self._spec(task, names, lambda values: by_schema.dump_inputs(values, interface.inputs))

    def _spec(
        self, task: str, names: Collection[str], dump: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> wire.TriggerSpec:
        import msgspec

        from flyte import wire
        from flyte.errors import InvalidInputError

        given = dict(self.inputs or {})
        if unknown := [name for name in given if name not in names]:
            raise InvalidInputError(f"trigger {self.name!r}: {task} has no input {unknown[0]!r}")
        times = [name for name, value in given.items() if isinstance(value, _TriggerTime)]
        values = {name: value for name, value in given.items() if name not in times}
        return wire.TriggerSpec(
            name=self.name,
            active=self.auto_activate,
            description=self.description,
            inputs=msgspec.Raw(msgspec.json.encode(dump(values))),
            time_inputs=times,
            env_vars=dict(self.env_vars or {}),
            labels=dict(self.labels or {}),
            custom_context=dict(self.custom_context or {}),
            max_action_concurrency=self.max_action_concurrency,
            overwrite_cache=self.overwrite_cache,
            **self._times(),
        )

    def _times(self) -> dict[str, Any]:
        match self.automation:
            case Cron(expression, timezone):
                return {"cron": expression, "timezone": timezone}
            case FixedRate(minutes, start):
                return {"every": minutes, "start": start.timestamp() if start else None}
            case _:
                return {}

    @classmethod
    def _at(cls, expression: str, name: str, trigger_time_input_key: str | None, fields: dict[str, Any]) -> Trigger:
        inputs = dict(fields.pop("inputs", None) or {})
        if trigger_time_input_key:
            inputs.setdefault(trigger_time_input_key, TriggerTime)
        return cls(name, Cron(expression), inputs=inputs or None, **fields)

    @classmethod
    def minutely(cls, trigger_time_input_key: str | None = None, name: str = "minutely", **fields: Any) -> Trigger:
        """Every minute; the time goes into the input of that name."""
        return cls._at("* * * * *", name, trigger_time_input_key, fields)

    @classmethod
    def hourly(cls, trigger_time_input_key: str | None = None, name: str = "hourly", **fields: Any) -> Trigger:
        """At every full hour."""
        return cls._at("0 * * * *", name, trigger_time_input_key, fields)

    @classmethod
    def daily(cls, trigger_time_input_key: str | None = None, name: str = "daily", **fields: Any) -> Trigger:
        """At midnight UTC."""
        return cls._at("0 0 * * *", name, trigger_time_input_key, fields)

    @classmethod
    def weekly(cls, trigger_time_input_key: str | None = None, name: str = "weekly", **fields: Any) -> Trigger:
        """On Sundays at midnight UTC."""
        return cls._at("0 0 * * 0", name, trigger_time_input_key, fields)

    @classmethod
    def monthly(cls, trigger_time_input_key: str | None = None, name: str = "monthly", **fields: Any) -> Trigger:
        """On the first of a month at midnight UTC."""
        return cls._at("0 0 1 * *", name, trigger_time_input_key, fields)
