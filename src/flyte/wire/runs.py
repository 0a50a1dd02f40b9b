"""Records of runs and their actions, and of the cache that holds their results."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first
from flyte.wire.records import ActionPhase, ErrorInfo
from flyte.wire.specs import DEFAULT_DOMAIN, DEFAULT_PROJECT, ActionLink, InterfaceSpec, OptionalRaw, Record, TaskSpec


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
    """How many of its actions are at work at the same time; None and 0 mean no limit, 1 is refused."""
    overwrite_cache: bool = False
    """Compute what is in the cache too, and replace it."""
    disable_cache: bool = False
    """Neither look into the cache nor put results into it."""


CACHED = "cached: "
"""The beginning of an action's message where its result was in the cache."""


class CacheUse(Record, frozen=True, kw_only=True):
    """What the cache had to do with the result of an action."""

    status: Literal["hit", "populated"]
    """hit: the result was in the cache, and nothing was computed; populated: it was computed, and is in the cache."""
    run: str = ""
    """The run and the action that computed the result; empty where it is the action itself."""
    action: str = ""
    seconds: float = 0
    """How long that took: what a hit has saved."""

    def message(self) -> str:
        """What an action that ends with a result of the cache says."""
        return f"{CACHED}{self}"

    def __str__(self) -> str:
        if self.status == "populated":
            return "the result is in the cache now"
        return f"the result of {self.run}/{self.action}, {self.seconds:.1f} s saved"


class CachedResult(Record, frozen=True, kw_only=True):
    """One result in the cache."""

    key: str
    """A hash of the task's name, interface and cache version, and of the inputs; unique on the platform."""
    project: str
    domain: str
    task: str
    version: str
    """The cache version: of the function's source, or what `version_override` says."""
    run: str
    """The run and the action that computed it."""
    action: str
    created: float
    seconds: float = 0
    """How long that took."""
    bytes: int | None = None
    """Size of the encoded result; None for one in a blob."""


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
    cache: CacheUse | None = None
    """None where no cache was used."""


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
    links: list[ActionLink] = field(default_factory=list)


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
    cache: CacheUse | None = None
    """The root action's."""
    seq: int = 0
    """The event log's number that this snapshot includes."""
