"""Apps made with a framework: FastAPI, and the ready-made webhook app."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flyte.app.extras._auth import FastAPIPassthroughAuthMiddleware as FastAPIPassthroughAuthMiddleware
    from flyte.app.extras._fastapi import FastAPIAppEnvironment as FastAPIAppEnvironment
    from flyte.app.extras._webhook import FlyteWebhookAppEnvironment as FlyteWebhookAppEnvironment

_PLACES = {
    "FastAPIAppEnvironment": "_fastapi",
    "FastAPIPassthroughAuthMiddleware": "_auth",
    "FlyteWebhookAppEnvironment": "_webhook",
}
__all__ = ["FastAPIAppEnvironment", "FastAPIPassthroughAuthMiddleware", "FlyteWebhookAppEnvironment"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'flyte.app.extras' has no attribute {name!r}")
    return getattr(importlib.import_module(f"flyte.app.extras.{_PLACES[name]}"), name)
