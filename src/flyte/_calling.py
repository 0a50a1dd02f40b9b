"""The user's code that is calling: its innermost frame, and the module that is at work."""

from __future__ import annotations

import os
import sys
from types import FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def calling_frame() -> FrameType | None:
    """The innermost frame that belongs to the user: neither to this package nor to generated code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_PACKAGE, "<string>", "<frozen")):
            return frame
        frame = frame.f_back
    return None


def calling_module() -> FrameType | None:
    """The frame of the user's module that is at work: a function or class in another one may have been called by it.

    The innermost frame of the user where there is none, as in a test, whose outermost frame is that of an installed
    program.
    """
    inner = frame = calling_frame()
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return inner if frame is None or _is_installed(frame.f_code.co_filename) else frame


def _is_installed(file: str) -> bool:
    if file.startswith("<frozen"):
        return True
    folders = [os.path.join(prefix, name) for prefix in (sys.prefix, sys.base_prefix) for name in ("bin", "lib")]
    return any(file.startswith(folder + os.sep) for folder in folders) or "site-packages" in file
