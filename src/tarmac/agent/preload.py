"""The agent's side of a preload process (`flyte.runtime.preload` is the process itself).

A preload process only makes starts faster: if it does not suit a pool, or does not run, the pool's fork server is an
interpreter of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import select
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flyte.backoff import pause
from flyte.wire import PoolSpec
from tarmac import process
from tarmac.agent import interpreter
from tarmac.workload_files import open_to_append

log = logging.getLogger("tarmac.agent")

FORK, WARM, WARMED = b"F", b"W", b"w"

SETTLED = 1.0
"""A process that lived this many seconds resets the count of ends in a row."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 60.0
"""Seconds before the next start after two ends in a row. A process that ends again and again is worth little: it only
makes starts faster."""

READ_AT_START = re.compile(r"PYTHON|LD_|DYLD_|LC_|LANG|TZ$|MALLOC_|GLIBC_|SSL_|OPENSSL_|PYDANTIC|UV_|UVLOOP")
"""Variables that Python, its libraries or the preloaded packages read when they are imported."""


@dataclass(eq=False, slots=True)
class PreloadProcess:
    """One preload process. `left` is set when nothing more is to be forked from it."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    left: asyncio.Event = field(default_factory=asyncio.Event)
    fork_servers: int = 0
    """The number of fork servers that were requested and have not ended."""
    retired: bool = False

    def retire(self) -> None:
        """The process does not answer. Its fork servers would die with it, so it is killed after the last of them."""
        if not self.left.is_set():
            log.warning("the preload process does not answer; another is started")
        self.retired = True
        self.left.set()
        self._end_if_bare()

    def lost_one(self) -> None:
        """A fork server that was forked from it has ended."""
        self.fork_servers -= 1
        self._end_if_bare()

    def _end_if_bare(self) -> None:
        if self.retired and self.fork_servers == 0:
            self.process.kill()

    def end(self) -> None:
        """Hang up; it exits, and with it whatever was forked from it."""
        self.link.close()
        try:
            self.process.wait(0 if self.retired else 2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Preload:
    """`env` is what all pools have in common.

    There is one process to fork from, which `keep` replaces when it has ended or hangs. One that hangs is not killed as
    long as there are fork servers that were forked from it: they and their units run on, and would die with it.
    """

    def __init__(self, env: Mapping[str, str], log: Path, worker: str, python: str = sys.executable) -> None:
        self._env = env
        self._python = python
        self._log = log
        self._worker = worker
        self._preload_process: PreloadProcess | None = None
        self._living: set[PreloadProcess] = set()
        self._for_apps = False
        self._warmth = "cold"
        """Whether it has the server stack: `cold`, `warming`, `warm`, or `never` after it ended during that import."""

    async def keep(self) -> None:
        """Start a process, and another one whenever it has ended, until cancelled."""
        loop, deaths = asyncio.get_running_loop(), 0
        async with asyncio.TaskGroup() as lives:
            while self._warmth != "never":  # one for apps that cannot have their server stack is none
                began = loop.time()
                await self._once(lives)
                deaths = 1 if loop.time() - began >= SETTLED else deaths + 1
                await asyncio.sleep(pause(deaths - 1, FIRST_PAUSE, LONGEST_PAUSE))

    async def _once(self, lives: asyncio.TaskGroup) -> None:
        try:
            preload_process = self.start()
        except Exception as error:  # it only makes starts faster: the agent goes on without it
            known = isinstance(error, OSError)
            told = "new pools start slowly, since their preload process cannot be started: %s"
            log.warning(told, error, exc_info=None if known else error)
            return
        lives.create_task(self._see_end(preload_process))
        await preload_process.left.wait()
        self._lose(preload_process)

    async def _see_end(self, preload_process: PreloadProcess) -> None:
        await process.ended(preload_process.process)
        self._living.discard(preload_process)
        preload_process.left.set()
        if preload_process.retired:
            preload_process.link.close()

    def start(self) -> PreloadProcess:
        """Start the process. Raises OSError if that fails."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(self._log) as output:
            ours, theirs = socket.socketpair()
            ours.settimeout(1)
            try:
                with theirs:
                    self._preload_process = PreloadProcess(self._spawn(theirs.fileno(), output.fileno()), ours)
            except Exception:
                ours.close()
                raise
        self._living.add(self._preload_process)
        if self._for_apps:
            self.warm()
        return self._preload_process

    def _spawn(self, fd: int, output: int) -> subprocess.Popen[bytes]:
        return interpreter.start(self._python, "flyte.runtime.preload", self._worker, self._env, fd, output)

    def suits(self, pool: PoolSpec) -> bool:
        """Whether a fork server that is forked from it equals one that is an interpreter of its own, for this pool."""
        if (
            self._preload_process is None
            or self._preload_process.left.is_set()
            or self._preload_process.process.poll() is not None
        ):
            return False
        if pool.python != self._python:
            return False
        told_otherwise = any(READ_AT_START.match(name) and self._env.get(name) != pool.env[name] for name in pool.env)
        return not self._is_warming() and not told_otherwise

    def fork(self, link: int, output: int) -> PreloadProcess:
        """Ask for a fork server that has the socket `link` and writes to `output`; whose it will be. Raises OSError."""
        if self._preload_process is None:
            raise ProcessLookupError("it has ended")
        socket.send_fds(self._preload_process.link, [FORK], [link, output])
        self._preload_process.fork_servers += 1
        return self._preload_process

    def warm(self) -> None:
        """Import the apps' server stack, for the next apps."""
        self._for_apps = True
        if self._warmth == "cold" and self._preload_process is not None:
            with contextlib.suppress(OSError):
                self._preload_process.link.sendall(WARM)
                self._warmth = "warming"

    def _is_warming(self) -> bool:
        if (
            self._warmth == "warming"
            and self._preload_process is not None
            and _has_answered(self._preload_process.link)
        ):
            with contextlib.suppress(OSError):  # it has ended, which `keep` notices
                if self._preload_process.link.recv(1) == WARMED:
                    self._warmth = "warm"
        return self._warmth == "warming"

    def _lose(self, preload_process: PreloadProcess) -> None:
        """It hangs, or has ended by itself: over the server stack, and then that is not tried again, or otherwise."""
        if preload_process.process.returncode is None:
            self._warmth = "cold"
        else:
            if self._is_warming():
                log.warning("the server stack cannot be imported ahead of the apps; see %s", self._log)
                self._warmth = "never"
            else:
                log.warning("the preload process has ended; another is started")
                self._warmth = "cold"
            preload_process.link.close()
        self._preload_process = None

    def end(self) -> None:
        """End all its processes; `keep` must have been cancelled before."""
        for preload_process in self._living:
            preload_process.end()
        self._living.clear()
        self._preload_process = None


def _has_answered(link: socket.socket) -> bool:
    """Asked of the system: on a socket with a timeout, `recv` waits for that whatever its flags say."""
    ready = select.poll()
    ready.register(link, select.POLLIN)
    return bool(ready.poll(0))
