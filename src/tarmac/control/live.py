"""What the control plane holds in memory: the runs that are not over yet, their actions, and the workers of these.

A pool is an environment's code and settings; a worker of it takes one action (fresh) or one after the other (reused).

A live action is mutable and ahead of the disk by at most one commit; what others may see of it is `LiveRun.shown`,
which moves only when a commit is done. When its root action is terminal and on disk, a run leaves memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from flyte import wire
from flyte.concurrency import ActionLimit, limit_of
from flyte.phases import move
from flyte.wire import ROOT_ACTION, ActionPhase, AttemptRef, ErrorInfo
from tarmac.control.records import error_of, run_record
from tarmac.events import Journal
from tarmac.links.server import Link
from tarmac.model import subject_of_action
from tarmac.store import ActionRow, ActionWrite, AttemptRow, Change, RunRow, TaskRow, Was

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class LiveAction:
    """One action that is not over, or that belongs to a run that is not."""

    run: LiveRun
    row: ActionRow
    """The action as it is now; `step` moves it."""
    task: KnownTask | None
    """None for a recorded step (`flyte.trace`) and for an action whose task is not needed any more."""
    stored: Was | None = None
    """Attempt and phase as the last write left them, which the next write is compared with; None: nothing is stored."""
    error: ErrorInfo | None = field(init=False)
    """What `row.error` says."""
    attempt_started: float | None = None
    since: float | None = None
    """After a restart: when its attempt began to run, or to wait in the queue; its limits began then."""

    unit: str | None = None
    """After a restart: the worker that had it."""

    pool: Pool | None = None
    worker: Worker | None = None
    waiting: int = 0
    """Calls to children that are not answered yet; an action that waits gives its slot back."""
    calls: dict[int, LiveAction] = field(default_factory=dict)
    """The worker's call number → the child, for the calls that are not answered."""
    callers: list[tuple[LiveAction, int]] = field(default_factory=list)
    """Who gets the result: the parent and its call number."""
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    over: bool = field(init=False)
    """Whether its phase is terminal."""
    name: str = field(init=False)
    id: str = field(init=False)
    """`run/name`."""
    settled: bool = False
    """Whether its terminal phase is on disk."""

    def __post_init__(self) -> None:
        self.name = self.row.name
        self.id = f"{self.row.run}/{self.name}"
        self.over = self.row.phase.is_terminal
        self.error = error_of(self.row)

    @property
    def phase(self) -> ActionPhase:
        return self.row.phase

    @property
    def attempt(self) -> int:
        return self.row.attempt

    @property
    def is_root(self) -> bool:
        return self.name == ROOT_ACTION

    @property
    def task_spec(self) -> wire.TaskSpec:
        """What this action was called with: the task's own, or what overrides it."""
        if self.row.spec is not None:
            return msgspec.json.decode(self.row.spec, type=wire.TaskSpec)
        assert self.task is not None, f"{self.id} has no task"
        return self.task.spec

    def becomes(self, phase: ActionPhase, now: float, **changes: Any) -> None:
        """Move along the state table, or from queued to queued; keep the times that go with it, and what else changes.

        Raises ForbiddenMove.
        """
        row = self.row
        if phase is not ActionPhase.QUEUED or row.phase is not phase:
            move(row.phase, phase)
        if phase is ActionPhase.RUNNING:
            self.attempt_started = now
            changes["started"] = row.started or now
        elif phase.is_terminal:
            self.over = True
            changes["ended"] = now
        self.row = msgspec.structs.replace(row, phase=phase, **changes)

    def write(self) -> ActionWrite:
        """The write that brings the stored row to this state; the next one will be compared with it."""
        write = ActionWrite(self.row, self.stored)
        self.stored = (self.row.attempt, self.row.phase)
        return write

    @property
    def ref(self) -> AttemptRef:
        """The present attempt."""
        return AttemptRef(self.row.run, self.row.name, self.row.attempt)

    def attempt_row(self) -> AttemptRow:
        row = self.row
        return AttemptRow(
            run=row.run,
            action=row.name,
            number=row.attempt,
            phase=row.phase,
            started=self.attempt_started,
            ended=row.ended,
            error=row.error,
            unit=self.worker.unit if self.worker else None,
        )

    def result(self) -> wire.Value | None:
        row = self.row
        if not row.phase.is_success:
            return None
        return wire.Value(inline=row.outputs, blob=row.outputs_blob)

    def still_below(self) -> list[LiveAction]:
        """What is below it and not over, nearest first."""
        if self.name not in self.run.children:
            return []
        return [child for child in self.run.below(self) if not child.over]

    def cancel_timers(self) -> None:
        for handle in self.timers.values():
            handle.cancel()
        self.timers.clear()


