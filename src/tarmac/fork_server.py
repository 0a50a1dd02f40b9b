"""The fork server of the parts: a process that has imported their code and forks them.

A new interpreter needs 0.2 s to import the code of a part, and 0.7 s for the control plane. The fork server has
imported it once; a part that is forked from it starts in milliseconds and shares its memory. The supervisor sends
orders, one JSON text a line: `{"part": NAME, "module": MODULE, "log": FILE}`; the answer is `{"part": NAME, "pid":
PID}`, or `error` in place of `pid`. An order without a part asks whether the fork server answers. It is first answered
when everything is imported: on a busy machine that can take longer than the platform's lease.

*Order.* The modules are imported in the order of `MODULES`, light ones first, and each part is forked as soon as its
module is imported: at `flyte up` the agent, HAProxy and the gateway controller start on one core while the control
plane is imported on the other. Modules of parts that nobody has ordered yet are imported when nothing else is to do.

*Parents.* A part must be a child of the supervisor: the supervisor then learns how it ended, and the end of the fork
server, which is replaced before new code is started, ends nothing else. Hence two forks: the process in between sends
the pid of the part to the supervisor and exits, and the kernel gives the orphan to the supervisor, which has asked for
orphans (`process.adopt_orphans`). The part goes on only after that answer was sent, so no unknown part ever runs.

*What a child inherits.* The fork server opens nothing but its link, starts no thread and no event loop, and sets no
signal handler.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

from tarmac import process

MODULES = ("tarmac.agent.__main__", "tarmac.gateway.haproxy", "tarmac.gateway.__main__", "tarmac.server")
"""The modules of the parts; a part is a call of its module's `main`."""

Order = dict[str, Any]

_GO = b"!"
"""The byte that a forked part waits for before it goes on."""


class ForkServer:
    def __init__(self, link: socket.socket, supervisor: int) -> None:
        self._link = link
        self._supervisor = supervisor
        self._unread = b""
        self._missing = list(MODULES)

    def run(self) -> Order:
        """Carry out the supervisor's orders until it is gone. Returns in each child, with the order of that part."""
        gc.disable()  # imports make objects that stay, and a collection would write to pages that children share
        waiting: list[Order] = []
        while True:
            waiting += self._read(wait=not waiting and not self._missing)
            waiting.sort(key=lambda order: MODULES.index(order["module"]) if order["part"] else len(MODULES))
            if waiting and self._is_ready_for(waiting[0]):
                order = waiting.pop(0)
                if order["part"] and self._branch(order):
                    return order
                if not order["part"]:
                    self._answer(part="")
            elif self._missing:
                self._import(self._missing.pop(0))

    def _is_ready_for(self, order: Order) -> bool:
        return order["module"] not in self._missing if order["part"] else not self._missing

    def _read(self, wait: bool) -> list[Order]:
        """The orders that have arrived; with `wait` at least one."""
        if not wait and not select.select([self._link], [], [], 0)[0]:
            return []
        data = self._link.recv(65_536)
        if not data:
            os._exit(0)
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _answer(self, **answer: object) -> None:
        self._link.sendall(json.dumps(answer).encode() + b"\n")

    def _import(self, module: str) -> None:
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001 - any fault of the code: the part raises it again, into its own log
            with contextlib.suppress(OSError):  # the disk is full
                traceback.print_exc()
        gc.freeze()  # a collection in a child would copy the pages that it shares

    def _branch(self, order: Order) -> bool:
        """Fork the part, as a child of the supervisor; True in that child."""
        reading, writing = os.pipe()
        try:
            between = os.fork()
        except OSError as error:
            self._answer(part=order["part"], error=str(error))
            between = -1
        if between == 0:
            between = os.getpid()
            self._fork_again(order, writing)
            os.close(writing)
            self._wait_for(reading, between)
            return True
        os.close(reading)
        os.close(writing)
        if between > 0:
            os.waitpid(between, 0)
        return False

    def _fork_again(self, order: Order, writing: int) -> None:
        """In the process in between: fork, answer with the pid, and exit. Returns in the child alone."""
        child = -1
        try:
            child = os.fork()
            if child > 0:
                self._answer(part=order["part"], pid=child)
                os.write(writing, _GO)
        except OSError as error:
            with contextlib.suppress(OSError):  # the supervisor is gone
                self._answer(part=order["part"], error=str(error))
        if child != 0:
            os._exit(0)

    def _wait_for(self, reading: int, between: int) -> None:
        """In the child: wait until the supervisor knows the pid and is the parent."""
        if os.read(reading, 1) != _GO:
            os._exit(1)
        os.close(reading)
        while os.getppid() == between:  # the process in between is about to exit
            time.sleep(0.0005)
        process.die_with(self._supervisor)
        self._link.close()


def become(order: Order) -> int:
    """Run the part; returns its exit code."""
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    gc.enable()
    module = order["module"]
    process.be_called([sys.executable, "-m", module.removesuffix(".__main__")])
    sys.argv = [module]
    code: int | None = importlib.import_module(module).main()
    return code or 0


def main(arguments: Sequence[str]) -> int:
    """`python -m tarmac.fork_server FD`: FD is one end of a socket pair; the supervisor, our parent, has the other."""
    link = socket.socket(fileno=int(arguments[0]))
    link.set_inheritable(False)
    try:
        order = ForkServer(link, os.getppid()).run()
    except ConnectionError:  # the supervisor is gone
        return 0
    return become(order)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
