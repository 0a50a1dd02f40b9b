"""A run of local mode and its actions, as they stand. `client` says what local mode is, `action` carries them out."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from flyte import wire
from flyte._declare.task import TaskTemplate
from flyte._loop_thread import LoopThread
from flyte.concurrency import ActionLimit
from flyte.phases import move
from flyte.wire import ActionPhase, ErrorInfo

Task = TaskTemplate[..., Any, Any]


@dataclass(slots=True, eq=False)
class LocalAction:
    """One action, as it stands."""

    name: str
    task: Task
    inputs: bytes
    parent: str | None
    group: str | None
    custom_context: dict[str, str]
    phase: ActionPhase = ActionPhase.QUEUED
    attempt: int = 1
    message: str = ""
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    error: ErrorInfo | None = None
    cause: BaseException | None = None
    """The exception itself, for the caller's traceback."""
    outputs: bytes | None = None
    cache: wire.CacheUse | None = None
    cache_key: str | None = None
    """Of the result that it computes for the cache."""
    children: int = 0
    attempts: list[wire.Attempt] = field(default_factory=list)
    steps: dict[str, tuple[Any, ErrorInfo | None]] = field(default_factory=dict)
    """Recorded steps: JSON, or the error."""
    work: asyncio.Task[Any] | None = None
    abort_reason: str = ""
    """Why somebody aborts it; empty where it ends with its caller."""


@dataclass(slots=True, eq=False)
class LocalRun:
    """One run, as it stands."""

    name: str
    project: str
    domain: str
    version: str
    labels: dict[str, str]
    limit: ActionLimit | None = None
    """How many of its actions may be at work at the same time, where that is limited."""
    overwrite_cache: bool = False
    disable_cache: bool = False
    raw_data_path: str | None = None
    run_base_dir: str | None = None
    actions: dict[str, LocalAction] = field(default_factory=dict)
    events: list[wire.Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def root(self) -> LocalAction:
        return self.actions[wire.ROOT_ACTION]

    @property
    def url(self) -> str:
        return f"local://runs/{self.name}"

    def record(self, action: LocalAction, phase: ActionPhase, message: str, body: dict[str, Any] | None = None) -> None:
        """Set an action's phase, and tell everybody who watches."""
        if phase is not action.phase:
            action.phase = move(action.phase, phase)
        action.message = message
        event = wire.Event(
            seq=len(self.events) + 1,
            at=time.time(),
            subject=f"run/{self.name}/{action.name}",
            phase=phase.value,
            message=message,
            attempt=action.attempt,
            body=body or {},
        )
        self.events.append(event)
        self.changed.set()
        self.changed = asyncio.Event()

    def to_wire(self) -> wire.Run:
        root = self.root
        return wire.Run(
            name=self.name,
            project=self.project,
            domain=self.domain,
            task=root.task.name,
            version=self.version,
            phase=root.phase,
            url=self.url,
            created=root.created,
            started=root.started,
            ended=root.ended,
            error=root.error,
            attempt=root.attempt,
            outputs=msgspec.Raw(root.outputs) if root.outputs is not None else None,
            message=root.message,
            labels=self.labels,
            created_by="local",
            actions=len(self.actions),
            cache=root.cache,
            seq=len(self.events),
        )

    def action_to_wire(self, action: LocalAction) -> wire.Action:
        return wire.Action(
            run=self.name,
            name=action.name,
            parent=action.parent,
            task=action.task.name,
            short_name=action.task.short_name,
            phase=action.phase,
            attempt=action.attempt,
            group=action.group,
            message=action.message,
            created=action.created,
            started=action.started,
            ended=action.ended,
            error=action.error,
            children=action.children,
            cache=action.cache,
        )


def _prepare(loop: asyncio.AbstractEventLoop) -> None:
    try:
        from flyte.runtime import greenlets
    except ImportError:  # no greenlet here: blocking calls in async tasks warn, and hold up the loop
        return
    greenlets.install(loop)


thread = LoopThread("flyte-local", _prepare)
runs: dict[str, LocalRun] = {}


async def ended(run: LocalRun, wait: float | None) -> None:
    """Return when the run has ended, or `wait` seconds are over."""
    work = run.root.work
    if work is not None and not work.done():
        await asyncio.wait([work], timeout=wait)
