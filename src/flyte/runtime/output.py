"""Where an action's output goes: the log of its process, which becomes the log of the action.

With one action at a time the file descriptors themselves are turned, so that whatever the process and its children
write arrives there, and nothing that was written is ever lost. To make a file costs more than to run a small function
(the file system's inodes, a folder for the run), and most small functions print nothing. So a worker has one file,
`workers/<unit>.log`, made once; it is given the action's own name when the action is over, if anything stands in it,
and only then another one is made. Until then, and when the process dies, readers find it under the worker's name
(`tarmac.logs.Moving`). A zygote hands an empty file on to the next worker.

Where the disk is full, what is printed is lost, and nothing else. (What a child process prints, it loses or not as it
likes.)

With several actions at a time in one process only Python's `sys.stdout` and `sys.stderr` can be told apart, by the
context of whoever writes; each action's file is made with its first line.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_log: ContextVar[TextIO | Late | None] = ContextVar("flyte_log", default=None)

FILE = "FLYTE_OUTPUT"
"""The variable that names the file of a worker's output."""


class _Lossy(io.FileIO):
    """A full disk costs what is written into it, and not the action that writes."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return memoryview(data).nbytes


def _stream(file: int, closefd: bool, line_buffering: bool, unbuffered: bool = False) -> io.TextIOWrapper:
    raw = _Lossy(file, "w", closefd=closefd)
    buffer = raw if unbuffered else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, "utf-8", "backslashreplace", None, line_buffering, unbuffered)


def _is_plain(stream: TextIO) -> bool:
    """Whether it is what Python made of the descriptor, and nobody's own."""
    buffer = getattr(stream, "buffer", None)
    return type(getattr(buffer, "raw", buffer)) is io.FileIO


class Output:
    """Standard output and error of this process, which go to the file `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        for name, file in (("stdout", 1), ("stderr", 2)):
            old = getattr(sys, name)
            if _is_plain(old):
                old.flush()
                setattr(sys, name, _stream(file, False, old.line_buffering, old.write_through))
        self._file = _open(path)

    def turn(self) -> None:
        """From now on."""
        flush()
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)

    def name(self, path: str) -> None:
        """An action is over: what stands in the file is its log, under its own name. The next one gets a new file."""
        flush()
        if os.fstat(self._file).st_size == 0:
            return
        _rename(self._path, path)
        new = _open(self._path)  # before the old one is closed: where there is no room, that goes on
        os.close(self._file)
        self._file = new
        self.turn()


def flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _rename(old: str, new: str) -> None:
    """A file that is gone was named by the control plane, which had given the action up."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.rename(old, new)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(new), mode=0o700, exist_ok=True)
            os.rename(old, new)


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

    def _stream(self) -> TextIO | Late:
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


class Late(io.TextIOBase):
    """A log that is made when somebody writes into it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stream: TextIO | None = None

    def _made(self) -> TextIO:
        if self._stream is None:
            self._stream = _stream(_open(self._path), True, line_buffering=True)
        return self._stream

    def write(self, text: str) -> int:
        return self._made().write(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()

    @property
    def buffer(self) -> Any:
        return self._made().buffer

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        super().close()  # it flushes what is still there: nothing


def follow(path: str) -> Late:
    """Send what this context writes to `path`; the caller closes the stream when its action is over."""
    stream = Late(path)
    _log.set(stream)
    return stream
