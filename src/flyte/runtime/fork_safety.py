"""Whether this process may be forked. A child has only the thread that forked it: locks of others stay locked.

Threads are counted after the import of the user's code. Some libraries start threads on import and put them away before
every fork (OpenBLAS under numpy does), so the threads that count are those that are left after a trial fork.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from pathlib import Path

_TRIAL_LIMIT = 2.0
"""Seconds for the trial fork."""


def unsafe_threads() -> list[str]:
    """The names of the threads that run beside this one and would be missing after a fork."""
    beside = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if beside or not _native_threads():
        return beside
    _trial_fork()
    return _native_threads()


def _native_threads() -> list[str]:
    """The names of this process's other threads, of whatever language; empty where the system does not tell."""
    names = []
    with contextlib.suppress(FileNotFoundError):
        for task in os.listdir("/proc/self/task"):
            if int(task) != os.getpid():
                with contextlib.suppress(OSError):
                    names.append(Path(f"/proc/self/task/{task}/comm").read_text().strip())
    return names


def _trial_fork() -> None:
    """Fork a child that ends at once, for what that does to this process: libraries put their threads away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads: we know
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    deadline = time.monotonic() + _TRIAL_LIMIT
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:  # a handler of some library waits for a thread that is not there
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.001)
