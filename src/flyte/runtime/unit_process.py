"""The process of a unit, from the fork to its work: it gets a session, an environment and a log of its own."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import msgspec

from flyte.runtime import isolation, loader, sources
from flyte.wire import ForkUnit, PoolSpec

if TYPE_CHECKING:
    from flyte.runtime.imports import Imports
    from flyte.runtime.isolation import Links, Tidy

READY = b"\x01"
"""What a unit writes to its pipe when it may be probed."""

FAILED = b"\x00"
"""What a unit writes, followed by an ErrorInfo as JSON, when it cannot be prepared, or cannot import its code."""

READ = b"\x02"
"""What a unit that imports its code writes first, followed by the length of what follows (4 bytes) and `Sources`."""

LAST_WORDS = 10.0
"""Seconds for a process's threads and atexit functions after its work."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def live(
    order: ForkUnit,
    pool: PoolSpec | None,
    worker: str,
    pipe: int,
    parent: int,
    walls: Tidy | Links | None = None,
    imports: Imports | None = None,
) -> NoReturn:
    """Run the unit of `order`, in a process that was just forked. Never returns, and never raises.

    `pool`: the pool whose code must be imported; None if that was done before the fork.
    """
    try:
        _prepare(order, parent, pipe, walls)
        if imports is not None:
            imports.seed_anew()
        if pool is not None:
            _import(pool, pipe)
        _work(order, worker, pipe)
    except BaseException as error:  # noqa: BLE001 - a stranger's code; and the last place where anybody can tell
        leave(error)
    leave()


def _prepare(order: ForkUnit, parent: int, pipe: int, walls: Tidy | Links | None) -> None:
    """Prepare the process. Raises BrokenImport after reporting to the fork server that the system is to blame."""
    try:
        _settle(order, parent)
        if walls is not None:
            walls.settle(order.unit)
    except OSError as error:
        info = isolation.failure(error)
        os.write(pipe, FAILED + msgspec.json.encode(info))
        raise loader.BrokenImport(info) from error


def _settle(order: ForkUnit, parent: int) -> None:
    os.setsid()
    die_with(parent)
    if order.group:
        _enter(order.group)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _redirect(order.log)
    os.environ.update(order.env)
    os.environ["FLYTE_UNIT"] = order.unit
    os.environ["TARMAC_UNIT_KIND"] = order.kind


def _import(pool: PoolSpec, pipe: int) -> None:
    read = sources.Sources()
    try:
        with read.watched():
            loader.import_modules(pool.modules)
    except loader.BrokenImport as broken:
        os.write(pipe, FAILED + msgspec.json.encode(broken.info))
        raise
    read.close(sources.shipped(pool))
    body = memoryview(msgspec.msgpack.encode(read))
    message = memoryview(READ + len(body).to_bytes(4, "little") + body)
    while message:
        message = message[os.write(pipe, message) :]


def taken(said: bytearray) -> sources.Sources | None:
    """Remove the record of the files that an import read from the unit's output; None until it is complete."""
    size = int.from_bytes(said[1:5], "little")
    if not said.startswith(READ) or len(said) < 5 + size:
        return None
    body = bytes(said[5 : 5 + size])
    del said[: 5 + size]
    return msgspec.msgpack.decode(body, type=sources.Sources)


def _work(order: ForkUnit, worker: str, pipe: int) -> None:
    if order.replica is not None:
        from flyte.runtime import apphost

        apphost.serve(order.replica, order.port, pipe)
    else:
        os.close(pipe)
        importlib.import_module(worker).serve(order.reuse, order.concurrency)


def _enter(group: str) -> None:
    """Enter the memory group before anything is started that could stay outside of it."""
    try:
        with open(group, "w") as file:
            file.write("0")
    except OSError as error:
        print(f"this process is not held to its memory: {error}", file=sys.stderr)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends.

    Where it cannot, the agent and its fork servers watch each other: each ends the units when the other is gone.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _redirect(log: str) -> None:
    """Standard output and error to the end of `log`; no standard input. A crash gets a traceback there, too."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if log:
        os.makedirs(os.path.dirname(log), exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
    faulthandler.enable(2)


def write_lines() -> None:
    """Have every line that is printed reach its file at once: what crashes keeps its last words."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def flush() -> None:
    """Empty the buffers, else a child would write them once more."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # user code may have closed or replaced it
            stream.flush()


_at_the_very_end: list[Callable[[], None]] = []


def finally_call(function: Callable[[], None]) -> None:
    """Have it called when this process ends in order, after all that the user's code wants called then."""
    _at_the_very_end.append(function)


def leave(error: BaseException | None = None) -> NoReturn:
    """End this process as an interpreter does: with a traceback, or the exit code that was asked for.

    Threads that are not daemons are waited for, and what was registered with `atexit` is called, for LAST_WORDS
    seconds.
    """
    code = 1
    try:
        code = _told(error)
        _limit_last_words(code)
        with contextlib.suppress(Exception):  # of a stranger's; it is the end in any case
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()  # but the interpreter is not taken apart: that is long work
    finally:
        _exit(code)


def _limit_last_words(code: int) -> None:
    """From now on SIGTERM is ignored, and time is limited."""

    def cut(number: int, frame: object) -> None:
        _say(f"its threads and atexit functions took longer than {LAST_WORDS:g} s after its end: cut off")
        _exit(code)

    with contextlib.suppress(ValueError):  # not the main thread: nobody else is left who could wait
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        signal.signal(signal.SIGALRM, cut)
        signal.setitimer(signal.ITIMER_REAL, LAST_WORDS)


def _exit(code: int) -> NoReturn:
    flush()
    for function in _at_the_very_end:
        with contextlib.suppress(OSError):  # a full disk
            function()
    os._exit(code)


def _told(error: BaseException | None) -> int:
    """The exit code; what is to be said about it is on standard error."""
    match error:
        case None:
            return 0
        case loader.BrokenImport():
            _say((error.info.traceback or "") + error.info.message)
        case SystemExit(code=None):
            return 0
        case SystemExit(code=int(code)):
            return code
        case SystemExit():
            _say(error.code)
        case _:
            with contextlib.suppress(Exception):  # standard error may be closed
                traceback.print_exception(error)
    return 1


def _say(what: object) -> None:
    with contextlib.suppress(Exception):  # a stranger's object, and a stream that user code may have closed
        print(what, file=sys.stderr)
