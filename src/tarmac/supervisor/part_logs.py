"""The logs of the platform's own processes: begun anew when they are long, and shown by their end."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

LIMIT = 10 * 1024 * 1024
"""Bytes at which a log is begun anew."""

KEPT = 3
_TAIL = 4_000


def rotate(file: Path, limit: int = LIMIT) -> None:
    """Begin `file` anew once it is over `limit` bytes, keeping the old ones as `.1` to `.3`.

    Whoever writes it has it open for appending and goes on in the file that is emptied; what it writes in the moment
    between copying and emptying is lost.
    """
    try:
        if file.stat().st_size <= limit:
            return
    except FileNotFoundError:
        return
    for number in range(KEPT, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            _numbered(file, number - 1).replace(_numbered(file, number))
    shutil.copyfile(file, _numbered(file, 1))
    os.truncate(file, 0)


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
