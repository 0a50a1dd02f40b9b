"""What the control plane holds in memory: the runs that are not over yet, their actions, and the workers of these.

A pool is an environment's code and settings; a worker of it takes one action (fresh) or one after the other (reused).

A live action is mutable and ahead of the disk by at most one commit; what others may see of it is `LiveRun.shown`,
which moves only when a commit is done. When its root action is terminal and on disk, a run leaves memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

import msgspec

from flyte import wire
from flyte.concurrency import ActionLimit, limit_of
from flyte.phases import move
from flyte.wire import ROOT_ACTION, ActionPhase, ErrorInfo
from tarmac.control.records import run_record
from tarmac.links.server import Link
from tarmac.store import ActionRow, ActionWrite, AttemptRow, RunRow, TaskRow

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class LiveAction:
    """One action that is not over, or that belongs to a run that is not."""

    run: LiveRun
    name: str
    parent: str | None
    task: KnownTask | None
    """None for a recorded step (`flyte.trace`) and for an action whose task is not needed any more."""
    task_name: str
    version: str
    created: float
    kind: str = "task"
    phase: ActionPhase = ActionPhase.QUEUED
    attempt: int = 1
    user_failures: int = 0
    system_failures: int = 0
    group: str | None = None
    sequence: int = 0
    inputs: bytes | None = None
    inputs_blob: str | None = None
    outputs: bytes | None = None
    outputs_blob: str | None = None
    error: ErrorInfo | None = None
    message: str = ""
    spec: bytes | None = None
    custom_context: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    attempt_started: float | None = None
    ended: float | None = None
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
    over: bool = field(init=False, default=False)
    """Whether its phase is terminal."""
    id: str = field(init=False)
    """`run/name`."""
    settled: bool = False
    """Whether its terminal phase is on disk."""
    stored: tuple[int, ActionPhase] | None = None
    """Attempt and phase as the last write left them; what the next write is compared with."""

    def __post_init__(self) -> None:
        self.id = f"{self.run.name}/{self.name}"
        self.over = self.phase.is_terminal

    @property
    def is_root(self) -> bool:
        return self.name == ROOT_ACTION

    @property
    def task_spec(self) -> wire.TaskSpec:
        """What this action was called with: the task's own, or what overrides it."""
        if self.spec is not None:
            return msgspec.json.decode(self.spec, type=wire.TaskSpec)
        assert self.task is not None, f"{self.id} has no task"
        return self.task.spec

    def go(self, phase: ActionPhase, now: float) -> None:
        """Move along the state table and keep the times that go with it."""
        self.phase = move(self.phase, phase)
        if phase is ActionPhase.RUNNING:
            self.attempt_started = now
            self.started = self.started or now
        elif phase.is_terminal:
            self.over = True
            self.ended = now

    def write(self) -> ActionWrite:
        """The write that brings the stored row to this state; the next one will be compared with it."""
        write = ActionWrite(self.row(), self.stored)
        self.stored = (self.attempt, self.phase)
        return write

    def row(self) -> ActionRow:
        return ActionRow(
            run=self.run.name,
            name=self.name,
            parent=self.parent,
            task=self.task_name,
            version=self.version,
            phase=self.phase,
            attempt=self.attempt,
            user_failures=self.user_failures,
            system_failures=self.system_failures,
            group=self.group,
            sequence=self.sequence,
            inputs=self.inputs,
            inputs_blob=self.inputs_blob,
            outputs=self.outputs,
            outputs_blob=self.outputs_blob,
            error=None if self.error is None else _encode(self.error),
            message=self.message,
            spec=self.spec,
            custom_context=self.custom_context,
            created=self.created,
            started=self.started,
            ended=self.ended,
            kind=self.kind,
        )

    def attempt_row(self) -> AttemptRow:
        return AttemptRow(
            run=self.run.name,
            action=self.name,
            number=self.attempt,
            phase=self.phase,
            started=self.attempt_started,
            ended=self.ended,
            error=None if self.error is None else _encode(self.error),
            unit=self.worker.unit if self.worker else None,
        )

    def result(self) -> wire.Value | None:
        if self.phase not in (ActionPhase.SUCCEEDED, ActionPhase.RECOVERED):
            return None
        return wire.Value(inline=self.outputs, blob=self.outputs_blob)

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
        if action.parent is not None:
            self.children.setdefault(action.parent, []).append(action)

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
        return run_record(self.row, self.root.row(), self.url, len(self.actions), seq)


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


Stray = tuple[str, str, int]
"""Run, action, attempt."""


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
