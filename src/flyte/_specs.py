"""The values that a declaration is made of: what is asked for, how often it is tried, how long it may take.

All are frozen, check themselves when they are made, and turn into their part of the spec with `to_wire`.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import hashlib
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from flyte import wire
from flyte._image import Architecture, Image, Layer, image_to_wire

__all__ = [
    "AMD_GPU",
    "APPLE_SILICON",
    "GPU",
    "HABANA_GAUDI",
    "TPU",
    "Architecture",
    "Backoff",
    "Cache",
    "CachePolicy",
    "CacheRequest",
    "Cron",
    "Device",
    "DeviceClass",
    "Documentation",
    "FixedRate",
    "FunctionBodyPolicy",
    "Image",
    "Layer",
    "Link",
    "Neuron",
    "PodTemplate",
    "Resources",
    "RetryStrategy",
    "ReusePolicy",
    "Secret",
    "SecretRequest",
    "Timeout",
    "TimeoutType",
    "Trigger",
    "TriggerTime",
    "cache_of",
    "image_to_wire",
    "retries_of",
    "secrets_of",
    "timeout_of",
]

# ------------------------------------------------------------------------------------------------------- resources

DeviceClass = Literal["GPU", "TPU", "NEURON", "AMD_GPU", "HABANA_GAUDI", "APPLE_SILICON"]

_GPUS = ("A10", "A10G", "A100", "A100 80G", "B200", "GB10", "H100", "H200", "L4", "L40s", "T4", "V100", "RTX PRO 6000")
_AMD = ("MI100", "MI210", "MI250", "MI250X", "MI300A", "MI300X", "MI325X", "MI350X", "MI355X")
_NEURON = ("Inf1", "Inf2", "Trn1", "Trn1n", "Trn2", "Trn2u")
_GAUDI = ("Gaudi1",)
_TPUS = ("V5P", "V5LITE_POD", "V6E")


@dataclass(frozen=True, slots=True)
class Device:
    """Accelerators of one kind. Use `GPU`, `TPU` and the like to make one."""

    quantity: int
    device_class: DeviceClass
    device: str | None = None
    """The model; None is any."""
    partition: str | None = None

    def __post_init__(self) -> None:
        if self.quantity < 1:
            raise ValueError(f"a number of accelerators must be at least 1, not {self.quantity}")

    def __str__(self) -> str:
        return f"{self.device or self.device_class}:{self.quantity}"


def _device(device_class: DeviceClass, known: tuple[str, ...], model: str, quantity: int, partition: Any) -> Device:
    if model not in known:
        raise ValueError(f"{model!r} is no {device_class}; known are {', '.join(known)}")
    return Device(quantity, device_class, model, partition)


def GPU(device: str, quantity: int = 1, partition: str | None = None) -> Device:
    """NVIDIA GPUs of one model, such as `GPU("A100", 2)`."""
    return _device("GPU", _GPUS, device, quantity, partition)


def TPU(device: str, partition: str | None = None) -> Device:
    """A TPU slice."""
    return _device("TPU", _TPUS, device, 1, partition)


def Neuron(device: str, quantity: int = 1) -> Device:
    """AWS Neuron devices."""
    return _device("NEURON", _NEURON, device, quantity, None)


def AMD_GPU(device: str, quantity: int = 1) -> Device:
    """AMD GPUs."""
    return _device("AMD_GPU", _AMD, device, quantity, None)


def HABANA_GAUDI(device: str = "Gaudi1", quantity: int = 1) -> Device:
    """Habana Gaudi accelerators."""
    return _device("HABANA_GAUDI", _GAUDI, device, quantity, None)


def APPLE_SILICON(quantity: int = 1) -> Device:
    """The GPU of an Apple machine."""
    return Device(quantity, "APPLE_SILICON")


_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(k|[KMGTP]i?)?$")


def parse_bytes(text: str, what: str = "memory") -> int:
    """Bytes of a quantity such as `512Mi`, `2G` or `1.5Gi`. Raises ValueError that names `what`."""
    found = _QUANTITY.match(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{what} must be text such as '512Mi' or '2Gi', not {text!r}")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def parse_cpu(value: float | str) -> float:
    """Cores of `2`, `0.5`, `"1"` or `"500m"`. Raises ValueError for anything else and for negative numbers."""
    text = str(value)
    try:
        cores = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        raise ValueError(f"cpu must be cores such as 2, '0.5' or '500m', not {value!r}") from None
    if isinstance(value, bool) or cores < 0:
        raise ValueError(f"cpu must not be negative or a bool: {value!r}")
    return cores


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process asks for. A pair is (request, limit); on one machine the request counts, as a weight for cpu."""

    cpu: float | str | tuple[float | str, float | str] | None = None
    """Cores."""
    memory: str | tuple[str, str] | None = None
    gpu: int | str | Device | None = None
    """A number, `"T4:1"`, or a Device."""
    disk: str | None = None
    shm: str | None = None
    """`"auto"`, or a quantity."""

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self) -> wire.ResourcesSpec:
        cpu, memory = _request(self.cpu, parse_cpu), _request(self.memory, parse_bytes)
        return wire.ResourcesSpec(
            cpu=cpu,
            memory=memory,
            gpu=str(_gpu(self.gpu)) if self.gpu else None,
            disk=parse_bytes(self.disk, "disk") if self.disk else None,
            shm=parse_bytes(self.shm, "shm") if self.shm and self.shm != "auto" else None,
        )


