"""The user's file as a module: loaded the way `python FILE` would see it, and searched for tasks and environments.

The root folder, whose content is shipped, is `--root-dir`, or else the folder above the outermost package of the file.
For a plain script that is its own folder, or a folder of PYTHONPATH above it from which it imports. Errors show only
the user's part of the traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from flyte._importing import importing
from flyte._ship import bundle as _bundle
from flyte._ship.import_statements import imports_of
from flyte.errors import ModuleLoadError
from flyte.runtime import hints

if TYPE_CHECKING:
    from flyte._declare.environment import Environment


@dataclass(frozen=True, slots=True)
class Program:
    """A user's file that was imported."""

    path: Path
    root: Path
    module: ModuleType

    def tasks(self) -> dict[str, Any]:
        """The tasks among the file's variables, by variable name."""
        from flyte._declare.task import TaskTemplate

        return {name: value for name, value in vars(self.module).items() if isinstance(value, TaskTemplate)}

    def environments(self) -> dict[str, Environment]:
        """The environments among the file's variables, by variable name; each once."""
        from flyte._declare.environment import Environment

        found: dict[str, Environment] = {}
        for name, value in vars(self.module).items():
            if isinstance(value, Environment) and not any(value is other for other in found.values()):
                found[name] = value
        return found

    def task(self, name: str) -> Any:
        """The task with that variable name, function name or full name. Raises UsageError that lists the tasks."""
        tasks = self.tasks()
        found = tasks.get(name) or next((task for task in tasks.values() if task.name == name), None)
        if found is not None:
            return found
        if callable(getattr(getattr(self.module, name, None), "__wrapped__", None)):
            raise click.UsageError(
                f"{name} in {self.path.name} is not a task; is it wrapped by a decorator above @env.task? "
                "Put @env.task on top."
            )
        raise click.UsageError(_no_such("task", name, self.path, tasks, "declare one with @env.task"))

    def environment(self, name: str) -> Environment:
        """The environment with that variable name or name. Raises UsageError that lists the environments."""
        environments = self.environments()
        found = environments.get(name) or next((env for env in environments.values() if env.name == name), None)
        if found is not None:
            return found
        hint = "declare one with flyte.TaskEnvironment or an app environment"
        raise click.UsageError(_no_such("environment", name, self.path, environments, hint))


