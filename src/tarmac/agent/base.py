"""The process that new zygotes are forked from, as its parent sees it (`flyte.runtime.base` is the process itself).

It only makes starts faster: wherever it does not suit a pool, or is not there, the zygote is an interpreter of its own.
"""

from __future__ import annotations

import contextlib
import logging
import re
import select
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from flyte.wire import PoolSpec

log = logging.getLogger("tarmac.agent")

FORK, WARM, WARMED = b"F", b"W", b"w"

READ_AT_START = re.compile(r"PYTHON|LD_|DYLD_|LC_|LANG|TZ$|MALLOC_|GLIBC_|SSL_|OPENSSL_|PYDANTIC|UV_|UVLOOP")
"""Variables that Python, its libraries or the packages that are imported ahead read while they start."""


class Base:
    """`env` is what all pools have in common."""

    def __init__(self, env: Mapping[str, str], log: Path, worker: str) -> None:
        self._env = env
        self._log = log
        self._worker = worker
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket
        self._warmth = "cold"
        """Or `warming`, `warm`, or `never`: it ended over it once."""

    def start(self) -> None:
        """Have the process running. Raises OSError where it cannot be started."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._lose()
        self._link, theirs = socket.socketpair()
        self._link.settimeout(1)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "flyte.runtime.base", "--fd", str(theirs.fileno())]
        with theirs, self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--worker", self._worker],
                env=self._env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def suits(self, pool: PoolSpec) -> bool:
        """Whether a zygote forked from it is what an interpreter of the pool's own would be."""
        if self._process is None or self._process.poll() is not None or pool.python != sys.executable:
            return False
        told_otherwise = any(READ_AT_START.match(name) and self._env.get(name) != pool.env[name] for name in pool.env)
        return not self._is_warming() and not told_otherwise

    def fork(self, link: int, output: int) -> None:
        """Have a zygote forked that has the socket `link` and writes to `output`. Raises OSError."""
        socket.send_fds(self._link, [FORK], [link, output])

    def warm(self) -> None:
        """There are apps here: let it import their server stack, for the next ones."""
        if self._warmth == "cold" and self._process is not None:
            with contextlib.suppress(OSError):
                self._link.sendall(WARM)
                self._warmth = "warming"

    def _is_warming(self) -> bool:
        if self._warmth == "warming" and self._has_answered():
            with contextlib.suppress(OSError):  # it has ended, which `start` notices
                if self._link.recv(1) == WARMED:
                    self._warmth = "warm"
        return self._warmth == "warming"

    def _has_answered(self) -> bool:
        """Asked of the system: on a socket with a timeout, `recv` waits for that whatever its flags say."""
        ready = select.poll()
        ready.register(self._link, select.POLLIN)
        return bool(ready.poll(0))

    def _lose(self) -> None:
        """It has ended by itself: over the server stack, and then that is not tried again, or for another reason."""
        if self._warmth == "warming":
            log.warning("the server stack cannot be imported ahead of the apps; see %s", self._log)
            self._warmth = "never"
        elif self._warmth == "warm":
            self._warmth = "cold"
        self._link.close()

    def end(self) -> None:
        """Hang up; it exits, and with it whatever was forked from it."""
        if self._process is None:
            return
        self._link.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
