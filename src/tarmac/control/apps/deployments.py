"""A deployment: check everything, then level by level start the new, wait until it is healthy, switch, end the old.

The contract: when it has succeeded, every URL answers with the new code; when it has failed, everything is as it was
before, and the error says why with the tail of the log. Old replicas are kept until the whole deployment is through,
so that a failure at a late level can be taken back without starting anything.

The same holds when the control plane dies in between: what a deployment found is written down with it before it touches
anything, in the same order of commits, and the next control plane takes it back (`close_open`).
"""

from __future__ import annotations

import asyncio
import functools
import graphlib
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from flyte import wire
from flyte.errors import BaseRuntimeError, DeploymentError, InvalidInputError, NotFoundError
from flyte.names import deployment_name
from flyte.wire import AppStatus, DeployedEnvironment, DeploymentPhase, ErrorInfo
from tarmac.control.apps.apps import Apps
from tarmac.control.apps.live import LiveApp, LiveReplica
from tarmac.control.apps.parameters import RunOutputs
from tarmac.control.runs.registry import Registry
from tarmac.control.startup import Startup
from tarmac.control.vault import Secrets, full_name, not_mounted
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.images import environment_of
from tarmac.model import check_deployment, check_environment, subject_of_deployment
from tarmac.store import AppRow, AppVersionRow, Change, CurrentTaskRow, Delete, DeploymentRow, Store, TaskRow

log = logging.getLogger("tarmac.deployments")

LOOK = 1.0
"""Seconds between two looks at what keeps replicas from being ready."""

_CUT_OFF = "the platform was restarted meanwhile, and everything is as it was before; deploy again"


