"""The start of a run: the settings of `with_runcontext`, the request they make, and its way to the platform."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flyte import wire
from flyte._client.client import Client
from flyte._context import ctx, get_custom_context
from flyte._importing import refuse_import
from flyte._session import state as _state
from flyte._values.text import to_bytes
from flyte.errors import TooLargeError
from flyte.remote._haste import haste
from flyte.remote._run import Run

if TYPE_CHECKING:
    from flyte._declare import no_effect as _no_effect
    from flyte._ship.bundle import CopyStyle

Mode = Literal["local", "remote", "hybrid"]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What `with_runcontext` says; see there."""

    mode: Mode | None = None
    name: str | None = None
    version: str | None = None
    copy_style: CopyStyle = "loaded_modules"
    copy_bundle_to: Path | None = None
    dry_run: bool = False
    overwrite_cache: bool = False
    disable_cache: bool = False
    project: str | None = None
    domain: str | None = None
    env_vars: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    custom_context: Mapping[str, str] = field(default_factory=dict)
    max_action_concurrency: int | None = None
    raw_data_path: str | None = None
    run_base_dir: str | None = None
    strict: bool | None = None
    no_effect: tuple[_no_effect.Note, ...] = ()
    """What the call declares and is not carried out."""


def client_of(context: RunContext) -> Client:
    """The platform in force, in the project and domain that the settings name."""
    return _state.client().scoped(context.project, context.domain)


def request_of(
    context: RunContext, task: str, inputs: Mapping[str, Any], version: str, overrides: wire.TaskSpec | None
) -> wire.RunRequest:
    """What starts a run of the task, with its inputs as JSON. Raises TooLargeError."""
    client = client_of(context)
    return wire.RunRequest(
        task=task,
        version=version,
        project=client.project,
        domain=client.domain,
        inputs=msgspec.Raw(_checked_size(task, inputs)),
        name=context.name,
        env_vars=dict(context.env_vars),
        labels=dict(context.labels),
        custom_context={**get_custom_context(), **context.custom_context},
        overrides=overrides,
        spawned_by=_spawner(),
        max_action_concurrency=context.max_action_concurrency,
        overwrite_cache=context.overwrite_cache,
        disable_cache=context.disable_cache,
    )


def request_of_deployed(
    context: RunContext, task: wire.Task, inputs: Mapping[str, Any], overrides: wire.TaskSpec | None
) -> tuple[Client, wire.RunRequest]:
    """What starts a run of a fetched task, and who is asked for it. Raises TooLargeError."""
    client = client_of(context).scoped(context.project or task.project, context.domain or task.domain)
    request = request_of(context, task.name, inputs, task.version, overrides)
    return client, msgspec.structs.replace(request, project=task.project, domain=task.domain)


async def start(
    context: RunContext, client: Client, request: wire.RunRequest, interface: wire.InterfaceSpec, hasty: bool = True
) -> Run:
    """The run, or the one that the request's key already stands for. If `hasty`, a quick one has ended already."""
    refuse_import(f"task {request.task}")
    if context.dry_run:
        return Run(not_run(request), client, interface=interface)
    return Run(await create(client, request, hasty), client, interface=interface)


async def create(client: Client, request: wire.RunRequest, hasty: bool = True) -> wire.Run:
    """Start the run; large inputs go ahead of it."""
    data = bytes(request.inputs)
    if len(data) > wire.INLINE_LIMIT:
        digest = hashlib.sha256(data).hexdigest()
        if not await client.has_blob(digest):
            await client.put_blob(digest, data)
        request = msgspec.structs.replace(request, inputs=msgspec.Raw(b"{}"), inputs_blob=digest)
    run = await client.create_run(request, wait=haste.of(request.task) if hasty else None)
    haste.learn(run, waited=False)
    return run


def _checked_size(task: str, inputs: Mapping[str, Any]) -> bytes:
    """The inputs as JSON text. Raises TooLargeError that names the largest one."""
    data = to_bytes(inputs)
    if len(data) <= wire.VALUE_LIMIT:
        return data
    sizes = {name: len(to_bytes(value)) for name, value in inputs.items()}
    name = max(sizes, key=lambda name: sizes[name])
    raise TooLargeError(
        f"input {name!r} of {task} is {sizes[name] / 2**20:.1f} MiB, all together {len(data) / 2**20:.1f}; "
        f"the limit is {wire.VALUE_LIMIT / 2**20:.0f} MiB. Pass large data as a flyte.io.File"
    )


def _spawner() -> str | None:
    """`run/action` that this code runs in; None outside one, and in local mode."""
    context = ctx()
    if context.mode == "remote":
        return f"{context.action.run_name}/{context.action.name}"
    run, action = os.environ.get("RUN_NAME"), os.environ.get("ACTION_NAME")
    return f"{run}/{action}" if _state.on_platform() and run and action else None


def not_run(request: wire.RunRequest) -> wire.Run:
    """What a dry run gives: everything was checked, and nothing was sent."""
    return wire.Run(
        name="dry-run",
        project=request.project,
        domain=request.domain,
        task=request.task,
        version=request.version or "",
        phase=wire.ActionPhase.QUEUED,
        url="",
        message="a dry run: nothing was sent",
    )
