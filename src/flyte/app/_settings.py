"""The settings of an app environment: port, links, scaling, time limits, host names."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from flyte import wire

RESERVED_PORTS = (8012, 8022, 8112, 9090, 9091)
_LONGEST_REQUEST = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Port:
    """The port that the app's program binds; the platform chooses the real port, and the app's address."""

    port: int
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 1 <= self.port <= 65535:
            raise ValueError(f"a port is a number from 1 to 65535, not {self.port!r}")
        if self.port in RESERVED_PORTS:
            reserved = ", ".join(map(str, RESERVED_PORTS))
            raise ValueError(f"port {self.port} is not allowed: {reserved} are reserved; choose another")

    def __index__(self) -> int:  # so that `sock.bind((host, env.port))` works
        return self.port


@dataclass(frozen=True, slots=True)
class Link:
    """A link that the app's page shows."""

    path: str
    """A URL, or a path below the app's own."""
    title: str
    is_relative: bool = False

    def to_wire(self) -> wire.LinkSpec:
        return wire.LinkSpec(path=self.path, title=self.title, is_relative=self.is_relative)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Start another replica when each has this many requests in flight."""

    val: int

    def __post_init__(self) -> None:
        _check_metric(self.val)


@dataclass(frozen=True, slots=True)
class RequestRate:
    """Start another replica when each gets this many requests a second."""

    val: int

    def __post_init__(self) -> None:
        _check_metric(self.val)


def _check_metric(value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"a scaling metric is a number from 1 on, not {value!r}")


@dataclass(frozen=True, slots=True)
class Scaling:
    """The number of an app's replicas, and the conditions for more or fewer of them."""

    replicas: int | tuple[int, int] = (0, 1)
    """The exact number, or (at least, at most)."""
    metric: Concurrency | RequestRate | None = None
    scaledown_after: int | dt.timedelta | None = None
    """Seconds without a request after which the app sleeps."""

    Concurrency = Concurrency
    RequestRate = RequestRate

    def __post_init__(self) -> None:
        low, high = self.get_replicas()
        if not 0 <= low <= high or high < 1:
            raise ValueError(f"replicas must be a number from 1 on, or (at least, at most): {self.replicas!r}")
        if self.metric is not None and not isinstance(self.metric, Concurrency | RequestRate):
            raise TypeError(f"metric must be Scaling.Concurrency or Scaling.RequestRate, not {self.metric!r}")

    def get_replicas(self) -> tuple[int, int]:
        """(at least, at most)."""
        return self.replicas if isinstance(self.replicas, tuple) else (self.replicas, self.replicas)

    def to_wire(self) -> wire.ScalingSpec:
        low, high = self.get_replicas()
        return wire.ScalingSpec(
            min_replicas=low,
            max_replicas=high,
            concurrency=self.metric.val if isinstance(self.metric, Concurrency) else None,
            request_rate=self.metric.val if isinstance(self.metric, RequestRate) else None,
            scaledown_after=seconds(self.scaledown_after),
        )


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of time for an app; at most an hour."""

    request: int | dt.timedelta | None = None
    """Seconds until an answer must have begun; None and 0 are the platform's default."""

    def __post_init__(self) -> None:
        if self.request is None:
            return
        if isinstance(self.request, bool) or not isinstance(self.request, int | dt.timedelta):
            raise TypeError(f"Expected request to be of type int or timedelta, got {type(self.request)}")
        limit = self.request if isinstance(self.request, dt.timedelta) else dt.timedelta(seconds=self.request)
        if limit < dt.timedelta():
            raise ValueError(f"request timeout must be non-negative, not {limit}")
        if limit > _LONGEST_REQUEST:
            raise ValueError(f"request timeout must not exceed 1 hour, and is {limit}")
        object.__setattr__(self, "request", limit)


def seconds(value: float | dt.timedelta | None) -> float | None:
    """Seconds of a number or a timedelta."""
    return value.total_seconds() if isinstance(value, dt.timedelta) else value


@dataclass(frozen=True, slots=True)
class Subdomain:
    """The app's own part of its host name."""

    app_name: str | None = None
    project_domain_suffix: Literal["hash", "default"] | None = None
    function: Callable[..., str] | None = field(default=None, compare=False)

    def text(self, app: str) -> str:
        """The part of the host name for the app of that name."""
        return self.function(app) if self.function else self.app_name or app


@dataclass(frozen=True, slots=True)
class Domain:
    """The host names under which the app answers, besides its own address."""

    subdomain: str | Subdomain | None = None
    custom_domain: str | None = None
    """A whole host name that leads to the platform."""
