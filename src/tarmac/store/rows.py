"""The rows: one frozen class for each table. Times are seconds since 1970, bodies are JSON text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import msgspec

from flyte.wire import ActionPhase, AppId, AppStatus, DeploymentPhase

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunRow:
    """The request for a run. The run's progress is that of its root action, `a0`."""

    name: str
    project: str
    domain: str
    task: str
    version: str
    created: float
    created_by: str
    idempotency_key: str | None
    """Unique in its project and domain."""
    request: bytes
    """The RunRequest without its inputs."""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunKeyRow:
    """An idempotency key that was sent with the name of an existing run; it stands for that run from then on."""

    project: str
    domain: str
    idempotency_key: str
    run: str


class ActionRow(msgspec.Struct, frozen=True):
    """The current state of one action. `created`, `parent` and `kind` are never changed by a later write.

    A struct of msgspec's, since the control plane makes another one at each step of an action (`live.step`).
    """

    run: str
    name: str
    parent: str | None
    task: str
    version: str
    phase: ActionPhase
    attempt: int = 1
    user_failures: int = 0
    system_failures: int = 0
    group: str | None = None
    sequence: int = 0
    inputs: bytes | None = None
    inputs_blob: str | None = None
    outputs: bytes | None = None
    outputs_blob: str | None = None
    error: bytes | None = None
    """The ErrorInfo."""
    message: str = ""
    spec: bytes | None = None
    """The TaskSpec, if it was overridden."""
    custom_context: dict[str, str] = msgspec.field(default_factory=dict)
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    kind: str = "task"
    """`task`, or `trace` for a recorded step."""
    cache_key: str | None = None
    """The key of its result in the cache, once it has asked for that."""
    cache: bytes | None = None
    """The CacheUse."""


@dataclass(frozen=True, slots=True)
class AttemptRow:
    run: str
    action: str
    number: int
    phase: ActionPhase
    started: float | None = None
    ended: float | None = None
    error: bytes | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class ReportRow:
    """The last report of an attempt."""

    run: str
    action: str
    attempt: int
    at: float
    html: str


@dataclass(frozen=True, slots=True)
class CacheRow:
    """The result of an action that succeeded, for later calls with the same key."""

    key: str
    project: str
    domain: str
    task: str
    version: str
    """The cache version."""
    run: str
    action: str
    outputs: bytes | None
    outputs_blob: str | None
    created: float
    seconds: float
    """How long the attempt took."""


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """One version of an artifact."""

    project: str
    domain: str
    name: str
    version: str
    kind: str
    description: str
    attrs: dict[str, str]
    card: bytes | None
    """The ArtifactCard."""
    content: bytes
    """The JSON form of the File, Dir or DataFrame."""
    json_schema: bytes
    created: float
    created_by: str
    run: str | None
    action: str | None
    attempt: int | None
    external_ref: str | None


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task version. Its spec and bundle never change; the location of its code (`root`, `sys_path`) may."""

    project: str
    domain: str
    name: str
    version: str
    short_name: str
    environment: str
    spec: bytes
    bundle: str | None = None
    root: str | None = None
    sys_path: list[str] = field(default_factory=list)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class CurrentTaskRow:
    """The current version of a task, which a call without a version runs."""

    project: str
    domain: str
    name: str
    version: str
    since: float
    """When this version became current."""
    deployed: bool
    """True if a deployment made it current, False if a run only registered it."""


@dataclass(frozen=True, slots=True)
class AppRow:
    project: str
    domain: str
    name: str
    port: int
    version: str | None
    """The version that serves."""
    wanted: str
    """`active` or `stopped`."""
    status: AppStatus
    message: str = ""
    created: float = 0.0
    updated: float = 0.0
    env_vars: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> AppId:
        return AppId(self.project, self.domain, self.name)


@dataclass(frozen=True, slots=True)
class AppVersionRow:
    project: str
    domain: str
    name: str
    version: str
    spec: bytes
    """The AppSpec."""
    bundle: str | None = None
    root: str | None = None
    sys_path: list[str] = field(default_factory=list)
    created: float = 0.0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    id: str
    project: str
    domain: str
    version: str
    phase: DeploymentPhase
    record: bytes
    """The wire.Deployment."""
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What an image asks for, and the environment that it has become."""

    id: str
    record: bytes
    """The wire.ImageRecord."""
    used: float = 0.0
    """When a deployment asked for it last."""


@dataclass(frozen=True, slots=True)
class SecretRow:
    project: str
    domain: str
    name: str
    sealed: bytes
    created: float = 0.0
    updated: float = 0.0


@dataclass(frozen=True, slots=True)
class KeyRow:
    id: str
    name: str
    digest: str
    """sha256 of the key, in hex; the key itself is not stored."""
    created: float = 0.0
    last_used: float | None = None
    scopes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProjectRow:
    id: str
    name: str = ""
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    archived: bool = False


@dataclass(frozen=True, slots=True)
class TriggerRow:
    project: str
    domain: str
    task: str
    name: str
    spec: bytes | None
    """A TriggerSpec as JSON, of one that was made without a deployment; None for one that its task declares."""
    version: str
    """The version of the task that declares it; otherwise the one that it starts, or empty for the current one."""
    automation: str
    """When it is due, in words; with other words it begins anew."""
    active: bool
    since: float
    """When it was activated."""
    fired: float | None = None
    """The last time for which it started a run, or tried to."""
    run: str = ""
    message: str = ""
    updated: float = 0
    updated_by: str = ""


class WholeRun(NamedTuple):
    """A run with its root action and the number of its actions, as lists show it."""

    run: RunRow
    root: ActionRow
    actions: int


class WholeAction(NamedTuple):
    """An action with the number of its children, as lists show it."""

    action: ActionRow
    children: int


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """The result of one read transaction, and the number of the last event that was committed before it."""

    found: T
    seq: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """How much is stored, and how much the writer has written since the store was opened."""

    runs: dict[str, int]
    """Phase → number of runs in it."""
    tasks: int
    """Task versions."""
    apps: int
    events: int
    """The number of the last event."""
    size: int
    """Bytes of the database."""
    commits: int
    changes: int
    """Changes in those commits."""
