"""A control plane in memory, for the API and the console: the same methods, the same errors, the same order of events.

It runs nothing. A test moves things along with `move`, `child` and `app_status`; what it creates is what the real one
would answer. Its time is what `now` says.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from flyte import wire
from flyte.errors import (
    ActionNotFoundError,
    AppNotFoundError,
    InvalidInputError,
    NotFoundError,
    RemoteTaskNotFoundError,
    RunAlreadyExistsError,
    RunNotFoundError,
    SecretNotFoundError,
)
from flyte.wire import ROOT_ACTION, ActionPhase, AppId, AppStatus, Scope
from tarmac import inputs as declared
from tarmac.api.plane import Seen

IsOver = Callable[[], bool]
replace = msgspec.structs.replace


class FakeBlobs:
    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    async def has(self, digest: str) -> bool:
        return digest in self.content

    async def size(self, digest: str) -> int:
        return len(self.content[digest])

    async def stream(self, digest: str) -> AsyncIterator[bytes]:
        yield self.content[digest]

    async def put_stream(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        data = b"".join([chunk async for chunk in chunks])
        if (found := hashlib.sha256(data).hexdigest()) != digest:
            raise InvalidInputError(f"the bytes have the sha256 {found}, not {digest}")
        is_new = digest not in self.content
        self.content[digest] = data
        return is_new


class Journal:
    """Numbered events, and whoever waits for more of them."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.events: list[wire.Event] = []
        self._now = now
        self._grown = asyncio.Event()

    @property
    def seq(self) -> int:
        return len(self.events)

    def add(self, subject: str, phase: str, message: str = "", attempt: int = 0) -> None:
        self.events.append(
            wire.Event(seq=self.seq + 1, at=self._now(), subject=subject, phase=phase, message=message, attempt=attempt)
        )
        self._grown.set()
        self._grown = asyncio.Event()

    async def after(self, seq: int, wanted: Callable[[wire.Event], bool]) -> AsyncIterator[wire.Event]:
        while True:
            grown = self._grown
            for event in self.events[seq:]:
                seq = event.seq
                if wanted(event):
                    yield event
            await grown.wait()


@dataclass
class FakeAction:
    action: wire.Action
    inputs: bytes = b"{}"
    outputs: bytes | None = None


@dataclass
class FakeRun:
    run: wire.Run
    actions: dict[str, FakeAction] = field(default_factory=dict)


class _Part:
    """One of the parts that answer requests; what it knows is the fake's."""

    def __init__(self, fake: FakeControl) -> None:
        self._fake = fake