def _request(value: Any, parse: Callable[[Any], Any]) -> Any:
    if not isinstance(value, tuple):
        return None if value is None else parse(value)
    if len(value) != 2:
        raise ValueError(f"a pair is (request, limit), not {value!r}")
    request, limit = map(parse, value)
    if request > limit:
        raise ValueError(f"the request {value[0]!r} is over the limit {value[1]!r}")
    return request


def _gpu(value: int | str | Device) -> Device:
    if isinstance(value, Device):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Device(value, "GPU")
    model, _, count = str(value).partition(":")
    families: tuple[tuple[DeviceClass, tuple[str, ...]], ...] = (
        ("GPU", _GPUS),
        ("AMD_GPU", _AMD),
        ("NEURON", _NEURON),
        ("HABANA_GAUDI", _GAUDI),
    )
    for device_class, known in families:
        if model in known and count.isdigit():
            return Device(int(count), device_class, model)
    raise ValueError(f"gpu must be a number, a Device, or text such as 'T4:1', not {value!r}")


# --------------------------------------------------------------------------------------------------------- secrets

_ENV_NAME = re.compile(r"^[A-Z_][A-Z0-9_]*$")
_SECRET_MOUNT = Path("/etc/flyte/secrets")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by its name, given to the process as an environment variable.

    The variable is KEY in upper case with `_` for `-` (with GROUP_ in front where there is a group), or `as_env_var`.
    """

    key: str
    group: str | None = None
    mount: Path | None = None
    """Only `/etc/flyte/secrets`; on this platform the value is in the environment variable as well."""
    as_env_var: str | None = None

    def __post_init__(self) -> None:
        if self.mount is not None and Path(self.mount) != _SECRET_MOUNT:
            raise ValueError(f"a secret can be mounted at {_SECRET_MOUNT} only, not at {self.mount}")
        if self.as_env_var is not None and not _ENV_NAME.match(self.as_env_var):
            raise ValueError(
                f"{self.as_env_var!r} is no name for an environment variable: upper-case letters, digits and _"
            )

    @property
    def env_var(self) -> str:
        """The environment variable that gets the value."""
        if self.as_env_var:
            return self.as_env_var
        whole = f"{self.group}_{self.key}" if self.group else self.key
        return re.sub(r"[^A-Z0-9_]", "_", whole.upper())

    def to_wire(self) -> wire.SecretSpec:
        mount = str(self.mount) if self.mount else None
        return wire.SecretSpec(key=self.key, group=self.group, env=self.env_var, mount=mount)


SecretRequest = str | Secret | list[str | Secret]
"""What `secrets=` takes: a name, a Secret, or a list of either."""


def secrets_of(request: SecretRequest | Iterable[str | Secret] | None) -> tuple[Secret, ...]:
    """The secrets that `secrets=` names. Raises TypeError for anything else."""
    if request is None:
        return ()
    if not isinstance(request, str | Secret | Iterable):
        raise TypeError(f"Expected secrets to be of type SecretRequest, got {type(request)}")
    items = [request] if isinstance(request, str | Secret) else list(request)
    for item in items:
        if not isinstance(item, str | Secret):
            raise TypeError(f"Expected secrets to be of type SecretRequest, got {type(item)} among them")
    return tuple(Secret(item) if isinstance(item, str) else item for item in items)


# ----------------------------------------------------------------------------------------------------------- cache


@runtime_checkable
class CachePolicy(Protocol):
    """Makes a version out of a task: equal versions may share results."""

    def get_version(self, salt: str, params: VersionParameters) -> str: ...


@dataclass(frozen=True, slots=True)
class VersionParameters:
    """What a CachePolicy looks at."""

    func: Callable[..., Any] | None
    image: Image | str | None = None


@dataclass(frozen=True, slots=True)
class FunctionBodyPolicy:
    """A new version whenever the function's code changes; comments, layout and decorators do not count."""

    def get_version(self, salt: str, params: VersionParameters) -> str:
        if params.func is None:
            return ""
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(params.func)))
        except (OSError, TypeError, SyntaxError):
            return hashlib.sha256(salt.encode() + params.func.__code__.co_code).hexdigest()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                node.decorator_list = []
        return hashlib.sha256((salt + ast.dump(tree)).encode()).hexdigest()


