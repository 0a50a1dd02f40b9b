"""Files that are written aside, to get their name when they are whole, and whose writer was killed before that."""

from __future__ import annotations

import contextlib
import shutil

from tarmac.home import Home

AGE = 3600.0
"""Seconds since its last change after which nobody is at work on such a file any more."""


def remove(home: Home, now: float) -> None:
    """Remove what is older than that of values and unpacked bundles; what cannot be removed stays."""
    for path in (*home.blobs.glob(".put-*"), *home.code.glob(".*")):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > AGE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
