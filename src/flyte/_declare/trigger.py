"""Triggers: what starts a task by itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
