"""Distributions that have a part of their own in every image: never installed, needed by a worker, or expected."""

from __future__ import annotations

NEVER_INSTALLED = ("flyte", "unionai-reuse", "tarmac")
"""Neither installed nor missing, whatever version is asked for: `flyte` is the package that user code imports, and
reuse is part of it. `tarmac` on PyPI is a stranger's.
"""

MUST = ("msgspec>=0.18.4",)
"""What no worker can do without. Earlier releases of msgspec crash Python 3.12 when they are imported."""

SHOULD = ("greenlet>=1",)
"""A worker without it holds up its loop while a synchronous task waits for a call."""

FOR_APPS = ("uvicorn", "uvloop", "httptools", "websockets")
"""Without them an app with `fastapi` in its image could not be served, or has no WebSockets."""

COURTESY = (
    "aiofiles",
    "aiohttp",
    "aiolimiter",
    "async-lru",
    "httpx",
    "pydantic",
    "pyyaml",
    "typing-extensions",
)
"""What Flyte's images have besides; `install_flyte=False` leaves it out."""
