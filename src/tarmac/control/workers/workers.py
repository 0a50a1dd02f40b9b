"""Pools and their workers: the processes that run actions, as the control plane sees them.

A pool is an environment's code and settings; a worker of it takes one action (fresh) or one after the other (reused).
Who gets what is decided in `dispatch`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flyte import wire
from flyte.wire import ErrorInfo
from tarmac.control.live import LiveAction
from tarmac.control.suspects import ENOUGH
from tarmac.links.server import Link

if TYPE_CHECKING:
    from tarmac.control.workers.dispatch import Dispatch


@dataclass(slots=True, eq=False)
class Pool:
    key: str
    spec: wire.PoolSpec
    project: str
    domain: str
    reuse: wire.ReuseSpec | None
    queue: deque[LiveAction] = field(default_factory=deque)
    idle: list[Worker] = field(default_factory=list)
    workers: set[Worker] = field(default_factory=set)
    used: float = 0
    """When an action was last queued, on the loop's clock."""
    proven: bool = False
    """Whether its code was ever imported."""
    known: bool = True
    """False for the pool of workers that came back before anybody asked for it: its `spec` is empty but for the id."""
    failures: int = 0
    """Workers in a row that died before they ever connected."""
    agent_died: float = 0
    """When the agent died last while a worker of it was being started, on the loop's clock."""
    failed_at: float = 0
    """When the last of them died; what was started before that died of the same cause."""

    looked: float = 0
    """When it was found that its processes have the code that is on disk, in seconds of the epoch."""
    looking: list[LiveAction] = field(default_factory=list)
    """What waits for the answer to the same question."""

    code: str = ""
    """The id of the spec without the variables of a run, where this pool's has them; else empty."""

    @property
    def passing(self) -> bool:
        """Its variables are those of a run, and may never come again."""
        return bool(self.code)

    @property
    def concurrency(self) -> int:
        return max(1, self.reuse.concurrency) if self.reuse else 1

    starting: int = 0
    """Workers that have not connected yet."""

    blocked: int = 0
    """Workers that can take nothing since all they have waits for children."""


Stray = tuple[str, str, int]
"""Run, action, attempt."""


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process; also the peer at the control plane's end of its link."""

    unit: str
    pool: Pool
    dispatch: Dispatch
    place: int
    """Where it writes down what it holds."""
    link: Link | None = None
    actions: dict[str, LiveAction] = field(default_factory=dict)
    computing: int = 0
    """How many of them do not wait for children."""
    blocked: bool = False
    """Whether it has some, and all of them wait."""
    stopping: bool = False
    spent: bool = False
    """A fresh worker that had its action: it ends by itself."""
    outdated: bool = False
    """What it has imported has changed since: it is given nothing more."""
    met: bool = False
    """Whether it ever connected."""
    born: float = 0
    """When it was asked for, on the loop's clock."""
    strays: set[Stray] = field(default_factory=set)
    """What it is still at, or was when it came back, and what is not its own any more."""
    pid: int = 0
    token: str = ""
    """What it proves with who it is; empty for one that an earlier control plane started."""

    @property
    def has_room(self) -> bool:
        if self.link is None or self.stopping or self.spent or self.outdated or self.strays:
            return False
        return len(self.actions) < self.pool.concurrency

    def has(self, action: LiveAction) -> None:
        self.actions[action.id] = action
        action.worker = self
        self.computes(1)

    def has_no_more(self, action: LiveAction) -> None:
        self.actions.pop(action.id, None)
        self.computes(0 if action.waiting else -1)

    def computes(self, more: int) -> None:
        """So many more of its actions compute than before."""
        self.computing += more
        blocked = bool(self.actions) and self.computing == 0
        if blocked != self.blocked:
            self.blocked = blocked
            self.pool.blocked += 1 if blocked else -1

    def frame(self, frame: wire.AnyFrame) -> None:
        self.dispatch.lifecycle.from_worker(self, frame)
        if self.strays and isinstance(frame, wire.Finished):
            self.dispatch.stray_over(self, (frame.run, frame.action, frame.attempt))

    def unfit(self, frame: wire.AnyFrame, problem: str) -> None:
        self.dispatch.lifecycle.unfit(self, frame, problem)

    def lost(self, link: Link) -> None:
        if link is self.link:
            self.dispatch.link_lost(self)

    def send(self, frame: wire.Frame) -> None:
        if self.link is not None:
            self.link.send(frame)

    def acknowledge(self, frame: wire.Frame) -> None:
        """A worker that is used again does not wait for this."""
        if self.link is not None:
            self.link.send_along(frame) if self.pool.reuse else self.link.send(frame)

    # the agent's news of this unit
    def unit_started(self, unit: str, pid: int) -> None:
        self.pid = pid

    def unit_ready(self, unit: str, address: str) -> None:
        """Workers speak for themselves, with Hello."""

    def unit_waits(self, unit: str, message: str) -> None:
        """Nobody asks a worker whether it is ready."""

    def unit_exited(self, unit: str, exit: wire.UnitExited) -> None:
        self.dispatch.worker_exited(self, exit)


def never_started(pool: Pool, exit: wire.UnitExited) -> str:
    tail = f"\n{exit.tail}" if exit.tail else ""
    return f"no worker of {pool.spec.name} lives long enough to take an action: {exit.reason or 'unknown'}{tail}"


def fatal(pool: Pool) -> str:
    return f"the agent died {ENOUGH} times in a row while it started a process for {pool.spec.name}"


TOLD_TO_STOP = 128 + 15
"""Exit code of a worker that SIGTERM cut off (`flyte.runtime.worker.ABORTED`)."""

_CRASHES = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV", 31: "SIGSYS"}


def death(exit: wire.UnitExited) -> ErrorInfo:
    """The error of an action whose process ended under it: the user's when it ended itself, else the platform's."""
    tail = f"\nthe last lines it wrote:\n{exit.tail}" if exit.tail else ""
    if exit.oom:
        return ErrorInfo(code="OOMError", message=f"{exit.reason or 'the process used more memory than it may'}{tail}")
    if exit.signal in _CRASHES:
        return ErrorInfo(code="ProcessCrashed", message=f"the process crashed ({_CRASHES[exit.signal]}){tail}")
    if exit.code is not None and exit.code != TOLD_TO_STOP:
        message = f"the process exited with code {exit.code} before the task returned{tail}"
        return ErrorInfo(code="ProcessExited", message=message)
    reason = exit.reason or "its process was lost"
    return ErrorInfo(code="WorkerLostError", message=f"the worker was lost: {reason}{tail}", kind="system")
