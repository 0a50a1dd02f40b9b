"""Triggers, as the API takes and shows them."""

from __future__ import annotations

from msgspec import field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first
from flyte.wire.specs import DEFAULT_DOMAIN, DEFAULT_PROJECT, Record, TriggerSpec


class TriggerRequest(Record, frozen=True, kw_only=True):
    """A trigger that is made without a deployment; it replaces one that was made so under the same name."""

    project: rules.ProjectName = DEFAULT_PROJECT
    domain: rules.DomainName = DEFAULT_DOMAIN
    task: rules.TaskName
    """Full name."""
    version: rules.VersionName | None = None
    """The version of the task that it starts; None is always the current one."""
    trigger: TriggerSpec


class Trigger(Record, frozen=True, kw_only=True):
    project: str
    domain: str
    task: str
    """Full name of the task that it starts."""
    name: str
    spec: TriggerSpec
    version: str = ""
    """The version of the task that it starts; empty for always the current one."""
    declared: bool = True
    """Whether it stands in the task's code; otherwise it was made by the API."""
    active: bool = False
    next: list[float] = field(default_factory=list)
    """The next five times it is due, in seconds since 1970; none while it is paused."""
    fired: float | None = None
    """The last time for which it started a run, or tried to."""
    run: str = ""
    """The run of that time."""
    message: str = ""
    """Why no run was started then, where none was."""
    updated: float = 0
    updated_by: str = ""