class FakeControl:
    """Control, without a store, workers or a gateway."""

    def __init__(self, folder: Path, endpoint: str = "http://127.0.0.1:30080") -> None:
        self.now = time.time()
        self.folder = folder
        self.endpoint = endpoint
        self.blobs = FakeBlobs()
        self.journal = Journal(lambda: self.now)
        self.known_runs: dict[str, FakeRun] = {}
        self.run_by_key: dict[str, str] = {}
        self.known_tasks: dict[tuple[str, str, str], list[wire.Task]] = {}
        self.known_apps: dict[tuple[str, str, str], wire.App] = {}
        self.known_images: list[wire.ImageRecord] = []
        self.image_logs: dict[str, str] = {}
        self.known_deployments: dict[str, wire.Deployment] = {}
        self.known_secrets: dict[tuple[str, str, str], wire.SecretInfo] = {}
        self.known_keys: dict[str, wire.KeyInfo] = {}
        self.known_projects: dict[str, wire.Project] = {}
        self.numbers = itertools.count(1)
        self.deployments = FakeDeployments(self)
        self.runs = FakeRuns(self)
        self.actions = FakeActions(self)
        self.tasks = FakeTasks(self)
        self.apps = FakeApps(self)
        self.watching = FakeWatching(self)
        self.secrets = FakeSecrets(self)
        self.keys = FakeKeys(self)
        self.projects = FakeProjects(self)
        self.builds = FakeBuilds(self)
        self.storage = FakeStorage(self)
        self.cache = FakeCache(self)
        self.artifacts = FakeArtifacts(self)
        self.triggers = FakeTriggers(self)
        self.did: list[tuple[str, str]] = []
        """(what, by) for everything that was asked for in somebody's name."""

    # ------------------------------------------------------------------ what a test does

    def add_task(self, spec: wire.TaskSpec, version: str = "v1") -> wire.Task:
        project, domain = wire.DEFAULT_PROJECT, wire.DEFAULT_DOMAIN
        known = self.known_tasks.setdefault((project, domain, spec.name), [])
        task = wire.Task(
            project=project,
            domain=domain,
            name=spec.name,
            version=version,
            short_name=spec.short_name,
            environment=spec.environment.name,
            spec=spec,
            created=self.now,
            url=f"{self.endpoint}/v2/domain/{domain}/project/{project}/tasks/{spec.name}",
        )
        known.insert(0, task)
        return task

    def move(
        self,
        run: str,
        phase: ActionPhase,
        message: str = "",
        *,
        action: str = ROOT_ACTION,
        outputs: Any = None,
        error: wire.ErrorInfo | None = None,
        attempt: int | None = None,
    ) -> None:
        """An action goes to `phase`, and everybody who watches is told."""
        held = self.known_runs[run].actions[action]
        old = held.action
        held.action = replace(
            old,
            phase=phase,
            message=message,
            error=error,
            attempt=attempt or old.attempt,
            started=old.started or (self.now if phase is ActionPhase.RUNNING else None),
            ended=self.now if phase.is_terminal else None,
        )
        if outputs is not None:
            held.outputs = msgspec.json.encode(outputs)
        self.journal.add(f"run/{run}/{action}", phase.value, message, held.action.attempt)

    def child(self, run: str, name: str, parent: str = ROOT_ACTION, task: str = "env.child", **more: Any) -> None:
        """A new action below `parent`."""
        actions = self.known_runs[run].actions
        actions[name] = FakeAction(
            wire.Action(
                run=run,
                name=name,
                parent=parent,
                task=task,
                short_name=task.rpartition(".")[2],
                phase=ActionPhase.QUEUED,
                created=self.now,
                **more,
            )
        )
        above = actions[parent]
        above.action = replace(above.action, children=above.action.children + 1)
        self.journal.add(f"run/{run}/{name}", "queued")

    def add_app(self, app: wire.App) -> None:
        self.known_apps[app.project, app.domain, app.name] = app

    def app_status(self, name: str, status: AppStatus, message: str = "", **more: Any) -> None:
        key = (wire.DEFAULT_PROJECT, wire.DEFAULT_DOMAIN, name)
        self.known_apps[key] = replace(self.known_apps[key], status=status, message=message, updated=self.now, **more)
        self.journal.add(f"app/{'/'.join(key)}", status.value, message)

    def finish_deployment(self, id: str, phase: wire.DeploymentPhase) -> None:
        self.known_deployments[id] = replace(self.known_deployments[id], phase=phase)
        self.journal.add(f"deployment/{id}", phase.value)

    def log_file(self, run: str, action: str = ROOT_ACTION, attempt: int = 1) -> Path:
        return self.folder / f"{run}.{action}.{attempt}.log"

    def replica_log(self, app: str, replica: str) -> Path:
        return self.folder / f"{app}.{replica}.log"

    def access_file(self, app: str) -> Path:
        return self.folder / f"{app}.access.jsonl"

    # ------------------------------------------------------------------ what the API asks

    def health(self) -> wire.Health:
        return wire.Health(status="ok", version="0.1.0", pid=1, components={"control": "ok", "agent": "ok"})


