"""The end of a process that has local runs: they end first, and its forked children forget them."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import sys
import threading

from flyte._context import forget
from flyte._local.run import LocalRun, ended, runs, thread
from flyte.wire import ActionPhase


@functools.cache
def prepare_process() -> None:
    """Have this process wait for its running local runs before it exits, unless it was stopped by Ctrl-C.

    A forked child forgets the runs: a task that it calls is a plain function, as anywhere outside of an action.
    """
    # Python's own hook, because `atexit` functions are called when no executor takes work any more. The function that
    # was registered last is called first, and the executors register theirs when their module is imported.
    importlib.import_module("concurrent.futures.thread")
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_finish_runs)
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    runs.clear()
    forget()


def _finish_runs() -> None:
    if thread.thread is None:
        return
    running = [run.name for run in runs.values() if not run.root.phase.is_terminal]
    if running:
        thread.call(_all_ended(running))
        for name in running:
            _tell_of_failure(runs[name])


def _tell_of_failure(run: LocalRun) -> None:
    """Nobody can ask for this run's result any more, so a failure is printed."""
    error = run.root.error
    if error is None or run.root.phase is ActionPhase.ABORTED:
        return
    print(f"flyte: run {run.name} failed after the program had ended: {error.code}: {error.message}", file=sys.stderr)
    if "interpreter shutdown" in error.message:
        print("flyte: Python starts no thread at that time; wait for the run first: run.wait()", file=sys.stderr)


async def _all_ended(names: list[str]) -> None:
    await asyncio.gather(*(ended(runs[name], None) for name in names))
