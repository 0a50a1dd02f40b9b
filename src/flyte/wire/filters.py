"""Filters: which entries a list has. The SDK builds one, the API reads it from the query, the store makes SQL of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import field

from flyte.wire.records import ActionPhase
from flyte.wire.runs import Action, Run
from flyte.wire.specs import Record


class RunFilter(Record, frozen=True, kw_only=True):
    """Which runs of a scope to list, newest first; a field that is None or empty does not narrow the list."""

    phases: tuple[ActionPhase, ...] = ()
    """Runs in one of these phases."""
    task: str | None = None
    """The task's full name."""
    task_contains: str | None = None
    """A part of the task's name; upper and lower case are the same."""
    version: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    """Labels that a run must have, all of them."""
    created_after: float | None = None
    """Runs created at this time or later, in seconds since 1970."""
    created_before: float | None = None
    """Runs created before this time, in seconds since 1970."""
    before_run: str | None = None
    """The last run of the page before this one."""
    limit: int = 100
    """Runs on the page, 1 to 1,000."""

    def query(self) -> dict[str, Any]:
        """The parameters of `GET /v1/runs` with this meaning; None and empty ones are left out of the address."""
        return {
            "limit": self.limit,
            "phase": [phase.value for phase in self.phases],
            "task": self.task,
            "task_contains": self.task_contains,
            "version": self.version,
            "label": [f"{key}={value}" for key, value in self.labels.items()],
            "created_after": self.created_after,
            "created_before": self.created_before,
            "before_run": self.before_run,
        }

    def matches(self, run: Run) -> bool:
        """Whether the list has this run on one of its pages."""
        return (
            (not self.phases or run.phase in self.phases)
            and self.task in (None, run.task)
            and (self.task_contains or "").lower() in run.task.lower()
            and self.version in (None, run.version)
            and self.labels.items() <= run.labels.items()
            and (self.created_after is None or run.created >= self.created_after)
            and (self.created_before is None or run.created < self.created_before)
        )


EVERY_RUN = RunFilter()
"""The first page of all runs."""


class ActionFilter(Record, frozen=True, kw_only=True):
    """Which actions of a run to list, in the order of their creation; a field that is None or empty does not narrow
    the list.
    """

    phases: tuple[ActionPhase, ...] = ()
    """Actions in one of these phases."""
    parent: str | None = None
    """Children of this action."""
    offset: int = 0
    """Actions to leave out at the beginning, for the next page."""
    limit: int = 100
    """Actions on the page, 1 to 1,000."""

    def query(self) -> dict[str, Any]:
        """The parameters of `GET /v1/runs/{run}/actions` with this meaning."""
        return {
            "limit": self.limit,
            "offset": self.offset or None,
            "phase": [phase.value for phase in self.phases],
            "parent": self.parent,
        }

    def matches(self, action: Action) -> bool:
        """Whether the list has this action on one of its pages."""
        return (not self.phases or action.phase in self.phases) and self.parent in (None, action.parent)

    def page(self, actions: Iterable[Action]) -> list[Action]:
        """The page of the list of these actions, which are in the order of their creation."""
        return [action for action in actions if self.matches(action)][self.offset : self.offset + self.limit]


EVERY_ACTION = ActionFilter()
"""The first page of all actions."""
