"""How much of the disk the platform's folder uses, part by part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from flyte.wire import DiskUse
from tarmac.home import Home


def use(home: Home) -> list[DiskUse]:
    """The parts of the platform's folder, largest first. Blocks: it looks at every file."""
    checkpoints = home.checkpoints("x").parent
    parts = {
        "values": (home.blobs,),
        "files": tuple(path for path in _entries(home.files) if path != checkpoints),
        "checkpoints": (checkpoints,),
        "code": (home.code,),
        "logs": (home.logs,),
        "images": (home.images,),
        "database": tuple(home.path.glob(f"{home.database.name}*")),
    }
    found = (_sum(kind, paths) for kind, paths in parts.items())
    return sorted((each for each in found if each.items), key=lambda each: each.bytes, reverse=True)


def free(home: Home) -> int:
    """Bytes that are free on the disk of the platform's folder."""
    return shutil.disk_usage(home.path).free


def _sum(kind: str, paths: tuple[Path, ...]) -> DiskUse:
    """A file with several names counts once: environments share the files of their packages."""
    sizes = {(status.st_dev, status.st_ino): status.st_blocks * 512 for path in paths for status in _files(path)}
    return DiskUse(kind=kind, bytes=sum(sizes.values()), items=len(sizes))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _files(path: Path) -> Iterator[os.stat_result]:
    """The files at the path and below it; links are not followed, and what is removed meanwhile does not count."""
    waiting = [str(path)]
    while waiting:
        name = waiting.pop()
        try:
            with os.scandir(name) as entries:
                waiting += [entry.path for entry in entries]
        except NotADirectoryError:
            if not os.path.islink(name):
                yield from _status(name)
        except OSError:
            continue


def _status(name: str) -> Iterator[os.stat_result]:
    try:
        yield os.lstat(name)
    except OSError:
        return