class FakeStorage(_Part):
    async def prune(self, request: wire.PruneStorageRequest, by: str) -> wire.PrunedStorage:
        removed = [name for name in request.runs if name in self._fake.known_runs]
        return wire.PrunedStorage(runs=removed, dry_run=request.dry_run)

    async def use(self) -> wire.StorageUse:
        size = sum(map(len, self._fake.blobs.content.values()))
        return wire.StorageUse(
            place="/platform",
            use=[wire.DiskUse(kind="values", bytes=size, items=len(self._fake.blobs.content))],
            free=10**9,
        )


class FakeBuilds(_Part):
    async def build(self, request: wire.BuildRequest) -> list[wire.ImageBuild]:
        return [wire.ImageBuild(environment=spec.name, state="own") for spec in request.environments]

    def get(self, id: str) -> wire.ImageRecord:
        for record in self.list():
            if record.id == id:
                return record
        raise NotFoundError(f"there is no image {id!r}")

    async def log(self, id: str) -> wire.ImageLog:
        if id not in self._fake.image_logs:
            raise NotFoundError(f"there is no build log of an image {id!r}")
        return wire.ImageLog(id=id, text=self._fake.image_logs[id])

    async def prune(self, request: wire.PruneRequest) -> list[wire.ImageRecord]:
        return []

    def list(self) -> list[wire.ImageRecord]:
        return self._fake.known_images


class FakeCache(_Part):
    def __init__(self, fake: FakeControl) -> None:
        super().__init__(fake)
        self.results: list[wire.CachedResult] = []

    async def delete(
        self, project: str, domain: str, task: str | None = None, key: str | None = None
    ) -> list[wire.CachedResult]:
        chosen = [result for result in await self.list(project, domain, task) if result.key.startswith(key or "")]
        self.results = [result for result in self.results if result not in chosen]
        return chosen

    async def list(
        self, project: str, domain: str, task: str | None = None, limit: int = 100
    ) -> list[wire.CachedResult]:
        return [result for result in self.results if task in (None, result.task)][:limit]


class FakeArtifacts(_Part):
    """Artifacts as the store has them, newest first."""

    def __init__(self, fake: FakeControl) -> None:
        super().__init__(fake)
        self.known: list[wire.Artifact] = []

    async def create(self, request: wire.ArtifactRequest, by: str) -> wire.Artifact:
        spec = request.spec
        made = wire.Artifact(
            project=request.project,
            domain=request.domain,
            name=spec.name,
            version=spec.version or f"v{next(self._fake.numbers)}",
            kind=spec.kind,
            description=spec.description,
            attrs=spec.attrs,
            card=spec.card,
            value=request.value,
            schema=request.schema,
            created=self._fake.now,
            created_by=by,
            run=request.run,
            action=request.action,
        )
        self.known = [made, *(each for each in self.known if (each.name, each.version) != (made.name, made.version))]
        return made

    async def get(self, project: str, domain: str, name: str, version: str | None = None) -> wire.Artifact:
        for each in self.known:
            if each.name == name and version in (None, each.version):
                return each
        raise NotFoundError(f"no artifact {name!r}")

    async def delete(self, project: str, domain: str, name: str, version: str, by: str) -> None:
        gone = await self.get(project, domain, name, version)
        self.known = [each for each in self.known if each is not gone]

    async def list(
        self,
        project: str,
        domain: str,
        name: str | None = None,
        run: str | None = None,
        action: str | None = None,
        kind: str | None = None,
        latest: bool = False,
        limit: int = 100,
        offset: int = 0,
    ) -> list[wire.Artifact]:
        wanted = {"name": name, "run": run, "action": action, "kind": kind}
        found = [
            each for each in self.known if all(value in (None, getattr(each, field)) for field, value in wanted.items())
        ]
        if latest:
            found = list({each.name: each for each in reversed(found)}.values())
        return found[offset : offset + limit]


