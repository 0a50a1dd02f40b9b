"""Importing the user's code: folders onto `sys.path`, modules, objects by `module:variable`, errors in words."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from flyte._importing import importing
from flyte.errors import BaseRuntimeError, ModuleLoadError, NonRecoverableError
from flyte.runtime import hints
from flyte.wire import ErrorInfo

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_TRACEBACK_LIMIT = 20_000
"""Characters of a traceback that travel; of a longer one the middle is left out."""


class BrokenImport(Exception):
    """Raised when user code cannot be imported; `info` is what its author should read."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


_root: str | None = None


def code_root() -> Path:
    """The folder of the code; where none was entered, the working directory."""
    return Path.cwd() if _root is None else Path(_root)


def enter(root: str, sys_path: Sequence[str]) -> None:
    """Make `root` the working directory and the first place where modules are looked for; then `sys_path`, below it.

    Raises BrokenImport where there is no such folder.
    """
    global _root
    try:
        os.chdir(root)
    except OSError as error:
        message = f"the code's folder {root} cannot be entered ({error.strerror}); deploy again to send it anew"
        raise BrokenImport(ErrorInfo(code="CodeBundleError", message=message)) from error
    _root = root
    places = [root, *(os.path.normpath(os.path.join(root, part)) for part in sys_path)]
    sys.path[:] = [*dict.fromkeys(places), *(place for place in sys.path if place not in places and place != "")]
    importlib.invalidate_caches()


def import_modules(modules: Sequence[str]) -> None:
    """Import each module. Raises BrokenImport for the first that cannot be."""
    for name in modules:
        try:
            with importing(name):
                importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stranger's code, and it may well call sys.exit
            raise BrokenImport(describe(error, f"cannot import module {name!r}")) from error


def resolve(entry: str) -> object:
    """The object that `module:variable` names; the module is imported. Raises BrokenImport."""
    module, _, variable = entry.partition(":")
    import_modules([module])
    thing: object = sys.modules[module]
    for part in variable.split(".") if variable else ():
        if not hasattr(thing, part):
            raise BrokenImport(
                ErrorInfo(
                    code="ModuleLoadError",
                    message=f"module {module!r} has no {variable!r}: it must be a variable at the module's top level",
                    type="flyte.errors:ModuleLoadError",
                )
            )
        thing = getattr(thing, part)
    return thing


def describe(error: BaseException, what: str = "") -> ErrorInfo:
    """`error` as it travels, with the traceback cut to the user's own frames.

    With `what`, it is why something of ours could not be done (a `ModuleLoadError`); without, the error itself.
    """
    if isinstance(error, BrokenImport):
        return error.info
    text = _text(error)
    words = f"{type(error).__name__}: {text}" if text else type(error).__name__
    kind = type(error)
    if what:
        reason = text if isinstance(error, ModuleLoadError) else words + _hint(error)
        code, message, kind = "ModuleLoadError", f"{what}: {reason}", ModuleLoadError
    else:
        code, message = _own(error, "code", kind.__name__), _own(error, "message", text) or kind.__name__
    side = _own(error, "kind", "user")
    return ErrorInfo(
        code=sendable(code),
        message=sendable(message),
        kind=side if side in ("user", "system", "unknown") else "user",  # type: ignore[arg-type]
        type=sendable(f"{kind.__module__}:{kind.__qualname__}"),
        traceback=sendable(_cut(_traceback(error))),
        retryable=not isinstance(error, NonRecoverableError),
    )


def _own(error: BaseException, name: str, default: str) -> str:
    """What an error of our classes has under that name. A class that derives from them may have forgotten to set it."""
    value = getattr(error, name, default) if isinstance(error, BaseRuntimeError) else default
    return value if isinstance(value, str) else default


def _text(error: BaseException) -> str:
    """What it says; empty where it cannot say anything."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a stranger's code
        return ""


def _traceback(error: BaseException) -> str:
    try:
        return user_traceback(error)
    except Exception as problem:  # noqa: BLE001 - a stranger's code: notes, causes and names of its own making
        return f"(the traceback of this {type(error).__name__} cannot be shown: {type(problem).__name__})"


def sendable(text: str) -> str:
    """`text` with a backslash sequence for each character that cannot be sent or stored: lone surrogates, and NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _hint(error: BaseException) -> str:
    if hint := hints.hiding(error, code_root()) or hints.not_included(error):
        return f"; {hint}"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("flyte."):
        package = error.name.partition(".")[0]
        return (
            f'; where it is a package, add it to the image: .with_pip_packages("{package}"); where it is a module of '
            "your own, it has to lie below the root folder (root_dir=, --root-dir) and in no .gitignore"
        )
    if isinstance(error, SystemExit):
        return '; the module ends the process while it is imported: put that under `if __name__ == "__main__":`'
    return ""


def user_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of the import machinery and of this package."""
    report = traceback.TracebackException.from_exception(error)
    for part in _chain(report):
        part.stack[:] = [frame for frame in part.stack if not _ours(frame.filename)]
    return "".join(report.format())


def _chain(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    todo: list[traceback.TracebackException | None] = [report]
    while todo:
        part = todo.pop()
        if part is not None:
            yield part
            todo += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]


def _ours(filename: str) -> bool:
    return filename.startswith(("<frozen ", _PACKAGE + os.sep)) or filename == importlib.__file__


def _cut(text: str) -> str:
    if len(text) <= _TRACEBACK_LIMIT:
        return text
    half = _TRACEBACK_LIMIT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
