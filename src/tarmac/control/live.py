"""What the control plane holds in memory: the runs that are not over yet, and their actions.

A live action is mutable and ahead of the disk by at most one commit; what others may see of it is `LiveRun.shown`,
which moves only when a commit is done. When its root action is terminal and on disk, a run leaves memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from flyte import wire
from flyte.concurrency import ActionLimit, limit_of
from flyte.phases import move
from flyte.wire import ROOT_ACTION, ActionPhase, ErrorInfo
from tarmac.store import ActionRow, ActionWrite, AttemptRow, RunRow

if TYPE_CHECKING:
    from tarmac.control.runs.registry import KnownTask
    from tarmac.control.workers.workers import Pool, Worker

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


def error_of(row: ActionRow) -> ErrorInfo | None:
    return None if row.error is None else msgspec.json.decode(row.error, type=ErrorInfo)


def run_record(row: RunRow, root: ActionRow, url: str, actions: int, seq: int) -> wire.Run:
    """A run as the API shows it, from its row and its root action's."""
    done = root.phase in (ActionPhase.SUCCEEDED, ActionPhase.RECOVERED)
    return wire.Run(
        name=row.name,
        project=row.project,
        domain=row.domain,
        task=row.task,
        version=row.version,
        phase=root.phase,
        url=url,
        created=row.created,
        started=root.started,
        ended=root.ended,
        error=error_of(root),
        attempt=root.attempt,
        outputs=msgspec.Raw(root.outputs) if done and root.outputs is not None else None,
        outputs_blob=root.outputs_blob if done else None,
        message=root.message,
        labels=row.labels,
        created_by=row.created_by,
        actions=actions,
        seq=seq,
    )


def action_record(row: ActionRow, short_name: str = "", children: int = 0) -> wire.Action:
    """An action as the API shows it."""
    return wire.Action(
        run=row.run,
        name=row.name,
        parent=row.parent,
        task=row.task,
        short_name=short_name or row.task.rpartition(".")[2],
        phase=row.phase,
        attempt=row.attempt,
        group=row.group,
        message=row.message,
        created=row.created,
        started=row.started,
        ended=row.ended,
        error=error_of(row),
        children=children,
    )


def details_record(
    row: ActionRow,
    children: int,
    attempts: list[AttemptRow],
    interface: wire.InterfaceSpec,
    bundle: str | None = None,
) -> wire.ActionDetails:
    return wire.ActionDetails(
        action=action_record(row, children=children),
        inputs=None if row.inputs is None else msgspec.Raw(row.inputs),
        inputs_blob=row.inputs_blob,
        outputs=None if row.outputs is None else msgspec.Raw(row.outputs),
        outputs_blob=row.outputs_blob,
        attempts=[attempt_record(attempt) for attempt in attempts],
        interface=interface,
        version=row.version,
        bundle=bundle,
    )


def attempt_record(row: AttemptRow) -> wire.Attempt:
    error: Any = None if row.error is None else msgspec.json.decode(row.error, type=ErrorInfo)
    return wire.Attempt(
        number=row.number, phase=row.phase, started=row.started, ended=row.ended, error=error, unit=row.unit
    )
