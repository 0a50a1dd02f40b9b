"""Entries of a folder of the platform that the collector may remove: the files of actions, unpacked code, logs.

An entry is a file or folder with a name of its own. It is removed in three steps: it gets a name that nobody uses; if
it was written to meanwhile it gets its own name back; else it is marked as removed and its content deleted. A control
plane that is killed meanwhile leaves one of these names, from which the next one knows what to do (`restore`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from tarmac.blobs import Stored

ASIDE, REMOVED = ".remove-", ".removed-"


class Folders:
    def __init__(self, folder: Path, wanted: Callable[[str], bool]) -> None:
        """`wanted`: which names are entries; what else lies in the folder is left alone."""
        self._folder = folder
        self._wanted = wanted

    async def list(self) -> AsyncIterator[Stored]:
        """All entries, each with the bytes in it and the time of its last change."""
        for name in await asyncio.to_thread(self._names):
            found = await asyncio.to_thread(_entry, self._folder / name)
            if found is not None:
                yield found

    def _names(self) -> Sequence[str]:
        try:
            return sorted(name for name in os.listdir(self._folder) if self._wanted(name))
        except FileNotFoundError:
            return ()

    async def remove(self, name: str, unused_since: float) -> bool:
        """Remove the entry; False if it was changed after that time (seconds since 1970), or is gone."""
        return await asyncio.to_thread(_remove, self._folder, name, unused_since)


def _entry(path: Path) -> Stored | None:
    size, at = 0, 0.0
    try:
        status = path.lstat()
        for each in (path, *path.rglob("*")) if path.is_dir() and not path.is_symlink() else (path,):
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                status = each.lstat()
                at = max(at, status.st_mtime)
                size += status.st_size if not each.is_dir() or each.is_symlink() else 0
    except FileNotFoundError:
        return None
    return Stored(path.name, size, at)


def _remove(folder: Path, name: str, unused_since: float) -> bool:
    path, aside, removed = folder / name, folder / f"{ASIDE}{name}", folder / f"{REMOVED}{name}"
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        found = _entry(aside)
        if found is None or found.at > unused_since:
            aside.rename(path)
            return False
        aside.rename(removed)
        _delete(removed)
        return True
    return False


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def restore(folder: Path) -> None:
    """Finish the removals in `folder` that were interrupted, or take them back where nothing is deleted yet."""
    for aside in folder.glob(f"{ASIDE}*"):
        with contextlib.suppress(OSError):
            aside.rename(folder / aside.name.removeprefix(ASIDE))
    for removed in folder.glob(f"{REMOVED}*"):
        _delete(removed)
