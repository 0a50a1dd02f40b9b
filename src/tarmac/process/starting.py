"""The start of a process: with whom it dies, who may read what it writes, and the guard that some systems need."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tarmac.process.table import PROC

UMASK = "TARMAC_UMASK"
"""The environment variable with the umask of who started the platform, in octal: what users' processes have."""

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_FILES = 65_536
_FILES_OF_MACOS = 10_240
"""What macOS lets a process have where it says that there is no limit."""

_LINUX = sys.platform == "linux"


def keep_files_private() -> None:
    """Only the owner can read what this process and its descendants write from now on, but for users' processes."""
    before = os.umask(0o077)
    os.environ.setdefault(UMASK, f"{before:o}")


def users_umask() -> int:
    """The umask for processes that run users' code; -1, which leaves it as it is, where none was kept."""
    kept = os.environ.get(UMASK, "")
    return int(kept, 8) if kept and set(kept) <= set("01234567") else -1


@functools.cache
def _prctl() -> Callable[..., int] | None:
    if not _LINUX:
        return None
    import ctypes

    prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    return prctl


def dies_with_me(number: int = signal.SIGKILL) -> Callable[[], None] | None:
    """A `preexec_fn`: the child gets the signal `number` when this process is gone. None where only a guard can do it.

    Call the result from the main thread alone: the kernel watches the thread that forks, not the process.
    """
    prctl = _prctl()
    if prctl is None:
        return None
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the arrangement was made
            os._exit(1)

    return arrange


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """In a child: have the kernel send `number` when `parent` ends. Exits where it has ended already.

    Where the kernel cannot, this does nothing more than that look.
    """
    prctl = _prctl()
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> bool:
    """Have whatever this process's descendants leave behind become its children; False where the kernel cannot.

    A process that adopts must also reap: see `reap_strangers`.
    """
    prctl = _prctl()
    return prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def be_called(words: Sequence[str]) -> None:
    """Have `ps`, `/proc` and `flyte status` show these words as this process's command, as far as there is room."""
    prctl = _prctl()
    if prctl is None:
        return
    import ctypes

    prctl(_PR_SET_NAME, ctypes.c_char_p(words[-1].encode()[-15:]))
    with contextlib.suppress(OSError, ValueError, IndexError):  # an old kernel does not say where the words are
        fields = (PROC / "self/stat").read_bytes().rpartition(b")")[2].split()
        first, end = int(fields[45]), int(fields[46])  # arg_start, arg_end
        text = b"\0".join(word.encode() for word in words)
        if 0 < len(text) < end - first:
            ctypes.memmove(first, text.ljust(end - first, b"\0"), end - first)


def open_many_files() -> None:
    """Raise this process's limit on open files, which its children inherit, as far as the system lets us.

    The usual 1,024 are used up by as many connections. Not higher than `_FILES`: there are programs that close every
    number up to the limit.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (_FILES, _FILES_OF_MACOS):
        files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and files > soft:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
                return


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: int,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    death: int = signal.SIGKILL,
    guard: bool = not _LINUX,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own; it ends when this process does. `output` gets what it writes.

    `death` is the signal that the end of this process brings it. With `guard` that is arranged by a process between.
    """
    if guard:
        return _start_guarded(command, env=env, output=output, cwd=cwd, pass_fds=pass_fds)
    return subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        preexec_fn=dies_with_me(death),
    )


@functools.cache
def lifeline() -> int:
    """The reading end of a pipe that nobody ever writes to; only this process holds the other end.

    That is closed at each exec, and nothing forks from this process without one.
    """
    reading, _writing = os.pipe()
    return reading


def _start_guarded(
    command: Sequence[str], *, env: Mapping[str, str], output: int, cwd: Path | None, pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    fds = ",".join(map(str, pass_fds))
    return subprocess.Popen(
        [sys.executable, "-m", "tarmac.process", fds, *command],
        env=env,
        cwd=cwd,
        stdin=lifeline(),
        stdout=output,
        stderr=output,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )


def guard(fds: str, command: Sequence[str]) -> int:
    """Run `command` until it ends, or until standard input does; hand on the signals that ask for an end."""
    keep = tuple(int(fd) for fd in fds.split(",") if fd)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=keep)
    for fd in keep:
        os.close(fd)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda received, frame: child.send_signal(received))

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code
