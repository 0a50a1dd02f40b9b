"""The files that the import of the user's code read, so that a change to one of them is noticed.

Units are copies of a process that has imported. Where an installed package, an editable one or a file that a module
reads at its top level has changed since, a copy has the old code. So each file is recorded as it was when it was read,
and `is_current` compares.

Recorded are Python's modules, and what `open` (and so `pathlib`, `tomllib`, `configparser` and others) was asked to
read, also where there was no such file. Not recorded are the standard library, this package, the shipped code (which
never changes), files that the import itself wrote, and what C libraries open by themselves. The folders of installed
packages are recorded, too: they change when a package is installed or removed.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.machinery
import io
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from flyte.wire import PoolSpec

Signature = tuple[int, int, int]
"""Modification time (ns), size and number of a file; zeros where there is no such file."""

_NO_FILE: Signature = (0, 0, 0)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_OF_THE_SYSTEM = ("/proc/", "/sys/", "/dev/")
_INSTALLED = ("site-packages", "dist-packages")


class Sources(msgspec.Struct):
    """What one import read. `since`: when it was done, on the clock of `time.monotonic`, which all processes share."""

    since: float = 0
    files: dict[str, Signature] = {}
    written: set[str] = set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """While the import runs. What the modules keep of the function `open` goes on to work afterwards."""
        real_open, real_io, real_code = builtins.open, io.open, io.open_code
        loader: Any = importlib.machinery.SourceFileLoader
        files = _file_loader()
        real_stats, real_data = loader.path_stats, files.get_data
        goes_on = True

        def opened(file: Any, mode: Any = "r", *arguments: Any, **options: Any) -> Any:
            if goes_on:
                self._open(file, mode)
            return real_open(file, mode, *arguments, **options)

        def open_code(path: str) -> Any:
            if goes_on:
                self._open(path, "rb")
            return real_code(path)

        def path_stats(this: Any, path: str) -> Any:
            self._read(path)
            return real_stats(this, path)

        def get_data(this: Any, path: str) -> Any:
            if f"{os.sep}__pycache__{os.sep}" not in path:
                self._read(path)
            return real_data(this, path)

        watching: Any = _Plain(opened)
        builtins.open = io.open = watching
        io.open_code = open_code
        loader.path_stats, files.get_data = path_stats, get_data
        try:
            yield
        finally:
            goes_on = False
            builtins.open, io.open, io.open_code = real_open, real_io, real_code
            loader.path_stats, files.get_data = real_stats, real_data

    def _open(self, file: Any, mode: Any) -> None:
        """Note what is about to be opened; what cannot be opened is for `open` itself to say."""
        if isinstance(file, int) or not isinstance(mode, str):
            return
        with contextlib.suppress(TypeError, ValueError, OSError):
            path = os.fsdecode(file)
            if set(mode) & set("wax+"):
                self.written.add(os.path.abspath(path))
            else:
                self._read(path)

    def _read(self, path: str) -> None:
        path = os.path.abspath(path)
        if path not in self.files:
            self.files[path] = signature(path)

    def close(self, shipped: str | None) -> None:
        """The import is done. `shipped`: the folder of the code, where that is a bundle's and never changes."""
        for module in list(sys.modules.values()):
            file = getattr(module, "__dict__", {}).get("__file__")
            if isinstance(file, str) and not file.endswith(".pyc"):
                self._read(file)
        own = () if shipped is None else (os.path.join(os.path.abspath(shipped), ""),)
        skipped = (_PACKAGE, *_OF_THE_SYSTEM, *own)
        self.files = {
            path: found
            for path, found in self.files.items()
            if path not in self.written and not path.startswith(skipped) and not is_standard(path) and _is_text(path)
        }
        self.files.update(installed())
        self.written = set()
        self.since = time.monotonic()

    def outdated(self, age: float = 0) -> str:
        """What has changed since the import; empty where nothing has. `age`: its greatest age in seconds, 0: none."""
        for path, found in self.files.items():
            if signature(path) != found:
                return f"{path} has changed"
        passed = time.monotonic() - self.since
        return f"it was imported {passed:.0f} s ago" if 0 < age < passed else ""


class _Plain:
    """A function that does not become a method where a class has it as an attribute, as `open` itself does not."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)


def shipped(pool: PoolSpec) -> str | None:
    """The folder of the pool's code, where that never changes."""
    return None if pool.bundle is None else pool.root


def signature(path: str) -> Signature:
    """What tells the file, or the folder, from another that was put in its place."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return _NO_FILE
    if stat.S_ISREG(found.st_mode):
        return found.st_mtime_ns, found.st_size, found.st_ino
    return (found.st_mtime_ns, 0, found.st_ino) if stat.S_ISDIR(found.st_mode) else _NO_FILE


def installed() -> dict[str, Signature]:
    """The folders of installed packages that modules are looked for in."""
    return {path: signature(path) for path in sys.path if os.path.basename(path) in _INSTALLED}


def is_standard(path: str) -> bool:
    """Whether the file belongs to Python's own library."""
    return path.startswith(_LIBRARY) and not any(f"{os.sep}{name}{os.sep}" in path for name in _INSTALLED)


def _is_text(path: str) -> bool:
    """Whether the name is text, as nearly all names are; others cannot be told to another process."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _file_loader() -> Any:
    """The class from which the loaders of modules in files inherit `get_data`."""
    return next(kind for kind in importlib.machinery.SourceFileLoader.__mro__ if "get_data" in vars(kind))