CacheBehavior = Literal["auto", "override", "disable"]
_BEHAVIORS: dict[str, CacheBehavior] = {
    "auto": "auto",
    "on": "auto",
    "enable": "auto",
    "enabled": "auto",
    "override": "override",
    "disable": "disable",
    "disabled": "disable",
    "off": "disable",
    "none": "disable",
}


@dataclass(frozen=True, slots=True)
class Cache:
    """Whether results are kept and found again.

    `auto` derives the version from the function's code (or from `policies`), `override` takes `version_override`.
    """

    behavior: CacheBehavior
    version_override: str | None = None
    serialize: bool = False
    """Let identical calls that come at once run once."""
    ignored_inputs: tuple[str, ...] | str = ()
    salt: str = ""
    policies: list[CachePolicy] | CachePolicy | None = field(default=None, compare=False)
    max_age: dt.timedelta | int | None = None
    """How old (seconds) a result may be."""

    def __post_init__(self) -> None:
        if self.behavior not in _BEHAVIORS:
            raise ValueError(f"the cache's behavior must be auto, override or disable, not {self.behavior!r}")
        object.__setattr__(self, "behavior", _BEHAVIORS[self.behavior])
        if isinstance(self.ignored_inputs, str):
            object.__setattr__(self, "ignored_inputs", (self.ignored_inputs,))
        if self.behavior == "override" and not self.version_override:
            raise ValueError("Cache(behavior='override') needs version_override=")

    @property
    def is_enabled(self) -> bool:
        return self.behavior != "disable"

    def get_ignored_inputs(self) -> tuple[str, ...]:
        return tuple(self.ignored_inputs)

    def get_version(self, params: VersionParameters) -> str:
        """The version under which results are kept."""
        if self.version_override:
            return self.version_override
        policies = self.policies or [FunctionBodyPolicy()]
        parts = [
            policy.get_version(self.salt, params) for policy in (policies if isinstance(policies, list) else [policies])
        ]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def to_wire(self, func: Callable[..., Any] | None, image: Image | str | None = None) -> wire.CacheSpec | None:
        """The spec for the task `func`, or None where nothing is cached."""
        if not self.is_enabled:
            return None
        return wire.CacheSpec(
            version=self.get_version(VersionParameters(func, image)),
            serialize=self.serialize,
            ignored_inputs=list(self.ignored_inputs),
            salt=self.salt,
        )


CacheRequest = CacheBehavior | str | Cache


def cache_of(request: CacheRequest) -> Cache:
    """The Cache that `cache=` names: a word such as "auto" or "disable", or a Cache."""
    if isinstance(request, Cache):
        return request
    if not isinstance(request, str) or request.lower() not in _BEHAVIORS:
        raise ValueError(f"cache= takes 'auto', 'override', 'disable' or a flyte.Cache, not {request!r}")
    return Cache(_BEHAVIORS[request.lower()])