@dataclass(slots=True, eq=False)
class LiveRun:
    """One run that is not over: its actions by name, and what others may see of it."""

    row: RunRow
    request: wire.RunRequest
    url: str
    logs: str
    """The folder of its actions' logs."""
    actions: dict[str, LiveAction] = field(default_factory=dict)
    children: dict[str, list[LiveAction]] = field(default_factory=dict)
    shown: wire.Run | None = None
    """As of the last commit; None until the run's creation is on disk."""
    stored: int = 0
    """How many of its actions are on disk, as of the last commit."""
    limit: ActionLimit | None = field(init=False)
    """How many of its actions may be at work at the same time, where that is limited."""
    over: asyncio.Future[wire.Run] | None = None
    """Resolved when the root's terminal phase is on disk; made by the first who waits."""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.row.name
        self.limit = limit_of(self.request.max_action_concurrency)

    @property
    def root(self) -> LiveAction:
        return self.actions[ROOT_ACTION]

    def add(self, action: LiveAction) -> None:
        self.actions[action.name] = action
        if action.row.parent is not None:
            self.children.setdefault(action.row.parent, []).append(action)

    def below(self, action: LiveAction) -> list[LiveAction]:
        """Every action beneath `action`, nearest first."""
        found: list[LiveAction] = []
        todo = [action]
        while todo:
            children = self.children.get(todo.pop().name, [])
            found += children
            todo += children
        return found

    def now(self, seq: int) -> wire.Run | None:
        """The run as of event `seq`, the last one whose commit was heard of; None until its creation is on disk."""
        if self.shown is not None and (self.shown.seq < seq or self.shown.actions != self.stored):
            self.shown = msgspec.structs.replace(self.shown, actions=self.stored, seq=seq)
        return self.shown

    def record(self, seq: int) -> wire.Run:
        return run_record(self.row, self.root.row, self.url, len(self.actions), seq)


def step(
    journal: Journal,
    action: LiveAction,
    phase: ActionPhase,
    message: str,
    *,
    error: ErrorInfo | None = None,
    by: str = "",
    **changes: Any,
) -> Change:
    """Move an action to `phase`: its row, that of its attempt once this has begun, and the event, as one change.

    `error` is what it has from then on, `by` the person or key that asked for it, `changes` are other fields of the
    row. Raises ForbiddenMove.
    """
    action.error = error
    encoded = None if error is None else _encode(error)
    action.becomes(phase, time.time(), message=message, error=encoded, **changes)
    return Change(
        actions=(action.write(),),
        attempts=() if action.attempt_started is None else (action.attempt_row(),),
        events=(event_of(journal, action, message, {"by": by} if by else None),),
    )


def together(steps: list[Change]) -> Change:
    """Steps of several actions as one change."""
    if len(steps) == 1:
        return steps[0]
    return Change(
        actions=tuple(write for change in steps for write in change.actions),
        attempts=tuple(attempt for change in steps for attempt in change.attempts),
        events=tuple(event for change in steps for event in change.events),
    )


def accepted(journal: Journal, action: LiveAction) -> Change:
    """A new action, which waits to be queued."""
    return Change(actions=(action.write(),), events=(event_of(journal, action, "accepted"),))


def event_of(journal: Journal, action: LiveAction, message: str, body: dict[str, object] | None = None) -> wire.Event:
    """The next event of an action, as it is now."""
    row = action.row
    return journal.event(subject_of_action(row.run, row.name), row.phase.value, message, row.attempt, body)


def result_of_call(key: int, child: LiveAction) -> wire.CallResult:
    """The answer to a parent's call number `key`."""
    return wire.CallResult(key=key, action=child.name, phase=child.phase, outputs=child.result(), error=child.error)


@dataclass(slots=True, eq=False, weakref_slot=True)
class KnownTask:
    """A registered task version with its spec decoded."""

    row: TaskRow
    spec: wire.TaskSpec
    pool: Pool | None = None
    """The pool that runs it, once made."""


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


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process, as the control plane sees it."""

    unit: str
    pool: Pool
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
    strays: set[AttemptRef] = field(default_factory=set)
    """What it is still at, or was when it came back, and what is not its own any more."""
    pid: int = 0
    token: str = ""
    """What it proves with who it is; empty for one that an earlier control plane started."""

    @property
    def has_room(self) -> bool:
        if self.link is None or self.stopping or self.spent or self.outdated or self.strays:
            return False
        return len(self.actions) < self.pool.concurrency

    def takes_more(self) -> bool:
        """Let its pool give it work, where it has room; whether that is new."""
        if not self.has_room or self in self.pool.idle:
            return False
        self.pool.idle.append(self)
        return True

    def takes_nothing(self) -> None:
        """Its pool gives it no more work."""
        if self in self.pool.idle:
            self.pool.idle.remove(self)

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

    def send(self, frame: wire.Frame) -> None:
        if self.link is not None:
            self.link.send(frame)

    def acknowledge(self, frame: wire.Frame) -> None:
        """A worker that is used again does not wait for this."""
        if self.link is not None:
            self.link.send_along(frame) if self.pool.reuse else self.link.send(frame)
