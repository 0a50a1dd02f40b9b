"""Tasks: functions that a platform can run, each call an action of its own.

Calling a task does one of two things. Inside an action it starts a *child*: the call gives an awaitable for an async
task, and waits for a sync one (`task.aio(…)` is there to await it). Anywhere else it is a plain function call.
`flyte.run(task, …)` starts a run.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from flyte import _sync, wire
from flyte._context import Caller, current_caller, current_group, is_tracing
from flyte._declare.entry import entry_of, place_of
from flyte._declare.interface import Interface, check_signature, interface_of
from flyte._declare.options import (
    Cache,
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
from flyte.errors import TraceDoesNotAllowNestedTasksError

if TYPE_CHECKING:
    from flyte._declare.environment import TaskEnvironment

P = ParamSpec("P")
R = TypeVar("R")
"""What a call returns: a coroutine for an async task."""
T = TypeVar("T")
"""The value: what a run of the task gives."""

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
        return cls(**_normal(given))


def _normal(given: Mapping[str, Any]) -> dict[str, Any]:
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


_FIXED = ("name", "image", "docs", "interface")
_NOT_WHILE_REUSED = ("resources", "env_vars", "secrets")


class TaskTemplate(Generic[P, R, T]):
    """A task: a function with a name, an environment and an interface."""

    def __init__(self, func: Callable[P, R], env: TaskEnvironment, options: TaskOptions) -> None:
        name = getattr(func, "__name__", None)
        if name is None or not callable(func):
            raise TypeError(f"@env.task goes on a function, not on {func!r}")
        functools.update_wrapper(self, func)
        self.func = func
        self.env = env
        self.options: TaskOptions = options
        self.name = f"{env.name}.{name}"
        self.overrides: Overrides = Overrides()
        self.overridden = False
        self.is_async = inspect.iscoroutinefunction(func)
        check_signature(func, self.name)
        self._check_reuse()

    def __getattr__(self, name: str) -> Any:
        """The other options of `@env.task`: entrypoint, triggers, links, queue, interruptible and so on."""
        if name in TaskOptions.__dataclass_fields__ and "options" in self.__dict__:
            return getattr(self.options, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _check_reuse(self) -> None:
        reuse = self.reuse
        if reuse is not None and self.options.pod_template is not None:
            raise ValueError(f"{self.name}: a pod_template is for one process; the environment's are reused")
        if reuse is not None and reuse.concurrency > 1 and not self.is_async:
            raise ValueError(
                f"{self.name} is not async; its environment runs {reuse.concurrency} actions at once in one process, "
                "which only async tasks can (ReusePolicy.concurrency)"
            )

    # ---- what it is

    @property
    def short_name(self) -> str:
        """What people are shown: the function's name unless `short_name=` says otherwise."""
        return self.options.short_name or self.name.rpartition(".")[2]

    @functools.cached_property
    def interface(self) -> Interface:
        """Inputs and outputs; made on first use, when everything that annotations name exists."""
        return interface_of(self.func, self.name)

    @property
    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of the inputs, as one object."""
        return self.interface.json_schema()

    @property
    def source_file(self) -> str | None:
        """The file that holds the function; None in an interactive session."""
        return place_of(self.func)[0]

    @property
    def retries(self) -> RetryStrategy:
        return self.options.retries

    @property
    def timeout(self) -> Timeout:
        return self.options.timeout

    @property
    def cache(self) -> Cache:
        return self.env.resolved_cache(self.options.cache)

    @property
    def reuse(self) -> ReusePolicy | None:
        """The policy in force: the override's, else the environment's."""
        override = self.overrides.reusable
        if override is not None:
            return override if isinstance(override, ReusePolicy) else None
        return self.env.reusable

    @property
    def docs(self) -> str:
        return self.options.docs.description if self.options.docs else inspect.getdoc(self.func) or ""

    def spec(self, root: Path) -> wire.TaskSpec:
        """The task as it is registered; `root` is the folder that the code bundle is made of."""
        file, line = place_of(self.func)
        return wire.TaskSpec(
            name=self.name,
            short_name=self.short_name,
            entry=entry_of(self, self.func, root),
            environment=self.overrides.applied(self.env.spec(root)),
            interface=self.interface.spec(),
            retries=self.options.retries.to_wire(),
            timeout=self.options.timeout.to_wire(),
            cache=self.cache.to_wire(self.func, self.env.image),
            is_async=self.is_async,
            docs=self.docs,
            source=_relative(file, line, root),
            report=self.options.report,
        )

    def override(self, **changes: Any) -> TaskTemplate[P, R, T]:
        """The same task with other settings: short_name, resources, cache, retries, timeout, reusable (or "off"),
        env_vars, secrets, max_inline_io_bytes, pod_template, queue, interruptible, service_account, links, ….

        Raises ValueError for what cannot be changed: name, image, docs and interface; and resources, env_vars and
        secrets of processes that are reused, unless `reusable="off"` comes with them.
        """
        for name in _FIXED:
            if name in changes:
                raise ValueError(f"{self.name}: {name} cannot be overridden")
        if self.reuse is not None and changes.get("reusable") is None:
            for name in _NOT_WHILE_REUSED:
                if changes.get(name) is not None:
                    raise ValueError(
                        f"{self.name}: {name} of reused processes cannot be overridden; "
                        "add reusable='off' for fresh ones"
                    )
        if isinstance(changes.get("reusable"), str) and changes["reusable"] != "off":
            raise ValueError(f"{self.name}: reusable= takes a ReusePolicy or 'off', not {changes['reusable']!r}")
        return self._changed({key: value for key, value in changes.items() if value is not None})

    def _changed(self, changes: dict[str, Any]) -> TaskTemplate[P, R, T]:
        environment = {f.name for f in dataclasses.fields(Overrides)}
        options = {key: value for key, value in changes.items() if key not in environment}
        known = {f.name for f in dataclasses.fields(TaskOptions)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise TypeError(f"{self.name}: override has no option {unknown[0]!r}")
        changed = object.__new__(type(self))  # `copy` would follow `__reduce__` back to this very object
        changed.__dict__.update(self.__dict__)
        changed.options = dataclasses.replace(self.options, **_normal(options))
        changed.overrides = dataclasses.replace(
            self.overrides, **{key: value for key, value in changes.items() if key in environment}
        )
        changed.overridden = True
        changed._check_reuse()
        return changed

    # ---- calling it

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        caller = current_caller()
        if caller is None:
            return self.forward(*args, **kwargs)
        inputs = self._bound(args, kwargs)
        if self.is_async:
            return cast("R", caller.call(self, inputs, group=current_group()))
        return cast("R", self._blocking_child(caller, inputs))

    def _blocking_child(self, caller: Caller, inputs: dict[str, Any]) -> Any:
        """A child of a sync task; where an event loop runs on this thread, the calling task waits, not the loop."""
        group = current_group()
        if _sync.in_event_loop():
            return _sync.block(lambda: _awaited(caller, self, inputs, group), self.short_name)
        return caller.call_blocking(self, inputs, group=group)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await the task, sync or async: a child inside an action, else the function (a sync one in a thread)."""
        caller = current_caller()
        if caller is not None:
            return cast("T", await caller.call(self, self._bound(args, kwargs), group=current_group()))
        if self.is_async:
            return await cast("Coroutine[Any, Any, T]", self.forward(*args, **kwargs))
        return cast("T", await _sync.to_thread(self.forward, *args, **kwargs))

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, here, whatever runs around it."""
        return self.func(*args, **kwargs)

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if is_tracing():
            raise TraceDoesNotAllowNestedTasksError(
                f"{self.name} is called inside a @flyte.trace function; call tasks from the task itself"
            )
        return self.interface.bind(args, kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __reduce__(self) -> str:
        """Pickled as what it is: a name in its module."""
        return cast("str", self.__qualname__)


class AsyncFunctionTaskTemplate(TaskTemplate[P, R, T]):
    """What `@env.task` makes; for sync functions too, whatever its name says."""


async def _awaited(caller: Caller, task: TaskTemplate[..., Any, Any], inputs: dict[str, Any], group: str | None) -> Any:
    return await caller.call(task, inputs, group=group)


def _relative(file: str | None, line: int, root: Path) -> str:
    if file is None:
        return ""
    path = Path(file)
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return f"{shown}:{line}"
