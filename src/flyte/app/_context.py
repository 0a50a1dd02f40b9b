"""The context of an app's process: the app's name, and whether it runs on a platform."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AppContext:
    mode: Literal["local", "remote"]
    project: str
    domain: str
    raw_data_path: str
    name: str | None = None
    """The name of the app that this process serves; None in other processes."""


def ctx() -> AppContext:
    """Where this app runs: on a platform (`remote`), or in the process that served it (`local`)."""
    from flyte._session import state as _state
    from flyte.storage._new_files import raw_data_path

    state = _state.current()
    return AppContext(
        mode="remote" if _state.on_platform() else "local",
        project=state.project,
        domain=state.domain,
        raw_data_path=raw_data_path(),
        name=os.environ.get("FLYTE_APP_NAME"),
    )
