"""Processes of the operating system: who dies with whom, how an end is awaited, and what an end left behind.

Nothing of the platform may outlive it, whatever kills it. Four means, each for the holes of the one before:

1. Linux ends a child when its parent is gone (PR_SET_PDEATHSIG), even when the parent was killed. Elsewhere the child
   is put behind a *guard*: a small process of ours that holds the reading end of a pipe whose writing end only the
   parent has; the end of that pipe is the end of the parent (`guarded`, and this module as a program).
2. A parent and its children are each in a session of their own, so that one signal reaches everything that a child
   started (`signal_group`).
3. Every process but the supervisor carries a mark in its environment, which its descendants inherit: TARMAC_PLATFORM,
   the folder of the platform. Whoever starts or ends a platform looks through the table of processes for that mark
   (`marked`), and so finds what was orphaned, changed its session, or was started by something that is long gone.
4. Beside the supervisor waits a process that does that as soon as the supervisor is gone (`supervisor.will`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# asyncio and psutil are imported where they are used: `flyte up` and `flyte down` pass here and need neither

MARK = "TARMAC_PLATFORM"
"""The environment variable that every process beneath a supervisor carries: the platform's folder."""

LIFE = "TARMAC_LIFE"
"""The environment variable with a random word for the time from a start of the platform to its end."""

UNIT_MARK = "TARMAC_AGENT"
"""What the agent's offspring carries besides: the agent's pid."""

UMASK = "TARMAC_UMASK"
"""The environment variable with the umask of who started the platform, in octal: what users' processes have."""

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_FILES = 65_536
_FILES_OF_MACOS = 10_240
"""What macOS lets a process have where it says that there is no limit."""

_LOOK_AGAIN = 0.02
_PROC = Path("/proc")
_LINUX = sys.platform == "linux"


# ------------------------------------------------------------------------------------------------ who may read what


def keep_files_private() -> None:
    """Only the owner can read what this process and its offspring write from now on, but for users' processes."""
    before = os.umask(0o077)
    os.environ.setdefault(UMASK, f"{before:o}")


def users_umask() -> int:
    """The umask for processes that run users' code; -1, which leaves it as it is, where none was kept."""
    kept = os.environ.get(UMASK, "")
    return int(kept, 8) if kept and set(kept) <= set("01234567") else -1


# ------------------------------------------------------------------------------------------------ who dies with whom


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

    Whoever adopts has to reap: see `reap_strangers`.
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
        fields = (_PROC / "self/stat").read_bytes().rpartition(b")")[2].split()
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


# ---------------------------------------------------------------------------------------------------- awaiting an end


@dataclass(slots=True)
class Adopted:
    """A child that was started by another process and becomes ours (`adopt_orphans`); like a `Popen`.

    We may know of it before it is ours: until the process between has ended, it is that one's child.
    """

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, negative for a signal; None as long as it lives, or is somebody else's."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = None if is_there(self.pid) else -signal.SIGKILL  # nobody knows how it ended
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def is_there(pid: int) -> bool:
    """Whether the table of processes has it; a zombie is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


Child = subprocess.Popen[bytes] | Adopted


def reap_strangers(known: Collection[int]) -> None:
    """Reap the children that have ended, but for the `known` ones, whose end somebody waits for."""
    with contextlib.suppress(ChildProcessError):  # there is no child left
        while (seen := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if seen.si_pid in known:
                return  # it stands before the others; who waits for it calls again
            os.waitpid(seen.si_pid, os.WNOHANG)


async def ended(process: Child, pause: float = 0.05) -> int:
    """Wait until a child has ended; its return code, negative for a signal.

    A pidfd wakes us at once; where there is none, or another process has to end before the child is ours, we look every
    `pause` seconds.
    """
    import asyncio

    fd = _pidfd(process.pid)
    if fd is not None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(fd, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)
    while (code := process.poll()) is None:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(pause)
    return code


async def gone(pid: int, limit: float, pause: float = 0.05) -> bool:
    """Wait up to `limit` seconds until a process, which may be somebody else's child, has ended; whether it has."""
    import asyncio

    fd = _pidfd(pid)
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    if fd is not None:
        loop.add_reader(fd, over.set)
    deadline = loop.time() + limit
    try:
        while not over.is_set() and lives(pid) and loop.time() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), limit if fd is not None else pause)
        return over.is_set() or not lives(pid)
    finally:
        if fd is not None:
            loop.remove_reader(fd)
            os.close(fd)


def lives(pid: int) -> bool:
    """Whether it is there and has not ended; a zombie has."""
    if _PROC.joinpath("self/stat").exists():
        return _entry(pid) is not None
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a whole process group; False when there is nobody in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says this of a group of zombies
        return False
    return True


