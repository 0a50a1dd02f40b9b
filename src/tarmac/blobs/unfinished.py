"""Temporary files whose writer was killed before it could rename them."""

from __future__ import annotations

import contextlib
import shutil

from tarmac.blobs.files import restore
from tarmac.home import Home

AGE = 3600.0
"""Seconds since its last change after which such a file counts as abandoned."""


def remove(home: Home, now: float) -> None:
    """Remove abandoned temporary files of values and unpacked bundles; a file that cannot be removed stays.

    Blobs whose removal was interrupted get their names back first.
    """
    restore(home.blobs)
    for path in (*home.blobs.glob(".put-*"), *home.code.glob(".*")):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > AGE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
