"""The preload process: it imports the modules that all pools of one interpreter share, and forks the pools' fork
servers.

Without it the first start of each pool, at every new version of the code, takes the time of a new interpreter and of
our modules (0.1 s), and for an app also of FastAPI and uvicorn (0.6 s). The agent sends one byte for each order. FORK
comes with two file descriptors: the new fork server's end of its socket pair, and its log. WARM asks for the apps'
server stack, which is worth its memory only if there are apps; the answer is WARMED.

The modules that are imported here must be those that the pool would import by itself. The agent compares environments:
a pool that sets variables which Python or the shared packages read at their start gets an interpreter of its own. The
forked fork server compares files: if the pool's folders hide a shared package, or a package was installed since, it
executes itself again (`shared.changed`).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from flyte.runtime import shared, sources, unit_process
from flyte.runtime.fork_safety import unsafe_threads
from flyte.runtime.fork_server import ForkServer
from flyte.runtime.worker_module import WORKER, import_ours, warm_up

FORK = b"F"
WARM = b"W"
WARMED = b"w"
SERVER_STACK = ("uvicorn", "fastapi")


class Preload:
    def __init__(self, link: socket.socket, worker: str = WORKER) -> None:
        self._link = link
        self._worker = worker
        self._shared: shared.Shared = {}
        self._installed = sources.installed()

    def run(self) -> NoReturn:
        """Obey the agent until it is gone."""
        # nobody waits here for the end of a fork server: the agent watches its socket
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        import_ours(self._worker)
        warm_up(self._worker)
        gc.freeze()
        while True:
            order, fds, _, _ = socket.recv_fds(self._link, 1, 2)
            if not order:
                os._exit(0)
            if order == WARM:
                self._warm()
            else:
                self._fork(fds)

    def _warm(self) -> None:
        """Import the server stack; if that leaves threads, no process may be forked from here any more."""
        if self._shared:
            return
        from flyte.runtime import apphost

        for name in SERVER_STACK:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        apphost.warm_up()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if unsafe_threads():
            os._exit(1)
        gc.freeze()
        self._shared = shared.loaded()
        self._link.send(WARMED)

    def _fork(self, fds: Sequence[int]) -> None:
        """Fork a fork server. If that fails, its descriptors are closed, and the agent starts an interpreter."""
        parent = os.getpid()
        child = -1
        try:
            child = os.fork() if len(fds) == 2 else -1  # fewer have arrived where no more can be open
        except OSError as error:
            print(f"no fork server can be forked: {error}", file=sys.stderr)
        if child == 0:
            link, log = fds
            self._be_fork_server(link, log, parent)
        for fd in fds:
            os.close(fd)

    def _be_fork_server(self, link: int, log: int, parent: int) -> NoReturn:
        os.setsid()
        unit_process.die_with(parent)
        self._link.close()
        os.set_inheritable(link, False)  # descriptors that were sent arrive inheritable
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        fork_server = ForkServer(
            socket.socket(fileno=link), self._worker, given=self._shared, installed=self._installed
        )
        fork_server.say_hello()
        fork_server.run()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`python -P -m flyte.runtime.preload --fd N`, where N is one end of a socket pair; the agent has the other."""
    parser = argparse.ArgumentParser(prog="flyte.runtime.preload", description=main.__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--worker", default=WORKER)
    given = parser.parse_args(arguments)
    os.set_inheritable(given.fd, False)
    unit_process.die_with(os.getppid())
    unit_process.write_lines()
    Preload(socket.socket(fileno=given.fd), given.worker).run()


if __name__ == "__main__":
    main()