def levels(order: Mapping[str, list[str]]) -> list[list[str]]:
    """Names in levels: each needs only what earlier levels hold. Raises DeploymentError with the cycle in it."""
    sorter = graphlib.TopologicalSorter(
        {name: sorted(other for other in needs if other in order) for name, needs in sorted(order.items())}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        cycle = " → ".join(reversed(error.args[1]))
        raise DeploymentError(f"environments depend on each other in a circle: {cycle}") from None
    found: list[list[str]] = []
    while sorter:
        level = sorter.get_ready()
        found.append(sorted(level))
        sorter.done(*level)
    return found


class Found(wire.Record, frozen=True, kw_only=True):
    """How an app was before a deployment touched it."""

    name: str
    row: AppRow | None = None
    """None: there was none."""
    served: AppVersionRow | None = None


class WasCurrent(wire.Record, frozen=True, kw_only=True):
    """Which version of a task was current before a deployment moved that."""

    name: str
    row: CurrentTaskRow | None = None
    """None: the task was not registered."""


class Underway(wire.Deployment, frozen=True, kw_only=True):
    """A deployment as it is stored while it is under way: with all that it takes to undo it."""

    found: list[Found] = msgspec.field(default_factory=list)
    new_tasks: list[str] = msgspec.field(default_factory=list)
    was_current: list[WasCurrent] = msgspec.field(default_factory=list)


@dataclass(slots=True, eq=False)
class Undo:
    """What a deployment has changed so far, and how it was before."""

    found: list[Found] = field(default_factory=list)
    new_tasks: list[str] = field(default_factory=list)
    was_current: list[WasCurrent] = field(default_factory=list)
    old_replicas: list[LiveReplica] = field(default_factory=list)


class Deployments:
    def __init__(
        self,
        home: Home,
        store: Store,
        journal: Journal,
        registry: Registry,
        apps: Apps,
        secrets: Secrets,
        outputs: RunOutputs,
    ) -> None:
        self._home = home
        self._store = store
        self._journal = journal
        self._registry = registry
        self._apps = apps
        self._secrets = secrets
        self._outputs = outputs
        self._now: dict[str, wire.Deployment] = {}
        """Those that are under way, as they are; what is not on disk yet included."""
        self._shown: dict[str, wire.Deployment] = {}
        """The same as of the last commit."""
        self._undo: dict[str, Undo] = {}
        """Of the deployments that are under way."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}

    async def start(self, request: wire.DeployRequest, by: str) -> wire.Deployment:
        """Check the whole request, then begin. Raises DeploymentError and its kin with nothing changed.

        A deployment of tasks alone is done when this returns; one with apps goes on, and its events tell how.
        """
        plan = levels({**{environment: [] for environment in _environments(request)}, **request.order})
        warnings = await self._check(request)
        if request.strict and warnings:
            raise InvalidInputError("\n".join([f"strict: {warnings[0]}", *warnings[1:]]), "NoEffectError")
        request = await self._outputs.fill_in(request)
        level_of = {name: number for number, level in enumerate(plan) for name in level}
        deployment = wire.Deployment(
            id=deployment_name(time.time()),
            project=request.project,
            domain=request.domain,
            version=request.version,
            phase=DeploymentPhase.RUNNING,
            environments=_waiting(request, level_of),
            warnings=warnings,
            created=time.time(),
            created_by=by,
        )
        self._undo[deployment.id] = Undo()
        await self._record(deployment, "accepted")
        task = asyncio.get_running_loop().create_task(self._carry_out(request, plan, deployment.id))
        self._tasks[deployment.id] = task
        task.add_done_callback(lambda done: self._done(deployment.id, done))
        if not request.apps:
            await asyncio.shield(task)
        return await self.get(deployment.id)

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(name, None)
        self._now.pop(name, None)
        self._shown.pop(name, None)
        self._undo.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("deployment %s", name, exc_info=error)

    async def get(self, name: str) -> wire.Deployment:
        """The deployment as of the last commit. Raises NotFoundError."""
        if (shown := self._shown.get(name)) is not None:
            return shown
        row = await self._store.deployment(name)
        if row is None:
            raise NotFoundError(f"no deployment {name!r}")
        record = msgspec.json.decode(row.record, type=wire.Deployment)
        await self._journal.reach(record.seq)
        return record

    async def close_open(self, startup: Startup) -> None:
        """Finish deployments that an earlier control plane left when all was done, and take back the others.

        To be called when the apps are in memory, and before the agent says which replicas are alive: of those, the
        ones that do not belong to what serves then are ended.
        """
        for row in await self._store.deployments(DeploymentPhase.RUNNING):
            await startup.take_up(
                f"deployment {row.id}",
                functools.partial(self._close_one, row),
                functools.partial(self._set_aside, row),
                f"What it had changed in {row.project}/{row.domain} stays as it is; deploy again",
            )
            self._now.pop(row.id, None)
            self._shown.pop(row.id, None)

    async def _close_one(self, row: DeploymentRow) -> None:
        left = msgspec.json.decode(row.record, type=Underway)
        self._now[row.id] = msgspec.convert(msgspec.structs.asdict(left), wire.Deployment)
        if left.environments and all(env.phase in ("ready", "unchanged") for env in left.environments):
            await self._succeed(row.id)
        else:
            await self._take_back(left, Undo(left.found, left.new_tasks, left.was_current))
            await self._fail(row.id, DeploymentError(_CUT_OFF))

    async def _set_aside(self, row: DeploymentRow, why: str) -> None:
        """It has failed; nothing but its row is known of it."""
        self._now[row.id] = wire.Deployment(
            id=row.id,
            project=row.project,
            domain=row.domain,
            version=row.version,
            phase=DeploymentPhase.RUNNING,
            created=row.created,
        )
        await self._fail(row.id, DeploymentError(f"the deployment could not be taken back ({why}); deploy again"))

    # ------------------------------------------------------------------ check

    async def _check(self, request: wire.DeployRequest) -> list[str]:
        """Images, secrets, endpoints, code: everything that can be known before anything starts."""
        warnings: list[str] = []
        environments = {spec.environment.name: spec.environment for spec in _declared(request)}
        for environment in environments.values():
            warnings += environment_of(environment).warnings
            warnings += not_mounted(environment, self._home.isolation_profile()["profile"])
            await self._secrets.open(request.project, request.domain, environment)
        deployed_here = {spec.name for spec in request.apps}
        if both := deployed_here.intersection(spec.environment.name for spec in request.tasks):
            raise InvalidInputError(f"{min(both)!r} is the name of an app and of an environment of tasks; rename one")
        self._apps.addresses.check_names(request.project, request.domain, request.apps)
        for spec in request.apps:
            for parameter in spec.parameters:
                if parameter.kind == "endpoint" and parameter.app_name not in deployed_here:
                    self._apps.find(request.project, request.domain, parameter.app_name or "")
        return warnings

    # ------------------------------------------------------------------ carry out

    async def _carry_out(self, request: wire.DeployRequest, plan: list[list[str]], name: str) -> None:
        turn = self._turns.setdefault((request.project, request.domain), asyncio.Lock())
        undo = self._undo[name]
        async with turn:
            try:
                await self._levels(request, plan, name, undo)
                await self._succeed(name)
            except* BaseRuntimeError as failures:
                await self._take_back(request, undo)
                await self._fail(name, _first(failures))
            finally:
                await self._close(request, name, undo)
            if undo.old_replicas and self._now[name].phase is DeploymentPhase.SUCCEEDED:
                await self._apps.replicas.end_later(undo.old_replicas, "a new version took its place")

    async def _levels(self, request: wire.DeployRequest, plan: list[list[str]], name: str, undo: Undo) -> None:
        """One level after the other; what stands in the same level at the same time."""
        for level in plan:
            async with asyncio.TaskGroup() as group:
                for environment in level:
                    group.create_task(self._environment(request, environment, name, undo))

    async def _close(self, request: wire.DeployRequest, name: str, undo: Undo) -> None:
        """A deployment that ended by a fault of ours must not look as if it were still under way.

        One that ends because this control plane does is left as it is: the next one takes it back.
        """
        record, task = self._now[name], asyncio.current_task()
        if record.phase is DeploymentPhase.RUNNING and not (task and task.cancelling()):
            await self._take_back(request, undo)
            error = ErrorInfo(code="RuntimeSystemError", message="the deployment broke off; see the log", kind="system")
            failed = msgspec.structs.replace(record, phase=DeploymentPhase.FAILED, error=error)
            await self._record(failed, error.message)

    async def _environment(self, request: wire.DeployRequest, environment: str, name: str, undo: Undo) -> None:
        tasks = [spec for spec in request.tasks if spec.environment.name == environment]
        apps = [spec for spec in request.apps if spec.name == environment]
        try:
            if not tasks and not apps:
                await self._progress(name, environment, "ready", "")
            if tasks:
                await self._tasks_of(request, environment, name, undo)
            for spec in apps:
                await self._app(request, spec, name, undo)
        except BaseRuntimeError as error:
            await self._progress(name, environment, "failed", error.message)
            raise

    async def _tasks_of(self, request: wire.DeployRequest, environment: str, name: str, undo: Undo) -> None:
        """Register what is new, and make it current. Current may move back to a version that is registered already."""
        now = time.time()
        rows = [row for row in self._registry.rows_for(request, now) if row.environment == environment]
        new = [row for row in rows if not await self._registry.is_registered(row)]
        current = {row.name: row for row in await self._store.current_tasks(request.project, request.domain)}
        moved = _moved(rows, current, request.moves_current, now)
        if new or moved:
            undo.new_tasks += [row.name for row in new]
            undo.was_current += [WasCurrent(name=row.name, row=current.get(row.name)) for row in moved]
            change = Change(tasks=tuple(new), current_tasks=tuple(moved), deployments=(self._row(name),))
            await self._journal.write(change, self._registry.changed)
        is_changed = new or any(row.since == now for row in moved)
        phase = "ready" if is_changed else "unchanged"
        await self._progress(name, environment, phase, f"{len(rows)} task{'s' if len(rows) != 1 else ''}")

    async def _app(self, request: wire.DeployRequest, spec: wire.AppSpec, name: str, undo: Undo) -> None:
        version = await self._version(request, spec)
        app = self._apps.live.get((request.project, request.domain, spec.name))
        if app is not None and (served := await self._unchanged(app, version)) and app.row.wanted == "active":
            if not await self._apps.replicas.are_outdated(app, served):
                await self._apps.wake(app)
                await self._progress(name, spec.name, "unchanged", "", self._apps.addresses.url(app))
                return
            version = replace(version, digest=_another_revision(version.digest))
        undo.found.append(
            Found(name=spec.name) if app is None else Found(name=spec.name, row=app.row, served=app.served)
        )
        self._journal.post(Change(deployments=(self._row(name),)))  # on disk before whatever is committed later
        app = await self._apps.declare(request.project, request.domain, spec, time.time())
        await self._progress(name, spec.name, "starting", "", self._apps.addresses.url(app))
        app.row = replace(app.row, env_vars=request.env_vars, parameters=request.parameter_values.get(spec.name, {}))
        self._apps.set_status(app, AppStatus.DEPLOYING, f"starting version {version.version}")
        await self._journal.commit(Change(app_versions=(version,)))
        await self._start(app, version, spec, name)
        # another deployment may have taken a name meanwhile
        self._apps.addresses.check_names(request.project, request.domain, [spec])
        undo.old_replicas += await self._apps.switch(app, version, f"version {version.version} serves")
        await self._apps.gateway.told()
        await self._progress(name, spec.name, "ready", "", self._apps.addresses.url(app))

    async def _start(self, app: LiveApp, version: AppVersionRow, spec: wire.AppSpec, name: str) -> None:
        """Start the new version's replicas and wait until every one of them answers."""
        count = max(1, spec.scaling.min_replicas)
        replicas = [await self._apps.replicas.start(app, version) for _ in range(count)]
        try:
            await self._until_ready(replicas, name, spec.name)
        except DeploymentError:
            self._apps.replicas.end([r for r in replicas if r.phase in ("starting", "ready")], "another did not start")
            raise

    async def _until_ready(self, replicas: Sequence[LiveReplica], name: str, environment: str) -> None:
        """Wait for all of them, and tell what keeps the first from it. Raises DeploymentError."""
        ready, told = [replica.ready for replica in replicas], ""
        while True:
            done, waiting = await asyncio.wait(ready, timeout=LOOK, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                each.result()
            if not waiting:
                return
            message = next((replica.message for replica in replicas if replica.phase == "starting"), "")
            if message not in ("", told):
                told = message
                await self._progress(name, environment, "starting", message)

    async def _version(self, request: wire.DeployRequest, spec: wire.AppSpec) -> AppVersionRow:
        raw = msgspec.json.encode(spec)
        digest = hashlib.sha256(raw)
        for part in (request.bundle, request.root, *request.sys_path):
            digest.update((part or "").encode() + b"\0")
        digest.update(
            msgspec.json.encode([request.env_vars, request.parameter_values.get(spec.name, {})], order="sorted")
        )
        for secret in spec.environment.secrets:
            info = await self._secrets.get(request.project, request.domain, full_name(secret))
            digest.update(str(info.updated).encode())
        return AppVersionRow(
            project=request.project,
            domain=request.domain,
            name=spec.name,
            version=request.version,
            spec=raw,
            bundle=request.bundle,
            root=request.root,
            sys_path=request.sys_path,
            created=time.time(),
            digest=digest.hexdigest(),
        )

    async def _unchanged(self, app: LiveApp, version: AppVersionRow) -> AppVersionRow | None:
        """The version that serves, where it is no other than `version`."""
        row = app.row
        if row.version is None or row.status is AppStatus.FAILED:
            return None
        current = await self._store.app_version(row.project, row.domain, row.name, row.version)
        return current if current is not None and _same_code(current.digest, version.digest) else None

    async def _take_back(self, of: wire.DeployRequest | wire.Deployment, undo: Undo) -> None:
        """Back to how it was: what served before serves again, what is new is gone."""
        for found in reversed(undo.found):
            app = self._apps.live.get((of.project, of.domain, found.name))
            if app is None:
                continue
            if found.row is None or found.served is None:
                await self._apps.withdraw(app)
            else:
                await self._apps.unswitch(app, found.row, found.served)
        keys = [(of.project, of.domain, task, of.version) for task in undo.new_tasks]
        moved = [Delete("current_tasks", (of.project, of.domain, was.name)) for was in undo.was_current]
        if keys or moved:
            restored = tuple(was.row for was in undo.was_current if was.row is not None)
            deletes = (*(Delete("tasks", key) for key in keys), *moved)
            await self._journal.commit(Change(deletes=deletes, current_tasks=restored))
            self._registry.forget(keys)
            self._registry.changed()

    # ------------------------------------------------------------------ tell

    async def _progress(self, name: str, environment: str, phase: str, message: str, url: str = "") -> None:
        record = self._now[name]
        changed = [
            msgspec.structs.replace(env, phase=phase, message=message, url=url or env.url)
            if env.name == environment
            else env
            for env in record.environments
        ]
        await self._record(msgspec.structs.replace(record, environments=changed), f"{environment}: {phase}")

    async def _succeed(self, name: str) -> None:
        await self._record(msgspec.structs.replace(self._now[name], phase=DeploymentPhase.SUCCEEDED), "deployed")

    async def _fail(self, name: str, why: BaseRuntimeError) -> None:
        record = self._now[name]
        error = ErrorInfo(code=why.code, message=why.message, kind=why.kind)
        changed = [
            env
            if env.phase in ("failed", "waiting", "unchanged")
            else msgspec.structs.replace(env, phase="rolled_back")
            for env in record.environments
        ]
        failed = msgspec.structs.replace(record, phase=DeploymentPhase.FAILED, error=error, environments=changed)
        await self._record(failed, why.message)

    async def _record(self, record: wire.Deployment, message: str) -> None:
        """Store the deployment and tell of it. Raises ForbiddenMove where its phases cannot go that way."""
        if (before := self._now.get(record.id)) is not None:
            check_deployment(before.phase, record.phase)
            for old, new in zip(before.environments, record.environments, strict=True):
                check_environment(old.phase, new.phase)
        subject = subject_of_deployment(record.id)
        event = self._journal.event(subject, record.phase.value, message)
        record = msgspec.structs.replace(record, seq=event.seq)
        body = msgspec.to_builtins(record)
        event = msgspec.structs.replace(event, body=body)
        self._now[record.id] = record

        def then() -> None:
            self._shown[record.id] = record

        await self._journal.commit(Change(deployments=(self._row(record.id),), events=(event,)), then)

    def _row(self, name: str) -> DeploymentRow:
        """The deployment as it is now; while it is under way, with what it takes to undo it."""
        record = self._now[name]
        if record.phase is DeploymentPhase.RUNNING:
            undo = self._undo[name]
            record = Underway(
                **msgspec.structs.asdict(record),
                found=undo.found,
                new_tasks=undo.new_tasks,
                was_current=undo.was_current,
            )
        return DeploymentRow(
            id=record.id,
            project=record.project,
            domain=record.domain,
            version=record.version,
            phase=record.phase,
            record=msgspec.json.encode(record),
            created=record.created,
        )


def _another_revision(digest: str) -> str:
    """The digest for replicas that are to take the place of others which were deployed with the same."""
    return f"{digest}.{time.time_ns()}"


def _same_code(one: str, other: str) -> bool:
    """Whether two digests are of the same code and settings, whatever was installed when they were deployed."""
    return one.partition(".")[0] == other.partition(".")[0]


def _moved(
    rows: list[TaskRow], current: Mapping[str, CurrentTaskRow], by_deployment: bool, now: float
) -> list[CurrentTaskRow]:
    """What has to be written so that `rows` are the current versions of their tasks.

    What a run brings along is current only as long as the task was never deployed.
    """
    found = []
    for row in rows:
        before = current.get(row.name)
        is_version = before is not None and before.version == row.version
        if before is not None and before.deployed and (is_version or not by_deployment):
            continue
        if is_version and not by_deployment:
            continue
        since = before.since if before is not None and is_version else now
        found.append(CurrentTaskRow(row.project, row.domain, row.name, row.version, since, by_deployment))
    return found


def _first(group: BaseExceptionGroup[BaseRuntimeError]) -> BaseRuntimeError:
    """The first failure of a level; the others of the same level were cancelled with it."""
    failure: BaseException = group
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    assert isinstance(failure, BaseRuntimeError)
    return failure


def _declared(request: wire.DeployRequest) -> list[wire.TaskSpec | wire.AppSpec]:
    return [*request.tasks, *request.apps]


def _environments(request: wire.DeployRequest) -> list[str]:
    return sorted({spec.environment.name for spec in _declared(request)})


def _waiting(request: wire.DeployRequest, level_of: Mapping[str, int]) -> list[DeployedEnvironment]:
    apps = {spec.name for spec in request.apps}
    found = []
    for name, level in sorted(level_of.items(), key=lambda item: (item[1], item[0])):
        tasks = [spec.name for spec in request.tasks if spec.environment.name == name]
        kind = "app" if name in apps else "task"
        found.append(DeployedEnvironment(name=name, kind=kind, level=level, tasks=tasks))  # type: ignore[arg-type]
    return found