class FakeTriggers(_Part):
    def __init__(self, fake: FakeControl) -> None:
        super().__init__(fake)
        self.records: dict[tuple[str, str], wire.Trigger] = {}

    async def create(self, request: wire.TriggerRequest, by: str) -> wire.Trigger:
        self._fake.did.append((f"create trigger {request.trigger.name}", by))
        record = wire.Trigger(
            project=request.project,
            domain=request.domain,
            task=request.task,
            name=request.trigger.name,
            spec=request.trigger,
            active=request.trigger.active,
            declared=False,
        )
        self.records[record.task, record.name] = record
        return record

    async def get(self, project: str, domain: str, task: str, name: str) -> wire.Trigger:
        if (task, name) not in self.records:
            raise NotFoundError(f"no trigger {name!r} of {task}")
        return self.records[task, name]

    async def switch(self, project: str, domain: str, task: str, name: str, active: bool, by: str) -> wire.Trigger:
        self._fake.did.append((f"{'activate' if active else 'pause'} trigger {name}", by))
        changed = msgspec.structs.replace(await self.get(project, domain, task, name), active=active)
        self.records[task, name] = changed
        return changed

    async def delete(self, project: str, domain: str, task: str, name: str, by: str) -> None:
        await self.get(project, domain, task, name)
        self._fake.did.append((f"delete trigger {name}", by))
        del self.records[task, name]

    async def list(self, project: str, domain: str, task: str | None = None, limit: int = 100) -> list[wire.Trigger]:
        return [record for record in self.records.values() if task in (None, record.task)][:limit]


class FakeDeployments(_Part):
    async def start(self, request: wire.DeployRequest, by: str) -> wire.Deployment:
        self._fake.did.append(("deploy", by))
        for spec in request.tasks:
            self._fake.add_task(spec, request.version)
        deployment = wire.Deployment(
            id=f"d{next(self._fake.numbers)}",
            project=request.project,
            domain=request.domain,
            version=request.version,
            phase=wire.DeploymentPhase.RUNNING,
            environments=[wire.DeployedEnvironment(name=name, kind="task") for name in request.order],
            created=self._fake.now,
        )
        self._fake.known_deployments[deployment.id] = deployment
        return deployment

    async def get(self, id: str) -> wire.Deployment:
        if id not in self._fake.known_deployments:
            raise NotFoundError(f"no deployment {id!r}")
        return replace(self._fake.known_deployments[id], seq=self._fake.journal.seq)


