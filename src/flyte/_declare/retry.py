"""How often an action is tried again, after which pause, and how long it may take."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from dataclasses import dataclass

from flyte import wire
from flyte.backoff import pause


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before retry n (from 0): `min(base * factor ** n, cap)`."""

    base: dt.timedelta
    factor: float = 1.0
    cap: dt.timedelta | None = None
    """Needed where `factor` is above 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", timedelta_of(self.base, "base"))
        if self.cap is not None:
            object.__setattr__(self, "cap", timedelta_of(self.cap, "cap"))
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
        return dt.timedelta(seconds=pause(n + 1, self.base.total_seconds(), most, self.factor))


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


def timedelta_of(value: Duration, what: str) -> dt.timedelta:
    if isinstance(value, dt.timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be seconds or a timedelta, not {value!r}")
    return dt.timedelta(seconds=value)


@dataclass(frozen=True, slots=True)
class Timeout:
    """Limits of time, each in seconds or as a timedelta; None means no limit."""

    max_runtime: Duration | None = None
    """For each attempt."""
    max_queued_time: Duration | None = None
    """Until an attempt starts."""
    deadline: Duration | None = None
    """For all attempts together, from the action's creation."""

    def __post_init__(self) -> None:
        for name in ("max_runtime", "max_queued_time", "deadline"):
            value = getattr(self, name)
            if value is not None and timedelta_of(value, name) <= dt.timedelta():
                raise ValueError(f"Timeout.{name} must be more than 0 seconds")

    def to_wire(self) -> wire.TimeoutSpec:
        limits = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        seconds = {name: timedelta_of(v, name).total_seconds() for name, v in limits.items() if v is not None}
        return wire.TimeoutSpec(**seconds)


TimeoutType = Timeout | Duration


def timeout_of(request: TimeoutType | None) -> Timeout:
    """The Timeout that `timeout=` names: seconds or a timedelta for one attempt, or a Timeout; 0 is none."""
    if isinstance(request, Timeout):
        return request
    if request is None or not timedelta_of(request, "timeout"):
        return Timeout()
    return Timeout(max_runtime=request)
