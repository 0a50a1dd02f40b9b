"""Records: what the HTTP API takes and answers, as JSON."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

from msgspec import field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first
from flyte.wire.specs import (
    DEFAULT_DOMAIN,
    DEFAULT_PROJECT,
    AppSpec,
    EnvironmentSpec,
    LinkSpec,
    Record,
    TaskSpec,
)


class ActionPhase(enum.StrEnum):
    """Where an action is in its life (Flyte's names). A run's phase is that of its root action, `a0`."""

    QUEUED = "queued"
    WAITING_FOR_RESOURCES = "waiting_for_resources"
    INITIALIZING = "initializing"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"
    TIMED_OUT = "timed_out"
    RECOVERED = "recovered"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL

    @property
    def is_success(self) -> bool:
        """Whether it has ended with a result."""
        return self is ActionPhase.SUCCEEDED or self is ActionPhase.RECOVERED


TERMINAL = frozenset(
    {
        ActionPhase.SUCCEEDED,
        ActionPhase.FAILED,
        ActionPhase.ABORTED,
        ActionPhase.TIMED_OUT,
        ActionPhase.RECOVERED,
    }
)


class ErrorInfo(Record, frozen=True, kw_only=True):
    """An error as it travels: what `flyte.errors.make` needs to rebuild it."""

    code: rules.Line
    message: rules.Printed
    kind: Literal["user", "system", "unknown"] = "user"
    type: rules.Line = ""
    """`module:qualname` of the original exception class, so that the caller can catch it as that."""
    traceback: rules.Printed = ""
    retryable: bool = True


class ErrorBody(Record, frozen=True, kw_only=True):
    """What every answer with a 4xx or 5xx status holds."""

    error: ErrorInfo


class DeployRequest(Record, frozen=True, kw_only=True):
    project: rules.ProjectName = DEFAULT_PROJECT
    domain: rules.DomainName = DEFAULT_DOMAIN
    version: rules.VersionName
    bundle: rules.Digest | None = None
    """Digest of the code bundle, which was sent before; None where the code is already on the machine."""
    root: rules.Folder | None = None
    """With `copy_style="none"`: the folder on the platform's machine that takes the bundle's place."""
    sys_path: list[rules.Folder] = field(default_factory=list)
    """Folders, relative to the bundle's root, that go onto `sys.path` after the root itself."""
    tasks: Annotated[list[TaskSpec], rules.SPECS] = field(default_factory=list)
    apps: Annotated[list[AppSpec], rules.SPECS] = field(default_factory=list)
    order: dict[rules.EnvironmentName, list[rules.EnvironmentName]] = field(default_factory=dict)
    """Environment name → the names it depends on, for every environment of the closure."""
    parameter_values: dict[
        rules.AppName, dict[Annotated[str, rules.PARAMETER_NAME], Annotated[str, rules.VARIABLE_VALUE]]
    ] = field(default_factory=dict)
    """App name → parameter → value, from `with_servecontext`."""
    env_vars: rules.Variables = field(default_factory=dict)
    strict: bool = False
    """Whether warnings of the platform make the deployment fail, before anything is changed."""
    moves_current: bool = True
    """False where a run sends its own code: task versions that a deployment made current stay current."""


class ImageRecord(Record, frozen=True, kw_only=True):
    """What an image asks for, and the environment that it has become on the platform's machine."""

    id: str
    """Content hash of what is asked for."""
    state: Literal["ready", "failed"]
    key: str = ""
    """Content hash of the interpreter and the lock; images that come to the same share an environment."""
    path: str = ""
    """The environment's interpreter."""
    python: str = ""
    """Its version."""
    asked: list[str] = field(default_factory=list)
    """The image's requirements."""
    lock: str = ""
    """The exact versions of all that is in it, with hashes."""
    bytes: int = 0
    seconds: float = 0
    """How long it took to have it, the last time."""
    is_new: bool = False
    """Whether it was made then."""
    notes: list[str] = field(default_factory=list)
    """What is otherwise than the image asks for."""
    error: str = ""
    """Why it could not be made."""
    environments: list[str] = field(default_factory=list)
    """Who asked for it: `project/domain/environment`."""
    made: float = 0
    used: float = 0
    """When a deployment asked for it last."""

    @property
    def packages(self) -> list[str]:
        """What is in it, `name==version` each."""
        lines = (line.partition(" \\")[0].partition(" ;")[0].strip() for line in self.lock.splitlines())
        return [line for line in lines if line and not line.startswith(("#", "-"))]

    def __str__(self) -> str:
        count = len(self.packages)
        how = f"made in {self.seconds:.1f} s" if self.is_new else "reused"
        return f"Python {self.python}, {count} package{'s' * (count != 1)} ({how})"


class BuildRequest(Record, frozen=True, kw_only=True):
    """Have the environments of these images, without deploying anything."""

    project: rules.ProjectName = DEFAULT_PROJECT
    domain: rules.DomainName = DEFAULT_DOMAIN
    environments: Annotated[list[EnvironmentSpec], rules.SPECS] = field(default_factory=list)
    force: bool = False
    """Find versions anew, also where that was done before."""


class ImageBuild(Record, frozen=True, kw_only=True):
    """How far one environment of a BuildRequest is."""

    environment: str
    state: Literal["own", "building", "ready", "failed"]
    """own: the platform's own Python runs it, and nothing has to be made."""
    message: str = ""
    """What is being done, or why it failed."""
    image: ImageRecord | None = None
    warnings: list[str] = field(default_factory=list)


class PruneRequest(Record, frozen=True, kw_only=True):
    """Remove environments that nothing deployed names and nothing runs in."""

    older: rules.Duration = 14 * 24 * 3600
    """Seconds since a deployment asked for them last."""


class ImageLog(Record, frozen=True, kw_only=True):
    """What was run to make an environment, and what it said."""

    id: str
    text: str


class DeploymentPhase(enum.StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class DeployedEnvironment(Record, frozen=True, kw_only=True):
    name: str
    kind: Literal["task", "app"]
    level: int = 0
    phase: Literal["waiting", "building", "starting", "ready", "unchanged", "failed", "rolled_back"] = "waiting"
    message: str = ""
    url: str = ""
    """For an app: where it answers."""
    image: str = ""
    """The environment that was made for it: `Python 3.12.1, 38 packages`; empty for the platform's own."""
    tasks: list[str] = field(default_factory=list)


class Deployment(Record, frozen=True, kw_only=True):
    id: str
    project: str
    domain: str
    version: str
    phase: DeploymentPhase
    environments: list[DeployedEnvironment] = field(default_factory=list)
    error: ErrorInfo | None = None
    warnings: list[str] = field(default_factory=list)
    created: float = 0
    created_by: str = ""
    """Who deployed: the owner, or the name of an API key."""
    seq: int = 0
    """The event log's number that this snapshot includes."""


class Task(Record, frozen=True, kw_only=True):
    project: str
    domain: str
    name: str
    version: str
    short_name: str = ""
    environment: str = ""
    spec: TaskSpec | None = None
    bundle: str | None = None
    created: float = 0
    url: str = ""
    versions: list[str] = field(default_factory=list)
    """Those that are registered, newest first."""
    image: ImageRecord | None = None
    """The environment that was made for it; None where the platform's own Python runs it."""
    current: str = ""
    """The version that a call without a version runs: the one that was deployed last."""


class AppStatus(enum.StrEnum):
    """What an app is doing now. `sleeping` apps start at the next request; `stopped` ones do not."""

    DEPLOYING = "deploying"
    ACTIVE = "active"
    SLEEPING = "sleeping"
    STOPPED = "stopped"
    FAILED = "failed"


class Replica(Record, frozen=True, kw_only=True):
    name: str
    version: str
    phase: Literal["starting", "ready", "draining", "stopped", "failed"]
    address: str = ""
    pid: int | None = None
    created: float = 0
    ready: float | None = None
    message: str = ""
    restarts: int = 0


class App(Record, frozen=True, kw_only=True):
    project: str
    domain: str
    name: str
    version: str
    status: AppStatus
    url: str
    """The stable loopback address on the gateway; in production the app's host name."""
    host: str = ""
    """`<app>.flyte.localhost` with the main port, for browsers."""
    console: str = ""
    port: int = 0
    requires_auth: bool = True
    wanted: Literal["active", "stopped"] = "active"
    replicas: list[Replica] = field(default_factory=list)
    links: list[LinkSpec] = field(default_factory=list)
    no_effect: list[str] = field(default_factory=list)
    """One line for each option that is declared and not carried out here."""
    description: str = ""
    message: str = ""
    created: float = 0
    updated: float = 0
    seq: int = 0


class Event(Record, frozen=True, kw_only=True):
    """One entry of the event log.

    `subject` is `run/<run>/<action>`, `app/<project>/<domain>/<name>` or `deployment/<id>`.
    """

    seq: int
    at: float
    subject: str
    phase: str
    message: str = ""
    attempt: int = 0
    body: dict[str, Any] = field(default_factory=dict)


class LogLine(Record, frozen=True, kw_only=True):
    text: str
    offset: int
    """Byte offset just after this line; following from here loses and doubles nothing."""
    source: str = ""
    attempt: int = 1
    open: bool = False
    """Whether the line goes on with the next one of its source: it is very long, or not ended yet."""
    time: float | None = None
    """When it was written, in seconds since the epoch; None where that is not known."""


class SecretInfo(Record, frozen=True, kw_only=True):
    name: str
    project: str
    domain: str
    created: float = 0
    updated: float = 0


class SecretRequest(Record, frozen=True, kw_only=True):
    name: rules.SecretName
    value: Annotated[str, rules.SECRET_VALUE]
    project: rules.ProjectName = DEFAULT_PROJECT
    domain: rules.DomainName = DEFAULT_DOMAIN


class KeyRequest(Record, frozen=True, kw_only=True):
    name: Annotated[str, rules.KEY_NAME]
    scopes: list[rules.Line] = field(default_factory=list)


class KeyInfo(Record, frozen=True, kw_only=True):
    id: str
    name: str
    created: float = 0
    last_used: float | None = None
    scopes: list[str] = field(default_factory=list)
    message: str = ""
    """Why apps do not take it, where they do not."""
    key: str | None = None
    """The key itself: only in the answer that creates it."""


class Project(Record, frozen=True, kw_only=True):
    id: rules.ProjectName
    name: rules.Line = ""
    description: str = ""
    labels: rules.Labels = field(default_factory=dict)
    archived: bool = False


class Health(Record, frozen=True, kw_only=True):
    status: Literal["ok", "starting"]
    version: str = ""
    pid: int = 0
    components: dict[str, str] = field(default_factory=dict)
    """Part of the platform → "ok", or what is wrong with it."""


class Me(Record, frozen=True, kw_only=True):
    subject: str
    kind: Literal["owner", "key", "workload", "anonymous"]


class LoginCode(Record, frozen=True, kw_only=True):
    """A code that opens the console, once, without a password: `flyte console` asks for it."""

    code: str
    url: str
