"""The files of workers' outputs, as their fork server sees them: an empty file is handed on to a later worker.

To rename a file costs less than to make one, and most workers print nothing.
"""

from __future__ import annotations

import contextlib
import os


class OutputFiles:
    """The output file of each worker, and the empty files of workers that have ended."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._unused: list[str] = []

    def give(self, unit: str, path: str) -> None:
        """Note that the worker's output goes to `path`; an unused file, if there is one, gets that name."""
        self._files[unit] = path
        if self._unused:
            with contextlib.suppress(FileNotFoundError):  # somebody has removed it
                os.rename(self._unused.pop(), path)

    def take_back(self, unit: str) -> None:
        """Keep the file of a worker that has ended, or was never forked, if nothing stands in it."""
        path = self._files.pop(unit, None)
        if path is not None and _is_empty(path):
            self._unused.append(path)

    def remove_unused(self) -> None:
        for path in self._unused:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _is_empty(path: str) -> bool:
    """Whether there is such a file with nothing in it."""
    try:
        return os.stat(path).st_size == 0
    except FileNotFoundError:
        return False
