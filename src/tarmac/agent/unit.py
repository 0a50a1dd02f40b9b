"""A unit as its parent sees it, and its end put into words."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flyte import wire
from flyte.log_times import Times
from tarmac.agent.last_lines import last_error, own_frames, tail
from tarmac.process import describe_exit

if TYPE_CHECKING:
    from tarmac.agent.fork_server import ForkServer


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
    times: Times | None = None
    """Notes when the log of a replica grows; workers do that themselves."""
    fork_server: ForkServer | None = None
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

    def note_times(self) -> None:
        """Note when its log has grown."""
        if self.times is not None:
            self.times.note_all(size(self.log))

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
    if unit.order.replica is None:
        return msgspec.structs.replace(exited, reason=reason, tail=said)
    is_known = unit.stop is not None or exited.oom or (exited.signal is not None and not why)
    error = "" if is_known else last_error(said)
    return msgspec.structs.replace(exited, reason=f"{reason}: {error}" if error else reason, tail=own_frames(said))


def size(log: Path) -> int:
    """Bytes of the file; 0 where there is none, or can be none of that name."""
    try:
        return log.stat().st_size
    except (OSError, ValueError):
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
