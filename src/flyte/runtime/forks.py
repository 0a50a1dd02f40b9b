"""Processes that a task forks have no part in its worker: they are plain processes, as they are anywhere else.

In such a process no action is in force, so that a call of a task is a plain call. Three things that it inherits are its
parent's alone: the worker's link, the pipe through which signals wake an event loop, and the worker's way of dealing
with SIGTERM; with them SIGTERM would reach the parent, or be lost. It is held back while the process is being forked,
since `Process.terminate()` may follow before all that is settled.

`multiprocessing` ends such a process with its function. One that was forked with `os.fork` may come back out of the
task as the task itself does, by returning or raising: there it ends, and only its parent hears of it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from flyte._context import forget
from flyte.runtime import unit_process

_SIGTERM = frozenset({signal.SIGTERM})


class Forks:
    def __init__(self) -> None:
        self._cut: Callable[[], None]
        self._handler: object = None
        self._mask = threading.local()
        self._is_fork = False

    def watch(self, cut: Callable[[], None]) -> None:
        """Call `cut` in whatever is forked from now on. What SIGTERM calls now is this process's own affair."""
        self._cut = cut
        self._handler = signal.getsignal(signal.SIGTERM)
        os.register_at_fork(before=self._block, after_in_parent=self._unblock, after_in_child=self._settle)

    def see_who_it_is(self, error: BaseException | None = None) -> None:
        """Return in the worker; end a process that the task has forked, as `error` says."""
        if self._is_fork:
            unit_process.leave(error)

    def _block(self) -> None:
        self._mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGTERM)

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before)

    def _settle(self) -> None:
        self._is_fork = True
        forget()
        self._cut()
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGTERM) == self._handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._unblock()
