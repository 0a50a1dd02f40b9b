"""Tasks and the environments that make them. A task is a function that a platform can run, each call an action.

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
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from flyte import _sync, wire
from flyte._absent import Absent
from flyte._context import Caller, current_caller, current_group, is_tracing
from flyte._declare.entry import entry_of, place_of
from flyte._declare.environment import Environment
from flyte._declare.interface import Interface, check_signature, interface_of
from flyte._declare.links import Submission, links_of
from flyte._declare.native_interface import NativeInterface
from flyte._declare.options import (
    Cache,
    CacheRequest,
    Documentation,
    Link,
    PodTemplate,
    RetryStrategy,
    ReusePolicy,
    Timeout,
    TimeoutType,
    Trigger,
    cache_of,
)
from flyte._declare.task_options import Overrides, TaskOptions, check_override, normal
from flyte.errors import TraceDoesNotAllowNestedTasksError

P = ParamSpec("P")
R = TypeVar("R")
"""What a call returns: a coroutine for an async task."""
T = TypeVar("T")
"""The value: what a run of the task gives."""


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
    def native_interface(self) -> NativeInterface:
        """Inputs and outputs as Python types, for plugins and agents."""
        return NativeInterface.from_interface(self.interface, self.docs or None)

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

    @property
    def has_own_spec(self) -> bool:
        """Whether an action needs another spec than the registered one: the task is overridden, or has links."""
        return self.overridden or bool(self.options.links)

    def spec(self, root: Path, known: Submission | None = None) -> wire.TaskSpec:
        """The task as it is registered, or as it is for one action, of which `known` is known.

        `root` is the folder that the code bundle is made of.
        """
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
            links=links_of(self.name, self.options.links, known or Submission()),
            triggers=[trigger.to_wire(self.interface) for trigger in self.options.triggers],
        )

    def override(self, **changes: Any) -> TaskTemplate[P, R, T]:
        """The same task with other settings: short_name, resources, cache, retries, timeout, reusable (or "off"),
        env_vars, secrets, max_inline_io_bytes, pod_template, queue, interruptible, service_account, links, ….

        Raises ValueError for what cannot be changed: name, image, docs and interface; and resources, env_vars and
        secrets of processes that are reused, unless `reusable="off"` comes with them.
        """
        check_override(self.name, self.reuse is not None, changes)
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
        changed.options = dataclasses.replace(self.options, **normal(options))
        changed.overrides = dataclasses.replace(
            self.overrides, **{key: value for key, value in changes.items() if key in environment}
        )
        changed.overridden = True
        changed._check_reuse()
        return changed

    # ---- its values

    @property
    def max_inline_io_bytes(self) -> int:
        """Bytes of JSON that all inputs, or all outputs, may have: what the task declares, or the platform's limit."""
        return self.options.max_inline_io_bytes or wire.VALUE_LIMIT

    def dump_inputs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Bound inputs as a JSON object. Raises InlineIOMaxBytesBreached where they are larger than the task allows."""
        return self.options.within_limit(self.interface.dump_inputs(values), f"inputs of {self.name}")

    def load_inputs(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs from a JSON object, which may come from a caller that did not know the limit."""
        return self.interface.load_inputs(self.options.within_limit(data, f"inputs of {self.name}"))

    def dump_outputs(self, result: Any) -> list[Any]:
        """What the function returned, as a JSON array. Raises InlineIOMaxBytesBreached as `dump_inputs`."""
        return self.options.within_limit(self.interface.dump_outputs(result), f"outputs of {self.name}")

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

    async def execute(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """What an action of the task does: it calls the function, a sync one in a thread.

        A plugin may put a coroutine function of its own in place (`task.execute = mine`), which calls the former one.
        """
        if self.is_async:
            return await cast("Coroutine[Any, Any, T]", self.func(*args, **kwargs))
        return cast("T", await _sync.to_thread(self.func, *args, **kwargs))

    @property
    def is_wrapped(self) -> bool:
        """Whether a plugin, or a subclass, put another `execute` in place, so that the function is not called alone."""
        return "execute" in vars(self) or type(self).execute is not TaskTemplate.execute

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
        max_inline_io_bytes: int | None = None,
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


async def _awaited(caller: Caller, task: TaskTemplate[..., Any, Any], inputs: dict[str, Any], group: str | None) -> Any:
    return await caller.call(task, inputs, group=group)


def _relative(file: str | None, line: int, root: Path) -> str:
    if file is None:
        return ""
    path = Path(file)
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return f"{shown}:{line}"


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
