"""The import statements in a file of Python, and the files that they would load."""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def imports_of(path: Path) -> tuple[tuple[int, str], ...]:
    """(level, dotted name) of every import in the file, wherever in it; level 0 is absolute."""
    stat = path.stat()
    return _imports(str(path), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(4096)
def _imports(path: str, mtime: int, size: int) -> tuple[tuple[int, str], ...]:
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError):
        return ()  # importing it says so better
    found: set[tuple[int, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found.add((node.level, module))
            found.update((node.level, f"{module}.{alias.name}".strip(".")) for alias in node.names)
    return tuple(sorted(found))


def files_of(imported: tuple[int, str], importer: Path, bases: list[Path], folders: set[str]) -> Iterator[Path]:
    """The files that importing this name would load: its module and the packages around it.

    Adds to `folders` those that were looked into.
    """
    level, name = imported
    parts = name.split(".") if name else []
    if level:
        bases = [importer.parents[level - 1]]
    elif _is_elsewhere(parts[0], bases):
        return
    for base in bases:
        for depth in range(1, len(parts) + 1):
            place = base.joinpath(*parts[:depth])
            folders.add(str(place.parent))
            if place.is_dir():
                folders.add(str(place))
            for file in (place.with_name(place.name + ".py"), place / "__init__.py"):
                if file.is_file():
                    yield file


def _is_elsewhere(top: str, bases: list[Path]) -> bool:
    """Whether that name is imported already, from none of our folders: an installed package of the same name."""
    file = getattr(sys.modules.get(top), "__dict__", {}).get("__file__")
    return isinstance(file, str) and not any(Path(os.path.abspath(file)).is_relative_to(base) for base in bases)