class FakeRuns(_Part):
    async def create(self, request: wire.RunRequest, by: str, fresh: bool = False) -> tuple[wire.Run, bool]:
        task = await self._fake.tasks.get(request.project, request.domain, request.task, request.version)
        if request.inputs_blob is None:
            assert task.spec is not None
            declared.check(task.name, task.spec.interface, bytes(request.inputs))
        if (found := self._repeated(request, task)) is not None:
            return await self.get(found), False
        name = request.name or f"r{next(self._fake.numbers):019}"
        if request.idempotency_key:
            self._fake.run_by_key[request.idempotency_key] = name
        root = wire.Action(
            run=name,
            name=ROOT_ACTION,
            task=task.name,
            short_name=task.short_name,
            phase=ActionPhase.QUEUED,
            created=self._fake.now,
        )
        run = wire.Run(
            name=name,
            project=request.project,
            domain=request.domain,
            task=task.name,
            version=task.version,
            phase=ActionPhase.QUEUED,
            url=f"{self._fake.endpoint}/v2/domain/{request.domain}/project/{request.project}/runs/{name}",
            created=self._fake.now,
            labels=request.labels,
            created_by=by,
        )
        self._fake.known_runs[name] = FakeRun(run, {ROOT_ACTION: FakeAction(root, bytes(request.inputs))})
        self._fake.journal.add(f"run/{name}/{ROOT_ACTION}", "queued", "accepted")
        self._fake.did.append(("create_run", by))
        return await self.get(name), True

    def _repeated(self, request: wire.RunRequest, task: wire.Task) -> str | None:
        """The run that a call with this key or name started. Raises RunAlreadyExistsError if that was another call."""
        of_key = self._fake.run_by_key.get(request.idempotency_key or "")
        name = of_key or request.name
        if name is None or name not in self._fake.known_runs:
            return None
        held = self._fake.known_runs[name]
        same_inputs = msgspec.json.decode(held.actions[ROOT_ACTION].inputs) == msgspec.json.decode(request.inputs)
        if held.run.task != task.name or not same_inputs or request.name not in (None, name):
            raise RunAlreadyExistsError(f"run {name!r} is another call")
        if request.idempotency_key is not None:
            self._fake.run_by_key[request.idempotency_key] = name
        return name

    async def get(self, name: str) -> wire.Run:
        if name not in self._fake.known_runs:
            raise RunNotFoundError(f"no run named {name!r}; list them with `flyte get run`")
        held = self._fake.known_runs[name]
        root = held.actions[ROOT_ACTION]
        outputs = msgspec.Raw(root.outputs) if root.outputs is not None else None
        return replace(
            held.run,
            phase=root.action.phase,
            started=root.action.started,
            ended=root.action.ended,
            error=root.action.error,
            attempt=root.action.attempt,
            message=root.action.message,
            outputs=outputs,
            actions=len(held.actions),
            seq=self._fake.journal.seq,
        )

    async def wait(self, name: str, seconds: float) -> wire.Run:
        async def over() -> None:
            async for _ in self._fake.watching.run(name, None, "root"):
                pass

        await self.get(name)
        try:
            await asyncio.wait_for(over(), seconds)
        except TimeoutError:
            pass
        return await self.get(name)

    async def abort(self, name: str, reason: str, by: str) -> wire.Run:
        await self._fake.actions.abort(name, ROOT_ACTION, reason, by)
        return await self.get(name)

    async def list(self, scope: wire.Scope, chosen: wire.RunFilter) -> list[wire.Run]:
        if chosen.before_run is not None:
            await self.get(chosen.before_run)
        names = list(reversed(self._fake.known_runs))
        every = [
            await self.get(name) for name in names[names.index(chosen.before_run) + 1 if chosen.before_run else 0 :]
        ]
        return [run for run in every if (run.project, run.domain) == scope and chosen.matches(run)][: chosen.limit]


class FakeActions(_Part):
    def __init__(self, fake: FakeControl) -> None:
        super().__init__(fake)
        self.reports: dict[tuple[str, str], str] = {}
        """(run, action) → HTML of what the action has shown."""

    async def get(self, run: str, name: str) -> wire.ActionDetails:
        await self._fake.runs.get(run)
        held = self._fake.known_runs[run].actions.get(name)
        if held is None:
            raise ActionNotFoundError(f"run {run!r} has no action {name!r}; see `flyte get action {run}`")
        action = held.action
        known = self._fake.known_tasks.get((wire.DEFAULT_PROJECT, wire.DEFAULT_DOMAIN, action.task))
        spec = known[0].spec if known else None
        return wire.ActionDetails(
            action=action,
            inputs=msgspec.Raw(held.inputs),
            outputs=None if held.outputs is None else msgspec.Raw(held.outputs),
            attempts=[
                wire.Attempt(number=action.attempt, phase=action.phase, started=action.started, ended=action.ended)
            ],
            interface=spec.interface if spec else wire.InterfaceSpec(),
            links=spec.links if spec else [],
            version=self._fake.known_runs[run].run.version,
        )

    async def abort(self, run: str, action: str, reason: str, by: str) -> wire.Action:
        held = (await self.get(run, action)).action
        self._fake.did.append((f"abort {run}/{action}: {reason}", by))
        if not held.phase.is_terminal:
            message = f"aborted: {reason or f'by {by}'}"
            error = wire.ErrorInfo(code="ActionAbortedError", message=message, retryable=False)
            self._fake.move(run, ActionPhase.ABORTED, message, action=action, error=error)
        return (await self.get(run, action)).action

    async def report(self, run: str, name: str, attempt: int | None) -> wire.Report:
        action = (await self.get(run, name)).action
        if attempt not in (None, action.attempt):
            raise NotFoundError(f"attempt {attempt} of the action {run}/{name} has no report")
        html = self.reports.get((run, name), f"<p>{action.task}</p>")
        return wire.Report(attempt=action.attempt, at=self._fake.now, html=html)

    async def report_time(self, run: str, name: str) -> tuple[int, float] | None:
        html = self.reports.get((run, name))
        return None if html is None else (1, float(len(html)))

    async def log(self, run: str, action: str, attempt: int | None) -> tuple[Path, IsOver, int]:
        number = attempt or (await self.get(run, action)).action.attempt
        return *self.attempt_log(wire.AttemptRef(run, action, number)), number

    def attempt_log(self, ref: wire.AttemptRef) -> tuple[Path, IsOver]:
        def is_over() -> bool:
            found = self._fake.known_runs[ref.run].actions[ref.action].action
            return found.phase.is_terminal or found.attempt != ref.attempt

        return self._fake.log_file(*ref), is_over

    async def list(self, run: str, chosen: wire.ActionFilter) -> list[wire.Action]:
        await self._fake.runs.get(run)
        return chosen.page(held.action for held in self._fake.known_runs[run].actions.values())


