"""Values of classes that are not known here: pickled, as text in a JSON object.

A class that a script defines is `__main__.C` where the script runs, and `script.C` where a worker imports it. So a
pickle made in a script also contains the file's name, and loading it looks for that file's module.
"""

from __future__ import annotations

import base64
import importlib
import io
import os
import pickle
import sys
import warnings
from typing import Any

from flyte._values.codec import Mismatch
from flyte.errors import RestrictedTypeError

MARK = "$pickle"
_MAIN = "$main"
_warned: set[type] = set()


def dump(value: Any, warn: bool = True) -> dict[str, Any]:
    """The value as a JSON object; `warn` says that it is pickled. Raises RestrictedTypeError where it cannot be."""
    try:
        data = pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise RestrictedTypeError(
            f"a {type(value).__name__} cannot be sent to another process ({error}); "
            "send what it is made from, or a file"
        ) from None
    if warn:
        _warn_once(type(value))
    body: dict[str, Any] = {MARK: base64.b64encode(data).decode()}
    main = _main_file()
    return {**body, _MAIN: main} if main and b"__main__" in data else body


def is_pickle(data: Any) -> bool:
    return type(data) is dict and MARK in data and set(data) <= {MARK, _MAIN}


def holds_pickle(data: Any) -> bool:
    """Whether there is a pickle anywhere in JSON data."""
    if isinstance(data, list):
        return any(holds_pickle(item) for item in data)
    if isinstance(data, dict):
        return is_pickle(data) or any(holds_pickle(item) for item in data.values())
    return False


def load(data: dict[str, Any]) -> Any:
    """The value again. Runs whatever the pickle says; see `_values` for where that may happen."""
    try:
        raw = base64.b64decode(data[MARK], validate=True)
        return _Unpickler(io.BytesIO(raw), data.get(_MAIN)).load()
    except (pickle.UnpicklingError, ValueError, TypeError, EOFError, AttributeError, ImportError) as error:
        raise Mismatch("a pickled value that can be loaded here", data, f"{type(error).__name__}: {error}") from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, main: str | None) -> None:
        super().__init__(file)
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__" and self._main and self._main != _main_file():
            module = _module_of_file(self._main) or module
        elif module not in sys.modules and module.rpartition(".")[2] == _module_name(_main_file()):
            module = "__main__"  # a worker sent back what this very script defines
        return super().find_class(module, name)


def _main_file() -> str | None:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.basename(file) if file else None


def _module_name(file: str | None) -> str | None:
    return os.path.splitext(file)[0] if file else None


def _module_of_file(file: str) -> str | None:
    """The imported module that was made from a file of this name, or one that can be imported by it."""
    for name, module in list(sys.modules.items()):
        if os.path.basename(getattr(module, "__file__", None) or "") == file:
            return name
    own = _module_name(file)
    return importlib.import_module(own).__name__ if own and own.isidentifier() else None


def _warn_once(cls: type) -> None:
    if cls not in _warned:
        _warned.add(cls)
        warnings.warn(
            f"a {cls.__qualname__} travels as a pickle; annotate it with a dataclass or another known type "
            "to have it readable and checked",
            UserWarning,
            stacklevel=2,
        )
