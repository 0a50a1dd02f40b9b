"""How modules are imported: for what they declare, when nothing may be started, and when they are used first.

The platform's processes, and commands such as `flyte run FILE`, import the module that declares a task. If the module
starts a run at its top level, each such import would start another one, without end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import NoReturn

from flyte.errors import ModuleLoadError


@dataclass(slots=True)
class _Import:
    module: str
    ended: bool = False
    """A context that the module has kept a copy of goes on holding this import."""


_CURRENT: ContextVar[_Import | None] = ContextVar("flyte_importing", default=None)


@contextlib.contextmanager
def importing(module: str) -> Iterator[None]:
    """Refuse runs, deployments and apps within the block: the module of that name is being imported for others."""
    current = _Import(module)
    token = _CURRENT.set(current)
    try:
        yield
    finally:
        current.ended = True
        _CURRENT.reset(token)


def refuse_import(call: str) -> None:
    """Raise ModuleLoadError if `call`, such as `flyte.run`, is made while a module is imported for what it declares."""
    current = _CURRENT.get()
    if current is not None and not current.ended:
        raise ModuleLoadError(
            f"{call} is called while module {current.module!r} is imported, which happens in every process that runs "
            'its tasks or apps; put the call under `if __name__ == "__main__":`'
        )


def lazy_module(fullname: str) -> ModuleType:
    """The module of that name, which is executed when one of its attributes is used.

    A module that is not installed raises ImportError at that time, and not here.
    """
    if fullname in sys.modules:
        return sys.modules[fullname]
    spec = importlib.util.find_spec(fullname)
    if spec is None or spec.loader is None:
        return _NotInstalled(fullname)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[fullname] = module
    spec.loader.exec_module(module)
    return module


class _NotInstalled(ModuleType):
    """Stands for a module that cannot be found."""

    def __getattribute__(self, name: str) -> NoReturn:
        module = object.__getattribute__(self, "__name__")
        raise ImportError(f"Module {module} is not yet installed: pip install {module.partition('.')[0]}", name=module)
