"""Deploying: the closure of some environments, as one bundle under one version, handed to the platform.

    closure(envs) → plan(…) → [dry run ends here] → send(client, plan) → Deployment

A plan is complete before anything is sent, so that a name that clashes, a cycle, or code that cannot be shipped leaves
nothing half-deployed. Sending the same plan twice sends the code once; the platform finds everything unchanged.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import msgspec

from flyte import wire
from flyte._client.client import Client
from flyte._declare import no_effect as _no_effect
from flyte._declare.deployment import Deployment, described, image_of
from flyte._declare.environment import Environment
from flyte._declare.image import Image
from flyte._declare.task import TaskEnvironment
from flyte._importing import refuse_import
from flyte._session import state as _state
from flyte._ship import bundle as _bundle
from flyte._ship import copied
from flyte._ship.bundle import Bundle, CopyStyle
from flyte._sync import syncable
from flyte.app._environment import AppEnvironment
from flyte.errors import CodeBundleError, DeploymentError, InvalidInputError

Progress = Callable[[wire.Deployment], None]
"""Told of the deployment as it stands, at first and after every change."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is to be sent."""

    environments: tuple[Environment, ...]
    """Dependencies first."""
    bundle: Bundle | None
    request: wire.DeployRequest
    no_effect: tuple[_no_effect.Note, ...] = ()
    """What is declared and not carried out."""


def closure(envs: Iterable[Environment]) -> list[Environment]:
    """The environments and all that they depend on, dependencies first.

    Raises ValueError for two of one name, DeploymentError for a cycle.
    """
    graph: dict[Environment, list[Environment]] = {}
    waiting = deque(envs)
    while waiting:
        env = waiting.popleft()
        if not isinstance(env, Environment):
            raise TypeError(f"deploy takes environments, not {env!r}")
        if env not in graph:
            graph[env] = list(_needed(env))
            waiting += graph[env]
    _check_names(graph)
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        names = [env.name for env in reversed(error.args[1])]  # each needs the one after it
        raise DeploymentError(f"environments depend on each other in a circle: {' → '.join(names)}") from None


def _check_names(envs: Iterable[Environment]) -> None:
    """Raises ValueError for two of one name."""
    found: dict[str, Environment] = {}
    for env in envs:
        if (known := found.setdefault(env.name, env)) is not env:
            raise ValueError(
                f"two environments are called {env.name!r}: one in {_place(known)}, one in {_place(env)}; rename one"
            )


def _place(env: Environment) -> str:
    return str(env.declared_in or env.module or "an interactive session")


def _needed(env: Environment) -> Iterator[Environment]:
    yield from env.depends_on
    if isinstance(env, TaskEnvironment):  # `from_task` puts tasks of other environments into one
        yield from {task.env.name: task.env for task in env.tasks.values() if task.env is not env}.values()


def plan(
    envs: Iterable[Environment],
    *,
    version: str | None = None,
    copy_style: CopyStyle = "loaded_modules",
    project: str | None = None,
    domain: str | None = None,
    parameter_values: Mapping[str, Mapping[str, Any]] | None = None,
    env_vars: Mapping[str, str] | None = None,
    strict: bool | None = None,
) -> Plan:
    """Everything that deploying `envs` will send. Reads files, and nothing else.

    Raises CodeBundleError for code that cannot be shipped, InvalidInputError for `copy_style="none"` without a version
    and, if `strict` (None: as FLYTE_STRICT says), for declarations without effect.
    """
    _bundle.check_style(copy_style)
    if copy_style == "none" and not version:
        raise InvalidInputError("copy_style='none' ships no code, so no version can be derived from it; pass version=")
    state, root = _state.current(), _state.root_dir()
    environments = tuple(closure(envs))
    no_effect = _no_effect.of_environments(environments)
    _no_effect.refuse(no_effect, strict)
    tasks = [task.spec(root) for env in environments for task in _own_tasks(env)]
    apps = [env.spec(root) for env in environments if isinstance(env, AppEnvironment)]
    files = [file for env in environments for file in _included(env)] + _named_in_commands(apps, environments, root)
    moved = copied.of_environments(environments)
    bundle = _bundle.build(root, copy_style, files, state.sync_local_sys_paths, moved)
    if bundle is not None:
        _bundle.require(bundle, root, [spec.entry for spec in [*tasks, *apps] if spec.entry])
    request = wire.DeployRequest(
        project=project or state.project,
        domain=domain or state.domain,
        version=version or "",
        bundle=bundle.digest if bundle else None,
        root=str(root) if bundle is None else None,
        sys_path=list(bundle.sys_path) if bundle else _bundle.sys_path(root.resolve()),
        tasks=tasks,
        apps=apps,
        order={env.name: list(dict.fromkeys(other.name for other in _needed(env))) for env in environments},
        parameter_values={app: _texts(values) for app, values in (parameter_values or {}).items()},
        env_vars=dict(env_vars or {}),
        strict=_no_effect.is_strict(strict),
    )
    if not version:
        request = msgspec.structs.replace(request, version=_derived(request))
    return Plan(environments, bundle, _annotated(request, environments), no_effect)


