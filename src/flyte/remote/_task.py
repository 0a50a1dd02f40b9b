"""Deployed tasks: found by name and version, run by `flyte.run`, called inside an action."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, cast

import msgspec

from flyte import wire
from flyte._client.client import Client
from flyte._context import ctx
from flyte._session import state as _state
from flyte._sync import syncable
from flyte._values.by_schema import dump_inputs
from flyte.errors import InvalidInputError, RemoteTaskUsageError
from flyte.remote._call import called, ended
from flyte.remote._listing import listing
from flyte.remote._record import Record
from flyte.remote._run import Run
from flyte.remote._start import RunContext, request_of_deployed, start

AutoVersion = Literal["latest", "current"]

_HOW = 'name="env.function", version="v1"'


class Task(Record[wire.Task]):
    """A deployed task in a listing."""

    def __init__(self, record: wire.Task) -> None:
        self._record = record

    @classmethod
    def get(
        cls,
        name: str,
        project: str | None = None,
        domain: str | None = None,
        version: str | None = None,
        auto_version: AutoVersion | None = None,
    ) -> LazyEntity:
        """The task with that name, looked up at its first use. Raises ValueError without a version of any kind."""
        return LazyEntity(name, project, domain, version, auto_version)

    @listing
    @staticmethod
    async def listall(
        by_task_name: str | None = None,
        by_task_env: str | None = None,
        project: str | None = None,
        domain: str | None = None,
        sort_by: tuple[str, Literal["asc", "desc"]] | None = None,
        limit: int = 100,
        entrypoint: bool | None = None,
    ) -> AsyncIterator[Task]:
        """The current version of each task, the last deployed first, or by name with `sort_by=("name", "asc")`."""
        client = _state.client().scoped(project, domain)
        found = await client.list_tasks(name=by_task_name, env=by_task_env, limit=limit)
        if sort_by is not None:
            field, order = sort_by
            found = sorted(found, key=lambda task: getattr(task, field.removesuffix("_at")), reverse=order == "desc")
        for record in found:
            yield Task(record)

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def version(self) -> str:
        return self._record.version

    @property
    def project(self) -> str:
        return self._record.project

    @property
    def domain(self) -> str:
        return self._record.domain

    @property
    def short_name(self) -> str:
        return self._record.short_name

    @property
    def environment(self) -> str:
        return self._record.environment

    @property
    def url(self) -> str:
        """The task's page in the console."""
        return self._record.url

    @property
    def entrypoint(self) -> bool:
        """Flyte's mark for a run's first task: always True, since every task may be run here."""
        return True

    def __repr__(self) -> str:
        return f"Task(name={self.name!r}, version={self.version!r})"


class TaskDetails(Task):
    """A deployed task with its interface. `flyte.run(details, x=1)` runs it, `await details(x=1)` inside an action."""

    def __init__(self, record: wire.Task, overridden: bool = False, asked: str = "") -> None:
        super().__init__(record)
        self.overridden = overridden
        self.asked = asked or record.version
        """The requested version, which may be `latest`."""

    @classmethod
    async def fetch(
        cls,
        name: str,
        project: str | None = None,
        domain: str | None = None,
        version: str | None = None,
        auto_version: AutoVersion | None = None,
    ) -> TaskDetails:
        """The task with that full name, or with that function name if only one environment has it.

        `auto_version` is `latest`, the version that was deployed last, or, inside an action or app, `current` for the
        caller's own version. Raises ValueError without a version of any kind, and RemoteTaskNotFoundError that lists
        similar tasks or versions.
        """
        return await LazyEntity(name, project, domain, version, auto_version)._found()

    @property
    def spec(self) -> wire.TaskSpec:
        if self._record.spec is None:
            raise InvalidInputError(f"{self.name} was listed without its interface; use TaskDetails.fetch")
        return self._record.spec

    @property
    def task_type(self) -> str:
        return "python"

    @property
    def interface(self) -> wire.InterfaceSpec:
        """Inputs and outputs: names, types in words, JSON Schemas."""
        return self.spec.interface

    @property
    def default_input_args(self) -> tuple[str, ...]:
        """The inputs with a default."""
        return tuple(spec.name for spec in self.spec.interface.inputs if not spec.required)

    @property
    def required_args(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.spec.interface.inputs if spec.required)

    @property
    def cache(self) -> wire.CacheSpec | None:
        return self.spec.cache

    @property
    def secrets(self) -> list[str]:
        return [secret.key for secret in self.spec.environment.secrets]

    @property
    def resources(self) -> wire.ResourcesSpec:
        return self.spec.environment.resources

    @property
    def queue(self) -> None:
        return None

    def override(self, **changes: Any) -> TaskDetails:
        """The same task with other settings: short_name, resources, cache, retries, timeout, reusable (or "off"),
        env_vars, secrets; queue, interruptible and the like are accepted.

        Raises TypeError for an unknown option.
        """
        spec = _overridden(self.spec, self.version, {key: item for key, item in changes.items() if item is not None})
        return TaskDetails(msgspec.structs.replace(self._record, spec=spec), overridden=True, asked=self.asked)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task from inside an action, and wait for its result. Raises the task's own error.

        The call is a run of its own, which records the action that started it. An action that runs again finds the runs
        of its earlier attempts, as it finds its children. Raises RemoteTaskUsageError outside of an action.
        """
        if ctx().mode != "remote":
            raise RemoteTaskUsageError(f"{self.name} can be called inside an action of a platform; use flyte.run here")
        context = RunContext()
        client, request = requested(self, context, bound(self, args, kwargs))

        async def begin(request: wire.RunRequest, hasty: bool) -> Run:
            return await start(context, client, request, self.interface, hasty)

        started = await ended(called((self.project, self.domain, self.name, self.asked), request, begin))
        await started.raise_for_status.aio()
        outputs = await started.outputs.aio()
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def __repr__(self) -> str:
        return f"TaskDetails(name={self.name!r}, version={self.version!r})"


def bound(task: TaskDetails, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs by name, as plain JSON. Raises InvalidInputError."""
    names = [spec.name for spec in task.interface.inputs]
    if len(args) > len(names):
        takes = ", ".join(names) or "none"
        raise InvalidInputError(f"{task.name} takes the inputs {takes}; {len(args)} positional ones were given")
    values = dict(zip(names, args, strict=False))
    if twice := sorted(values.keys() & kwargs.keys()):
        raise InvalidInputError(f"{task.name} got the input {twice[0]!r} twice")
    return dump_inputs({**values, **kwargs}, task.interface.inputs)


