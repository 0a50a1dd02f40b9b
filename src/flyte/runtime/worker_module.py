"""The module whose `serve` is a worker's life: its import before the user's code, and its preparations."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback

from flyte.runtime import identity

WORKER = "flyte.runtime.worker"
"""The module whose `serve(reuse, concurrency)` is a worker's life."""


def import_ours(worker: str) -> None:
    """Import what every unit needs, before the user's folders come first on the path.

    A missing worker module is not an error here, so that apps are served without it; a worker reports it when it is
    forked.
    """
    importlib.import_module("asyncio")
    identity.install()
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(worker)


def warm_up(worker: str) -> None:
    """Let the worker's module write to the memory now that each child would otherwise copy in order to write to it."""
    if worker == WORKER and worker in sys.modules:
        from flyte.runtime import warm_up

        warm_up.warm_up()


def warm(worker: str) -> None:
    """Let the worker's module prepare what every action would otherwise do anew.

    It reads the user's declarations. An error in them is printed here, and raised again by the action that needs them.
    """
    warm = getattr(sys.modules.get(worker), "warm", None)
    try:
        if warm is not None:
            warm()
    except Exception:  # noqa: BLE001 - a stranger's code
        traceback.print_exc()
