"""Access to the platform's records: runs, actions, tasks, apps, secrets, projects.

Importing this package loads none of it: each name is fetched from its module on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flyte._absent import missing

if TYPE_CHECKING:
    from flyte.remote._action import Action as Action
    from flyte.remote._action import ActionDetails as ActionDetails
    from flyte.remote._app import App as App
    from flyte.remote._artifact import Artifact as Artifact
    from flyte.remote._artifact import ArtifactGroup as ArtifactGroup
    from flyte.remote._auth import auth_metadata as auth_metadata
    from flyte.remote._io import ActionInputs as ActionInputs
    from flyte.remote._io import ActionOutputs as ActionOutputs
    from flyte.remote._project import Project as Project
    from flyte.remote._run import Run as Run
    from flyte.remote._run_record import RunDetails as RunDetails
    from flyte.remote._secret import Secret as Secret
    from flyte.remote._secret import SecretTypes as SecretTypes
    from flyte.remote._task import LazyEntity as LazyEntity
    from flyte.remote._task import Task as Task
    from flyte.remote._task import TaskDetails as TaskDetails
    from flyte.remote._time_filter import TimeFilter as TimeFilter
    from flyte.remote._trigger import Trigger as Trigger
    from flyte.remote._trigger import TriggerDetails as TriggerDetails
    from flyte.remote._update import RunUpdate as RunUpdate
    from flyte.remote._upload import upload_dir as upload_dir
    from flyte.remote._upload import upload_file as upload_file
    from flyte.remote._user import User as User

_MODULES = {
    "remote._action": "Action ActionDetails",
    "remote._app": "App",
    "remote._artifact": "Artifact ArtifactGroup",
    "remote._auth": "auth_metadata",
    "remote._io": "ActionInputs ActionOutputs",
    "remote._project": "Project",
    "remote._run": "Run",
    "remote._run_record": "RunDetails",
    "remote._secret": "Secret SecretTypes",
    "remote._task": "LazyEntity Task TaskDetails",
    "remote._time_filter": "TimeFilter",
    "remote._trigger": "Trigger TriggerDetails",
    "remote._update": "RunUpdate",
    "remote._upload": "upload_dir upload_file",
    "remote._user": "User",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "Action",
    "ActionDetails",
    "ActionInputs",
    "ActionOutputs",
    "App",
    "Artifact",
    "ArtifactGroup",
    "LazyEntity",
    "Project",
    "Run",
    "RunDetails",
    "RunUpdate",
    "Secret",
    "SecretTypes",
    "Task",
    "TaskDetails",
    "TimeFilter",
    "Trigger",
    "TriggerDetails",
    "User",
    "auth_metadata",
    "upload_dir",
    "upload_file",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise missing("flyte.remote", name)
    value = getattr(importlib.import_module(f"flyte.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
