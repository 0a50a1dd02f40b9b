"""The disk of a platform: small, so that it can be full for a while; and slow, as far as the database can tell."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


class Disk:
    def __init__(self, folder: Path) -> None:
        """`folder` is a file system of its own."""
        self._folder = folder

    def fill(self, seconds: float) -> None:
        """For so long nothing more fits on it."""
        ballast = self._folder / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # until there is no space left
                while True:
                    left = os.statvfs(self._folder)
                    size = max(left.f_bavail // 2, 1) * left.f_frsize
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
            time.sleep(seconds)
        finally:
            ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """A file system of that size on `folder`, which must not exist yet. For root alone."""
    folder.mkdir(mode=0o700)
    options = f"size={megabytes}m,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def slow_sqlite(file: Path, seconds: float) -> None:
    """For so long no commit is done, as on a disk that takes its time: somebody else has the file locked."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=20)) as other:
        other.execute("begin immediate")
        time.sleep(seconds)
        other.execute("rollback")
