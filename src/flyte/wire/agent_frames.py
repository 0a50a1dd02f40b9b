"""Frames of the agent: between the control plane and the agent, and between the agent and its fork servers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first
from flyte.wire.frames import Frame
from flyte.wire.records import ErrorInfo


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
    hidden: list[str] = field(default_factory=list)
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


AgentFrame = (
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
)
"""What travels between the control plane and the agent, and between the agent and its fork servers."""