def _annotated(request: wire.DeployRequest, environments: tuple[Environment, ...]) -> wire.DeployRequest:
    """The request with the settings that have no effect in each spec. The version does not depend on them."""
    shared = {env.name: _no_effect.of_environment(env) for env in environments}
    own = {task.name: _no_effect.of_task(task) for env in environments for task in _own_tasks(env)}
    tasks = [
        msgspec.structs.replace(spec, no_effect=_no_effect.lines([*shared[spec.environment.name], *own[spec.name]]))
        for spec in request.tasks
    ]
    apps = [msgspec.structs.replace(spec, no_effect=_no_effect.lines(shared[spec.name])) for spec in request.apps]
    return msgspec.structs.replace(request, tasks=tasks, apps=apps)


def _own_tasks(env: Environment) -> list[Any]:
    return [task for task in env.tasks.values() if task.env is env] if isinstance(env, TaskEnvironment) else []


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else str(value) for name, value in values.items()}


def _included(env: Environment) -> list[Path]:
    try:
        return env.include_files()
    except FileNotFoundError as error:
        raise CodeBundleError(str(error)) from None


def _named_in_commands(apps: list[wire.AppSpec], envs: tuple[Environment, ...], root: Path) -> list[Path]:
    """The files that apps' commands name (`streamlit run page.py`): no import leads to them."""
    found: list[Path] = []
    for spec in apps:
        env = next(env for env in envs if env.name == spec.name)
        beside = [file.parent for file in env.places]
        for word in spec.argv:
            for folder in (root, *beside):
                file = folder / word
                if word and not word.startswith(("-", "/", "$")) and file.is_file() and _bundle.own_name(file, root):
                    found.append(file)
    return found


def _derived(request: wire.DeployRequest) -> str:
    """A version that is the same for the same code and the same declarations, wherever they are deployed."""
    what = [request.bundle, request.sys_path, request.tasks, request.apps, request.env_vars, request.parameter_values]
    return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()[:12]


# -------------------------------------------------------------------------------------------------------- sending


async def send(client: Client, planned: Plan, on_progress: Progress | None = None) -> wire.Deployment:
    """Deploy, and wait for the end. Raises DeploymentError with the platform's reason when it fails."""
    bundle = planned.bundle
    if bundle is not None and not await client.has_bundle(bundle.digest):
        await client.put_bundle(bundle.digest, bundle.data)
    notes = [str(note) for note in planned.no_effect]
    record = _with_notes(await client.create_deployment(planned.request), notes)
    if on_progress:
        on_progress(record)
    else:
        _no_effect.say(record.warnings)
    if record.phase is wire.DeploymentPhase.RUNNING:
        record = await _watched(client, record, notes, on_progress)
    if record.phase is wire.DeploymentPhase.FAILED:
        error = record.error or wire.ErrorInfo(code="DeploymentError", message=f"deployment {record.id} failed")
        raise DeploymentError(error.message, error.code)
    return record


async def _watched(
    client: Client, record: wire.Deployment, notes: list[str], on_progress: Progress | None
) -> wire.Deployment:
    async for _, _, news in client.deployment_events(record.id):
        if isinstance(news, wire.Event):
            news = msgspec.convert(news.body, wire.Deployment) if news.body else await client.get_deployment(record.id)
        news = _with_notes(news, notes)
        if on_progress and news != record:
            on_progress(news)
        record = news
    return record


