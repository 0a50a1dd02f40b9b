"""`flyte.run`: from a task and its inputs to a Run.

    task of this code → bound and checked by its annotations → deployed, unless it is → POST /v1/runs → Run
    fetched task      → inputs as plain JSON, checked by the platform                 → POST /v1/runs → Run
    local mode        → bound and checked → an action in this process                                 → Run

What a run of this code's task needs is deployed once for each process and bundle; the next run sends nothing but
itself. A process of the platform runs the tasks of its own version without deploying anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from flyte import rules, wire
from flyte._client.client import Client
from flyte._context import get_custom_context
from flyte._declare import no_effect as _no_effect
from flyte._declare.links import Submission
from flyte._declare.task import TaskTemplate
from flyte._importing import refuse_import
from flyte._session import state as _state
from flyte._ship import deploy as _deploy
from flyte._ship.bundle import CopyStyle
from flyte._sync import syncable
from flyte._values import by_schema as _natural
from flyte.concurrency import check_limit
from flyte.errors import InvalidInputError, RemoteTaskNotFoundError
from flyte.remote._run import Run
from flyte.remote._start import Mode, RunContext, client_of, create, not_run, request_of, start
from flyte.remote._task import LazyEntity, TaskDetails, bound, requested
from flyte.storage._new_files import variables

AnyTask = TaskTemplate[..., Any, Any]


class InputTypeError(InvalidInputError, TypeError):
    """Raised when an input is not of the declared type; Flyte raises a TypeError for it."""


class Runner:
    """Starts runs with some settings: `with_runcontext(…).run(task, x=1)`."""

    def __init__(self, context: RunContext) -> None:
        self.context = context

    @syncable
    async def run(self, task: Any, /, *args: Any, **kwargs: Any) -> Run:
        """See `flyte.run`."""
        refuse_import("flyte.run")
        self._say_no_effect(task)
        if isinstance(task, TaskTemplate):
            return await (self._locally if self._is_local() else self._deployed)(task, args, kwargs)
        if not isinstance(task, TaskDetails | LazyEntity):
            raise TypeError(
                f"run takes a task (a function with @env.task, or one that was fetched), not {task!r}{_wrapped(task)}"
            )
        if self._is_local():
            raise ValueError(
                f"{task.name} is deployed; it cannot run in local mode: call flyte.init_from_config() first"
            )
        found = task if isinstance(task, TaskDetails) else await task.fetch.aio()
        return await start(self.context, *requested(found, self.context, bound(found, args, kwargs)), found.interface)

    @syncable
    async def rerun(
        self,
        run_name: str,
        /,
        action_name: str = wire.ROOT_ACTION,
        recover: bool = False,
        force_rerun_actions: Any = None,
        allow_missing_source_outputs: bool = False,
        **inputs: Any,
    ) -> Run:
        """See `flyte.rerun`."""
        refuse_import("flyte.rerun")
        if recover:
            raise NotImplementedError("recover=True is not supported; a run repeats all of its actions")
        if self._is_local():
            raise NotImplementedError("a local run cannot be repeated; call flyte.run with its task again")
        client = client_of(self.context)
        source, found = await client.get_run(run_name), await client.get_action(run_name, action_name)
        scoped = client.scoped(source.project, source.domain)
        details = TaskDetails(await scoped.get_task(found.action.task, source.version))
        before = await client.get_blob(found.inputs_blob) if found.inputs_blob else bytes(found.inputs or b"{}")
        changed = _natural.dump_inputs(inputs, details.interface.inputs)
        merged = {**msgspec.json.decode(before, type=dict[str, msgspec.Raw]), **changed}
        return await start(self.context, *requested(details, self.context, merged), details.interface)

    def _say_no_effect(self, task: Any) -> None:
        """Warn of what the call and the task's `override` declare without effect; raise InvalidInputError if strict."""
        notes = list(self.context.no_effect)
        if isinstance(task, TaskTemplate) and task.overridden:
            notes += _no_effect.of_task(task)
        if isinstance(task, TaskTemplate) and self._is_local():
            notes += _no_effect.of_local(_deploy.closure([task.env]))
        _no_effect.refuse(notes, self.context.strict)
        _no_effect.say(map(str, notes))

    # --- the three ways

    async def _locally(self, task: AnyTask, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Run:
        from flyte._local.client import LocalClient

        state, context = _state.current(), self.context
        client = LocalClient(context.project or state.project, context.domain or state.domain)
        values = task.interface.bind(args, kwargs)
        _dumped(task, values)
        record = await client.create_local(
            task,
            values,
            name=context.name,
            version=context.version,
            labels=context.labels,
            custom_context=context.custom_context,
            max_action_concurrency=context.max_action_concurrency,
            overwrite_cache=context.overwrite_cache,
            disable_cache=context.disable_cache,
            raw_data_path=context.raw_data_path,
            run_base_dir=context.run_base_dir,
        )
        return Run(record, client, task)

    async def _deployed(self, task: AnyTask, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Run:
        data = _dumped(task, task.interface.bind(args, kwargs))
        client = client_of(self.context)
        if (own := self._own_version(client)) is not None:
            try:
                return Run(await create(client, self._request(task, data, own)), client, task)
            except RemoteTaskNotFoundError:
                pass  # not among what was deployed with this process: deploy it now
        planned = _deploy.plan(
            [task.env],
            version=self.context.version,
            copy_style=self.context.copy_style,
            project=client.project,
            domain=client.domain,
            strict=self.context.strict,
        )
        request = self._request(task, data, planned.request.version)
        self._keep_bundle(planned)
        if self.context.dry_run:
            return Run(not_run(request), client, task)
        await _deploy.ensure(client, planned)
        try:
            return Run(await create(client, request), client, task)
        except RemoteTaskNotFoundError:  # the platform was made anew since this process deployed
            _deploy.forget(client, planned)
            await _deploy.ensure(client, planned)
            return Run(await create(client, request), client, task)

    # --- their parts

    def _is_local(self) -> bool:
        mode = self.context.mode
        return mode == "local" or (mode is None and _state.current().client is None)

    def _own_version(self, client: Client) -> str | None:
        """The version that this process was deployed with, where its platform is the one that is asked."""
        context = self.context
        if not _state.on_platform() or context.version or context.dry_run or client.endpoint != _own_endpoint():
            return None
        return os.environ.get("FLYTE_VERSION") or None

    def _request(self, task: AnyTask, inputs: dict[str, Any], version: str) -> wire.RunRequest:
        spec = None
        if task.has_own_spec:
            context = {**get_custom_context(), **self.context.custom_context}
            known = Submission(parent_action_name="", action_name=wire.ROOT_ACTION, context=context)
            spec = task.spec(_state.root_dir(), known)
        return request_of(self.context, task.name, inputs, version, spec)

    def _keep_bundle(self, planned: _deploy.Plan) -> None:
        folder = self.context.copy_bundle_to
        if folder is not None and planned.bundle is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{planned.bundle.digest}.tar.gz").write_bytes(planned.bundle.data)


def _wrapped(thing: Any) -> str:
    """A clause for a function that a decorator has made of a task."""
    if isinstance(getattr(thing, "__wrapped__", None), TaskTemplate):
        return "; a decorator above @env.task wraps the task: put @env.task on top"
    return ""


def _dumped(task: AnyTask, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return task.dump_inputs(values)
    except InvalidInputError as error:
        raise InputTypeError(str(error), error.code) from None


def _own_endpoint() -> str:
    from flyte._session.config import normal_endpoint

    return normal_endpoint(os.environ.get("FLYTE_ENDPOINT", "http://localhost"))


def with_runcontext(
    mode: Mode | None = None,
    *,
    name: str | None = None,
    service_account: str | None = None,
    version: str | None = None,
    copy_style: CopyStyle = "loaded_modules",
    dry_run: bool = False,
    copy_bundle_to: str | Path | None = None,
    interactive_mode: bool | None = None,
    raw_data_path: str | None = None,
    run_base_dir: str | None = None,
    run_start_time: Any = None,
    overwrite_cache: bool = False,
    project: str | None = None,
    domain: str | None = None,
    env_vars: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    interruptible: bool | None = None,
    log_level: int | str | None = None,
    log_format: str = "console",
    user_log_level: int | str | None = None,
    reset_root_logger: bool = False,
    disable_run_cache: bool = False,
    queue: str | None = None,
    max_action_concurrency: int | None = None,
    notifications: Any = None,
    custom_context: Mapping[str, str] | None = None,
    cache_lookup_scope: Literal["global", "project-domain"] = "global",
    preserve_original_types: bool = False,
    debug: bool = False,
    tracked: bool = False,
    tracked_strict: bool = False,
    strict: bool | None = None,
) -> Runner:
    """A runner with settings of its own: `with_runcontext(name="nightly").run(task, x=1)`.

    `mode` is `local` (in this process) or `remote`; None takes the platform in force, else this process; `hybrid`
    counts as `remote`. `name` is the run's own: a second run of that name, task and inputs is the first one. `version`
    is what the code is deployed as, `copy_style` how it travels (`none` needs a version), `copy_bundle_to` a folder
    that gets a copy of it. A `dry_run` checks everything and sends nothing. `overwrite_cache` computes what is cached
    too, and replaces it; with `disable_run_cache` the run neither finds results in the cache nor puts any into it.
    `cache_lookup_scope` may be either word: results are found within a project and domain. `max_action_concurrency`
    limits how many of the run's actions are at work at a time; those that wait for their children do not count. 0 means
    no limit, 1 is refused, as in Flyte. Log settings reach it as LOG_LEVEL, USER_LOG_LEVEL and LOG_FORMAT.

    New files of the run (`flyte.io`) go below `raw_data_path`, a folder or the URL of an object store; without one
    below `run_base_dir`, into the folder `RUN/files`.

    Accepted, and without effect here: `service_account`, `interactive_mode`, `run_start_time`, `annotations`,
    `interruptible`, `queue`, `notifications`, `preserve_original_types`, `debug`, `tracked`, `tracked_strict`. Each
    that is given is logged as a warning, as is what the task declares without effect;
    `strict=True` makes it an InvalidInputError, and so does FLYTE_STRICT=1 for `strict=None`.
    """
    _check_context(mode, name, env_vars or {}, labels or {})
    check_limit(max_action_concurrency)
    no_effect = _notes(
        service_account=service_account, interactive_mode=interactive_mode, run_start_time=run_start_time,
        annotations=annotations,
        interruptible=interruptible, queue=queue, notifications=notifications,
        preserve_original_types=preserve_original_types, debug=debug, tracked=tracked, tracked_strict=tracked_strict,
    )  # fmt: skip
    return Runner(
        RunContext(
            mode=mode,
            name=name,
            version=version,
            copy_style=copy_style,
            copy_bundle_to=Path(copy_bundle_to) if copy_bundle_to is not None else None,
            dry_run=dry_run,
            overwrite_cache=overwrite_cache,
            disable_cache=disable_run_cache,
            project=project,
            domain=domain,
            env_vars={
                **_log_settings(log_level, user_log_level, log_format, reset_root_logger),
                **variables(raw_data_path, run_base_dir),
                **(env_vars or {}),
            },
            raw_data_path=raw_data_path,
            run_base_dir=run_base_dir,
            labels=labels or {},
            custom_context=custom_context or {},
            max_action_concurrency=max_action_concurrency or None,
            strict=strict,
            no_effect=no_effect,
        )
    )


def _check_context(mode: Mode | None, name: str | None, env_vars: Mapping[str, str], labels: Mapping[str, str]) -> None:
    if mode not in (None, "local", "remote", "hybrid"):
        raise ValueError(f"mode is {mode!r}; it is one of local, remote, hybrid")
    if name is not None:
        rules.RUN_NAME.check(name)
    rules.check_variables(env_vars, "env_vars")
    rules.check_labels(labels, "labels")


def _log_settings(
    level: int | str | None, user_level: int | str | None, form: str, reset_root_logger: bool
) -> dict[str, str]:
    """The environment variables by which the log settings reach the run."""
    logs = {
        "LOG_LEVEL": level,
        "USER_LOG_LEVEL": user_level,
        "LOG_FORMAT": form if form != "console" else None,
        "FLYTE_RESET_ROOT_LOGGER": "1" if reset_root_logger else None,
    }
    return {key: str(value) for key, value in logs.items() if value is not None}


def _notes(**given: Any) -> tuple[_no_effect.Note, ...]:
    return _no_effect.of_call("flyte.with_runcontext()", given)


@syncable
async def run(task: Any, /, *args: Any, **kwargs: Any) -> Run:
    """Start a run of `task` with these inputs, and return at once: `run.wait()`, `run.outputs()`, `run.stream()`.

    `task` is a function with `@env.task`, which is deployed first where it is not, or one that
    `remote.TaskDetails.fetch` or `remote.Task.get` found. It runs on the platform in force; before any `flyte.init…`,
    in this process.

    Raises InvalidInputError (a ValueError) for missing and unknown inputs, also a TypeError for one of the wrong type,
    TooLargeError for inputs above 100 MiB, TypeError for other objects than tasks.
    """
    return await Runner(RunContext()).run.aio(task, *args, **kwargs)


@syncable
async def rerun(
    run_name: str,
    /,
    action_name: str = wire.ROOT_ACTION,
    recover: bool = False,
    force_rerun_actions: Any = None,
    allow_missing_source_outputs: bool = False,
    **inputs: Any,
) -> Run:
    """Run again what the action of an earlier run was: the same task, version and inputs, but for those given here.

    Raises RunNotFoundError, and NotImplementedError in local mode and for `recover=True`.
    """
    return await Runner(RunContext()).rerun.aio(run_name, action_name, recover, **inputs)