def describe_exit(code: int | None, number: int | None) -> str:
    """An exit in words: `exit code 1`, `killed by SIGKILL`."""
    if number is None:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


# ------------------------------------------------------------------------------------------------ what is left behind


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table of processes."""

    pid: int
    parent: int
    session: int


def table() -> Iterator[Entry]:
    """Every process that is alive; zombies are not."""
    if not _PROC.joinpath("self/stat").exists():
        yield from _portable_table()
        return
    for name in os.listdir(_PROC):
        if name.isdigit() and (entry := _entry(int(name))) is not None:
            yield entry


def _entry(pid: int) -> Entry | None:
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # the name, in brackets, may hold anything: count from its end
    state, parent, _group, session = text[text.rindex(b")") + 2 :].split(b" ", 4)[:4]
    return None if state in (b"Z", b"X") else Entry(pid, int(parent), int(session))


def _portable_table() -> Iterator[Entry]:
    import psutil

    for process in psutil.process_iter(["ppid", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        with contextlib.suppress(OSError):
            yield Entry(process.pid, process.info["ppid"] or 0, os.getsid(process.pid))


def stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP), so that it does nothing at all. Linux tells a debugger's halt apart."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return not _PROC.exists() and _portably_stopped(pid)
    return text[text.rindex(b")") + 2 :].startswith(b"T")


def _portably_stopped(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def environment(pid: int, hint: bytes = b"") -> dict[str, str]:
    """The environment that `pid` was started with; empty where it is gone, somebody else's, or without `hint`."""
    try:
        text = (_PROC / str(pid) / "environ").read_bytes()
    except FileNotFoundError:
        return _portable_environment(pid) if not _PROC.exists() else {}
    except OSError:
        return {}
    if hint not in text:
        return {}
    pairs = (item.partition(b"=") for item in text.split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs if name}


def _portable_environment(pid: int) -> dict[str, str]:
    import psutil

    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return {}


def marked(home: Path) -> set[int]:
    """Every process beneath the supervisor of `home`, except the caller and those it descends from."""
    return find(lambda env: env.get(MARK) == str(home), _hint(home)) - _ancestry()


def orphaned_units(home: Path) -> set[int]:
    """Zygotes and units of the platform in `home`: for an agent that has started none, those of an earlier one."""
    return find(lambda env: env.get(MARK) == str(home) and UNIT_MARK in env, _hint(home)) - _ancestry()


def is_unit_of(pid: int, agent: int) -> bool:
    """Whether `pid` is (still) a zygote or a unit of the agent with that pid."""
    return environment(pid).get(UNIT_MARK) == str(agent)


def leftovers(units: Mapping[str, int]) -> set[int]:
    """What units (name → pid) that have ended left behind: their sessions, and what has their name in its variables."""
    return find(lambda env: env.get("FLYTE_UNIT") in units, b"FLYTE_UNIT=", set(units.values()))


def _hint(home: Path) -> bytes:
    return f"{MARK}=".encode() + os.fsencode(home)


def find(wanted: Callable[[Mapping[str, str]], bool], hint: bytes, sessions: Collection[int] = ()) -> set[int]:
    """The processes whose environment is `wanted`, and all in the `sessions` given or led by one of those found.

    `hint` stands in every environment that is wanted: the others, which are most, are not taken apart.
    """
    entries = list(table())
    found = {entry.pid for entry in entries if wanted(environment(entry.pid, hint))}
    led = found & {entry.session for entry in entries} | set(sessions)
    return found | {entry.pid for entry in entries if entry.session in led}


def _ancestry() -> set[int]:
    parents = {} if _PROC.exists() else {entry.pid: entry.parent for entry in table()}
    pid, line = os.getpid(), set()
    while pid and pid not in line:
        line.add(pid)
        entry = _entry(pid) if not parents else None
        pid = entry.parent if entry else parents.get(pid, 0)
    return line


def kill(pids: set[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to each; those that are gone are no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_marked(home: Path, limit: float) -> set[int]:
    """Kill every process of the platform in `home` but the caller; those that are not gone within `limit` seconds."""
    deadline = time.monotonic() + limit
    while (left := marked(home)) and time.monotonic() < deadline:
        kill(left)
        time.sleep(_LOOK_AGAIN)
    return left


def family_environment(home: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for the platform's own processes: with the mark, and PYTHONPATH free of relative folders."""
    return with_absolute_path({**environ, MARK: str(home)})


def life() -> str:
    """The word for this life of the platform; for a part that was started alone it is that of its parent."""
    return os.environ.get(LIFE) or str(os.getppid())


def with_absolute_path(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with a PYTHONPATH that means the same in every working directory."""
    path = environ.get("PYTHONPATH")
    if not path:
        return dict(environ)
    return {**environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep) if part)}


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1], sys.argv[2:]))