# ------------------------------------------------------------------------------------------------ retries, timeouts


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before retry n (from 0): `min(base * factor ** n, cap)`."""

    base: dt.timedelta
    factor: float = 1.0
    cap: dt.timedelta | None = None
    """Needed where `factor` is above 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", _timedelta(self.base, "base"))
        if self.cap is not None:
            object.__setattr__(self, "cap", _timedelta(self.cap, "cap"))
        if self.base < dt.timedelta():
            raise ValueError(f"Backoff: base must be >= 0, not {self.base}")
        if not math.isfinite(self.factor):
            raise ValueError(f"Backoff: factor must be a finite number, not {self.factor}")
        if self.factor < 1:
            raise ValueError(f"Backoff: factor must be >= 1.0, not {self.factor}")
        if self.cap is not None and self.cap < dt.timedelta():
            raise ValueError(f"Backoff: cap must be >= 0, not {self.cap}")
        if self.cap is None and self.factor > 1:
            raise ValueError("Backoff: cap is required when factor > 1.0, so that a pause cannot grow for ever")

    def compute_delay(self, n: int) -> dt.timedelta:
        """The pause before retry `n`, counted from 0."""
        if n < 0:
            raise ValueError(f"Backoff: n must be >= 0, not {n}")
        most = (self.cap or dt.timedelta.max).total_seconds()
        try:
            seconds = self.base.total_seconds() * self.factor**n
        except OverflowError:
            seconds = most
        return dt.timedelta(seconds=min(seconds, most))


@dataclass(frozen=True, slots=True)
class RetryStrategy:
    """How often an action is tried again after its code failed."""

    count: int
    """Attempts after the first."""
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 0:
            raise ValueError(f"retries must be a number from 0 on, not {self.count!r}")

    def to_wire(self) -> wire.RetrySpec:
        if self.backoff is None:
            return wire.RetrySpec(count=self.count)
        cap = self.backoff.cap.total_seconds() if self.backoff.cap is not None else None
        return wire.RetrySpec(
            count=self.count, base=self.backoff.base.total_seconds(), factor=self.backoff.factor, cap=cap
        )


def retries_of(request: int | RetryStrategy) -> RetryStrategy:
    """The strategy that `retries=` names: a count, or a RetryStrategy."""
    return request if isinstance(request, RetryStrategy) else RetryStrategy(request)


Duration = int | float | dt.timedelta
"""Seconds, or a timedelta."""


