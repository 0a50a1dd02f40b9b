"""Environments: the named settings that tasks or an app share, and the registry of all that this process declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, cast, overload

from flyte import rules, wire
from flyte._absent import Absent
from flyte._calling import calling_frame, calling_module
from flyte._declare.image import Image, image_to_wire
from flyte._declare.options import (
    Cache,
    CacheRequest,
    Documentation,
    Link,
    PodTemplate,
    Resources,
    RetryStrategy,
    ReusePolicy,
    Secret,
    SecretRequest,
    TimeoutType,
    Trigger,
    cache_of,
    secrets_of,
)

if TYPE_CHECKING:
    from flyte._declare.task import AsyncFunctionTaskTemplate, TaskTemplate

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST_DESCRIPTION = 255
_registry: list[Environment] = []


def registry() -> list[Environment]:
    """Every environment that this process declared, in order. Names may occur twice: the last one is the newest."""
    return list(_registry)


def unregister(environment: Environment) -> None:
    """Take back that it was declared: it is none of the user's."""
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


@dataclass(eq=False)
class TaskEnvironment(Environment):
    """Where tasks run. `@env.task` on a function, async or not, makes a task of it."""

    cache: CacheRequest = "disable"
    """For tasks that do not say otherwise."""
    reusable: ReusePolicy | None = None
    """None gives every action a fresh process."""
    plugin_config: Any = None
    queue: str | None = None
    sandbox = Absent("flyte.TaskEnvironment")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.cache, str | Cache):
            raise TypeError(f"{self.name}: Expected cache to be of type str or Cache, got {type(self.cache)}")
        if self.reusable is not None and not isinstance(self.reusable, ReusePolicy):
            raise TypeError(f"{self.name}: Expected reusable to be of type ReusePolicy, got {type(self.reusable)}")
        self._tasks: dict[str, TaskTemplate[..., Any, Any]] = {}

    @property
    def tasks(self) -> dict[str, TaskTemplate[..., Any, Any]]:
        """The environment's tasks by their full names."""
        return dict(self._tasks)

    def add_task(self, task: TaskTemplate[..., Any, Any]) -> None:
        """Register a task. A later one of the same name replaces it, as a re-run notebook cell does."""
        self._tasks[task.name] = task

    def _reuse(self) -> wire.ReuseSpec | None:
        return self.reusable.to_wire() if self.reusable else None

    @overload
    def task(
        self, _func: Callable[P, Coroutine[Any, Any, T]], /
    ) -> AsyncFunctionTaskTemplate[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def task(self, _func: Callable[P, T], /) -> AsyncFunctionTaskTemplate[P, T, T]: ...
    @overload
    def task(
        self,
        _func: None = None,
        /,
        *,
        short_name: str | None = None,
        cache: CacheRequest | None = None,
        retries: int | RetryStrategy = 0,
        timeout: TimeoutType = 0,
        docs: Documentation | None = None,
        pod_template: str | PodTemplate | None = None,
        report: bool = False,
        interruptible: bool | None = None,
        max_inline_io_bytes: int = ...,
        queue: str | None = None,
        service_account: str | None = None,
        triggers: Trigger | Sequence[Trigger] = (),
        links: Link | Sequence[Link] = (),
        task_resolver: Any = None,
        entrypoint: bool = False,
        produces_artifacts: bool = False,
    ) -> _TaskDecorator: ...

    def task(self, _func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a task of a function: `@env.task` or `@env.task(retries=3, …)`.

        `timeout` is in seconds (for each attempt), a timedelta, or a Timeout; `cache` None takes the environment's.
        Raises ValueError for functions with `*args` or `**kwargs`.
        """
        from flyte._declare.task import AsyncFunctionTaskTemplate, TaskOptions

        settings = TaskOptions.of(**options)

        def decorate(func: Callable[..., Any]) -> AsyncFunctionTaskTemplate[..., Any, Any]:
            template: AsyncFunctionTaskTemplate[..., Any, Any] = AsyncFunctionTaskTemplate(func, self, settings)
            self.add_task(template)
            return template

        return decorate if _func is None else decorate(_func)

    @classmethod
    def from_task(
        cls, name: str, *tasks: TaskTemplate[..., Any, Any], depends_on: list[Environment] | None = None
    ) -> TaskEnvironment:
        """An environment for tasks that were made elsewhere; it takes the image of theirs.

        Raises ValueError where their images differ.
        """
        if not tasks:
            raise ValueError(f"{name}: from_task needs at least one task")
        images = {str(task.env.image) for task in tasks if task.env.image not in (None, "auto")}
        if len(images) > 1:
            raise ValueError(f"{name}: the tasks have different images: {', '.join(sorted(images))}")
        image = next((task.env.image for task in tasks if task.env.image not in (None, "auto")), "auto")
        env = cls(name=name, image=image, resources=tasks[0].env.resources, depends_on=depends_on or [])
        for task in tasks:
            env._tasks[task.name] = task
        return env

    def clone_with(self, name: str, **fields: Any) -> TaskEnvironment:
        """A new environment like this one, without its tasks."""
        return cast("TaskEnvironment", super().clone_with(name, **fields))

    def resolved_cache(self, cache: CacheRequest | None) -> Cache:
        """A task's cache: its own, or the environment's."""
        return cache_of(self.cache if cache is None else cache)


if TYPE_CHECKING:

    class _TaskDecorator:
        """What `@env.task(…)` is, for type checkers."""

        @overload
        def __call__(
            self, func: Callable[P, Coroutine[Any, Any, T]]
        ) -> AsyncFunctionTaskTemplate[P, Coroutine[Any, Any, T], T]: ...
        @overload
        def __call__(self, func: Callable[P, T]) -> AsyncFunctionTaskTemplate[P, T, T]: ...
        def __call__(self, func: Callable[P, Any]) -> Any: ...
