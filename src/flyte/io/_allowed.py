"""Which files of this machine a File or Dir may name in a process of the platform.

Whoever calls a task chooses the paths in its inputs, and the task reads them as the user who runs the platform. So no
File or Dir leads to the platform's own files there (keys, database, logs), or into /proc, where the process's own
identity stands. The variable FLYTE_FILES_BELOW, in the `env_vars` of an environment, holds folders with `:` between
them: then a File or Dir leads below these alone, or to what the platform itself stores for tasks. Code of a task that
opens a path by itself is not limited.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FLYTE_FILES_BELOW"

_FOR_TASKS = ("files", "code", "work")
"""Folders of the platform that hold what belongs to tasks and apps."""

_PROC = Path("/proc")


def check(path: Path) -> Path:
    """`path`, if a File or Dir may name it. Raises PermissionError, which says why not."""
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


def _platforms_folder() -> Path | None:
    """The folder of the platform that runs this process; None for a program of the user's own."""
    blobs = os.environ.get("FLYTE_BLOBS")
    return Path(blobs).resolve().parent if blobs else None
