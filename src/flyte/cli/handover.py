"""Executing `python -m tarmac`, which is the platform; this package never imports it."""

from __future__ import annotations

import importlib.util
import os
import sys

from flyte.errors import InitializationError
from flyte.official import refuse_official


def hand_over(*words: str) -> None:
    """Replace this process by `python -m tarmac …`. Returns if no usable one is installed."""
    if importlib.util.find_spec("tarmac") is None:
        return
    try:
        refuse_official()
    except InitializationError:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "tarmac", *words])
