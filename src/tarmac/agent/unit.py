"""A unit as its parent sees it, and its end put into words."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flyte import wire
from tarmac.process import describe_exit
from tarmac.workload_files import open_to_read

if TYPE_CHECKING:
    from tarmac.agent.zygote import Zygote

TAIL_LINES = 40
TAIL_BYTES = 16_384


@dataclass(slots=True)
class Unit:
    """One worker or replica, from the order to its end. The future `started` has its pid, `ended` how it ended."""

    order: wire.StartUnit
    log: Path
    """Where it writes; a worker only as long as it has no action."""
    started: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    may_be_probed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Future[wire.UnitExited] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    port: int = 0
    address: str = ""
    """`host:port`, once it is ready."""
    log_start: int = 0
    """Size of the log before it wrote anything."""
    zygote: Zygote | None = None
    """What forked it, once it has asked for a fork."""
    verdict: str = ""
    """Why the agent killed it, where it did so without being asked."""
    stop: wire.StopUnit | None = None
    """The order that asked for its end."""

    @property
    def name(self) -> str:
        return self.order.unit

    @property
    def output(self) -> Path:
        """Where a worker writes while it has an action; there is no such file for others."""
        return Path(self.order.env.get("FLYTE_OUTPUT", "/nowhere"))

    @property
    def pid(self) -> int:
        """0 as long as it has none."""
        return self.started.result() if self.started.done() and not self.started.cancelled() else 0

    def begin_again(self) -> None:
        """Forget the process that has ended: another is started for the same order."""
        loop = asyncio.get_running_loop()
        self.started, self.ended = loop.create_future(), loop.create_future()
        self.may_be_probed.clear()

    def finish(self, exited: wire.UnitExited) -> None:
        """It has ended, or never began."""
        if not self.started.done():
            self.started.cancel()
        if not self.ended.done():
            self.ended.set_result(exited)

    def state(self) -> wire.UnitState:
        """What the control plane hears of it when it (re)connects."""
        replica = self.order.replica
        return wire.UnitState(
            unit=self.name,
            kind=self.order.kind,
            pool=self.order.pool.id,
            pid=self.pid,
            ready=bool(self.address),
            address=self.address,
            owner=f"{replica.project}/{replica.domain}/{replica.app}@{replica.version}" if replica else "",
            revision=replica.revision if replica else "",
            stopping=self.stop is not None,
        )


def in_words(unit: Unit, exited: wire.UnitExited, why: str = "") -> wire.UnitExited:
    """The end of `unit` with the reason in words and the last lines it wrote.

    `why` is the reason where the agent ended it itself; an order to stop comes next; else it is how the process ended.
    """
    how = describe_exit(exited.code, exited.signal) if exited.code is not None or exited.signal is not None else ""
    if not why and unit.stop is not None:
        why = f"stopped: {unit.stop.reason}" if unit.stop.reason else "stopped"
    reason = why or exited.reason or how
    if exited.oom:
        reason = f"the process used more memory than it may: {exited.reason}"
    if unit.order.kind == "worker" and exited.code == 0:  # as it should be, many times a second
        return msgspec.structs.replace(exited, reason=reason)
    said = exited.tail or tail(unit.output) or tail(unit.log, unit.log_start)
    return msgspec.structs.replace(exited, reason=reason, tail=said)


def tail(log: Path, start: int = 0) -> str:
    """The last lines of `log` after the offset `start`; empty where there are none."""
    try:
        with open_to_read(log) as file:
            end = file.seek(0, os.SEEK_END)
            # a log that is shorter than it was has been begun anew
            file.seek(max(start if start <= end else 0, end - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])


def size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0


def free_port(taken: Collection[int]) -> int:
    """A port on the loopback interface that nobody listens on and that is not in `taken`.

    Somebody may take it before the unit does; that unit ends with a code that says so, and gets another.
    """
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port: int = sock.getsockname()[1]
        if port not in taken:
            return port


_ERROR = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Warning|Interrupt|Exit)(?:: .*)?$", re.MULTILINE)
_FRAME = re.compile(r'^ *File "[^"]*/code/[0-9a-f]{64}/(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)


def last_error(output: str) -> str:
    """The last error in what a program wrote, with the last place of the shipped code before it; empty without one."""
    errors = list(_ERROR.finditer(output))
    if not errors:
        return ""
    places = list(_FRAME.finditer(output, 0, errors[-1].start()))
    place = f" ({places[-1]['file']}:{places[-1]['line']})" if places else ""
    return f"{errors[-1][0]}{place}"
