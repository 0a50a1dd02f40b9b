"""Every message that crosses a process boundary, and nothing else.

Three groups, in this order: *specs* (what a declaration becomes), *records* (what the HTTP API answers) and *frames*
(what runs over the duplex link between the control plane and a worker, a replica, the agent or the gateway).
HTTP bodies are JSON, frames are msgpack: four bytes of length (little endian), then the frame.
`flyte` and `tarmac` share this module and `flyte.rules`, whose rules its fields name; both import msgspec and nothing
else. Decoding checks types alone: the rules are applied where a record or frame comes in (`tarmac.checks`).
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Struct, field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first

if TYPE_CHECKING:
    OptionalRaw = msgspec.Raw | None
else:
    OptionalRaw = msgspec.Raw  # msgspec decodes no union with Raw in it; what is absent is the default, None

INLINE_LIMIT = 64 * 1024
"""Bytes of an encoded value up to which it travels and is stored in place; larger ones go to the blob store."""

VALUE_LIMIT = 100 * 1024 * 1024
"""Bytes of an encoded value above which it is refused (setting TARMAC_VALUE_LIMIT on the platform's side)."""

DEFAULT_PROJECT = "flytesnacks"
DEFAULT_DOMAIN = "development"
DOMAINS = ("development", "staging", "production")
ROOT_ACTION = "a0"


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


TERMINAL = frozenset(
    {
        ActionPhase.SUCCEEDED,
        ActionPhase.FAILED,
        ActionPhase.ABORTED,
        ActionPhase.TIMED_OUT,
        ActionPhase.RECOVERED,
    }
)


class Record(Struct, frozen=True, omit_defaults=True):
    """The base of everything that is sent as JSON: frozen, and defaults are left out."""


# ------------------------------------------------------------------------------------------------------------- specs


class ImageSpec(Record, frozen=True, kw_only=True):
    """An `Image`, as far as a process on this machine needs it: an interpreter, packages, and layers to be told of."""

    name: rules.Line = "auto"
    python: tuple[Annotated[int, rules.PYTHON_VERSION], Annotated[int, rules.PYTHON_VERSION]] | None = None
    packages: list[rules.Line] = field(default_factory=list)
    """Requirement strings, as pip reads them."""
    env: rules.Variables = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    """One line for each layer that only a container engine can make (`apt install …`, `run …`)."""


class ResourcesSpec(Record, frozen=True, kw_only=True):
    cpu: Annotated[float, rules.CORES] | None = None
    """Cores asked for; a weight on one machine, not a limit."""
    memory: Annotated[int, rules.BYTES] | None = None
    """Bytes."""
    gpu: rules.Line | None = None
    disk: Annotated[int, rules.BYTES] | None = None
    shm: Annotated[int, rules.BYTES] | None = None


class SecretSpec(Record, frozen=True, kw_only=True):
    key: rules.SecretName
    group: rules.SecretName | None = None
    env: Annotated[str, rules.VARIABLE]
    """The environment variable that gets the value."""
    mount: Annotated[str, rules.SECRET_MOUNT] | None = None
    """The folder in which the value is a file, too: KEY, or GROUP/KEY."""


class ReuseSpec(Record, frozen=True, kw_only=True):
    min_replicas: Annotated[int, rules.MIN_REPLICAS] = 1
    max_replicas: Annotated[int, rules.MAX_REPLICAS] = 2
    concurrency: Annotated[int, rules.CONCURRENCY] = 1
    idle_ttl: Annotated[float, rules.POSITIVE_DURATION] = 30
    """Seconds."""


class EnvironmentSpec(Record, frozen=True, kw_only=True):
    name: rules.EnvironmentName
    kind: Literal["task", "app"]
    image: ImageSpec = ImageSpec()
    resources: ResourcesSpec = ResourcesSpec()
    env_vars: rules.Variables = field(default_factory=dict)
    secrets: list[SecretSpec] = field(default_factory=list)
    depends_on: list[rules.EnvironmentName] = field(default_factory=list)
    """Names of environments of either kind."""
    reuse: ReuseSpec | None = None
    fork: bool | None = None
    """False where the user declares the code unsafe to fork; None leaves it to the platform."""
    description: str = ""


class InputSpec(Record, frozen=True, kw_only=True):
    name: rules.Line
    schema: dict[str, Any]
    """JSON Schema of the value as it travels."""
    type: str = "Any"
    """The annotation in words, for messages and help texts."""
    required: bool = True
    default: msgspec.Raw = msgspec.Raw(b"null")
    """The default as JSON, where there is one that can be shown."""
    help: str = ""


class OutputSpec(Record, frozen=True, kw_only=True):
    name: rules.Line
    schema: dict[str, Any]
    type: str = "Any"


class InterfaceSpec(Record, frozen=True, kw_only=True):
    inputs: list[InputSpec] = field(default_factory=list)
    outputs: list[OutputSpec] = field(default_factory=list)


class RetrySpec(Record, frozen=True, kw_only=True):
    count: Annotated[int, rules.RETRIES] = 0
    """Attempts after the first."""
    base: rules.Duration = 0
    """Seconds before the first retry."""
    factor: Annotated[float, rules.FACTOR] = 1
    cap: rules.Duration | None = None


class TimeoutSpec(Record, frozen=True, kw_only=True):
    """Seconds; None is no limit. `max_runtime` is for each attempt, `deadline` for all of them from the start."""

    max_runtime: rules.Duration | None = None
    max_queued_time: rules.Duration | None = None
    deadline: rules.Duration | None = None


class CacheSpec(Record, frozen=True, kw_only=True):
    version: rules.Line
    serialize: bool = False
    ignored_inputs: list[str] = field(default_factory=list)
    salt: rules.Line = ""


class TaskSpec(Record, frozen=True, kw_only=True):
    name: rules.TaskName
    """`<environment>.<function>`."""
    short_name: rules.Line = ""
    """What is shown to people."""
    entry: Annotated[str, rules.ENTRY]
    """`module:variable`, importable from the bundle's root."""
    environment: EnvironmentSpec
    interface: InterfaceSpec = InterfaceSpec()
    retries: RetrySpec = RetrySpec()
    timeout: TimeoutSpec = TimeoutSpec()
    cache: CacheSpec | None = None
    is_async: bool = True
    docs: str = ""
    source: rules.Folder = ""
    """`file:line`, relative to the bundle's root."""
    report: bool = False
    no_effect: list[str] = field(default_factory=list)
    """One line for each option that is declared and not carried out here."""


class ParameterSpec(Record, frozen=True, kw_only=True):
    """One parameter (`Input`) of an app: a literal, an app's endpoint, or an output of a run."""

    name: Annotated[str, rules.PARAMETER_NAME]
    env: Annotated[str, rules.VARIABLE] | None = None
    """The environment variable that gets the value."""
    kind: Literal["value", "endpoint", "run_output", "file", "dir"] = "value"
    value: Annotated[str, rules.VARIABLE_VALUE] | None = None
    app_name: rules.AppName | None = None
    run_name: rules.RunName | None = None
    task_name: rules.TaskName | None = None
    task_version: rules.VersionName | None = None
    getter: list[rules.Line | int] = field(default_factory=list)
    mount: rules.Folder | None = None
    download: bool = True


class ScalingSpec(Record, frozen=True, kw_only=True):
    min_replicas: Annotated[int, rules.MIN_REPLICAS] = 0
    max_replicas: Annotated[int, rules.MAX_REPLICAS] = 1
    concurrency: Annotated[int, rules.CONCURRENCY] | None = None
    """What `Scaling.Concurrency` declares. Without effect: no replica is started under load."""
    request_rate: Annotated[int, rules.REQUEST_RATE] | None = None
    """What `Scaling.RequestRate` declares. Without effect, too."""
    scaledown_after: rules.Duration | None = None
    """Seconds without a request."""


class LinkSpec(Record, frozen=True, kw_only=True):
    path: rules.Line
    title: rules.Line
    is_relative: bool = False


class AppSpec(Record, frozen=True, kw_only=True):
    name: rules.AppName
    environment: EnvironmentSpec
    kind: Literal["asgi", "server", "command"]
    """asgi: `entry` is an environment with a FastAPI app; server: it has a `@server` function; command: `argv`."""
    entry: Annotated[str, rules.APP_ENTRY] = ""
    """`module:variable` of the environment; empty for a command that needs no code of ours."""
    argv: list[Annotated[str, rules.ARGUMENT]] = field(default_factory=list)
    """`command` and `args` joined; a word that starts with `$` is replaced by that environment variable."""
    port: Annotated[int, rules.PORT] = 8080
    requires_auth: bool = True
    passes_auth: bool = False
    """The app acts in its caller's name: the gateway checks the key and leaves it in the request."""
    scaling: ScalingSpec = ScalingSpec()
    parameters: list[ParameterSpec] = field(default_factory=list)
    links: list[LinkSpec] = field(default_factory=list)
    subdomain: rules.Host | None = None
    custom_domain: rules.Host | None = None
    request_timeout: Annotated[float, rules.REQUEST_TIMEOUT] | None = None
    """Seconds the gateway waits for an answer; None is the setting's default."""
    health_path: Annotated[str, rules.URL_PATH] = "/"
    no_effect: list[str] = field(default_factory=list)
    """One line for each option that is declared and not carried out here."""


# ----------------------------------------------------------------------------------------------------------- records


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


class DeploymentPhase(enum.StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class DeployedEnvironment(Record, frozen=True, kw_only=True):
    name: str
    kind: Literal["task", "app"]
    level: int = 0
    phase: Literal["waiting", "starting", "ready", "unchanged", "failed", "rolled_back"] = "waiting"
    message: str = ""
    url: str = ""
    """For an app: where it answers."""
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


class RunRequest(Record, frozen=True, kw_only=True):
    task: rules.TaskName
    """Full or bare name of the task."""
    version: rules.VersionName | None = None
    """None is the current one: what was deployed last."""
    project: rules.ProjectName = DEFAULT_PROJECT
    domain: rules.DomainName = DEFAULT_DOMAIN
    inputs: msgspec.Raw = msgspec.Raw(b"{}")
    """A JSON object: input name → value."""
    inputs_blob: rules.Digest | None = None
    """In place of `inputs`, when they are larger than INLINE_LIMIT: sha256 of the JSON text, sent before."""
    name: rules.RunName | None = None
    """The run's own name; a run that already has it, with the same task and inputs, is returned as it is."""
    idempotency_key: Annotated[str, rules.IDEMPOTENCY_KEY] | None = None
    """Stands for this call in its project and domain: when it comes again, the run that it started, or found by its
    name, is returned. With another task, other inputs or the name of another run it is refused (409)."""
    env_vars: rules.Variables = field(default_factory=dict)
    labels: rules.Labels = field(default_factory=dict)
    custom_context: rules.Context = field(default_factory=dict)
    overrides: TaskSpec | None = None
    """The whole spec after `.override(...)`; used in place of the registered one."""
    spawned_by: rules.Line | None = None
    """`run/action` that created this run, where one did."""
    max_action_concurrency: Annotated[int, rules.ACTION_CONCURRENCY] | None = None
    """How many of its actions are at work at the same time; None and 0 are no limit, 1 is refused."""
    overwrite_cache: bool = False


class AbortRequest(Record, frozen=True, kw_only=True):
    """Why a run or an action is aborted."""

    reason: str = ""


class Action(Record, frozen=True, kw_only=True):
    run: str
    name: str
    parent: str | None = None
    task: str
    short_name: str = ""
    phase: ActionPhase
    attempt: int = 1
    group: str | None = None
    message: str = ""
    created: float = 0
    started: float | None = None
    """When the first attempt began to run."""
    ended: float | None = None
    error: ErrorInfo | None = None
    children: int = 0


class Attempt(Record, frozen=True, kw_only=True):
    number: int
    phase: ActionPhase
    started: float | None = None
    ended: float | None = None
    error: ErrorInfo | None = None
    unit: str | None = None


class ActionDetails(Record, frozen=True, kw_only=True):
    action: Action
    inputs: OptionalRaw = None
    """A JSON object: input name → value; None where `inputs_blob` stands for it."""
    inputs_blob: str | None = None
    outputs: OptionalRaw = None
    """A JSON array: one element for each declared output."""
    outputs_blob: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    interface: InterfaceSpec = InterfaceSpec()
    version: str = ""
    """Of its task."""
    bundle: str | None = None
    """Digest of the code that it runs; None where that was on the machine already."""


class Report(Record, frozen=True, kw_only=True):
    """What an attempt of an action last showed with `flyte.report.flush`."""

    attempt: int
    at: float
    html: str
    """A whole page, which the task wrote: it is not to be trusted."""


class Run(Record, frozen=True, kw_only=True):
    """A run is its tree of actions; `phase`, `error` and the times are the root action's."""

    name: str
    project: str
    domain: str
    task: str
    version: str
    phase: ActionPhase
    url: str
    created: float = 0
    started: float | None = None
    ended: float | None = None
    error: ErrorInfo | None = None
    attempt: int = 1
    outputs: OptionalRaw = None
    """A JSON array, once succeeded: one element for each declared output."""
    outputs_blob: str | None = None
    """In place of `outputs` when they are larger than INLINE_LIMIT."""
    message: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    created_by: str = ""
    actions: int = 1
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


# ------------------------------------------------------------------------------------------------------------ frames
#
# Encoded as msgpack arrays whose first element is the class name. A unit is a worker or a replica: one process group.


class Frame(Struct, frozen=True, array_like=True, tag=True, omit_defaults=True):
    """The base of everything that runs over the link."""


class Value(Frame, frozen=True, kw_only=True):
    """An encoded value: JSON text in place or, when larger than INLINE_LIMIT, its sha256 in the blob store.

    Inputs are a JSON object (name → value), outputs a JSON array (one element for each declared output; a function
    that returns nothing has the one output null).
    """

    inline: rules.JsonText | None = None
    blob: rules.Digest | None = None
    size: rules.Position = 0


class Held(Frame, frozen=True, kw_only=True):
    """An action that a worker still has in hand when it (re)connects."""

    run: rules.Line
    action: rules.Line
    attempt: rules.Count


HELD_PLACE = 16_384
"""Bytes of a worker's place in the file of what workers hold."""


class Holding(Struct, frozen=True):
    """What one worker holds, as it stands in its place: a line of JSON."""

    unit: str
    held: list[Held]


class UnitState(Frame, frozen=True, kw_only=True):
    """A unit that the agent has when it (re)connects."""

    unit: rules.UnitName
    kind: rules.Line
    pool: rules.Line
    pid: int
    ready: bool = False
    address: Annotated[str, rules.ADDRESS] = ""
    owner: rules.Line = ""
    """For a replica: `project/domain/app@version`."""
    revision: rules.Line = ""
    """For a replica: its ReplicaSpec's."""
    stopping: bool = False
    """It was told to end."""


class PoolSpec(Frame, frozen=True, kw_only=True):
    """One kind of process: an interpreter that has imported one module of one bundle, with one environment."""

    id: str
    """Content hash of everything below."""
    name: str
    """For people: `environment@version`."""
    python: str
    root: str
    """Folder of the unpacked bundle; the process's working directory."""
    bundle: str | None = None
    """Digest to unpack into `root` when it is not there yet."""
    sys_path: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    """Imported ahead of the fork."""
    env: dict[str, str] = field(default_factory=dict)
    secret_files: dict[str, str] = field(default_factory=dict)
    """Path within `rules.SECRETS_FOLDER` → content."""
    fork: bool | None = None
    fresh: bool = False
    """Every process imports the code itself, and not before it is needed."""
    memory: int | None = None
    cpu: float | None = None


class ReplicaSpec(Frame, frozen=True, kw_only=True):
    app: str
    project: str
    domain: str
    version: str
    kind: str
    entry: str = ""
    argv: list[str] = field(default_factory=list)
    port: int = 8080
    """What the program believes it binds."""
    health_path: str = "/"
    no_effect: list[str] = field(default_factory=list)
    """One line for each option that is declared and not carried out here."""
    env: dict[str, str] = field(default_factory=dict)
    """Parameters, endpoints and identity, on top of the pool's."""
    start_timeout: float = 60
    log: str = ""
    """Path of the file that gets stdout and stderr."""
    revision: str = ""
    """The digest of what was deployed: a version that is deployed anew with other values is another revision."""


# --- control plane → agent


class StartUnit(Frame, frozen=True, kw_only=True):
    unit: str
    kind: Literal["worker", "replica"]
    pool: PoolSpec
    reuse: bool = False
    """A worker that stays for many actions; otherwise it exits after one."""
    concurrency: int = 1
    replica: ReplicaSpec | None = None
    env: dict[str, str] = field(default_factory=dict)


class StopUnit(Frame, frozen=True, kw_only=True):
    """SIGTERM to the process group, SIGKILL after `grace` seconds (0: at once)."""

    unit: str
    grace: float = 5
    reason: str = ""


class KeepPools(Frame, frozen=True, kw_only=True):
    """The pools that may go on living; the agent ends the zygotes of all others."""

    pools: list[str]


class CheckPool(Frame, frozen=True, kw_only=True):
    """Is what the pool's processes have imported still what is on disk? Answered by `PoolChecked`, also of a zygote."""

    pool: str
    age: float = 0
    """The greatest age of an import in seconds; 0: any."""


# --- agent → control plane


class UnitStarted(Frame, frozen=True, kw_only=True):
    unit: rules.UnitName
    pid: rules.Count


class UnitReady(Frame, frozen=True, kw_only=True):
    """A replica answers at `address` (`host:port`)."""

    unit: rules.UnitName
    address: Annotated[str, rules.ADDRESS]


class UnitWaits(Frame, frozen=True, kw_only=True):
    """A replica is not ready yet; `message` says why: `GET / answers 500 (2 of 60 s): …`."""

    unit: rules.UnitName
    message: rules.Printed


class UnitExited(Frame, frozen=True, kw_only=True):
    unit: rules.UnitName
    code: int | None = None
    signal: int | None = None
    oom: bool = False
    reason: rules.Printed = ""
    """In words: `exit code 1`, `killed by SIGKILL`, `did not become ready in 60 s: …`."""
    tail: rules.Printed = ""
    """The last lines it wrote."""


class PoolFailed(Frame, frozen=True, kw_only=True):
    """The pool's module cannot be imported; units that wait for it will not start."""

    pool: rules.Line
    error: ErrorInfo
    tail: rules.Printed = ""


class PoolReady(Frame, frozen=True, kw_only=True):
    pool: rules.Line
    forks: bool
    message: rules.Printed = ""
    """Why the code is not forked, where it is not."""
    variables: list[str] | None = None
    """The environment variables that the import looked at; None: it may have looked at any."""


class PoolChecked(Frame, frozen=True, kw_only=True):
    """The answer to `CheckPool`. What is outdated was let go: the pool's next unit imports anew."""

    pool: rules.Line
    outdated: rules.Printed = ""
    """What has changed; empty: nothing has."""
    units: list[rules.UnitName] = field(default_factory=list)
    """The pool's units that have what was outdated now, or at an earlier check."""


# --- agent ⇄ zygote (a socket pair between parent and child). The zygote answers with frames that exist already:
# PoolReady or PoolFailed once, then for each unit UnitStarted, UnitReady (a replica may be probed from now; no address)
# and UnitExited (code and signal; the agent adds the words); and each CheckPool with a PoolChecked.


class Isolation(Frame, frozen=True):
    """What the units of a zygote have to themselves (`flyte.runtime.isolation`). All paths are absolute."""

    profile: Literal["tidy", "links"]
    home: str
    """The platform's folder, which `tidy` covers."""
    kept: list[str]
    """Its files and folders that units need."""
    link: str
    """The folder of the link's socket."""
    work: str
    """Where each unit has a folder of its name."""
    own: str
    """The zygote's own folder, which it makes."""
    entered: bool = False
    """The zygote has executed itself anew, and its mounts are there."""
    hidden: list[str] = []
    """Folders within `kept` that units do not need, and find empty."""


class LoadPool(Frame, frozen=True, kw_only=True):
    """The first order to a zygote: import the pool's modules, so that forks find them loaded."""

    pool: PoolSpec
    isolation: Isolation | None = None


class ForkUnit(Frame, frozen=True, kw_only=True):
    """Fork a unit; in the child this is all it knows about itself."""

    unit: str
    kind: Literal["worker", "replica"]
    env: dict[str, str] = field(default_factory=dict)
    log: str = ""
    """Path of the file that gets stdout and stderr; empty: the zygote's own."""
    reuse: bool = False
    concurrency: int = 1
    replica: ReplicaSpec | None = None
    port: int = 0
    """For a replica: what it really binds."""
    group: str = ""
    """The file to write 0 to in order to enter the memory group it is held to."""


class SignalUnit(Frame, frozen=True, kw_only=True):
    """Send a signal to the unit's process group. Only its parent can do so without ever meeting a recycled number."""

    unit: str
    signal: int


# --- worker ⇄ control plane


class Hello(Frame, frozen=True, kw_only=True):
    """The first frame on every link. `name` is the unit's id, or `agent`, or `gateway`."""

    kind: Literal["worker", "replica", "agent", "gateway", "client"]
    name: rules.UnitName
    token: rules.Line
    pid: rules.Count = 0
    pool: rules.Line = ""
    reuse: bool = False
    concurrency: Annotated[int, rules.CONCURRENCY] = 1
    held: list[Held] = field(default_factory=list)
    units: list[UnitState] = field(default_factory=list)
    place: rules.Count | None = None
    """Where the worker writes down what it holds."""
    spent: bool = False
    """A fresh worker that had its action, and is about to end."""


class Welcome(Frame, frozen=True, kw_only=True):
    epoch: int
    version: str = ""


class Refused(Frame, frozen=True, kw_only=True):
    """The control plane does not want this link; a worker that gets it exits."""

    message: str


class Assign(Frame, frozen=True, kw_only=True):
    """Run this action. Everything that `flyte.ctx()` shows is here."""

    run: str
    action: str
    attempt: int
    task: str
    version: str
    entry: str
    project: str
    domain: str
    inputs: Value
    parent: str | None = None
    group: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    custom_context: dict[str, str] = field(default_factory=dict)
    log: str = ""
    """Path of the file that gets stdout and stderr of this attempt."""
    started: float = 0
    url: str = ""
    failures: int = 0
    """How often the action failed by its own fault before; what is lost with a process is not counted."""


class Finished(Frame, frozen=True, kw_only=True):
    run: rules.Line
    action: rules.Line
    attempt: rules.Count
    outputs: Value | None = None
    error: ErrorInfo | None = None


class FinishedAck(Frame, frozen=True, kw_only=True):
    """The terminal phase is on disk; a worker that was used once may exit."""

    run: str
    action: str
    attempt: int


class Call(Frame, frozen=True, kw_only=True):
    """An action calls a task: start a child, or find the one that an earlier attempt started."""

    key: int
    """The caller's number for this call; `CallResult` carries it back."""
    run: rules.Line
    action: rules.Line
    attempt: rules.Count
    task: rules.TaskName
    inputs: Value
    sequence: rules.Count = 0
    """How many calls with the same task, inputs and group this attempt made before."""
    group: rules.Line | None = None
    spec: bytes | None = None
    """The TaskSpec as JSON. Sent when the task is not registered at this version, or was overridden."""
    overridden: bool = False
    custom_context: rules.Context | None = None


class CallResult(Frame, frozen=True, kw_only=True):
    key: int
    action: str
    phase: ActionPhase
    outputs: Value | None = None
    error: ErrorInfo | None = None


class CancelCall(Frame, frozen=True, kw_only=True):
    """The coroutine that awaited the call was cancelled: abort that child."""

    key: int
    run: rules.Line
    action: rules.Line
    attempt: rules.Count


class TraceLookup(Frame, frozen=True, kw_only=True):
    """Has this traced step been recorded by an earlier attempt? Answered by `TraceResult`."""

    key: int
    run: rules.Line
    action: rules.Line
    attempt: rules.Count
    step: rules.Line
    """Deterministic id of the step."""
    name: rules.Line


class TraceResult(Frame, frozen=True, kw_only=True):
    key: int
    found: bool = False
    outputs: Value | None = None
    error: ErrorInfo | None = None


class TraceRecord(Frame, frozen=True, kw_only=True):
    """A traced step ended; answered by `TraceResult` once it is on disk."""

    key: int
    run: rules.Line
    action: rules.Line
    attempt: rules.Count
    step: rules.Line
    name: rules.Line
    outputs: Value | None = None
    error: ErrorInfo | None = None
    started: rules.Moment = 0


class Progress(Frame, frozen=True, kw_only=True):
    """A message from inside the action, for whoever watches."""

    run: rules.Line
    action: rules.Line
    attempt: rules.Count
    message: rules.Printed
    body: dict[str, Any] = field(default_factory=dict)


class AbortAction(Frame, frozen=True, kw_only=True):
    """For a worker that runs several actions at once: cancel this one."""

    run: str
    action: str
    attempt: int
    reason: str = ""


class Retire(Frame, frozen=True, kw_only=True):
    """Exit when idle."""


class Ping(Frame, frozen=True, kw_only=True):
    at: float = 0


class Pong(Frame, frozen=True, kw_only=True):
    at: float = 0


# --- gateway ⇄ control plane


class RouteReplica(Frame, frozen=True, kw_only=True):
    name: str
    address: str
    """`host:port`."""


class Route(Frame, frozen=True, kw_only=True):
    """Everything the gateway needs to know of one app."""

    app: str
    """`project/domain/name`."""
    port: int
    hosts: list[str]
    requires_auth: bool
    passes_auth: bool = False
    wanted: str = "active"
    replicas: list[RouteReplica] = field(default_factory=list)
    max_connections: int = 10_000
    """Open requests and WebSockets of one replica; more wait in HAProxy's queue."""
    request_timeout: float | None = None
    scaledown_after: float | None = None
    """Seconds without a request after which the gateway says `Quiet`; None: never."""


class Routes(Frame, frozen=True, kw_only=True):
    """All routes; what is not in it is gone."""

    routes: list[Route]


class RouteChanged(Frame, frozen=True, kw_only=True):
    route: Route


class RouteRemoved(Frame, frozen=True, kw_only=True):
    app: str


class Keys(Frame, frozen=True, kw_only=True):
    """sha256 (hex) of every key that may call apps → who it is."""

    keys: dict[str, str]
    ended: list[str] = field(default_factory=list)
    """Browsers' sessions that were signed out before their time."""


class Wake(Frame, frozen=True, kw_only=True):
    """Requests are held for this app; answered by `Woken` when a replica is ready, or will not be."""

    key: int
    app: rules.AppPath


class Woken(Frame, frozen=True, kw_only=True):
    key: int
    ok: bool
    message: str = ""


class Quiet(Frame, frozen=True, kw_only=True):
    """No request was open and none came in for the route's `scaledown_after`, all the while with these replicas."""

    app: rules.AppPath
    replicas: list[rules.UnitName]


class Parted(Frame, frozen=True, kw_only=True):
    """The app lost its last replica in the routes, and nothing is open any more to those that it had."""

    app: rules.AppPath


class KeysUsed(Frame, frozen=True, kw_only=True):
    """The subjects that called apps since the last of these frames."""

    callers: list[str]


class Barrier(Frame, frozen=True, kw_only=True):
    """To the gateway: answer with `Applied` when HAProxy has every route that was sent before this."""

    number: int


class Applied(Frame, frozen=True, kw_only=True):
    number: int


class GatewayStatus(Frame, frozen=True, kw_only=True):
    unusable_ports: list[Annotated[int, rules.PORT]] = field(default_factory=list)
    message: rules.Printed = ""
    left_out: dict[str, str] = field(default_factory=dict)
    """`project/domain/app`, or the sha256 of a key → why HAProxy is not told of it."""


# --- a call of the HTTP API over the link (Hello of kind `client`), for programs on the platform's own machine: the
# same routes and the same answers, without what HTTP costs at both ends


class Ask(Frame, frozen=True, kw_only=True):
    key: int
    """The caller's number for this call; `Answer` carries it back."""
    method: rules.Line
    path: rules.Folder
    """With its query, as in a request line."""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    """The idempotency key in it was made for this call, which is sent for the first time."""


class Answer(Frame, frozen=True, kw_only=True):
    key: int
    status: int
    body: bytes = b""
    content_type: str = "application/json"


AnyFrame = (
    StartUnit
    | StopUnit
    | KeepPools
    | CheckPool
    | UnitStarted
    | UnitReady
    | UnitWaits
    | UnitExited
    | PoolFailed
    | PoolReady
    | PoolChecked
    | LoadPool
    | ForkUnit
    | SignalUnit
    | Hello
    | Welcome
    | Refused
    | Assign
    | Finished
    | FinishedAck
    | Call
    | CallResult
    | CancelCall
    | TraceLookup
    | TraceResult
    | TraceRecord
    | Progress
    | AbortAction
    | Retire
    | Ping
    | Pong
    | Routes
    | RouteChanged
    | RouteRemoved
    | Keys
    | Wake
    | Woken
    | Quiet
    | Parted
    | KeysUsed
    | GatewayStatus
    | Barrier
    | Applied
    | Ask
    | Answer
)

FRAME_LIMIT = 16 * 1024 * 1024
_HEAD = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyFrame] = msgspec.msgpack.Decoder(AnyFrame)


class FrameError(ValueError):
    """The bytes on the link are no frames: the other side speaks something else, or is broken."""


def pack(frame: Frame) -> bytes:
    """One frame as bytes, ready to be sent."""
    body = _encoder.encode(frame)
    if len(body) > FRAME_LIMIT:
        raise FrameError(f"a {type(frame).__name__} of {len(body):,} bytes is over the limit of {FRAME_LIMIT:,}")
    return _HEAD.pack(len(body)) + body


class Unpacker:
    """Turns the bytes that arrive on a link into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[AnyFrame]:
        """The frames that are complete now. Raises FrameError on anything else than frames."""
        buffer = self._buffer
        buffer += data
        frames: list[AnyFrame] = []
        at = 0
        while len(buffer) - at >= 4:
            (size,) = _HEAD.unpack_from(buffer, at)
            if size > FRAME_LIMIT:
                raise FrameError(f"a frame of {size:,} bytes is announced; the limit is {FRAME_LIMIT:,}")
            if len(buffer) - at - 4 < size:
                break
            try:
                frames.append(_decoder.decode(memoryview(buffer)[at + 4 : at + 4 + size].tobytes()))
            except (msgspec.DecodeError, RecursionError) as error:
                raise FrameError(str(error)) from error
            at += 4 + size
        if at:
            del buffer[:at]
        return frames
