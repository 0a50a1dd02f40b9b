"""The values that a declaration is made of, all in one place; those with a page of their own come from there.

All are frozen, check themselves when they are made, and turn into their part of the spec with `to_wire`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from flyte import rules, wire
from flyte._declare.cache import Cache, CachePolicy, CacheRequest, FunctionBodyPolicy, VersionParameters, cache_of
from flyte._declare.image import Architecture, Image, Layer, image_to_wire
from flyte._declare.resources import (
    AMD_GPU,
    APPLE_SILICON,
    GPU,
    HABANA_GAUDI,
    TPU,
    Device,
    DeviceClass,
    Neuron,
    Resources,
)
from flyte._declare.retry import Backoff, RetryStrategy, Timeout, TimeoutType, retries_of, timedelta_of, timeout_of
from flyte._declare.trigger import Cron, FixedRate, Trigger, TriggerTime

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
    "VersionParameters",
    "cache_of",
    "image_to_wire",
    "retries_of",
    "secrets_of",
    "timeout_of",
]


_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*\Z")
_SECRET_MOUNT = Path(rules.SECRETS_FOLDER)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by its name, given to the process as an environment variable.

    The variable is KEY in upper case with `_` for `-` (with GROUP_ in front where there is a group), or `as_env_var`.
    """

    key: str
    group: str | None = None
    mount: Path | None = None
    """`/etc/flyte/secrets`: the value is also a file there, named KEY (GROUP/KEY with a group). Only processes of
    environments that mount the secret can see it. There is no file in local mode, nor where the platform's machine has
    no mount namespaces: a warning says so."""
    as_env_var: str | None = None

    def __post_init__(self) -> None:
        if self.mount is not None and Path(self.mount) != _SECRET_MOUNT:
            raise ValueError(f"a secret can be mounted at {_SECRET_MOUNT} only, not at {self.mount}")
        for name in (self.key, self.group):
            if name is not None:
                rules.SECRET_NAME.check(name)
        if self.as_env_var is not None and not _ENV_NAME.match(self.as_env_var):
            raise ValueError(
                f"{self.as_env_var!r} is not a valid name for a secret's variable: upper-case letters, digits and _"
            )

    @property
    def env_var(self) -> str:
        """The environment variable that gets the value."""
        if self.as_env_var:
            return self.as_env_var
        whole = f"{self.group}_{self.key}" if self.group else self.key
        return re.sub(r"[^A-Z0-9_]", "_", whole.upper())

    @property
    def file(self) -> str:
        """The file's path within the folder where it is mounted."""
        return f"{self.group}/{self.key}" if self.group else self.key

    def is_file_here(self) -> bool:
        """Whether this machine has the file that a mount is to make."""
        return (_SECRET_MOUNT / self.file).is_file()

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


@dataclass(frozen=True, slots=True)
class ReusePolicy:
    """Processes that stay for many actions, so that what the module keeps in memory survives between them."""

    replicas: int | tuple[int, int] = 2
    """At most that many, or (at least, at most)."""
    idle_ttl: int | dt.timedelta = 30
    """Seconds without work after which they all end; at least 30."""
    concurrency: int = 1
    """Actions at once in each; more than 1 for async tasks only. They share one environment: what tells actions apart
    is in `flyte.ctx()`, and runs with different `env_vars` get different processes."""
    scaledown_ttl: int | dt.timedelta = 30
    """Seconds without work after which one ends; at least 30."""
    scope: Literal["global", "run"] = "global"

    def __post_init__(self) -> None:
        if isinstance(self.replicas, int):
            object.__setattr__(self, "replicas", (self.replicas, self.replicas))
        low, high = self.range
        rules.MAX_REPLICAS.check(high)
        if not 0 <= low <= high:
            raise ValueError(
                f"ReusePolicy.replicas must be a number from 1 on, or (at least, at most): {self.replicas!r}"
            )
        rules.CONCURRENCY.check(self.concurrency)
        for name in ("idle_ttl", "scaledown_ttl"):
            object.__setattr__(self, name, timedelta_of(getattr(self, name), name))
            if getattr(self, name) < dt.timedelta(seconds=30):
                raise ValueError(f"ReusePolicy.{name} must be at least 30 seconds")

    @property
    def range(self) -> tuple[int, int]:
        """(at least, at most)."""
        return self.replicas if isinstance(self.replicas, tuple) else (self.replicas, self.replicas)

    def to_wire(self) -> wire.ReuseSpec:
        low, high = self.range
        idle = timedelta_of(self.idle_ttl, "idle_ttl").total_seconds()
        return wire.ReuseSpec(min_replicas=low, max_replicas=high, concurrency=self.concurrency, idle_ttl=idle)


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
