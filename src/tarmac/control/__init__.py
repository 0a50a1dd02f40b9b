"""The control plane: the use cases, and the only writer.

`Control` is what the API, the console and the links talk to. It owns no logic of its own beyond putting the parts
together: `runs` and `actions` (their life), `children` and `steps` (what actions ask for), `dispatch` (which worker
runs what), `apps`, `deployments`, `vault` (secrets), `keys`.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

import tarmac
from flyte import wire
from flyte.errors import AlreadyExistsError, NotFoundError
from flyte.names import path_part
from flyte.wire import ROOT_ACTION, ActionPhase, DeploymentPhase
from tarmac import checks
from tarmac.auth import Identities
from tarmac.blobs import Blobs, unfinished
from tarmac.control import records
from tarmac.control.agents import Agent
from tarmac.control.apps.apps import Apps
from tarmac.control.apps.deployments import Deployments
from tarmac.control.apps.parameters import RunOutputs
from tarmac.control.builds import Builds
from tarmac.control.clock import Clock
from tarmac.control.images import Images
from tarmac.control.inbox import Inbox, WorkerPeer
from tarmac.control.keys import Keys
from tarmac.control.live import LiveAction
from tarmac.control.runs.children import Children
from tarmac.control.runs.registry import Registry, task_record
from tarmac.control.runs.runs import Runs
from tarmac.control.runs.steps import Steps
from tarmac.control.sessions import EndedSessions
from tarmac.control.startup import Startup
from tarmac.control.vault import Secrets
from tarmac.control.workers.arrivals import Arrivals
from tarmac.control.workers.dispatch import Dispatch
from tarmac.control.workers.freshness import Freshness
from tarmac.control.workers.pools import Place, Pools
from tarmac.events import Journal, Watcher
from tarmac.home import Home
from tarmac.links.server import Link, Peer
from tarmac.logs import LogFile
from tarmac.model import subject_of_project
from tarmac.secrets import Sealer
from tarmac.settings import Settings
from tarmac.store import Change, KeyRow, ProjectRow, RunQuery, Store, TaskRow

log = logging.getLogger("tarmac.control")

Watched = tuple[Literal["snapshot", "event"], int, Any]


class Control:
    def __init__(
        self,
        store: Store,
        home: Home,
        settings: Settings,
        endpoint: str,
        port: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.home, self.settings, self.endpoint, self.store = home, settings, endpoint, store
        self.blobs = Blobs(home.blobs)
        self.identities = Identities(home.master_key())
        self.journal = Journal(store, on_failure)
        self.agent = Agent()
        self.registry = Registry(store)
        place = Place(home, endpoint, settings.certificates(), settings.warm)
        self._secrets = Secrets(store, self.journal, Sealer(home.master_key()))
        self.images = Images(store, self.journal, self.agent, self._secrets, settings.images)
        freshness = Freshness(self.agent, settings.pool_age)
        self._apps = Apps(
            store,
            self.journal,
            self.agent,
            self._secrets,
            self.images,
            self.identities,
            place,
            settings,
            port,
            freshness,
        )
        self._clock = Clock(home.clock)
        self._pools = Pools(place, self._secrets, self.images)
        dispatch = functools.partial(
            Dispatch,
            agent=self.agent,
            settings=settings,
            identities=self.identities,
            addresses=self._apps.addresses.told,
            home=home,
            freshness=freshness,
            pools=self._pools,
        )
        self._runs = Runs(
            store,
            self.journal,
            self.registry,
            self.blobs,
            home,
            settings,
            endpoint,
            self._clock,
            self._pools,
            dispatch,
        )
        actions = self._runs.actions
        self.dispatch = actions.dispatch
        self._arrivals = Arrivals(self.dispatch, self._pools, self._runs.recovery, settings.lease)
        children = Children(store, self.journal, self.registry, actions, self._pools, self._runs.errands)
        self._inbox = Inbox(self.dispatch, actions, children, Steps(self.journal, actions))
        outputs = RunOutputs(store, self.registry, self.blobs)
        self._deployments = Deployments(
            home, store, self.journal, self.registry, self._apps, self._secrets, self.images, outputs
        )
        self._builds = Builds(home, store, self.images, self._images_in_use)
        self._keys = Keys(store, self.journal, home.token(), self._apps.gateway)
        self.ended_sessions = EndedSessions(home.ended_sessions, self._apps.gateway.sessions_ended)

    # ------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        """Take up where the last control plane left off."""
        startup = Startup(self.home)
        await self._keys.restore()
        await self.images.restore()
        await self._apps.restore(startup)
        await self._deployments.close_open(startup)
        for row, actions in await self.store.live_runs():
            await self._runs.take_up(startup, row, actions)
        for what, why in self.store.unreadable:
            startup.leave_out(what, why, "Its row is left in the database as it is")
        startup.close()
        for folder in self.home.checkpoints_but(self._runs.live):
            self._runs.remove(folder)

    async def keep_tidy(self) -> None:
        """Runs for as long as the control plane does."""
        await asyncio.to_thread(unfinished.remove, self.home, time.time())
        while True:
            await asyncio.sleep(self.dispatch.tidy_every)
            try:
                self.dispatch.tidy(self._apps.pools())
                self._clock.look()
            except Exception:  # the next look is made all the same
                log.exception("leftovers of earlier runs cannot be looked for")
            await self._keys.write_use()

    def accept(self, link: Link, hello: wire.Hello) -> Peer:
        """Who is it that said Hello? Raises PermissionError for a stranger."""
        if hello.kind in ("agent", "gateway"):
            if not hmac.compare_digest(hello.token, self.home.token()):
                raise PermissionError("the token is not the owner's")
            if hello.kind == "gateway":
                return self._apps.gateway.connected(link)
            link.send(wire.Welcome(epoch=self.store.epoch, version=tarmac.__version__))
            return self.agent.connected(link, hello)
        if not self.dispatch.supply.is_known(hello):
            principal = self.identities.verify(hello.token)
            if principal is None or principal.subject != hello.name:
                raise PermissionError(f"the token is not {hello.name}'s")
        return WorkerPeer(self._arrivals.connected(link, hello), self._inbox)

    def health(self) -> wire.Health:
        agent = "ok" if self.agent.present else "being restarted"
        return wire.Health(
            status="ok" if self.agent.present else "starting",
            version=tarmac.__version__,
            components={"control": "ok", "agent": agent},
        )

    # ------------------------------------------------------------------ deployments

    async def deploy(self, request: wire.DeployRequest, by: str) -> wire.Deployment:
        checks.check(request)
        return await self._deployments.start(request, by)

    async def deployment(self, name: str) -> wire.Deployment:
        return await self._deployments.get(name)

    # ------------------------------------------------------------------ runs

    async def create_run(self, request: wire.RunRequest, by: str, fresh: bool = False) -> tuple[wire.Run, bool]:
        """The run, and whether it was started now. `fresh`: the request's key was made for it and never sent before."""
        checks.check(request)
        return await self._runs.create(request, by, fresh)

    async def run(self, name: str) -> wire.Run:
        return await self._runs.get(name)

    async def wait(self, name: str, seconds: float) -> wire.Run:
        return await self._runs.wait(name, seconds)

    async def runs(
        self,
        *,
        project: str,
        domain: str,
        phases: Sequence[ActionPhase] = (),
        task: str | None = None,
        task_contains: str | None = None,
        version: str | None = None,
        labels: dict[str, str] | None = None,
        created_after: float | None = None,
        limit: int = 100,
        before: float | None = None,
        before_run: str | None = None,
    ) -> list[wire.Run]:
        """Runs, newest first, as of the last commit. Raises RunNotFoundError where `before_run` is none."""
        query = RunQuery(
            project=project,
            domain=domain,
            phases=tuple(phases),
            task=task,
            task_contains=task_contains,
            version=version,
            labels=labels or {},
            created_after=created_after,
            created_before=before,
            limit=limit,
            before_name=before_run,
        )
        snapshot = await self.store.runs(query)
        await self.journal.reach(snapshot.seq)
        return [self._runs.shown(whole, snapshot.seq) for whole in snapshot.found]

    async def abort(self, name: str, reason: str, by: str) -> wire.Run:
        return await self._runs.abort(name, reason or f"by {by}", by)

    async def abort_action(self, run: str, action: str, reason: str, by: str) -> wire.Action:
        await self._runs.abort_action(run, action, reason or f"by {by}", by)
        return (await self.action(run, action)).action

    async def actions(
        self,
        run: str,
        parent: str | None = None,
        phase: ActionPhase | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[wire.Action]:
        await self._runs.get(run)
        snapshot = await self.store.actions(run, parent=parent, phase=phase, limit=limit, offset=offset)
        await self.journal.reach(snapshot.seq)
        return [records.action_record(row, children=children) for row, children in snapshot.found]

    async def action(self, run: str, name: str) -> wire.ActionDetails:
        """One action with its inputs, outputs and attempts. Raises RunNotFoundError and ActionNotFoundError."""
        (row, children), attempts = await self._runs.read_action(run, name)
        interface, bundle = wire.InterfaceSpec(), None
        if row.kind == "task":
            shown = await self._runs.get(run)
            known = await self.registry.find(shown.project, shown.domain, row.task, row.version)
            interface, bundle = known.spec.interface, known.row.bundle
        return records.details_record(row, children, attempts, interface, bundle)

    async def report(self, run: str, name: str, attempt: int | None) -> wire.Report:
        """What an action, or one attempt of it, last showed as its report. Raises NotFoundError where that is nothing.

        Raises RunNotFoundError and ActionNotFoundError too.
        """
        row = await self.store.report(run, name, attempt)
        if row is None:
            await self._runs.read_action(run, name)
            which = f"attempt {attempt} of the action" if attempt else "the action"
            raise NotFoundError(f"{which} {run}/{name} has no report; a task writes one with `flyte.report`")
        return wire.Report(attempt=row.attempt, at=row.at, html=row.html)

    async def action_log(self, run: str, name: str, attempt: int | None) -> tuple[LogFile, Callable[[], bool], int]:
        """The log file of an attempt (the last by default), and whether nothing more will be written to it."""
        action = (await self.action(run, name)).action
        number = attempt or action.attempt
        return *self.attempt_log(run, name, number), number

    def attempt_log(self, run: str, name: str, attempt: int) -> tuple[LogFile, Callable[[], bool]]:
        """The log file of an attempt that is known to be, and whether nothing more will be written to it."""

        def current() -> LiveAction | None:
            known = self._runs.live.get(run)
            found = known.actions.get(name) if known else None
            return None if found is None or found.over or found.attempt != attempt else found

        return self._runs.log_of(run, name, attempt, current), lambda: current() is None

    # ------------------------------------------------------------------ tasks

    def task_url(self, row: TaskRow) -> str:
        return f"{self.endpoint}/v2/domain/{row.domain}/project/{row.project}/tasks/{path_part(row.name)}"

    async def tasks(
        self, project: str, domain: str, name: str | None = None, env: str | None = None, limit: int = 100
    ) -> list[wire.Task]:
        rows = await self.store.tasks(project, domain, name=name, env=env, limit=limit)
        return [task_record(row, self.task_url(row)) for row in rows]

    async def task(self, project: str, domain: str, name: str, version: str | None = None) -> wire.Task:
        """Raises RemoteTaskNotFoundError that lists what there is."""
        task = await self.registry.show(project, domain, name, version, self.task_url)
        image = self.images.record_of(task.spec.environment) if task.spec is not None else None
        return msgspec.structs.replace(task, image=image) if image is not None else task

    # ------------------------------------------------------------------ images

    async def build_images(self, request: wire.BuildRequest) -> list[wire.ImageBuild]:
        checks.check(request)
        return await self._builds.build(request)

    def image_records(self) -> list[wire.ImageRecord]:
        return self.images.records()

    async def image_log(self, id: str) -> wire.ImageLog:
        return await self._builds.log(id)

    async def prune_images(self, request: wire.PruneRequest) -> list[wire.ImageRecord]:
        checks.check(request)
        return await self._builds.prune(request)

    def _images_in_use(self) -> set[str]:
        """The environments that processes run in, or that an app which may be woken has."""
        records = (self.images.record_of(app.spec.environment) for app in self._apps.live.values() if app.spec)
        of_apps = {record.key for record in records if record is not None}
        return {pool.spec.image for pool in self._pools.all.values()} | of_apps

    # ------------------------------------------------------------------ apps

    async def apps(self, project: str, domain: str, limit: int = 100) -> list[wire.App]:
        return [self._apps.record(app) for app in self._apps.of(project, domain)[:limit]]

    async def app(self, project: str, domain: str, name: str) -> wire.App:
        return self._apps.record(self._apps.find(project, domain, name))

    async def activate(self, project: str, domain: str, name: str, wait: float | None, by: str) -> wire.App:
        """Start the app; with `wait` return when it answers, or raise what keeps it from it."""
        app = self._apps.find(project, domain, name)
        await self._within(self._apps.activate(app, by), wait)
        return self._apps.record(app)

    async def deactivate(self, project: str, domain: str, name: str, wait: float | None, by: str) -> wire.App:
        app = self._apps.find(project, domain, name)
        await self._apps.deactivate(app, by)
        if wait is not None:
            await self._within(self._apps.until_gone(app), wait)
        return self._apps.record(app)

    async def _within(self, coroutine: Any, seconds: float | None) -> None:
        """Wait for it, or (None) leave it to itself after giving it a moment to refuse."""
        task = asyncio.ensure_future(coroutine)
        done, _ = await asyncio.wait([task], timeout=0.05 if seconds is None else seconds)
        if done:
            task.result()
        else:
            self._runs.errands.keep(task)

    async def delete_app(self, project: str, domain: str, name: str, by: str) -> None:
        await self._apps.delete(self._apps.find(project, domain, name), by)

    async def app_log(
        self, project: str, domain: str, name: str, replica: str | None
    ) -> list[tuple[str, Path, Callable[[], bool]]]:
        """The logs of the app's replicas, the present ones first; a replica that is gone is found by its file."""
        app = self._apps.find(project, domain, name)
        folder = self.home.replica_log(project, domain, name, "x").parent
        files = sorted(folder.glob("r-*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        present = [path for path in files if path.stem in app.replicas]
        chosen = [path for path in files if path.stem == replica] if replica else (present or files[:1])
        return [(path.stem, path, lambda unit=path.stem: unit not in app.replicas) for path in chosen]  # type: ignore[misc]

    async def access_log(self, project: str, domain: str, name: str) -> Path:
        self._apps.find(project, domain, name)
        return self.home.access_log(project, domain, name)

    # ------------------------------------------------------------------ watching

    async def watch_run(
        self, name: str, after: int | None, actions: Literal["root", "all"] = "root"
    ) -> AsyncIterator[Watched]:
        """A snapshot (or what came after `after`), then every later event, in order, once; ends with the run."""
        prefix = f"run/{name}/" if actions == "all" else f"run/{name}/{ROOT_ACTION}"
        with self.journal.watching(f"run/{name}") as watcher:
            run = await self._runs.get(name)
            if after is None:
                yield "snapshot", run.seq, run
            since = _since(after, run.seq)
            async for event in self._events(watcher, prefix, since, run.phase.is_terminal):
                yield "event", event.seq, event
                if event.subject.endswith(f"/{ROOT_ACTION}") and ActionPhase(event.phase).is_terminal:
                    return

    async def watch_app(self, project: str, domain: str, name: str, after: int | None) -> AsyncIterator[Watched]:
        key = f"app/{project}/{domain}/{name}"
        with self.journal.watching(key) as watcher:
            record = await self.app(project, domain, name)
            if after is None:
                yield "snapshot", record.seq, record
            async for event in self._events(watcher, key, _since(after, record.seq), over=False):
                yield "event", event.seq, event

    async def watch_deployment(self, name: str, after: int | None) -> AsyncIterator[Watched]:
        key = f"deployment/{name}"
        with self.journal.watching(key) as watcher:
            record = await self._deployments.get(name)
            if after is None:
                yield "snapshot", record.seq, record
            over = record.phase is not DeploymentPhase.RUNNING
            async for event in self._events(watcher, key, _since(after, record.seq), over):
                yield "event", event.seq, event
                if event.phase != DeploymentPhase.RUNNING.value:
                    return

    async def _events(self, watcher: Watcher, subject: str, after: int, over: bool) -> AsyncIterator[wire.Event]:
        """From the store what is on disk already, then, unless all is `over`, from the watcher what is later.

        `subject` is a whole one, or with a slash at its end all that begin with it.
        """
        last = after
        while page := await self.store.events(subject, last, 1000):
            await self.journal.reach(page[-1].seq)
            for event in page:
                yield event
            last = page[-1].seq
        if over:
            return
        async for event in watcher.events():
            fits = event.subject.startswith(subject) if subject[-1] == "/" else event.subject == subject
            if event.seq > last and fits:
                last = event.seq
                yield event

    # ------------------------------------------------------------------ secrets, keys, projects

    async def create_secret(self, request: wire.SecretRequest, by: str) -> wire.SecretInfo:
        checks.check(request)
        return await self._secrets.create(request, by)

    async def secrets(self, project: str, domain: str) -> list[wire.SecretInfo]:
        return await self._secrets.list(project, domain)

    async def secret(self, project: str, domain: str, name: str) -> wire.SecretInfo:
        return await self._secrets.get(project, domain, name)

    async def delete_secret(self, project: str, domain: str, name: str, by: str) -> None:
        await self._secrets.delete(project, domain, name, by)

    async def create_key(self, request: wire.KeyRequest, by: str) -> wire.KeyInfo:
        checks.check(request)
        return await self._keys.create(request, by)

    async def keys(self) -> list[wire.KeyInfo]:
        left_out = self._apps.gateway.left_out
        why = {row.id: left_out[digest] for digest, row in self._keys.by_digest.items() if digest in left_out}
        replace = msgspec.structs.replace
        return [replace(info, message=why[info.id]) if info.id in why else info for info in await self._keys.list()]

    async def delete_key(self, id: str, by: str) -> None:
        await self._keys.delete(id, by)

    @property
    def key_rows(self) -> Mapping[str, KeyRow]:
        """sha256 of every API key → the key; a live view."""
        return self._keys.by_digest

    def key_used(self, digest: str) -> None:
        """The API was called with the key that has this sha256."""
        self._keys.used(digest)

    async def projects(self) -> list[wire.Project]:
        rows = await self.store.projects()
        found = [msgspec.convert(row, wire.Project, from_attributes=True) for row in rows]
        default = wire.Project(id=wire.DEFAULT_PROJECT, name=wire.DEFAULT_PROJECT)
        return found if any(project.id == default.id for project in found) else [default, *found]

    async def create_project(self, project: wire.Project, by: str) -> wire.Project:
        """Raises AlreadyExistsError where another project has the id; one that is the same is left as it is."""
        checks.check(project)
        named = msgspec.structs.replace(project, name=project.name or project.id)
        known = next((each for each in await self.projects() if each.id == project.id), named)
        if known != named:
            raise AlreadyExistsError(f"project {project.id!r} exists; change it with `flyte.remote.Project.update`")
        return await self._put_project(named, "created", by)

    async def update_project(self, project: wire.Project, by: str) -> wire.Project:
        """Put the record in the place of the one that the project has. Raises NotFoundError."""
        checks.check(project)
        known = [each.id for each in await self.projects()]
        if project.id not in known:
            raise NotFoundError(f"no project {project.id!r}; there are: {', '.join(known)}")
        return await self._put_project(project, "updated", by)

    async def _put_project(self, project: wire.Project, what: str, by: str) -> wire.Project:
        row = ProjectRow(project.id, project.name or project.id, project.description, project.labels, project.archived)
        event = self.journal.act(subject_of_project(project.id), what, by)
        await self.journal.write(Change(projects=(row,), events=(event,)))
        return project


def _since(after: int | None, seq: int) -> int:
    """The number after which a stream goes on; `seq` is that of the record as it is now.

    A client may name a number that this platform has not given out yet: it had it from a database that was put back
    to an older copy since. What is to come is later than the record in any case.
    """
    return seq if after is None else min(after, seq)
