"""Environments: the named settings that tasks or an app share, and the registry of all that this process declared.

`task` has the environments of tasks, `flyte.app` those of apps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from flyte import rules, wire
from flyte._calling import calling_frame, calling_module
from flyte._declare.image import Image, image_to_wire
from flyte._declare.options import PodTemplate, Resources, Secret, SecretRequest, secrets_of

_LONGEST_DESCRIPTION = 255
_registry: list[Environment] = []


def registry() -> list[Environment]:
    """Every environment that this process declared, in order. Names may occur twice: the last one is the newest."""
    return list(_registry)


def unregister(environment: Environment) -> None:
    """Remove an environment that is not the user's from the registry."""
    _registry.remove(environment)


@dataclass(eq=False)
class Environment:
    """What tasks and apps have in common. Use `TaskEnvironment` or `flyte.app.AppEnvironment`."""

    name: str
    """Lower-case letters and digits, in words separated by `-` or `_`."""
    depends_on: list[Environment] = field(default_factory=list)
    """Environments of either kind that are deployed, and healthy, before this one."""
    pod_template: str | PodTemplate | None = None
    description: str | None = None
    secrets: SecretRequest | None = None
    env_vars: dict[str, str] | None = None
    resources: Resources | None = None
    interruptible: bool = False
    image: str | Image | None = "auto"
    include: Sequence[str] = ()
    """Files or patterns, relative to the declaring file, that travel with the code."""
    service_account: str | None = None

    _name_rule: ClassVar[rules.Text] = rules.ENVIRONMENT_NAME

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"{self._name_rule.what} {self.name!r} must {self._name_rule.form}")
        self._name_rule.check(self.name)
        if self.image is not None and not isinstance(self.image, str | Image):
            raise TypeError(f"{self.name}: Expected image to be of type str or Image, got {type(self.image)}")
        if self.resources is not None and not isinstance(self.resources, Resources):
            raise TypeError(f"{self.name}: Expected resources to be of type Resources, got {type(self.resources)}")
        if self.description is not None and len(self.description) > _LONGEST_DESCRIPTION:
            self.description = self.description[: _LONGEST_DESCRIPTION - 3] + "..."
        self._check_env_vars()
        self.secret_list()
        self.depends_on = _checked_environments(self, self.depends_on, "depends_on to be of type List[Environment]")
        frame, outer = calling_frame(), calling_module()
        files = [Path(each.f_code.co_filename) for each in (outer, frame) if each is not None]
        self._places = tuple(dict.fromkeys(files))
        self._module = str(outer.f_globals.get("__name__", "")) if outer else ""
        _registry.append(self)

    def _check_env_vars(self) -> None:
        if self.env_vars is not None and not isinstance(self.env_vars, dict):
            raise TypeError(f"{self.name}: Expected env_vars to be of type Dict[str, str], got {type(self.env_vars)}")
        for key, value in (self.env_vars or {}).items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError(
                    f"{self.name}: Expected env_vars to be of type Dict[str, str], got {type(value)} for {key!r}"
                )
        rules.check_variables(self.env_vars or {}, f"env_vars of {self.name!r}")

    @property
    def declared_in(self) -> Path | None:
        """The file that declares it; None in an interactive session."""
        return next(iter(self.places), None)

    @property
    def places(self) -> tuple[Path, ...]:
        """The file that declares it, and that of the factory or class which made it for that file, if it is another."""
        return tuple(file for file in self._places if file.exists())

    @property
    def module(self) -> str:
        """`__name__` of the module that declares it, whichever module its class or factory is in."""
        return self._module

    def add_dependency(self, *envs: Environment) -> None:
        """Add to `depends_on`. Raises ValueError for the environment itself."""
        for env in _checked_environments(self, envs):
            if env not in self.depends_on:
                self.depends_on.append(env)

    def secret_list(self) -> tuple[Secret, ...]:
        """The secrets, whatever form `secrets=` had."""
        return secrets_of(self.secrets)

    def include_files(self) -> list[Path]:
        """The files that `include` names. Raises FileNotFoundError for a pattern that matches nothing."""
        files: list[Path] = []
        for pattern in self.include:
            for path in self._included(pattern):
                files += [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return files

    def _included(self, pattern: str) -> list[Path]:
        """What `pattern` matches beside the declaring file, or else beside the factory that made the environment."""
        bases = [file.parent for file in self.places] or [Path.cwd()]
        for base in bases:
            found = sorted(base.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
            if found and all(path.exists() for path in found):
                return found
        raise FileNotFoundError(
            f"{self.name}: include={pattern!r} matches nothing in {' or '.join(map(str, dict.fromkeys(bases)))}"
        )

    def spec(self, root: Path) -> wire.EnvironmentSpec:
        """The environment's part of a deployment's request."""
        return wire.EnvironmentSpec(
            name=self.name,
            kind=self._kind(),
            image=image_to_wire(self.image),
            resources=self.resources.to_wire() if self.resources else wire.ResourcesSpec(),
            env_vars=dict(self.env_vars or {}),
            secrets=[secret.to_wire() for secret in self.secret_list()],
            depends_on=[env.name for env in self.depends_on],
            reuse=self._reuse(),
            description=self.description or "",
        )

    def _kind(self) -> Any:
        return "task"

    def _reuse(self) -> wire.ReuseSpec | None:
        return None

    def clone_with(self, name: str, **fields: Any) -> Any:
        """A new environment like this one, with another name and the given fields instead of its own.

        Raises TypeError for a field that there is not.
        """
        return type(self)(**self._cloned_fields(name, fields))

    def _cloned_fields(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        known = {f.name for f in dataclasses.fields(self) if f.init}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")
        own = {key: getattr(self, key) for key in known}
        own["depends_on"] = list(self.depends_on)
        return {**own, **fields, "name": name}


def _checked_environments(env: Environment, others: Iterable[Any], expected: str = "Environment") -> list[Environment]:
    """`others` as a list. Raises TypeError for other values, ValueError for `env` itself."""
    checked = []
    if not isinstance(others, Iterable):
        raise TypeError(f"{env.name}: Expected {expected}, got {type(others)}")
    for other in others:
        if not isinstance(other, Environment):
            raise TypeError(f"{env.name}: Expected {expected}, got {type(other)}")
        if other is env:
            raise ValueError(f"{env.name} cannot depend on itself")
        checked.append(other)
    return checked
