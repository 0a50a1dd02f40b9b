"""Paths of files here and elsewhere."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from flyte.object_store import scheme_of


def is_remote(path: str | Path) -> bool:
    """Whether the path is a URL of another place than this machine's disk."""
    return scheme_of(str(path)) not in ("", "file")


def join(*paths: str) -> str:
    """One path of several parts; a part that is a whole path by itself replaces those before it."""
    whole = ""
    for path in map(str, paths):
        whole = path if not whole or "://" in path else os.path.join(whole, path)
    return whole


def get_random_local_path(file_path_or_file_name: str | Path | None = None) -> Path:
    """An unused path in a new folder for temporary files, which ends in the name of the given path."""
    name = Path(file_path_or_file_name).name if file_path_or_file_name else ""
    return Path(tempfile.mkdtemp(prefix="flyte-")) / (name or "data")


def get_random_local_directory() -> Path:
    """A new, empty folder for temporary files."""
    return Path(tempfile.mkdtemp(prefix="flyte-"))