def _timedelta(value: Duration, what: str) -> dt.timedelta:
    if isinstance(value, dt.timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be seconds or a timedelta, not {value!r}")
    return dt.timedelta(seconds=value)


@dataclass(frozen=True, slots=True)
class Timeout:
    """Limits of time, each in seconds or as a timedelta; None is no limit."""

    max_runtime: Duration | None = None
    """For each attempt."""
    max_queued_time: Duration | None = None
    """Until an attempt starts."""
    deadline: Duration | None = None
    """For all attempts together, from the action's creation."""

    def __post_init__(self) -> None:
        for name in ("max_runtime", "max_queued_time", "deadline"):
            value = getattr(self, name)
            if value is not None and _timedelta(value, name) <= dt.timedelta():
                raise ValueError(f"Timeout.{name} must be more than 0 seconds")

    def to_wire(self) -> wire.TimeoutSpec:
        limits = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        seconds = {name: _timedelta(v, name).total_seconds() for name, v in limits.items() if v is not None}
        return wire.TimeoutSpec(**seconds)


TimeoutType = Timeout | Duration


def timeout_of(request: TimeoutType | None) -> Timeout:
    """The Timeout that `timeout=` names: seconds or a timedelta for one attempt, or a Timeout; 0 is none."""
    if isinstance(request, Timeout):
        return request
    if request is None or not _timedelta(request, "timeout"):
        return Timeout()
    return Timeout(max_runtime=request)


# ----------------------------------------------------------------------------------------------------------- reuse


@dataclass(frozen=True, slots=True)
class ReusePolicy:
    """Processes that stay for many actions, so that what the module keeps in memory survives between them."""

    replicas: int | tuple[int, int] = 2
    """At most that many, or (at least, at most)."""
    idle_ttl: int | dt.timedelta = 30
    """Seconds without work after which they all end; at least 30."""
    concurrency: int = 1
    """Actions at once in each; more than 1 for async tasks only."""
    scaledown_ttl: int | dt.timedelta = 30
    """Seconds without work after which one ends; at least 30."""
    scope: Literal["global", "run"] = "global"

    def __post_init__(self) -> None:
        if isinstance(self.replicas, int):
            object.__setattr__(self, "replicas", (self.replicas, self.replicas))
        low, high = self.range
        if not 0 <= low <= high or high < 1:
            raise ValueError(
                f"ReusePolicy.replicas must be a number from 1 on, or (at least, at most): {self.replicas!r}"
            )
        if self.concurrency < 1:
            raise ValueError("ReusePolicy.concurrency must be at least 1")
        for name in ("idle_ttl", "scaledown_ttl"):
            object.__setattr__(self, name, _timedelta(getattr(self, name), name))
            if getattr(self, name) < dt.timedelta(seconds=30):
                raise ValueError(f"ReusePolicy.{name} must be at least 30 seconds")

    @property
    def range(self) -> tuple[int, int]:
        """(at least, at most)."""
        return self.replicas if isinstance(self.replicas, tuple) else (self.replicas, self.replicas)

    def to_wire(self) -> wire.ReuseSpec:
        low, high = self.range
        idle = _timedelta(self.idle_ttl, "idle_ttl").total_seconds()
        return wire.ReuseSpec(min_replicas=low, max_replicas=high, concurrency=self.concurrency, idle_ttl=idle)


# -------------------------------------------------------------------------------------------------------- triggers


@dataclass(frozen=True, slots=True)
class Cron:
    """A time table of five fields: minute, hour, day, month, weekday."""

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if len(self.expression.split()) != 5 and not self.expression.startswith("@"):
            raise ValueError(f"a cron expression has five fields (minute hour day month weekday): {self.expression!r}")


@dataclass(frozen=True, slots=True)
class FixedRate:
    """Every so many minutes."""

    interval_minutes: int
    start_time: dt.datetime | None = None

    def __post_init__(self) -> None:
        if self.interval_minutes < 1:
            raise ValueError("FixedRate.interval_minutes must be at least 1")


class _TriggerTime:
    """Stands for the time at which a trigger fired, among a trigger's inputs."""

    def __repr__(self) -> str:
        return "flyte.TriggerTime"


TriggerTime = _TriggerTime()


@dataclass(frozen=True)
class Trigger:
    """What starts a task by itself."""

    name: str
    automation: Cron | FixedRate | None = None
    description: str = ""
    auto_activate: bool = True
    inputs: Mapping[str, Any] | None = None
    env_vars: Mapping[str, str] | None = None
    interruptible: bool | None = None
    overwrite_cache: bool = False
    queue: str | None = None
    max_action_concurrency: int | None = None
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    notifications: Any = None
    custom_context: Mapping[str, str] | None = None

    @classmethod
    def _at(cls, expression: str, name: str, trigger_time_input_key: str | None, fields: dict[str, Any]) -> Trigger:
        inputs = dict(fields.pop("inputs", None) or {})
        if trigger_time_input_key:
            inputs.setdefault(trigger_time_input_key, TriggerTime)
        return cls(name, Cron(expression), inputs=inputs or None, **fields)

    @classmethod
    def minutely(cls, trigger_time_input_key: str | None = None, name: str = "minutely", **fields: Any) -> Trigger:
        """Every minute; the time goes into the input of that name."""
        return cls._at("* * * * *", name, trigger_time_input_key, fields)

    @classmethod
    def hourly(cls, trigger_time_input_key: str | None = None, name: str = "hourly", **fields: Any) -> Trigger:
        """At every full hour."""
        return cls._at("0 * * * *", name, trigger_time_input_key, fields)

    @classmethod
    def daily(cls, trigger_time_input_key: str | None = None, name: str = "daily", **fields: Any) -> Trigger:
        """At midnight UTC."""
        return cls._at("0 0 * * *", name, trigger_time_input_key, fields)

    @classmethod
    def weekly(cls, trigger_time_input_key: str | None = None, name: str = "weekly", **fields: Any) -> Trigger:
        """On Sundays at midnight UTC."""
        return cls._at("0 0 * * 0", name, trigger_time_input_key, fields)

    @classmethod
    def monthly(cls, trigger_time_input_key: str | None = None, name: str = "monthly", **fields: Any) -> Trigger:
        """On the first of a month at midnight UTC."""
        return cls._at("0 0 1 * *", name, trigger_time_input_key, fields)


# ---------------------------------------------------------------------------------------------------------- others


@dataclass(frozen=True, slots=True)
class Documentation:
    """What a task's page says of it."""

    description: str


@dataclass(frozen=True)
class PodTemplate:
    """How Kubernetes is to run the pod; other engines leave it alone."""

    pod_spec: Any = None
    primary_container_name: str = "primary"
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None


@runtime_checkable
class Link(Protocol):
    """Makes a link that an action's page shows."""

    name: str

    def get_link(
        self,
        run_name: str,
        project: str,
        domain: str,
        context: dict[str, str],
        parent_action_name: str,
        action_name: str,
        pod_name: str,
        **kwargs: Any,
    ) -> str: ...
