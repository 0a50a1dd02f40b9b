"""Specs: what a declaration becomes, and what all messages are built on."""

from __future__ import annotations

import datetime
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


class Record(Struct, frozen=True, omit_defaults=True):
    """The base of everything that is sent as JSON: frozen, and defaults are left out."""


class SecretSpec(Record, frozen=True, kw_only=True):
    key: rules.SecretName
    group: rules.SecretName | None = None
    env: Annotated[str, rules.VARIABLE]
    """The environment variable that gets the value."""
    mount: Annotated[str, rules.SECRET_MOUNT] | None = None
    """The folder in which the value is a file, too: KEY, or GROUP/KEY."""


class ImageSpec(Record, frozen=True, kw_only=True):
    """An `Image`, as far as a process on this machine needs it: an interpreter, packages, and layers to be told of."""

    name: rules.Line = "auto"
    python: tuple[Annotated[int, rules.PYTHON_VERSION], Annotated[int, rules.PYTHON_VERSION]] | None = None
    requires_python: rules.Line = ""
    """What a project or script says of versions, as `>=3.12`; `python` counts before it."""
    packages: list[rules.Requirement] = field(default_factory=list)
    """Requirement strings, as pip reads them; hashes may follow."""
    constraints: list[rules.Requirement] = field(default_factory=list)
    """Requirement strings for what is installed because something else needs it."""
    overrides: list[rules.Requirement] = field(default_factory=list)
    """Requirement strings that replace all others for the same package."""
    options: list[rules.Requirement] = field(default_factory=list)
    """Options of pip or uv, one word each: indexes, pre-releases, and what the user gave besides."""
    install_flyte: bool = True
    """Whether what Flyte's own images have is installed, too."""
    secrets: list[SecretSpec] = field(default_factory=list)
    """What requirements and indexes may name as `$NAME`, while the environment is made."""
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
    """Seconds; None means no limit. `max_runtime` is for each attempt, `deadline` for all of them from the start."""

    max_runtime: rules.Duration | None = None
    max_queued_time: rules.Duration | None = None
    deadline: rules.Duration | None = None


class CacheSpec(Record, frozen=True, kw_only=True):
    version: rules.Line
    serialize: bool = False
    """Whether equal calls that come at the same time compute once: the others wait for the result."""
    ignored_inputs: list[rules.Line] = field(default_factory=list)
    salt: rules.Line = ""
    max_age: rules.Duration | None = None
    """Seconds after which a result is not used any more."""


class ActionLink(Record, frozen=True, kw_only=True):
    """A link of an action to a page elsewhere, which the task declares by `links=`."""

    name: rules.Line
    uri: Annotated[str, rules.LINK_URI]
    """In a TaskSpec, `{{.runName}}` and the other words of `LINK_WORDS` stand for what the submitter did not know."""
    icon: Annotated[str, rules.LINK_URI] | None = None


LINK_WORDS = ("runName", "actionName", "parentActionName", "podName", "project", "domain")


class TriggerSpec(Record, frozen=True, kw_only=True):
    """When a task is started by itself, and with what. With neither `cron` nor `every` only `flyte.run` starts it."""

    name: Annotated[str, rules.TRIGGER_NAME]
    """Unique among the triggers of its task."""
    cron: rules.Line = ""
    """A time table of five fields: minute, hour, day, month, weekday."""
    timezone: rules.Line = "UTC"
    """The IANA name of the time zone of `cron`, as `Europe/Berlin`."""
    every: Annotated[int, rules.MINUTES] = 0
    """Minutes from one fire to the next; 0 where there is a `cron`."""
    start: Annotated[float, rules.MOMENT] | None = None
    """What `every` is counted from; None is when the trigger was activated."""
    active: bool = True
    """Whether deploying it activates it."""
    description: str = ""
    inputs: msgspec.Raw = msgspec.Raw(b"{}")
    """A JSON object: input name → value."""
    time_inputs: list[rules.Line] = field(default_factory=list)
    """Names of the inputs that get the time for which the run was due."""
    env_vars: rules.Variables = field(default_factory=dict)
    labels: rules.Labels = field(default_factory=dict)
    custom_context: rules.Context = field(default_factory=dict)
    max_action_concurrency: Annotated[int, rules.ACTION_CONCURRENCY] | None = None
    overwrite_cache: bool = False

    @property
    def when(self) -> str:
        """When it is due, in words."""
        if self.cron:
            return f"{self.cron} ({self.timezone})"
        if not self.every:
            return "never by itself"
        interval = "every minute" if self.every == 1 else f"every {self.every} minutes"
        if self.start is None:
            return interval
        return f"{interval} from {datetime.datetime.fromtimestamp(self.start, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


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
    links: list[ActionLink] = field(default_factory=list)
    triggers: list[TriggerSpec] = field(default_factory=list)
    no_effect: list[str] = field(default_factory=list)
    """One line for each option that is declared and not carried out here."""


class ParameterSpec(Record, frozen=True, kw_only=True):
    """One parameter (`Input`) of an app: a literal, an app's endpoint, an output of a run, or an artifact.

    The platform replaces an artifact by its file or folder when the app is deployed.
    """

    name: Annotated[str, rules.PARAMETER_NAME]
    env: Annotated[str, rules.VARIABLE] | None = None
    """The environment variable that gets the value."""
    kind: Literal["value", "endpoint", "run_output", "artifact", "file", "dir"] = "value"
    value: Annotated[str, rules.VARIABLE_VALUE] | None = None
    app_name: rules.AppName | None = None
    run_name: rules.RunName | None = None
    task_name: rules.TaskName | None = None
    task_version: rules.VersionName | None = None
    getter: list[rules.Line | int] = field(default_factory=list)
    artifact: rules.Line | None = None
    artifact_version: rules.Line | None = None
    """None where the one that was made last is meant; once the app is deployed, that which was found."""
    artifact_place: tuple[rules.Line | None, rules.Line | None] = (None, None)
    """Its project and domain; None where they are those of the app."""
    artifact_type: Literal["file", "dir"] | None = None
    """What it has to be, where that is declared."""
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
