"""The address of a task or an app in its code: `module:variable`, importable from the bundle's root."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from flyte.errors import CodeBundleError


def place_of(func: Any) -> tuple[str | None, int]:
    """The file and line of a function, under its decorators; (None, 0) in an interactive session."""
    code = getattr(inspect.unwrap(func), "__code__", None)
    if code is None or not Path(code.co_filename).exists():
        return None, 0
    return str(Path(code.co_filename).resolve()), code.co_firstlineno


def entry_of(value: Any, func: Any, root: Path) -> str:
    """Where a task's function is found again. Raises CodeBundleError where it is no variable of a module."""
    name = getattr(func, "__name__", "")
    module = sys.modules.get(getattr(func, "__module__", None) or "")
    if "<locals>" in getattr(func, "__qualname__", ""):
        raise CodeBundleError(
            f"{name} is defined inside a function, where no worker can find it; move it to the module's top level"
        )
    variable = _variable_of(module, lambda item: isinstance(item, type(value)) and item.func is func) or name
    return f"{module_name(module, place_of(func)[0], root)}:{variable}"


def entry_of_variable(value: Any, module: str, file: Path | None, root: Path) -> str:
    """Where an object that a module made (an environment) is found again."""
    where = sys.modules.get(module)
    variable = _variable_of(where, lambda item: item is value)
    if variable is None:
        raise CodeBundleError(
            f"{getattr(value, 'name', value)} is no variable of {file or module}; assign it at the module's top level"
        )
    return f"{module_name(where, str(file) if file else None, root)}:{variable}"


def _variable_of(module: ModuleType | None, is_it: Callable[[Any], bool]) -> str | None:
    """The first name that the module gave it: a later one may be a loop's variable, and mean something else by now."""
    names = [name for name, item in vars(module).items() if is_it(item)] if module else []
    return min(names, key=lambda name: name.startswith("_"), default=None)


def module_name(module: ModuleType | None, file: str | None, root: Path) -> str:
    """The name by which the module is imported with `root` on `sys.path`.

    A script that runs as `__main__`, and a file that was loaded under a name of its own, get the name that their
    place under `root` gives them. A package that was imported from a folder below `root` keeps its name: that folder
    travels in `sys_path`.
    """
    name = getattr(module, "__name__", "")
    if file is None:
        raise CodeBundleError(
            f"{name or 'this code'} comes from an interactive session; put it into a file so that workers can import it"
        )
    path = Path(file).resolve()
    if not path.is_relative_to(root.resolve()):
        if name and name != "__main__":
            return name  # installed where the platform runs, or on its sys.path
        raise CodeBundleError(f"{path} is outside the root folder {root}; set root_dir to a folder above it")
    parts = list(path.relative_to(root.resolve()).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    dotted = ".".join(parts)
    if name != "__main__" and name and (dotted == name or dotted.endswith("." + name)):
        return name
    if not all(part.isidentifier() for part in parts):
        return _through_parent(path, dotted)
    return dotted


def _through_parent(path: Path, dotted: str) -> str:
    """A script in a folder such as `my-scripts` is imported by its stem, with its folder on `sys.path`."""
    if path.stem.isidentifier() and str(path.parent) in {str(Path(entry or ".").resolve()) for entry in sys.path}:
        return path.stem
    raise CodeBundleError(
        f"{path} cannot be imported as {dotted!r}: rename it so that each part is a Python name, "
        "or set root_dir to its folder"
    )
