"""The check of paths: which files of this machine a File or Dir may name in a process of the platform.

The caller of a task chooses the paths in its inputs, and the task reads them as the user who runs the platform. So no
File or Dir may name the platform's own files (keys, database, logs), or files in /proc, which contains the process's
identity. The variable FLYTE_FILES_BELOW, in the `env_vars` of an environment, is a list of folders, separated by `:`:
then a File or Dir may only name files below them, or files that the platform itself stores for tasks. Code of a task
that opens a path by itself is not limited.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FLYTE_FILES_BELOW"

_FOR_TASKS = ("files", "code", "work")
"""Folders of the platform with files of tasks and apps."""

_PROC = Path("/proc")


def check(path: Path) -> Path:
    """Returns `path` if a File or Dir may name it. Raises PermissionError with the reason otherwise."""
    home = _platforms_folder()
    if home is None:
        return path
    real = path.resolve()
    if any(real.is_relative_to(home / name) for name in _FOR_TASKS):
        return path
    if real.is_relative_to(home) or home.is_relative_to(real) or real.is_relative_to(_PROC):
        raise PermissionError(f"{path}: a File or Dir cannot name the platform's own files, or /proc")
    below = [Path(folder).resolve() for folder in os.environ.get(VARIABLE, "").split(":") if folder]
    if below and not any(real.is_relative_to(folder) for folder in below):
        raise PermissionError(f"{path} is not below {VARIABLE}={os.environ[VARIABLE]}, to which this environment keeps")
    return path


def check_object(url: str) -> str:
    """Returns `url`, of an object store, if a File or Dir may name it: the platform's credentials read it.

    Raises PermissionError where FLYTE_FILES_BELOW keeps to folders, unless a run's new files lie below it.
    """
    below = [path for path in (os.environ.get("FLYTE_RAW_DATA_PATH"), os.environ.get("FLYTE_STORAGE_URL")) if path]
    if os.environ.get(VARIABLE) and not any(url.startswith(f"{path.rstrip('/')}/") for path in below):
        raise PermissionError(f"{url} is not below {VARIABLE}={os.environ[VARIABLE]}, to which this environment keeps")
    return url


def _platforms_folder() -> Path | None:
    """The folder of the platform that started this process; None in a user's own program."""
    blobs = os.environ.get("FLYTE_BLOBS")
    return Path(blobs).resolve().parent if blobs else None
