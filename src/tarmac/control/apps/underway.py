"""One deployment while it is under way: what it starts, what it has changed so far, and how that is taken back."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from flyte import wire
from flyte.errors import BaseRuntimeError, DeploymentError, InvalidInputError
from flyte.wire import AppStatus, DeploymentPhase, ErrorInfo
from tarmac.control.apps.apps import Apps
from tarmac.control.apps.undo import Found, Undo, Unfinished, WasCurrent
from tarmac.control.images import Environment, Images
from tarmac.control.live_apps import LiveApp, LiveReplica
from tarmac.control.runs.registry import Registry
from tarmac.control.vault import Secrets, full_name
from tarmac.events import Journal
from tarmac.model import check_deployment, check_environment, subject_of_deployment
from tarmac.store import AppVersionRow, Change, CurrentTaskRow, Delete, DeploymentRow, Store, TaskRow

LOOK = 1.0
"""Seconds between two looks at what keeps replicas from being ready."""


class Underway:
    """`now` is the deployment as it is, what is not on disk yet included; `shown` is it as of the last commit."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        registry: Registry,
        apps: Apps,
        secrets: Secrets,
        images: Images,
        deployment: wire.Deployment,
        undo: Undo,
    ) -> None:
        self.now = deployment
        self.shown: wire.Deployment | None = None
        self._store = store
        self._journal = journal
        self._registry = registry
        self._apps = apps
        self._secrets = secrets
        self._images = images
        self._undo = undo

    async def carry_out(self, request: wire.DeployRequest, plan: list[list[str]], turn: asyncio.Lock) -> None:
        """Have the environments made, and then, in turn with others that change the same, change what is deployed."""
        try:
            await self._have_images(request)
            async with turn:
                await self._change(request, plan)
        except* BaseRuntimeError as failures:  # an environment could not be made, and nothing was changed
            await self.fail(_first(failures))
        finally:
            await self._close()
        if self._undo.old_replicas and self.now.phase is DeploymentPhase.SUCCEEDED:
            await self._apps.replicas.end_later(self._undo.old_replicas, "a new version took its place")

    async def _change(self, request: wire.DeployRequest, plan: list[list[str]]) -> None:
        try:
            await self._levels(request, plan)
            await self.succeed()
        except* BaseRuntimeError as failures:
            await self.take_back()
            await self.fail(_first(failures))

    async def _have_images(self, request: wire.DeployRequest) -> None:
        """The Python and packages of every environment, all at the same time, before anything is changed."""
        async with asyncio.TaskGroup() as group:
            for environment in environment_specs(request):
                if self._images.needs_none(environment) is None:
                    group.create_task(self._have_image(request, environment))

    async def _have_image(self, request: wire.DeployRequest, spec: wire.EnvironmentSpec) -> None:
        news: asyncio.Queue[str] = asyncio.Queue()
        making = asyncio.ensure_future(self._images.prepare(request.project, request.domain, spec, news.put_nowait))
        making.add_done_callback(lambda _: news.put_nowait(""))
        try:
            while message := await news.get():
                await self._progress(spec.name, "building", message)
            made = await making
            if request.strict and made.warnings:
                raise InvalidInputError(f"strict: {made.warnings[0]}", "NoEffectError")
        except BaseRuntimeError as error:
            await self._progress(spec.name, "failed", error.message)
            raise
        finally:
            making.cancel()
        await self._made(spec.name, made)

    async def _made(self, environment: str, made: Environment) -> None:
        """An environment's Python is known: what it is, and what is otherwise than its image asks for."""
        changed = self._with(environment, phase="waiting", message="", image=made.shown)
        warnings = list(dict.fromkeys([*self.now.warnings, *made.warnings]))
        record = msgspec.structs.replace(self.now, environments=changed, warnings=warnings)
        await self.record(record, f"{environment}: {made.shown or 'it runs in the Python of the platform'}")

    async def _levels(self, request: wire.DeployRequest, plan: list[list[str]]) -> None:
        """One level after the other; what stands in the same level at the same time."""
        for level in plan:
            async with asyncio.TaskGroup() as group:
                for environment in level:
                    group.create_task(self._environment(request, environment))

    async def _close(self) -> None:
        """A deployment that ended by a fault of ours must not look as if it were still under way.

        One that ends because this control plane does is left as it is: the next one takes it back.
        """
        task = asyncio.current_task()
        if self.now.phase is DeploymentPhase.RUNNING and not (task and task.cancelling()):
            await self.take_back()
            error = ErrorInfo(code="RuntimeSystemError", message="the deployment broke off; see the log", kind="system")
            failed = msgspec.structs.replace(self.now, phase=DeploymentPhase.FAILED, error=error)
            await self.record(failed, error.message)

    async def _environment(self, request: wire.DeployRequest, environment: str) -> None:
        tasks = [spec for spec in request.tasks if spec.environment.name == environment]
        apps = [spec for spec in request.apps if spec.name == environment]
        try:
            if not tasks and not apps:
                await self._progress(environment, "ready", "")
            if tasks:
                await self._tasks_of(request, environment)
            for spec in apps:
                await self._app(request, spec)
        except BaseRuntimeError as error:
            await self._progress(environment, "failed", error.message)
            raise

    async def _tasks_of(self, request: wire.DeployRequest, environment: str) -> None:
        """Register what is new, and make it current. Current may move back to a version that is registered already."""
        now = time.time()
        rows = [row for row in self._registry.rows_for(request, now) if row.environment == environment]
        new = [row for row in rows if not await self._registry.is_registered(row)]
        current = {row.name: row for row in await self._store.current_tasks(request.project, request.domain)}
        moved = _moved(rows, current, request.moves_current, now)
        if new or moved:
            self._undo.new_tasks += [row.name for row in new]
            self._undo.was_current += [WasCurrent(name=row.name, row=current.get(row.name)) for row in moved]
            change = Change(tasks=tuple(new), current_tasks=tuple(moved), deployments=(self._row(),))
            await self._journal.write(change, self._registry.changed)
        is_changed = new or any(row.since == now for row in moved)
        phase = "ready" if is_changed else "unchanged"
        await self._progress(environment, phase, f"{len(rows)} task{'s' if len(rows) != 1 else ''}")

    async def _app(self, request: wire.DeployRequest, spec: wire.AppSpec) -> None:
        version = await self._version(request, spec)
        scope = wire.Scope(request.project, request.domain)
        app = self._apps.live.get(scope.app(spec.name))
        if app is not None and (served := await self._unchanged(app, version)) and app.row.wanted == "active":
            if not await self._apps.replicas.are_outdated(app, served):
                await self._apps.wake(app)
                await self._progress(spec.name, "unchanged", "", self._apps.addresses.url(app))
                return
            version = replace(version, digest=_another_revision(version.digest))
        self._undo.found.append(
            Found(name=spec.name) if app is None else Found(name=spec.name, row=app.row, served=app.served)
        )
        self._journal.post(Change(deployments=(self._row(),)))  # on disk before whatever is committed later
        app = await self._apps.declare(scope.app(spec.name), time.time())
        await self._progress(spec.name, "starting", "", self._apps.addresses.url(app))
        app.row = replace(app.row, env_vars=request.env_vars, parameters=request.parameter_values.get(spec.name, {}))
        self._apps.set_status(app, AppStatus.DEPLOYING, f"starting version {version.version}")
        await self._journal.commit(Change(app_versions=(version,)))
        await self._start(app, version, spec)
        # another deployment may have taken a name meanwhile
        self._apps.addresses.check_names(scope, [spec])
        self._undo.old_replicas += await self._apps.switch(app, version, f"version {version.version} serves")
        await self._apps.gateway.told()
        await self._progress(spec.name, "ready", "", self._apps.addresses.url(app))

    async def _start(self, app: LiveApp, version: AppVersionRow, spec: wire.AppSpec) -> None:
        """Start the new version's replicas and wait until every one of them answers."""
        count = max(1, spec.scaling.min_replicas)
        replicas = [await self._apps.replicas.start(app, version) for _ in range(count)]
        try:
            await self._until_ready(replicas, spec.name)
        except DeploymentError:
            self._apps.replicas.end([r for r in replicas if r.phase in ("starting", "ready")], "another did not start")
            raise

    async def _until_ready(self, replicas: Sequence[LiveReplica], environment: str) -> None:
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
                await self._progress(environment, "starting", message)

    async def _version(self, request: wire.DeployRequest, spec: wire.AppSpec) -> AppVersionRow:
        raw = msgspec.json.encode(spec)
        digest = hashlib.sha256(raw)
        for part in (request.bundle, request.root, *request.sys_path):
            digest.update((part or "").encode() + b"\0")
        digest.update(
            msgspec.json.encode([request.env_vars, request.parameter_values.get(spec.name, {})], order="sorted")
        )
        made = await self._images.find(request.project, request.domain, spec.environment)
        digest.update(made.key.encode())
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
        """The version that serves, if it is the same as `version`; else None."""
        row = app.row
        if row.version is None or row.status is AppStatus.FAILED:
            return None
        current = await self._store.app_version(row.id, row.version)
        return current if current is not None and _same_code(current.digest, version.digest) else None

    async def take_back(self) -> None:
        """Back to how it was: what served before serves again, what is new is gone."""
        of, undo = self.now, self._undo
        for found in reversed(undo.found):
            app = self._apps.live.get(wire.AppId(of.project, of.domain, found.name))
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

    async def _progress(self, environment: str, phase: str, message: str, url: str = "") -> None:
        changes = {"phase": phase, "message": message, **({"url": url} if url else {})}
        changed = self._with(environment, **changes)
        await self.record(msgspec.structs.replace(self.now, environments=changed), f"{environment}: {phase}")

    def _with(self, environment: str, **changes: Any) -> list[wire.DeployedEnvironment]:
        """The environments as they are, but for what changes of one."""
        return [
            msgspec.structs.replace(env, **changes) if env.name == environment else env for env in self.now.environments
        ]

    async def succeed(self) -> None:
        await self.record(msgspec.structs.replace(self.now, phase=DeploymentPhase.SUCCEEDED), "deployed")

    async def fail(self, why: BaseRuntimeError) -> None:
        record = self.now
        error = ErrorInfo(code=why.code, message=why.message, kind=why.kind)
        changed = [
            env
            if env.phase in ("failed", "waiting", "unchanged")
            else msgspec.structs.replace(env, phase="rolled_back")
            for env in record.environments
        ]
        failed = msgspec.structs.replace(record, phase=DeploymentPhase.FAILED, error=error, environments=changed)
        await self.record(failed, why.message)

    async def record(self, record: wire.Deployment, message: str) -> None:
        """Store the deployment and tell of it. Raises ForbiddenMove where its phases cannot go that way."""
        check_deployment(self.now.phase, record.phase)
        for old, new in zip(self.now.environments, record.environments, strict=True):
            check_environment(old.phase, new.phase)
        subject = subject_of_deployment(record.id)
        event = self._journal.event(subject, record.phase.value, message)
        record = msgspec.structs.replace(record, seq=event.seq)
        body = msgspec.to_builtins(record)
        event = msgspec.structs.replace(event, body=body)
        self.now = record

        def then() -> None:
            self.shown = record

        await self._journal.commit(Change(deployments=(self._row(),), events=(event,)), then)

    def _row(self) -> DeploymentRow:
        """The deployment as it is now; while it is under way, with what it takes to undo it."""
        record, undo = self.now, self._undo
        if record.phase is DeploymentPhase.RUNNING:
            record = Unfinished(
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


def environment_specs(request: wire.DeployRequest) -> list[wire.EnvironmentSpec]:
    """The environments of a deployment, each once."""
    declared: list[wire.TaskSpec | wire.AppSpec] = [*request.tasks, *request.apps]
    return list({spec.environment.name: spec.environment for spec in declared}.values())


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
