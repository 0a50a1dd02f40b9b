"""Frames: what runs over the link between the control plane and a worker, a replica, the agent or the gateway."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Struct, field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first
from flyte.wire.records import ActionPhase, ErrorInfo

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


class InFlight(Frame, frozen=True, kw_only=True):
    """An action that a worker still has in flight when it (re)connects."""

    run: rules.Line
    action: rules.Line
    attempt: rules.Count


SLOT_SIZE = 16_384
"""Bytes of a worker's place in the file of what workers hold."""


class InFlightRecord(Struct, frozen=True):
    """What one worker holds, as it stands in its place: a line of JSON."""

    unit: str
    held: list[InFlight]


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
    image: str = ""
    """Key of the environment that `python` is in; empty for the platform's own."""
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
    """The pools that may go on living; the agent ends the fork servers of all others."""

    pools: list[str]


class CheckPool(Frame, frozen=True, kw_only=True):
    """Are the files that the pool's processes have imported unchanged? Answered by `PoolChecked`."""

    pool: str
    age: float = 0
    """The greatest age of an import in seconds; 0: any."""


class ImageRequest(Frame, frozen=True, kw_only=True):
    """What an environment is made for: all of an ImageSpec that makes a difference."""

    id: str
    """Content hash of everything below."""
    python: tuple[int, int] | None = None
    requires_python: str = ""
    packages: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    install_flyte: bool = True
    for_app: bool = False
    """Whether it serves an app, and so needs a server."""


class PrepareImage(Frame, frozen=True, kw_only=True):
    """Have the environment; answered by `ImageProgress` while that takes time, then `ImageReady` or `ImageFailed`."""

    request: ImageRequest
    secrets: dict[str, str] = field(default_factory=dict)
    force: bool = False
    """Find versions anew, also where that was done before."""
    own_suffices: bool = False
    """Whether the platform's own Python has all packages, so that it will do where the one asked for is not there."""


class RemoveImages(Frame, frozen=True, kw_only=True):
    """Remove these environments, of which nothing runs."""

    keys: list[str]


# --- agent → control plane


class ImageProgress(Frame, frozen=True, kw_only=True):
    request: rules.Line
    message: rules.Printed
    """`resolving for Python 3.12.1`, `installing 38 packages`."""


class ImageReady(Frame, frozen=True, kw_only=True):
    request: rules.Line
    key: rules.Line = ""
    """Content hash of the interpreter and the lock; empty where it is the platform's own Python."""
    python: rules.Folder
    """The environment's interpreter."""
    version: rules.Line
    """That interpreter's version."""
    lock: rules.Printed = ""
    """The exact versions of what is in it, with hashes."""
    bytes: rules.Position = 0
    seconds: rules.Duration = 0
    """How long it took to have it now."""
    is_new: bool = False
    """Whether it was made now."""
    notes: list[rules.Printed] = field(default_factory=list)
    """What is otherwise than the image asks for."""


class ImageFailed(Frame, frozen=True, kw_only=True):
    request: rules.Line
    error: ErrorInfo


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


# --- agent ⇄ fork server (a socket pair between parent and child). The fork server answers with frames that exist
# already: PoolReady or PoolFailed once, then for each unit UnitStarted, UnitReady (a replica may be probed from now; no
# address) and UnitExited (code and signal; the agent adds the words); and each CheckPool with a PoolChecked.


class Isolation(Frame, frozen=True):
    """What the units of a fork server have to themselves (`flyte.runtime.isolation`). All paths are absolute."""

    profile: Literal["tidy", "links"]
    home: str
    """The platform's folder, which `tidy` covers."""
    kept: list[str]
    """Its files and folders that units need."""
    link: str
    """The folder of the link's socket."""
    work: str
    """Where the folder of a unit is, under its name: with `links` from its start, with `tidy` once it has ended, if it
    wrote something.
    """
    own: str
    """The fork server's own folder, which it makes."""
    entered: bool = False
    """The fork server has executed itself anew, and its mounts are there."""
    hidden: list[str] = []
    """Folders within `kept` that units do not need, and find empty."""


class LoadPool(Frame, frozen=True, kw_only=True):
    """The first order to a fork server: import the pool's modules, so that forks find them loaded."""

    pool: PoolSpec
    isolation: Isolation | None = None


class ForkUnit(Frame, frozen=True, kw_only=True):
    """Fork a unit; in the child this is all it knows about itself."""

    unit: str
    kind: Literal["worker", "replica"]
    env: dict[str, str] = field(default_factory=dict)
    log: str = ""
    """Path of the file that gets stdout and stderr; empty: the fork server's own."""
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
    held: list[InFlight] = field(default_factory=list)
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
    disable_cache: bool = False
    """Whether its run leaves the cache alone."""


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
    """A message from inside the action, for its watchers."""

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
    | PrepareImage
    | RemoveImages
    | ImageProgress
    | ImageReady
    | ImageFailed
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
