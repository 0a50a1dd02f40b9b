"""Where an action's output goes: the log of its process, which becomes the log of the action.

With one action at a time the file descriptors themselves are turned, so that whatever the process and its children
write arrives there, and nothing that was written is ever lost. To make a file costs more than to run a small function
(the file system's inodes, a folder for the run), and most small functions print nothing. So a worker has one file,
`workers/<unit>.log`, made once; it is given the action's own name when the action is over, if anything stands in it,
and only then another one is made. The times of its lines are noted under the action's own name from the start
(`flyte.log_times`). Until then, and when the process dies, readers find it under the worker's name
(`tarmac.logs.Moving`). A fork server hands an empty file on to the next worker.

Where the disk is full, what is printed is lost, and nothing else. (What a child process prints, it loses or not as it
likes.)

User code may close, detach or replace `sys.stdout` and `sys.stderr`. That is its own affair while it runs, as in any
program, and never the worker's: nothing here raises for what it finds in their place, and the next action of the
process starts with the streams that the first one had.

What was printed without an end of line reaches the file when somebody calls `flush_pending`: a worker's watcher does.

With several actions at a time in one process only Python's `sys.stdout` and `sys.stderr` can be told apart, by the
context of the writing code; each action's file is made with its first line.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import sys
import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from flyte.log_times import Times, open_to_append

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_log: ContextVar[TextIO | Late | None] = ContextVar("flyte_log", default=None)

FILE = "FLYTE_OUTPUT"
"""The variable that names the file of a worker's output."""


class _Lossy(io.FileIO):
    """A file for which a full disk costs the output, and not the action that writes; `times` notes when it grows."""

    def __init__(self, file: int, closefd: bool, times: Times) -> None:
        super().__init__(file, "w", closefd=closefd)
        self._times = times

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            written = super().write(data) or 0
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return memoryview(data).nbytes
        with contextlib.suppress(OSError):  # the action has put a pipe in the place of its log
            self._times.note(self.tell())
        return written


def _stream(file: int, closefd: bool, times: Times, line_buffering: bool, unbuffered: bool = False) -> io.TextIOWrapper:
    raw = _Lossy(file, closefd, times)
    buffer = raw if unbuffered else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, "utf-8", "backslashreplace", None, line_buffering, unbuffered)


def _is_plain(stream: TextIO) -> bool:
    """Whether it is what Python made of the descriptor, and nobody's own."""
    buffer = getattr(stream, "buffer", None)
    return type(getattr(buffer, "raw", buffer)) is io.FileIO


def _is_usable(stream: TextIO | None) -> bool:
    """Whether something can be written into it: it is not closed, nor is what is below it gone."""
    try:
        return stream is not None and not stream.closed
    except Exception:  # noqa: BLE001 - a stranger's object, or a stream that was detached
        return False


STREAMS = (("stdout", 1), ("stderr", 2))


class Output:
    """Standard output and error of this process, which go to the file `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept: dict[str, TextIO] = {}
        """The streams that each action starts with: ours, or what the module that was imported put in their place."""
        self._times = Times()
        for name, file in STREAMS:
            old = getattr(sys, name)
            if not _is_usable(old):
                old = _stream(file, False, self._times, line_buffering=True)
            elif _is_plain(old):
                old.flush()
                old = _stream(file, False, self._times, old.line_buffering, old.write_through)
            self._keep(name, old)
        self._file = open_to_append(path)
        _watch_forks()
        _of_process[:] = [self]

    def turn(self, log: str) -> None:
        """From now on, for the action whose log will be `log`."""
        self._flush()
        self._times.begin(log)
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)
        self._restore()

    def name(self, path: str, last: bool = False) -> None:
        """An action is over: what stands in the file is its log, under its own name. The next one gets a new file.

        After the `last` one what is written still lands in its log.
        """
        self._flush()
        self._restore()
        size = os.fstat(self._file).st_size
        if size:
            self._times.note_all(size)
            _rename(self._path, path)
        if last:
            return
        self._times.close()
        if size:
            self._begin_file()

    def _begin_file(self) -> None:
        new = open_to_append(self._path)  # before the old one is closed: where there is no room, that goes on
        old, self._file = self._file, new
        os.close(old)
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)

    def settle(self) -> None:
        """See `settle` below."""
        self._flush()
        self._times.settle()

    def note_times(self) -> None:
        """Note that the log has grown, also by the output of child processes."""
        with contextlib.suppress(OSError):  # the file is being replaced at this moment
            self._times.note_all(os.fstat(self._file).st_size)

    def _flush(self) -> None:
        """Twice for every action, and so without a look at streams that are nearly always the same ones."""
        out, err = self._kept["stdout"], self._kept["stderr"]
        if sys.stdout is not out or sys.stderr is not err or len(_pending) > len(STREAMS):
            flush()
            return
        for stream in (out, err):
            try:
                stream.flush()
            except Exception:  # noqa: BLE001 - it is closed
                pass

    def _restore(self) -> None:
        """Python's streams as they were before an action did something to them; new ones for those that are closed."""
        for name, file in STREAMS:
            kept = self._kept[name]
            if not _is_usable(kept):
                self._keep(name, _stream(file, False, self._times, line_buffering=True))
            elif getattr(sys, name) is not kept:
                setattr(sys, name, kept)

    def _keep(self, name: str, stream: TextIO) -> None:
        self._kept[name] = stream
        setattr(sys, name, stream)
        if type(stream) is io.TextIOWrapper:
            _pending.add(stream)
            setattr(sys, f"__{name}__", stream)


