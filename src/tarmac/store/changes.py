"""The rows and events of one transaction, and the errors of writing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flyte.wire import ActionPhase, Event
from tarmac.store.rows import (
    ActionRow,
    AppRow,
    AppVersionRow,
    ArtifactRow,
    AttemptRow,
    CacheRow,
    CurrentTaskRow,
    DeploymentRow,
    ImageRow,
    KeyRow,
    ProjectRow,
    ReportRow,
    RunKeyRow,
    RunRow,
    SecretRow,
    TaskRow,
    TriggerRow,
)

Was = tuple[int, ActionPhase]
"""Attempt and phase that the stored row must still have."""

Deletable = Literal[
    "tasks",
    "current_tasks",
    "apps",
    "app_versions",
    "deployments",
    "images",
    "secrets",
    "keys",
    "projects",
    "cache",
    "artifacts",
    "triggers",
]


@dataclass(frozen=True, slots=True)
class ActionWrite:
    """An action's new state: with `was` None it is inserted, else the stored row must still have that `was`."""

    row: ActionRow
    was: Was | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the row with this key; a missing row is not an error. An app's versions are removed with the app."""

    table: Deletable
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Rows and their events, written together or not at all; deletes come first.

    Runs, their keys, actions and events are refused (Conflict) when they exist; so is a task version that exists with
    another spec or bundle. All other rows replace the stored row with the same key, with one exception: a current task
    that a deployment set is replaced only by a row of a deployment.
    """

    runs: tuple[RunRow, ...] = ()
    run_keys: tuple[RunKeyRow, ...] = ()
    actions: tuple[ActionWrite, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    reports: tuple[ReportRow, ...] = ()
    cache: tuple[CacheRow, ...] = ()
    artifacts: tuple[ArtifactRow, ...] = ()
    events: tuple[Event, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    current_tasks: tuple[CurrentTaskRow, ...] = ()
    apps: tuple[AppRow, ...] = ()
    app_versions: tuple[AppVersionRow, ...] = ()
    deployments: tuple[DeploymentRow, ...] = ()
    images: tuple[ImageRow, ...] = ()
    secrets: tuple[SecretRow, ...] = ()
    keys: tuple[KeyRow, ...] = ()
    projects: tuple[ProjectRow, ...] = ()
    triggers: tuple[TriggerRow, ...] = ()
    deletes: tuple[Delete, ...] = ()
    removed_runs: tuple[RunRow, ...] = ()
    """Runs that have ended: each goes with its actions, attempts, reports, labels, keys and events."""


class StoreError(RuntimeError):
    """The base of the errors of `Store.write` and `open_store`."""


class Conflict(StoreError):
    """Raised when a change does not fit the stored rows; nothing of it was written, other changes are not affected."""

    def __init__(self, message: str, change: Change) -> None:
        super().__init__(message)
        self.change = change


class Unwritable(StoreError):
    """Raised when the database refuses a change because of its content; nothing of it was written."""

    def __init__(self, message: str, change: Change) -> None:
        super().__init__(message)
        self.change = change


class WriterLockLost(StoreError):
    """Raised when another control plane has the writer lock: this one can write nothing any more, and must end."""


class WriterLockTaken(StoreError):
    """Raised by `open_store(wait=False)` when another control plane has the writer lock."""


class StoreUnavailable(StoreError):
    """Raised when the database could not be reached, read or written; the message names it and the cause."""
