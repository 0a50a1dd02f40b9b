"""The logs of the platform's own processes: they are rotated, and their last lines are shown in messages."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger("tarmac.supervisor")

LIMIT = 10 * 1024 * 1024
"""Bytes at which a log is rotated."""

KEPT = 3
_TAIL = 4_000


def rotate(file: Path, limit: int = LIMIT) -> None:
    """Rotate `file` once it is over `limit` bytes, keeping older ones as `.1` to `.3`.

    The writing process has the file open for appending and goes on in the same file, which is copied and emptied; lines
    that it writes between the copy and the emptying are lost. Raises nothing: on a full disk the log is emptied without
    a copy, and the platform goes on.
    """
    try:
        if file.stat().st_size > limit:
            _keep(file)
            os.truncate(file, 0)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s cannot be rotated: %s", file, error)


def _keep(file: Path) -> None:
    """Copy it to `.1`, after the older copies have moved on; a copy that is incomplete is removed."""
    first = _numbered(file, 1)
    for number in range(KEPT, 1, -1):
        with contextlib.suppress(OSError):
            _numbered(file, number - 1).replace(_numbered(file, number))
    try:
        shutil.copyfile(file, first)
    except OSError as error:
        log.warning("%s is emptied without a copy: %s", file, error)
        with contextlib.suppress(OSError):
            first.unlink(missing_ok=True)


def _numbered(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.{number}")


def tail(file: Path) -> str:
    """The last lines of a log; empty where there is none."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - _TAIL))
            lines = opened.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-20:])