def _no_such(kind: str, name: str, path: Path, there: dict[str, Any], hint: str) -> str:
    if not there:
        return f"{path.name} declares no {kind}s; {hint}."
    near = difflib.get_close_matches(name, there, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return f"{path.name} has no {kind} {name!r}; it has: {', '.join(there)}.{meant}"


def load(file: str, root_dir: str | Path | None = None, sources: Sequence[Path] | None = None) -> Program:
    """Import the file. Raises click.ClickException with the reason of any failure.

    `sources`: folders below the root that must be on sys.path too; with None, those of its package are found.
    """
    path = _existing(file)
    root = Path(root_dir).expanduser().resolve() if root_dir else import_root(path)
    if sources is None:
        sources = source_folders(root, _package_files(path)) if root_dir else []
    name = _module_name(path, next((folder for folder in sources if path.is_relative_to(folder)), root))
    first = [str(root), *map(str, sources)]
    sys.path[:] = [*first, *(place for place in sys.path if place not in first)]
    before = set(sys.modules)
    with _printing_to_stderr(), _failing_politely(path, root), importing(name):
        module = importlib.import_module(name)
    loaded = Path(getattr(module, "__file__", None) or "").resolve()
    if loaded != path:
        raise click.UsageError(f"{path} cannot be imported as {name!r}: that is {loaded}. Rename the file.")
    return Program(path, root if root_dir else _with_python_path(root, before), module)


def python_files(folder: Path) -> list[Path]:
    """The Python files in a folder and below, in order; hidden folders and environments are left out."""
    if not folder.is_dir():
        raise click.UsageError(f"{folder} is not a folder; --recursive deploys the Python files of one.")
    found = sorted(folder.rglob("*.py"))
    return [path for path in found if not any(_is_skipped(part) for part in path.relative_to(folder).parts[:-1])]


def _is_skipped(part: str) -> bool:
    return part.startswith(".") or part in ("__pycache__", "site-packages", "node_modules")


def _package_files(path: Path) -> list[Path]:
    """The files of the file's outermost package; none for a plain script."""
    above = import_root(path)
    return [] if above == path.parent else python_files(above / path.relative_to(above).parts[0])


def source_folders(root: Path, files: Sequence[Path]) -> list[Path]:
    """The folders below `root`, such as `src`, that must be on sys.path too, since packages in them are imported."""
    roots = {path: import_root(path.resolve()) for path in files}
    packages = {
        path.resolve().relative_to(above).parts[0]: above for path, above in roots.items() if path.parent != above
    }
    tops = {name.partition(".")[0] for path in files for level, name in imports_of(path) if level == 0}
    found = {above for name, above in packages.items() if name in tops and not _is_module(name, root)}
    return sorted(folder for folder in found if folder != root and folder.is_relative_to(root))


def _is_module(name: str, folder: Path) -> bool:
    return (folder / name).is_dir() or (folder / f"{name}.py").is_file()


def _with_python_path(root: Path, before: set[str]) -> Path:
    """`root`, or the folder above it that PYTHONPATH names, if a module that was not there `before` comes from it."""
    named = {Path(place).resolve() for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}
    loaded = [getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before]
    beyond = [Path(file) for file in loaded if file and not _bundle.own_name(Path(file), root)]
    for place in sorted(named.intersection(root.parents), key=lambda place: len(place.parts)):
        if any(_bundle.own_name(file, place) for file in beyond):
            return place
    return root


def import_root(path: Path) -> Path:
    """The folder that must be on sys.path: the file's own, or the folder above its outermost package."""
    folder = path.parent
    while (folder / "__init__.py").exists() and folder.parent != folder:
        folder = folder.parent
    return folder


def _existing(file: str) -> Path:
    path = Path(file).expanduser()
    if not path.exists():
        raise click.UsageError(f"There is no file {file} (looked in {Path.cwd()}).")
    if path.is_dir():
        raise click.UsageError(f"{file} is a folder; name a Python file in it.")
    if path.suffix != ".py":
        raise click.UsageError(f"{file} is not a Python file: its name must end in .py.")
    return path.resolve()


def _module_name(path: Path, root: Path) -> str:
    if not path.is_relative_to(root):
        raise click.UsageError(f"{path} is not inside --root-dir {root}.")
    parts = path.relative_to(root).with_suffix("").parts
    if any("." in part for part in parts):
        raise click.UsageError(f"{path} cannot be imported: a dot stands in a name on the way to it. Rename that.")
    if parts[0] in sys.stdlib_module_names:
        raise click.UsageError(f"{path} has the name of a module of Python's own, {parts[0]!r}. Rename the file.")
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@contextlib.contextmanager
def _printing_to_stderr() -> Iterator[None]:
    """Redirect stdout to stderr during the import: the module's output is not part of the command's result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _failing_politely(path: Path, root: Path) -> Iterator[None]:
    from flyte.runtime.loader import user_traceback

    try:
        yield
    except SyntaxError as error:
        text = "".join(traceback.format_exception_only(error)).strip()
        raise click.ClickException(f"{path.name} cannot be read as Python.\n{text}") from None
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{path.name} cannot be imported.\n{user_traceback(error).rstrip()}{_missing(error, path, root)}"
        ) from None
    except SystemExit as error:
        raise click.ClickException(
            f"{path.name} ended itself (exit {error.code}) while it was imported; put what it does when it is run "
            "under `if __name__ == '__main__':`"
        ) from None
    except ModuleLoadError as error:  # it starts something while it is imported
        raise click.ClickException(f"{path.name} cannot be imported: {error}") from None
    except Exception as error:  # noqa: BLE001 - the user's module may raise anything
        hint = hints.hiding(error, root) or hints.not_included(error)
        told = f"{path.name} cannot be imported.\n{user_traceback(error).rstrip()}"
        raise click.ClickException(f"{told}\n{hint}" if hint else told) from None


def _missing(error: ModuleNotFoundError, path: Path, root: Path) -> str:
    """Advice for a missing module."""
    if hint := hints.hiding(error, root):
        return f"\n{hint}"
    name = (error.name or "").partition(".")[0]
    here = Path.cwd()
    if name and here != root and _is_module(name, here):
        return f"\n{name} is in {here}; make that the root: --root-dir ."
    folder = next(
        (folder for folder in _folders_in(here) if name and folder != root and _is_module(name, folder)), None
    )
    if folder is not None and path.is_relative_to(folder):
        return f"\n{name} is in {folder}; make that the root: --root-dir {folder.name}"
    if folder is not None and path.is_relative_to(here):
        return f"\n{name} is in {folder}; ship it too: PYTHONPATH={folder.name} flyte … --root-dir ."
    if not name or name == "flyte":  # a module of ours that is not there says so itself
        return ""
    return f"\nInstall it where you call flyte: pip install {name}; on the platform it has to be in the image"


def _folders_in(folder: Path) -> list[Path]:
    """Its subfolders, such as `src`, without hidden ones and virtual environments."""
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir() and not _is_skipped(each.name))
    except OSError:  # it may not be read: then it has no folder that helps
        return []
