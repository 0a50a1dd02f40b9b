"""What a fork server was given by the process that it was forked from: modules which are there before its pool is
known.

They may stay as long as the pool would import the very same by itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from flyte.wire import PoolSpec

Shared = Mapping[str, tuple[str, int, int]]
"""Top-level module → its file, and what tells that file from one that was put in its place."""


def loaded() -> Shared:
    """The top-level modules that are loaded from files outside of Python's own library."""
    library = os.path.dirname(os.__file__) + os.sep
    files = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or not file or (file.startswith(library) and "site-packages" not in file):
            continue
        with contextlib.suppress(OSError):
            files[name] = (file, *_signature(file))
    return files


def _signature(file: str) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_mtime_ns, found.st_ino


def changed(shared: Shared, pool: PoolSpec) -> bool:
    """Whether the pool would import something else than what is shared."""
    places = [Path(pool.root), *(Path(pool.root, part) for part in pool.sys_path)]
    for name, (file, *signature) in shared.items():
        if any((place / name).exists() or (place / f"{name}.py").exists() for place in places):
            return True
        try:
            if [*_signature(file)] != signature:
                return True
        except OSError:
            return True
    return False
