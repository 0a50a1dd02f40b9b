"""What helps against an import that failed: one clause for the end of the message, or an empty text.

Used where the platform's processes import a module (`loader`) and where a command does (`cli.program`).
"""

from __future__ import annotations

import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

_NO_FOLDER = re.compile(r"[Dd]irectory '?(?P<path>[^']+?)'? does not exist")
"""What Starlette's StaticFiles says."""


def hiding(error: BaseException, root: Path) -> str:
    """The file or folder directly in `root` that hides another module of its name, where `error` comes of that.

    A user's `email.py` is found before Python's own `email`, so that `import email.parser` fails, anywhere.
    """
    if not isinstance(error, ImportError | AttributeError):
        return ""
    names = re.findall(r"'([A-Za-z_]\w*)[.\w]*'", str(error))
    for name in dict.fromkeys([(getattr(error, "name", None) or "").partition(".")[0], *names]):
        file = _file_of(name, root) if name else None
        if file is not None and (owner := _hidden(name)):
            return f"{file} hides {owner}: rename it"
    return ""


def _file_of(name: str, root: Path) -> Path | None:
    return next((file for file in (root / f"{name}.py", root / name / "__init__.py") if file.is_file()), None)


def _hidden(name: str) -> str:
    """What else has that name, in words; empty if nothing has."""
    if name in sys.stdlib_module_names:
        return f"the module {name!r} of Python's standard library"
    installed = [place for place in sys.path if "site-packages" in place or "dist-packages" in place]
    return f"the installed package {name!r}" if PathFinder.find_spec(name, installed) else ""


def not_included(error: BaseException) -> str:
    """For a file or folder that the module reads while it is imported, and that is not here: how it gets shipped."""
    path = _missing_path(error)
    if path is None:
        return ""
    return f'{path} was not shipped with the code: name it in the environment, include=["{path}"]'


def _missing_path(error: BaseException) -> str | None:
    """The relative path that `error` says does not exist. A whole path is one of another machine, or a mistake."""
    path: object = None
    if isinstance(error, FileNotFoundError):
        path = error.filename
    elif isinstance(error, RuntimeError) and (found := _NO_FOLDER.search(str(error))):
        path = found["path"]
    return path if isinstance(path, str) and path and not Path(path).is_absolute() else None
