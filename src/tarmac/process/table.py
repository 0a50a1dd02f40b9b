"""The system's table of processes: which there are, from whom they descend, and what stands in their environments."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# psutil is imported where it is used: where there is /proc nothing needs it

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table of processes."""

    pid: int
    parent: int
    session: int


def entries() -> Iterator[Entry]:
    """Every process that is alive; zombies are not."""
    if not PROC.joinpath("self/stat").exists():
        yield from _portable_table()
        return
    for name in os.listdir(PROC):
        if name.isdigit() and (entry := entry_of(int(name))) is not None:
            yield entry


def entry_of(pid: int) -> Entry | None:
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
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
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return not PROC.exists() and _portably_stopped(pid)
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
        text = (PROC / str(pid) / "environ").read_bytes()
    except FileNotFoundError:
        return _portable_environment(pid) if not PROC.exists() else {}
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


def find(wanted: Callable[[Mapping[str, str]], bool], hint: bytes, sessions: Collection[int] = ()) -> set[int]:
    """The processes whose environment is `wanted`, and all in the `sessions` given or led by one of those found.

    `hint` stands in every environment that is wanted: the others, which are most, are not taken apart.
    """
    listed = list(entries())
    found = {entry.pid for entry in listed if wanted(environment(entry.pid, hint))}
    led = found & {entry.session for entry in listed} | set(sessions)
    return found | {entry.pid for entry in listed if entry.session in led}


def ancestry() -> set[int]:
    parents = {} if PROC.exists() else {entry.pid: entry.parent for entry in entries()}
    pid, line = os.getpid(), set()
    while pid and pid not in line:
        line.add(pid)
        entry = entry_of(pid) if not parents else None
        pid = entry.parent if entry else parents.get(pid, 0)
    return line