def requested(task: TaskDetails, context: RunContext, inputs: Mapping[str, Any]) -> tuple[Client, wire.RunRequest]:
    """Who is asked for a run of the task, and how. Raises TooLargeError."""
    return request_of_deployed(context, task._record, inputs, task.spec if task.overridden else None)


class LazyEntity:
    """A task by name, looked up at its first use."""

    def __init__(
        self,
        name: str,
        project: str | None = None,
        domain: str | None = None,
        version: str | None = None,
        auto_version: AutoVersion | None = None,
        changes: dict[str, Any] | None = None,
    ) -> None:
        _check(name, version, auto_version)
        self._name = name
        self._project = project
        self._domain = domain
        self._version = version
        self._auto_version = auto_version
        self._changes = changes or {}
        self._details: TaskDetails | None = None

    @property
    def name(self) -> str:
        return self._name

    @syncable
    async def fetch(self) -> TaskDetails:
        """The task's details; fetched once. Raises RemoteTaskNotFoundError."""
        return await self._found()

    async def _found(self) -> TaskDetails:
        if self._details is None:
            client = _state.client().scoped(self._project, self._domain)
            found = TaskDetails(await client.get_task(self._name, self._wanted()), asked=self._auto_version or "")
            self._details = found.override(**self._changes) if self._changes else found
        return self._details

    def _wanted(self) -> str | None:
        if self._auto_version != "current":
            return self._version
        current = ctx().version or os.environ.get("FLYTE_VERSION")
        if current is None:
            raise InvalidInputError(
                f"{self._name}: auto_version='current' is the caller's own version, which only an action or an app "
                "has; use auto_version='latest'"
            )
        return current

    def override(self, **changes: Any) -> LazyEntity:
        """See `TaskDetails.override`; it is applied when the task is looked up."""
        merged = {**self._changes, **changes}
        return LazyEntity(self._name, self._project, self._domain, self._version, self._auto_version, merged)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `TaskDetails.__call__`."""
        return await (await self._found())(*args, **kwargs)

    def __repr__(self) -> str:
        return f"LazyEntity(name={self._name!r}, version={self._version or self._auto_version!r})"


def _check(name: Any, version: Any, auto_version: Any) -> None:
    if name is ... or not isinstance(name, str) or not name:
        raise InvalidInputError(f"name the task and its version, such as fetch({_HOW}); the name given is {name!r}")
    if version is not None and not isinstance(version, str):
        raise InvalidInputError(f"the version of {name} is {version!r}; pass a text, such as fetch({_HOW})")
    if version is None and auto_version is None:
        raise InvalidInputError(f"{name}: pass version=, or auto_version='latest' for the newest")
    if version is not None and auto_version is not None:
        raise InvalidInputError(f"{name}: pass either version= or auto_version=")
    if auto_version not in (None, "latest", "current"):
        raise InvalidInputError(f"{name}: auto_version is 'latest' or 'current', not {auto_version!r}")


def _overridden(spec: wire.TaskSpec, version: str, changes: dict[str, Any]) -> wire.TaskSpec:
    """The spec after `.override(…)`."""
    from flyte._declare.options import Cache
    from flyte._declare.task_options import Overrides, TaskOptions

    environment = {name: changes.pop(name) for name in list(changes) if name in Overrides.__dataclass_fields__}
    options = TaskOptions.of(**changes)
    replaced: dict[str, Any] = {"environment": Overrides(**environment).applied(spec.environment)}
    if "short_name" in changes:
        replaced["short_name"] = options.short_name
    if "retries" in changes:
        replaced["retries"] = options.retries.to_wire()
    if "timeout" in changes:
        replaced["timeout"] = options.timeout.to_wire()
    if "cache" in changes:
        replaced["cache"] = _cache(cast("Cache", options.cache), spec.cache, version)
    return msgspec.structs.replace(spec, **replaced)


def _cache(cache: Any, before: wire.CacheSpec | None, version: str) -> wire.CacheSpec | None:
    """The cache of a deployed function: its version is the override's, else the earlier one, else the task's own."""
    if not cache.is_enabled:
        return None
    return wire.CacheSpec(
        version=cache.version_override or (before.version if before else version),
        serialize=cache.serialize,
        ignored_inputs=list(cache.ignored_inputs),
        salt=cache.salt,
        max_age=cache.max_age_seconds,
    )