class FakeTasks(_Part):
    async def get(self, project: str, domain: str, name: str, version: str | None = None) -> wire.Task:
        for key, versions in self._fake.known_tasks.items():
            if key[:2] != (project, domain) or name not in (key[2], key[2].rpartition(".")[2]):
                continue
            for task in versions:
                if version in (None, task.version):
                    return replace(task, versions=[known.version for known in versions])
        there = ", ".join(key[2] for key in self._fake.known_tasks) or "none"
        raise RemoteTaskNotFoundError(f"no task named {name!r} in {project}/{domain}; there is {there}")

    async def list(
        self, project: str, domain: str, name: str | None = None, env: str | None = None, limit: int = 100
    ) -> list[wire.Task]:
        latest = [versions[0] for key, versions in self._fake.known_tasks.items() if key[:2] == (project, domain)]
        return [
            replace(task, spec=None)
            for task in reversed(latest)
            if name in (None, task.name, task.short_name) and env in (None, task.environment)
        ][:limit]


class FakeApps(_Part):
    async def get(self, app: AppId) -> wire.App:
        found = self._fake.known_apps.get(app)
        if found is None:
            raise AppNotFoundError(f"no app named {app.name!r} in {app.scope}; list them with `flyte get app`")
        return replace(found, seq=self._fake.journal.seq)

    async def activate(self, app: AppId, wait: float | None, by: str) -> wire.App:
        await self.get(app)
        self._fake.did.append((f"activate {app.name}", by))
        self._fake.app_status(app.name, AppStatus.ACTIVE, wanted="active")
        return await self.get(app)

    async def deactivate(self, app: AppId, wait: float | None, by: str) -> wire.App:
        await self.get(app)
        self._fake.did.append((f"deactivate {app.name}", by))
        self._fake.app_status(app.name, AppStatus.STOPPED, wanted="stopped", replicas=[])
        return await self.get(app)

    async def delete(self, app: AppId, by: str) -> None:
        await self.get(app)
        del self._fake.known_apps[app]

    async def logs(self, app: AppId, replica: str | None) -> list[tuple[str, Path, IsOver]]:
        record = await self.get(app)
        names = [found.name for found in record.replicas if replica in (None, found.name)]

        def is_over(replica: str) -> bool:
            return all(found.name != replica for found in self._fake.known_apps[app].replicas)

        return [(found, self._fake.replica_log(app.name, found), lambda found=found: is_over(found)) for found in names]  # type: ignore[misc]

    async def access_log(self, app: AppId) -> Path:
        await self.get(app)
        return self._fake.access_file(app.name)

    async def list(self, scope: Scope, limit: int = 100) -> list[wire.App]:
        return [app for key, app in self._fake.known_apps.items() if key[:2] == scope][:limit]


