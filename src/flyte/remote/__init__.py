"""Access to the platform's records: runs, actions, tasks, apps, secrets, projects."""

from typing import Any

from flyte._absent import missing
from flyte.remote._action import Action, ActionDetails
from flyte.remote._app import App
from flyte.remote._auth import auth_metadata
from flyte.remote._io import ActionInputs, ActionOutputs
from flyte.remote._project import Project
from flyte.remote._run import Run, RunDetails
from flyte.remote._secret import Secret, SecretTypes
from flyte.remote._task import LazyEntity, Task, TaskDetails
from flyte.remote._time_filter import TimeFilter
from flyte.remote._update import RunUpdate
from flyte.remote._upload import upload_dir, upload_file
from flyte.remote._user import User

__all__ = [
    "Action",
    "ActionDetails",
    "ActionInputs",
    "ActionOutputs",
    "App",
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
    "User",
    "auth_metadata",
    "upload_dir",
    "upload_file",
]


def __getattr__(name: str) -> Any:
    raise missing("flyte.remote", name)
