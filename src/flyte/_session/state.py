"""What is in force in this process: a platform or local mode, the project and domain, the folder of the code.

With nothing initialised, a process of the platform talks to its platform, and any other is in local mode: tasks run in
it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from flyte._client.client import Client
from flyte._session.plan import State, in_cluster, settled
from flyte.errors import InitializationError

_state: State | None = None
_override: ContextVar[State | None] = ContextVar("flyte_state", default=None)


def current() -> State:
    """The state in force: this context's, else the process's, else what the process is by itself."""
    state = _override.get() or _state
    if state is not None:
        return state
    return install(settled(in_cluster())) if on_platform() else State("local")


@contextlib.contextmanager
def using(state: State) -> Iterator[State]:
    """Put `state` in force for the block, and what it starts with this context."""
    token = _override.set(state)
    try:
        yield state
    finally:
        _override.reset(token)


def client() -> Client:
    """The platform in force. Raises InitializationError, code `ClientNotInitializedError`, in local mode."""
    found = current().client
    if found is None:
        raise InitializationError(
            "ClientNotInitializedError",
            "user",
            "no platform is in force here; call flyte.init_from_config() first (it finds or starts one)",
        )
    return found


def is_initialized() -> bool:
    return (_override.get() or _state) is not None


def is_control_plane_available() -> bool:
    """Whether `flyte.run` here goes to a platform, rather than run in this process. Asks nobody."""
    return current().client is not None


def current_project() -> str:
    """The project that we work in. Raises InitializationError before any `init…`, outside the platform."""
    return _scope("project")


def current_domain() -> str:
    """The domain that we work in. Raises InitializationError before any `init…`, outside the platform."""
    return _scope("domain")


def _scope(name: Literal["project", "domain"]) -> str:
    from flyte._context import ctx

    action: str | None = getattr(ctx().action, name)
    if action:
        return action
    if not is_initialized() and not on_platform():
        raise InitializationError(
            "NotInitializedError",
            "user",
            f"no {name} is set; call flyte.init(project=…, domain=…) or init_from_config()",
        )
    scope: str = getattr(current(), name)
    return scope


def root_dir() -> Path:
    """The folder whose code is shipped: as given, else the current one or, where the script is elsewhere, its own."""
    here = Path.cwd()
    if on_platform():  # the bundle was unpacked here, whatever root it had where it was made
        return here
    given = current().root_dir
    if given is not None:
        return given
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    script = Path(file).resolve() if file else None
    if script is None or script.is_relative_to(here) or not _is_users(script):
        return here
    return script.parent


def _is_users(script: Path) -> bool:
    """Not a program that was installed, such as pytest or the `flyte` command."""
    installed = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(__file__).resolve().parents[1])
    return not any(script.is_relative_to(folder) for folder in installed)


def on_platform() -> bool:
    """Whether a platform started this process."""
    return "FLYTE_UNIT" in os.environ and "FLYTE_ENDPOINT" in os.environ


def is_remote() -> bool:
    """Whether an `init…` has put a platform in force."""
    state = _override.get() or _state
    return state is not None and state.client is not None


def install(state: State) -> State:
    """Put `state` in force for the whole process; a root folder becomes importable."""
    global _state
    if state.root_dir is not None and str(state.root_dir) not in sys.path:
        sys.path.append(str(state.root_dir))
    _state = state
    return state
