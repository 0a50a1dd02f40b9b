"""What is written in one transaction, and what can go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flyte.wire import ActionPhase, Event
from tarmac.store.rows import (
    ActionRow,
    AppRow,
    AppVersionRow,
    AttemptRow,
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
)

Was = tuple[int, ActionPhase]
"""Attempt and phase that the stored row must still have."""

Deletable = Literal[
    "tasks", "current_tasks", "apps", "app_versions", "deployments", "images", "secrets", "keys", "projects"
]


@dataclass(frozen=True, slots=True)
class ActionWrite:
    """An action's new state: `was` None inserts it, else the stored row must still be where `was` says."""

    row: ActionRow
    was: Was | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the row with this key; a row that is not there is no error. An app's versions go with the app."""

    table: Deletable
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Rows and their events, written together or not at all; deletes come first.

    Runs, their keys, actions and events are refused (Conflict) when they exist; so is a task version that exists with
    another spec or bundle. Everything else replaces what is stored under its key, except that a current task which a
    deployment set stays as it is when the new row is not of a deployment.
    """

    runs: tuple[RunRow, ...] = ()
    run_keys: tuple[RunKeyRow, ...] = ()
    actions: tuple[ActionWrite, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    reports: tuple[ReportRow, ...] = ()
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
    deletes: tuple[Delete, ...] = ()


class StoreError(RuntimeError):
    """The base of what `Store.write` and `open_store` fail with."""


class Conflict(StoreError):
    """Raised when a change does not fit what is stored; nothing of it was written, and nothing else was hindered."""

    def __init__(self, message: str, change: Change) -> None:
        super().__init__(message)
        self.change = change


class Unwritable(StoreError):
    """Raised when the database refuses a change for what is in it; nothing of it was written."""

    def __init__(self, message: str, change: Change) -> None:
        super().__init__(message)
        self.change = change


class LostPlace(StoreError):
    """Raised when another control plane has taken this one's place: it can write nothing any more, and must end."""


class PlaceTaken(StoreError):
    """Raised by `open_store(wait=False)` when another control plane has the store."""


class StoreUnavailable(StoreError):
    """Raised when the database could not be reached, read or written; the message names it and the cause."""
