"""`Cache`: whether results are kept and found again, and under which version."""

from __future__ import annotations

import ast
import datetime as dt
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from flyte import wire
from flyte._declare.image import Image, image_to_wire


@runtime_checkable
class CachePolicy(Protocol):
    """Makes a version out of a task: equal versions may share results."""

    def get_version(self, salt: str, params: VersionParameters) -> str: ...


@dataclass(frozen=True, slots=True)
class VersionParameters:
    """What a CachePolicy looks at."""

    func: Callable[..., Any] | None
    image: Image | str | None = None
    code_bundle: Any = None


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
    "true": "auto",
    "yes": "auto",
    "override": "override",
    "disable": "disable",
    "disabled": "disable",
    "off": "disable",
    "false": "disable",
    "no": "disable",
    "none": "disable",
}


@dataclass(frozen=True, slots=True)
class Cache:
    """Whether results are kept and found again.

    `auto` derives the version from the function's code and its image (or from `policies`), `override` takes
    `version_override`. A result is found by calls of the same task, with the same version, salt and inputs, in the same
    project and domain; `ignored_inputs` do not count.
    """

    behavior: CacheBehavior
    version_override: str | None = None
    serialize: bool = False
    """Let identical calls that come at once run once."""
    ignored_inputs: tuple[str, ...] | str = ()
    salt: str = ""
    policies: list[CachePolicy] | CachePolicy | None = field(default=None, compare=False)
    max_age: dt.timedelta | int | None = None
    """How old a result may be: a timedelta, or seconds."""

    def __post_init__(self) -> None:
        if self.behavior not in _BEHAVIORS:
            raise ValueError(f"the cache's behavior must be auto, override or disable, not {self.behavior!r}")
        object.__setattr__(self, "behavior", _BEHAVIORS[self.behavior])
        if isinstance(self.ignored_inputs, str):
            object.__setattr__(self, "ignored_inputs", (self.ignored_inputs,))
        if self.behavior == "override" and not self.version_override:
            raise ValueError("Cache(behavior='override') needs version_override=")
        if (seconds := self.max_age_seconds) is not None and seconds < 0:
            raise ValueError(f"max_age= is {seconds:g} seconds; it is 0 or more")

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
            version=self._version(func, image),
            serialize=self.serialize,
            ignored_inputs=list(self.ignored_inputs),
            salt=self.salt,
            max_age=self.max_age_seconds,
        )

    def _version(self, func: Callable[..., Any] | None, image: Image | str | None) -> str:
        """The version of the function; with the default policy another image is another version, too."""
        version = self.get_version(VersionParameters(func, image))
        spec = image_to_wire(image)
        if self.version_override or self.policies is not None or spec == wire.ImageSpec():
            return version
        return hashlib.sha256(version.encode() + msgspec.json.encode(spec)).hexdigest()

    @property
    def max_age_seconds(self) -> float | None:
        return self.max_age.total_seconds() if isinstance(self.max_age, dt.timedelta) else self.max_age


CacheRequest = CacheBehavior | str | Cache


def cache_of(request: CacheRequest) -> Cache:
    """The Cache that `cache=` names: a word such as "auto" or "disable", or a Cache."""
    if isinstance(request, Cache):
        return request
    if not isinstance(request, str) or request.lower() not in _BEHAVIORS:
        raise ValueError(f"cache= takes 'auto', 'override', 'disable' or a flyte.Cache, not {request!r}")
    return Cache(_BEHAVIORS[request.lower()])