def flush() -> None:
    """Empty what Python has buffered for standard output and error; whatever user code has installed in their place."""
    for stream in (sys.stdout, sys.stderr, *_pending):
        with contextlib.suppress(Exception):  # a stranger's object, or closed
            stream.flush()


_pending: weakref.WeakSet[TextIO | Late] = weakref.WeakSet()
"""The streams of this module that are in use."""

_of_process: list[Output] = []
"""The output of this process, where it serves one action at a time; else empty."""

_flushing = threading.Lock()


def flush_pending() -> None:
    """Write out what is buffered in streams of this module, from a thread that is not the user's, and note the time."""
    with _flushing:
        for stream in tuple(_pending):
            with contextlib.suppress(Exception):  # it was closed, or is being used at this moment
                stream.flush()
        for output in _of_process:
            output.note_times()


def settle() -> None:
    """Called when an action calls another: what it has printed gets a time before that of the other's first line."""
    own = _log.get()
    with contextlib.suppress(Exception):  # it was closed or detached by the action
        if own is not None:
            own.flush()
        else:
            for output in _of_process:
                output.settle()


@functools.cache
def _watch_forks() -> None:
    """See that no process is forked in the middle of `flush_pending`: a lock that is held then is never released."""
    os.register_at_fork(before=_flushing.acquire, after_in_parent=_flushing.release, after_in_child=_flushing.release)


def _rename(old: str, new: str) -> None:
    """A file that is gone was named by the control plane, which had given the action up."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.rename(old, new)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(new), mode=0o700, exist_ok=True)
            os.rename(old, new)


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

    def close(self) -> None:
        """It is the stream of all actions in this process: one of them cannot close it for the others."""
        self.flush()

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


@functools.cache
def _routers() -> tuple[Router, Router]:
    _watch_forks()
    return Router(sys.stdout), Router(sys.stderr)


def route(alone: bool = True) -> None:
    """Have `sys.stdout` and `sys.stderr` follow the context.

    What an action has put in their place stays while it may still run (not `alone`), unless nobody can write into it.
    """
    for name, router in zip(("stdout", "stderr"), _routers(), strict=True):
        if alone or not _is_usable(getattr(sys, name)):
            setattr(sys, name, router)


class Late(io.TextIOBase):
    """A log that is made when somebody writes into it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stream: TextIO | None = None
        self._times = Times(path)

    def _made(self) -> TextIO:
        if self._stream is None:
            self._stream = _stream(open_to_append(self._path), True, self._times, line_buffering=True)
            _pending.add(self)
        return self._stream

    def write(self, text: str) -> int:
        return self._made().write(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()
            self._times.settle()

    @property
    def buffer(self) -> Any:
        return self._made().buffer

    def close(self) -> None:
        stream, self._stream = self._stream, None
        _pending.discard(self)
        if stream is not None:
            with contextlib.suppress(ValueError):  # the action has detached it
                stream.close()
            self._times.settle()
            self._times.close()
        super().close()  # it flushes what is still there: nothing


def follow(path: str) -> Late:
    """Send what this context writes to `path`; the caller closes the stream when its action is over."""
    stream = Late(path)
    _log.set(stream)
    return stream
