"""What a deployment has changed so far and how it was before, in memory and as it is stored meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from flyte import wire
from tarmac.control.live_apps import LiveReplica
from tarmac.store import AppRow, AppVersionRow, CurrentTaskRow


class Found(wire.Record, frozen=True, kw_only=True):
    """How an app was before a deployment touched it."""

    name: str
    row: AppRow | None = None
    """None: there was none."""
    served: AppVersionRow | None = None


class WasCurrent(wire.Record, frozen=True, kw_only=True):
    """Which version of a task was current before a deployment moved that."""

    name: str
    row: CurrentTaskRow | None = None
    """None: the task was not registered."""


class Unfinished(wire.Deployment, frozen=True, kw_only=True):
    """A deployment as it is stored while it is under way: with all that it takes to undo it."""

    found: list[Found] = msgspec.field(default_factory=list)
    new_tasks: list[str] = msgspec.field(default_factory=list)
    was_current: list[WasCurrent] = msgspec.field(default_factory=list)


@dataclass(slots=True, eq=False)
class Undo:
    """What a deployment has changed so far, and how it was before."""

    found: list[Found] = field(default_factory=list)
    new_tasks: list[str] = field(default_factory=list)
    was_current: list[WasCurrent] = field(default_factory=list)
    old_replicas: list[LiveReplica] = field(default_factory=list)
