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
    """The module and variable of a task's function. Raises CodeBundleError if it is not a variable of a module."""
    name, module = getattr(func, "__name__", ""), getattr(func, "__module__", None) or ""
    if "<locals>" in getattr(func, "__qualname__", ""):
        raise CodeBundleError(
            f"{name} is defined inside a function, where no worker can find it; move it to the module's top level"
        )
    found = _variable_anywhere(
        lambda item: issubclass(type(item), type(value)) and item.func is func, module, value.env.module
    )
    if found is None:
        module_name(sys.modules.get(module), place_of(func)[0], root)  # raises for an interactive session
        raise CodeBundleError(f"the task {value.name} cannot be found again: {_replaced(name, module)}")
    return f"{_name_of(found[0], place_of(func)[0], root)}:{found[1]}"


def entry_of_variable(value: Any, module: str, file: Path | None, root: Path) -> str:
    """Where an object that a module made (an environment) is found again."""
    found = _variable_anywhere(lambda item: item is value, module)
    if found is None:
        raise CodeBundleError(
            f"{getattr(value, 'name', value)} is not a variable of {file or module}, nor of another module; "
            "assign it at a module's top level"
        )
    return f"{_name_of(found[0], str(file) if file else None, root)}:{found[1]}"


def _replaced(name: str, module: str) -> str:
    """Why a task is not the variable of its name."""
    held = getattr(sys.modules.get(module), name, None)
    if held is None:
        return f"{name} is not a variable of {module}; assign the task at the module's top level"
    if callable(held) and not hasattr(held, "override"):
        return (
            f"{module}.{name} is a {type(held).__name__}, not a task; is it wrapped by a decorator above @env.task? "
            "Put @env.task on top"
        )
    return f"{module}.{name} is another {type(held).__name__}, which is defined later; rename one of them"


def _name_of(module: ModuleType, file: str | None, root: Path) -> str:
    return module_name(module, getattr(module, "__file__", None) or file, root)


def _variable_anywhere(is_it: Callable[[Any], bool], *first: str) -> tuple[ModuleType, str] | None:
    """The module and the name under which it holds the object; `first` are looked at before all other modules.

    The module that made an object may not hold it: a function of a library made it for its caller.
    """
    for name in dict.fromkeys([*first, *sys.modules]):
        module = sys.modules.get(name)
        variable = _variable_of(module, is_it)
        if module is not None and variable is not None:
            return module, variable
    return None


def _variable_of(module: ModuleType | None, is_it: Callable[[Any], bool]) -> str | None:
    """The first name that the module gave it: a later one may be a loop's variable, and mean something else by now."""
    names = [name for name, item in getattr(module, "__dict__", {}).items() if is_it(item)]
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
    """A script in a folder such as `my-scripts` is imported by its file name, with its folder on `sys.path`."""
    if path.stem.isidentifier() and str(path.parent) in {str(Path(entry or ".").resolve()) for entry in sys.path}:
        return path.stem
    raise CodeBundleError(
        f"{path} cannot be imported as {dotted!r}: rename it so that each part is a Python name, "
        "or set root_dir to its folder"
    )
