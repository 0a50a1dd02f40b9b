"""Where an action's output goes: its own log file.

With one action at a time the file descriptors themselves are turned, so that whatever the process and its children
write arrives there. With several at a time in one process only Python's `sys.stdout` and `sys.stderr` can be told
apart, by the context of whoever writes.
"""

from __future__ import annotations

import io
import os
import sys
from contextvars import ContextVar
from typing import Any, TextIO

_log: ContextVar[TextIO | None] = ContextVar("flyte_log", default=None)


def turn(path: str) -> None:
    """Send standard output and error of this process to the end of `path`."""
    if not path:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    file = _open(path)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


class Router(io.TextIOBase):
    """Stands for `sys.stdout` or `sys.stderr`: writes to the log of the action whose context this is."""

    def __init__(self, fallback: TextIO) -> None:
        self._fallback = fallback

    def _stream(self) -> TextIO:
        return _log.get() or self._fallback

    def write(self, text: str) -> int:
        return self._stream().write(text)

    def flush(self) -> None:
        self._stream().flush()

    def fileno(self) -> int:
        return self._fallback.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> Any:
        return getattr(self._stream(), "buffer", None)


def route() -> None:
    """Have `sys.stdout` and `sys.stderr` follow the context from now on."""
    if not isinstance(sys.stdout, Router):
        sys.stdout, sys.stderr = Router(sys.stdout), Router(sys.stderr)


def follow(path: str) -> TextIO:
    """Send what this context writes to `path`; the caller closes the stream when its action is over."""
    stream = os.fdopen(_open(path), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    _log.set(stream)
    return stream