def _with_notes(record: wire.Deployment, notes: list[str]) -> wire.Deployment:
    """The record with what has no effect among its warnings."""
    return msgspec.structs.replace(record, warnings=[*notes, *record.warnings])


_done: dict[tuple[str, ...], str] = {}
"""What this process has deployed: (platform, project, domain, version, bundle) → the deployment's id."""


def _key(client: Client, request: wire.DeployRequest) -> tuple[str, ...]:
    return client.endpoint, request.project, request.domain, request.version, request.bundle or "", *request.order


async def ensure(client: Client, planned: Plan, on_progress: Progress | None = None) -> None:
    """Have the platform know what a run needs, unless this process has sent this very plan before.

    Task versions that a deployment made current stay current: a run brings its code along for itself.
    """
    key = _key(client, planned.request)
    if key not in _done:
        request = msgspec.structs.replace(planned.request, moves_current=False)
        _done[key] = (await send(client, replace(planned, request=request), on_progress)).id


def forget(client: Client, planned: Plan) -> None:
    """The platform does not know of this deployment any more."""
    _done.pop(_key(client, planned.request), None)


# ----------------------------------------------------------------------------------------------------- public names


@syncable
async def deploy(
    *envs: Environment,
    dry_run: bool = False,
    version: str | None = None,
    interactive_mode: bool | None = None,
    copy_style: CopyStyle = "loaded_modules",
    dryrun: bool | None = None,
    on_progress: Progress | None = None,
    strict: bool | None = None,
) -> list[Deployment]:
    """Deploy environments with all that they depend on, dependencies first, and wait until every app answers.

    The code is shipped as `copy_style` says: `loaded_modules` (what this process imported from below `root_dir`), `all`
    (the whole folder), `none` (the platform finds it in the same place on its machine; needs a `version`). The version
    is derived from code and declarations where none is given. A dry run stops before anything is sent and needs no
    platform; `dryrun` is its older name. `on_progress` is told of every change.

    What is declared and not carried out (docs/limits.md lists it) is logged as a warning, and stands in `warnings` of
    the Deployment. `strict=True` makes it an error before anything is sent, and so does FLYTE_STRICT=1 where `strict`
    is None.

    Returns one Deployment for each environment given. Raises ValueError for two environments of one name,
    DeploymentError for a cycle and for what does not start, with the last lines of its log, InvalidInputError
    if strict.
    """
    refuse_import("flyte.deploy")
    if interactive_mode:
        raise NotImplementedError("code of an interactive session cannot be deployed; put it into a file")
    if not envs:
        raise ValueError("deploy needs at least one environment")
    client = None if dry_run or dryrun else _state.client()
    planned = plan(envs, version=version, copy_style=copy_style, strict=strict)
    if client is None:
        _no_effect.say(map(str, planned.no_effect))
    record = await send(client, planned, on_progress) if client else None
    return [_deployment(env, planned, record) for env in dict.fromkeys(envs)]


def _deployment(env: Environment, planned: Plan, record: wire.Deployment | None) -> Deployment:
    warnings = tuple(record.warnings) if record else tuple(map(str, planned.no_effect))
    return Deployment(described(closure([env]), planned.request, record), planned.request.version, warnings, record)


@dataclass(frozen=True, slots=True)
class ImageBuild:
    """What `build` gives. Nothing is built here: the platform makes an image's environment when it is deployed."""

    uri: str | None
    remote_run: Any = None
    build_run: Any = None


@syncable
async def build(image: Image, dry_run: bool = False, force: bool = False, wait: bool = True) -> ImageBuild:
    """The image's name. It is an environment on the platform's machine, made when something is deployed with it."""
    return ImageBuild(image.uri)


@syncable
async def build_images(
    *envs: Environment, copy_style: CopyStyle = "loaded_modules", seed_cache: Any = None
) -> dict[str, str]:
    """Environment → the name of its image, for all that `envs` depend on; see `build`."""
    return {env.name: image_of(env) for env in closure(envs)}
