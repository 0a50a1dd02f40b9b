"""The values that a declaration is made of, all in one place; those with a page of their own come from there.

All are frozen, check themselves when they are made, and turn into their part of the spec with `to_wire`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from flyte import rules, wire
from flyte._declare.cache import Cache, CachePolicy, CacheRequest, FunctionBodyPolicy, VersionParameters, cache_of
from flyte._declare.image import Image, image_to_wire
from flyte._declare.layer import Architecture, Layer
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
from flyte._declare.secret import Secret, SecretRequest, secrets_of
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
    """Makes a link that an action's page shows. `icon_uri`, if there is one, is the address of its picture."""

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
    ) -> str:
        """The address, http:// or https://. Empty text leaves the link out.

        `context` is the custom context of the action. What is not known when the action is submitted (`pod_name` and
        `action_name`; all names where the task is deployed) is text such as `{{.actionName}}`, which is replaced later.
        """
        ...
