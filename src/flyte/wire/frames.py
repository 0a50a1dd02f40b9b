"""Frames: what runs over the link between the control plane and a worker, a replica, the agent or the gateway."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Struct, field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first
from flyte.wire.artifacts import ArtifactSpec
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


class ProducedArtifact(Frame, frozen=True, kw_only=True):
    """An output of a task that is to be known as an artifact when the task has succeeded."""

    output: rules.Count
    """Which one; the first is 0."""
    spec: ArtifactSpec
    value: bytes
    """Its JSON form."""


class Finished(Frame, frozen=True, kw_only=True):
    run: rules.Line
    action: rules.Line
    attempt: rules.Count
    outputs: Value | None = None
    error: ErrorInfo | None = None
    artifacts: list[ProducedArtifact] = field(default_factory=list)


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


LinkFrame = (
    Hello
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
    | Ask
    | Answer
)
"""What travels between the control plane and a worker or a client, and what every link has."""
