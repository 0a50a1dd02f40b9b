"""The options of a task: those of `@env.task(…)`, and those of its environment that `.override(…)` changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flyte import wire
from flyte._declare.options import (
    CacheRequest,
    Documentation,
    Link,
    PodTemplate,
    Resources,
    RetryStrategy,
    ReusePolicy,
    SecretRequest,
    Timeout,
    Trigger,
    cache_of,
    retries_of,
    secrets_of,
    timeout_of,
)
from flyte._values.text import to_bytes
from flyte.errors import InlineIOMaxBytesBreached

T = TypeVar("T")

_NO_RETRIES = RetryStrategy(0)
_NO_TIMEOUT = Timeout()


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What `@env.task(…)` takes."""

    short_name: str | None = None
    cache: CacheRequest | None = None
    retries: RetryStrategy = _NO_RETRIES
    timeout: Timeout = _NO_TIMEOUT
    docs: Documentation | None = None
    pod_template: str | PodTemplate | None = None
    report: bool = False
    interruptible: bool | None = None
    max_inline_io_bytes: int | None = None
    """Bytes of JSON that all inputs, or all outputs, may have; None leaves it to the platform's own limit."""
    queue: str | None = None
    service_account: str | None = None
    triggers: tuple[Trigger, ...] = ()
    links: tuple[Link, ...] = ()
    task_resolver: Any = None
    entrypoint: bool = False
    produces_artifacts: bool = False

    @classmethod
    def of(cls, **given: Any) -> TaskOptions:
        """The options as they were written. Raises TypeError for one that there is not."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise TypeError(f"@env.task has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
        return cls(**normal(given))

    def within_limit(self, data: T, what: str) -> T:
        """JSON data as it is. Raises InlineIOMaxBytesBreached for more bytes than the task allows."""
        limit = self.max_inline_io_bytes
        if limit is not None and (size := len(to_bytes(data))) > limit:
            raise InlineIOMaxBytesBreached(
                f"the {what} are {size:,} bytes, and the task allows {limit:,} (max_inline_io_bytes=); "
                "pass a flyte.io.File, or raise the limit"
            )
        return data


def _checked_bytes(limit: Any) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ValueError(f"max_inline_io_bytes is {limit!r}; it is a number of bytes, 1 or more")
    return limit


def normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """The short forms of options (`retries=3`, a single trigger) in their full form."""
    full = dict(given)
    if "retries" in full:
        full["retries"] = retries_of(full["retries"])
    if "timeout" in full:
        full["timeout"] = timeout_of(full["timeout"])
    if full.get("cache") is not None:
        full["cache"] = cache_of(full["cache"])
    if full.get("max_inline_io_bytes") is not None:
        full["max_inline_io_bytes"] = _checked_bytes(full["max_inline_io_bytes"])
    if isinstance(full.get("docs"), str):
        full["docs"] = Documentation(full["docs"])
    for name in ("triggers", "links"):
        if name in full:
            full[name] = tuple(full[name]) if isinstance(full[name], Sequence) else (full[name],)
    return full


@dataclass(frozen=True, slots=True)
class Overrides:
    """What `.override(…)` changes of the task's environment; None leaves it."""

    resources: Resources | None = None
    env_vars: Mapping[str, str] | None = None
    secrets: SecretRequest | None = None
    reusable: ReusePolicy | str | None = None
    """`"off"` gives every action a fresh process."""
    plugin_config: Any = None

    def applied(self, spec: wire.EnvironmentSpec) -> wire.EnvironmentSpec:
        import msgspec

        changed: dict[str, Any] = {}
        if self.resources is not None:
            changed["resources"] = self.resources.to_wire()
        if self.env_vars is not None:
            changed["env_vars"] = dict(self.env_vars)
        if self.secrets is not None:
            changed["secrets"] = [secret.to_wire() for secret in secrets_of(self.secrets)]
        if self.reusable is not None:
            changed["reuse"] = self.reusable.to_wire() if isinstance(self.reusable, ReusePolicy) else None
        return msgspec.structs.replace(spec, **changed)


_FIXED = ("name", "image", "docs", "interface")
_NOT_WHILE_REUSED = ("resources", "env_vars", "secrets")


def check_override(task: str, is_reused: bool, changes: Mapping[str, Any]) -> None:
    """Raise ValueError for what `.override(…)` cannot change of the task of that name."""
    for name in _FIXED:
        if name in changes:
            raise ValueError(f"{task}: {name} cannot be overridden")
    if is_reused and changes.get("reusable") is None:
        for name in _NOT_WHILE_REUSED:
            if changes.get(name) is not None:
                raise ValueError(
                    f"{task}: {name} of reused processes cannot be overridden; add reusable='off' for fresh ones"
                )
    if isinstance(changes.get("reusable"), str) and changes["reusable"] != "off":
        raise ValueError(f"{task}: reusable= takes a ReusePolicy or 'off', not {changes['reusable']!r}")