class FakeWatching(_Part):
    async def run(self, name: str, after: int | None, actions: Literal["root", "all"] = "root") -> AsyncIterator[Seen]:
        run = await self._fake.runs.get(name)
        root = f"run/{name}/{ROOT_ACTION}"
        if after is None:
            yield "snapshot", run.seq, run
        after = run.seq if after is None else min(after, run.seq)
        prefix = root if actions == "root" else f"run/{name}/"
        if run.phase.is_terminal and not any(
            event.subject.startswith(prefix) for event in self._fake.journal.events[after:]
        ):
            return
        async for event in self._fake.journal.after(after, lambda event: event.subject.startswith(prefix)):
            yield "event", event.seq, event
            if event.subject == root and ActionPhase(event.phase).is_terminal:
                return

    async def app(self, app: AppId, after: int | None) -> AsyncIterator[Seen]:
        record = await self._fake.apps.get(app)
        subject = f"app/{app}"
        if after is None:
            yield "snapshot", record.seq, record
            after = record.seq
        async for event in self._fake.journal.after(after, lambda event: event.subject == subject):
            yield "event", event.seq, event

    async def deployment(self, id: str, after: int | None) -> AsyncIterator[Seen]:
        record = await self._fake.deployments.get(id)
        subject = f"deployment/{id}"
        if after is None:
            yield "snapshot", record.seq, record
            if record.phase is not wire.DeploymentPhase.RUNNING:
                return
            after = record.seq
        async for event in self._fake.journal.after(after, lambda event: event.subject == subject):
            yield "event", event.seq, event
            if event.phase != "running":
                return


class FakeSecrets(_Part):
    async def create(self, request: wire.SecretRequest, by: str) -> wire.SecretInfo:
        info = wire.SecretInfo(
            name=request.name,
            project=request.project,
            domain=request.domain,
            created=self._fake.now,
            updated=self._fake.now,
        )
        self._fake.known_secrets[request.project, request.domain, request.name] = info
        return info

    async def get(self, project: str, domain: str, name: str) -> wire.SecretInfo:
        if (project, domain, name) not in self._fake.known_secrets:
            raise SecretNotFoundError(f"no secret {name!r}; create it with: flyte create secret {name}")
        return self._fake.known_secrets[project, domain, name]

    async def delete(self, project: str, domain: str, name: str, by: str) -> None:
        await self.get(project, domain, name)
        del self._fake.known_secrets[project, domain, name]

    async def list(self, project: str, domain: str) -> list[wire.SecretInfo]:
        return [info for key, info in self._fake.known_secrets.items() if key[:2] == (project, domain)]


class FakeKeys(_Part):
    async def create(self, request: wire.KeyRequest, by: str) -> wire.KeyInfo:
        info = wire.KeyInfo(
            id=f"k{next(self._fake.numbers)}", name=request.name, created=self._fake.now, scopes=request.scopes
        )
        self._fake.known_keys[info.id] = info
        return replace(info, key="fk_new")

    async def delete(self, id: str, by: str) -> None:
        if self._fake.known_keys.pop(id, None) is None:
            raise NotFoundError(f"no API key {id!r}; list them with: flyte get api-key")

    async def list(self) -> list[wire.KeyInfo]:
        return list(self._fake.known_keys.values())


class FakeProjects(_Part):
    async def update(self, project: wire.Project, by: str) -> wire.Project:
        known = [each.id for each in await self.list()]
        if project.id not in known:
            raise NotFoundError(f"no project {project.id!r}; there are: {', '.join(known)}")
        self._fake.known_projects[project.id] = project
        return project

    async def create(self, project: wire.Project, by: str) -> wire.Project:
        if not project.id:
            raise InvalidInputError("a project needs an id")
        self._fake.known_projects[project.id] = project
        return project

    async def list(self) -> list[wire.Project]:
        return [wire.Project(id=wire.DEFAULT_PROJECT, name=wire.DEFAULT_PROJECT), *self._fake.known_projects.values()]
