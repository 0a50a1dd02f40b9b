"""The options of a task: those of `@env.task(…)`, and those of its environment that `.override(…)` changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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

DEFAULT_INLINE_BYTES = 10 * 1024 * 1024
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
    max_inline_io_bytes: int = DEFAULT_INLINE_BYTES
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


def normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """The short forms of options (`retries=3`, a single trigger) in their full form."""
    full = dict(given)
    if "retries" in full:
        full["retries"] = retries_of(full["retries"])
    if "timeout" in full:
        full["timeout"] = timeout_of(full["timeout"])
    if full.get("cache") is not None:
        full["cache"] = cache_of(full["cache"])
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
