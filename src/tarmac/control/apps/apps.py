"""Apps: what is wanted of them, which version serves, and waking.

An app is its versions plus its replicas; one version serves. What is *wanted* (active or stopped) is on disk. An
active app without a replica is *sleeping*: the first request is held by the gateway, which asks here to wake it.

Their parts have files of their own: `control.live_apps` (what is in memory), `replicas` (the processes), `sleep` and
`waking`, `addresses` (ports and names), `control.gateway` (what the gateway is told).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from flyte import wire
from flyte.errors import AppNotFoundError, DeploymentError
from flyte.names import path_part
from flyte.wire import AppId, AppStatus, Scope
from tarmac.auth import Identities
from tarmac.control.agents import Agent
from tarmac.control.apps.addresses import Addresses
from tarmac.control.apps.replicas import Replicas
from tarmac.control.apps.sleep import Sleep
from tarmac.control.apps.waking import Waking
from tarmac.control.errands import Errands
from tarmac.control.gateway import Gateway
from tarmac.control.images import Images
from tarmac.control.live_apps import LiveApp, LiveReplica
from tarmac.control.startup import Startup
from tarmac.control.vault import Secrets
from tarmac.control.workers.freshness import Freshness
from tarmac.control.workers.pools import Place
from tarmac.events import Journal
from tarmac.model import subject_of_app
from tarmac.settings import Settings
from tarmac.store import AppRow, AppVersionRow, Change, Delete, Store

log = logging.getLogger("tarmac.apps")


class Apps:
    def __init__(
        self,
        store: Store,
        journal: Journal,
        agent: Agent,
        secrets: Secrets,
        images: Images,
        identities: Identities,
        place: Place,
        settings: Settings,
        port: int,
        freshness: Freshness,
    ) -> None:
        self.live: dict[AppId, LiveApp] = {}
        self.addresses = Addresses(self.live, settings, port)
        self.gateway = Gateway(self._routes, store.epoch)
        self.replicas = Replicas(self, self.addresses, agent, secrets, images, identities, place, settings, freshness)
        self.agent = agent
        self._store = store
        self._journal = journal
        self._place = place
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._errands = Errands(journal)
        self._sleep = Sleep(self, self.replicas)
        self._waking = Waking(self, self.replicas, self._sleep, agent, self.gateway, self._errands)
        self.gateway.on_wake = lambda frame: self._errands.run(self._waking.answer(frame))
        self.gateway.on_quiet, self.gateway.on_parted = self._sleep.quiet, self._sleep.parted
        agent.on_return.append(self._agent_returned)

    # ------------------------------------------------------------------ reading

    async def restore(self, startup: Startup) -> None:
        """Put the apps back into memory, as they are on disk; one that cannot be loaded has failed, with the reason."""
        for row in await self._store.apps(None, None):
            app = self.live[row.id] = LiveApp(row)
            await startup.take_up(
                f"app {app.id}@{row.version or ''}",
                functools.partial(self._restore, app),
                functools.partial(self._set_aside, app),
                f"Deploy another version of it, or delete it: flyte delete app {row.name}",
            )
        await self._move_into_range()
        for app in self.live.values():
            app.shown = app.row

    async def _restore(self, app: LiveApp) -> None:
        row = app.row
        if row.version is not None:
            app.serve(await self._store.app_version(row.id, row.version))
        if row.status in (AppStatus.ACTIVE, AppStatus.DEPLOYING):
            app.go(AppStatus.SLEEPING if row.version else AppStatus.FAILED, row.message, row.updated)

    async def _set_aside(self, app: LiveApp, why: str) -> None:
        """It is not started, since nothing of it is known but its row; deploying another version brings it back."""
        app.served = app.spec = None
        await self._set(app, AppStatus.FAILED, f"{why}; deploy another version of it, or delete it", force=True)

    async def _move_into_range(self) -> None:
        """Apps whose port is outside the range, since the platform listens elsewhere now, get another one."""
        moved = [app for app in self.live.values() if not self.addresses.in_range(app)]
        for app in moved:
            try:
                port = self.addresses.free_port(self.gateway.unusable_ports)
            except DeploymentError as full:  # it is served by host name alone, which the gateway says
                log.error("app %s keeps port %d: %s", app.id, app.row.port, full.message)
                continue
            app.row = replace(app.row, port=port)
        if moved:
            await self._journal.commit(Change(apps=tuple(app.row for app in moved)))

    def find(self, app: AppId) -> LiveApp:
        """Raises AppNotFoundError that lists the apps there are."""
        found = self.live.get(app)
        if found is None or found.shown is None:
            there = ", ".join(sorted(other.row.name for other in self.of(app.scope)))
            raise AppNotFoundError(
                f"no app named {app.name!r} in {app.scope}; "
                + (f"apps there: {there}" if there else "none is deployed there; deploy one with `flyte deploy FILE`")
            )
        return found

    def of(self, scope: Scope) -> list[LiveApp]:
        """The apps of a project and domain that are on disk, the one that changed last first."""
        found = [app for app in self.live.values() if app.id.scope == scope and app.shown is not None]
        return sorted(found, key=lambda app: app.row.updated, reverse=True)

    def pools(self) -> list[str]:
        """The pools that apps run in, or would wake in before `pool_idle` is over."""
        oldest = self._loop.time() - self._settings.pool_idle
        return [app.pool for app in self.live.values() if app.pool and (app.replicas or app.used > oldest)]

    def record(self, app: LiveApp) -> wire.App:
        """The app as of the last commit, with the processes that it has now."""
        row, spec = app.shown or app.row, app.spec
        project, domain, name = app.id
        return wire.App(
            project=project,
            domain=domain,
            name=name,
            version=row.version or "",
            status=row.status,
            url=self.addresses.url(app),
            host=self.addresses.front_url(app),
            console=f"{self._place.endpoint}/v2/domain/{domain}/project/{project}/apps/{path_part(name)}",
            port=row.port,
            requires_auth=app.requires_auth,
            wanted="active" if row.wanted == "active" else "stopped",
            replicas=[replica.record() for replica in app.replicas.values()],
            links=spec.links if spec else [],
            no_effect=spec.no_effect if spec else [],
            description=spec.environment.description if spec else "",
            message=self._left_out(app) or row.message,
            created=row.created,
            updated=row.updated,
            seq=self._journal.told,
        )

    def _left_out(self, app: LiveApp) -> str:
        """Why its address, or a part of it, does not work, where the gateway says so."""
        why = self.gateway.left_out.get(str(app.id))
        return f"the gateway: {why}" if why else ""

    # ------------------------------------------------------------------ routes

    def _routes(self) -> list[wire.Route]:
        found = []
        for app in self.live.values():
            try:
                found.append(self._route(app))
            except Exception:  # the gateway is told of all other apps
                log.exception("the route of %s", app.id)
        return found

    def _route(self, app: LiveApp) -> wire.Route:
        spec = app.spec
        return wire.Route(
            app=str(app.id),
            port=app.row.port,
            hosts=self.addresses.hosts(app),
            requires_auth=app.requires_auth,
            passes_auth=spec.passes_auth if spec else False,
            wanted=app.row.wanted,
            replicas=[wire.RouteReplica(name=r.unit, address=r.address) for r in app.serving()],
            request_timeout=spec.request_timeout if spec else None,
            scaledown_after=self.scaledown_after(app),
        )

    def scaledown_after(self, app: LiveApp) -> float | None:
        """Seconds without a request after which the app sleeps; None: it does not."""
        if app.spec is None or app.min_replicas:
            return None
        own = app.spec.scaling.scaledown_after
        return self._settings.scaledown_after if own is None else own

    def route_changed(self, app: LiveApp) -> None:
        self.addresses.changed()
        self.gateway.route_changed(self._route(app))

    def _forget(self, app: LiveApp) -> asyncio.Future[None]:
        """The app is no more; done when that is on disk."""
        self.live.pop(app.id, None)
        self.addresses.changed()
        self.gateway.tell(wire.RouteRemoved(app=str(app.id)))
        return self._journal.commit(Change(deletes=(Delete("apps", app.id),)))

    # ------------------------------------------------------------------ activating and stopping

    async def wake(self, app: LiveApp) -> None:
        """Return when a replica answers. Raises DeploymentError when none will."""
        await self._waking.wake(app)

    async def activate(self, app: LiveApp, by: str) -> None:
        self.agent.suspects.forgive(app.suspect)
        if app.row.wanted != "active":
            app.row = replace(app.row, wanted="active")
            status = AppStatus.SLEEPING if app.row.version else AppStatus.FAILED
            committed = self._set(app, status, "activated", force=True, by=by)
            self.route_changed(app)
            await committed
        await self._waking.wake(app)
        await self._journal.commit(Change())  # the answer waits until the present state is on disk

    async def deactivate(self, app: LiveApp, by: str, what: str = "deactivated") -> None:
        """Stop the app: no request starts it until it is activated."""
        self._sleep.forget(app)
        app.row = replace(app.row, wanted="stopped")
        committed = self._set(app, AppStatus.STOPPED, what, force=True, by=by)
        self.route_changed(app)
        self.replicas.end(list(app.replicas.values()), "the app was deactivated")
        await committed

    async def delete(self, app: LiveApp, by: str) -> None:
        await self.deactivate(app, by, "deleted")
        await self._forget(app)

    async def until_gone(self, app: LiveApp) -> None:
        """Return when no replica of the app is left."""
        if app.replicas:
            await asyncio.wait([replica.gone for replica in app.replicas.values()])

    # ------------------------------------------------------------------ replicas that die, or were alive before

    def replica_died(self, dead: LiveReplica, was_ready: bool) -> None:
        """One that served, or was about to, is gone without having been told to go."""
        app = dead.app
        self.route_changed(app)
        if was_ready and app.row.wanted == "active":
            self._waking.replace(app, dead)

    def _agent_returned(self, units: Sequence[wire.UnitState]) -> None:
        """The replicas that are alive, after this control plane or the agent came back."""
        for app in self.replicas.take_over(units):
            self._set(app, AppStatus.ACTIVE, "its replica went on while the control plane was away")
        self.gateway.routes_known()
        for app in self.live.values():
            if app.row.wanted == "active" and len(app.present()) < app.min_replicas:
                self._errands.run(self._waking.quietly(app))

    # ------------------------------------------------------------------ for deployments

    async def declare(self, id: AppId, now: float) -> LiveApp:
        """The app of that name; a new one gets its port for good."""
        app = self.live.get(id)
        if app is None:
            row = AppRow(
                project=id.project,
                domain=id.domain,
                name=id.name,
                port=self.addresses.free_port(self.gateway.unusable_ports),
                version=None,
                wanted="active",
                status=AppStatus.DEPLOYING,
                message="",
                created=now,
                updated=now,
                env_vars={},
                parameters={},
            )
            app = self.live[id] = LiveApp(row)
            await self._commit(app)
            self.route_changed(app)
        self._sleep.recall(app)
        return app

    async def switch(self, app: LiveApp, version: AppVersionRow, message: str) -> list[LiveReplica]:
        """Let `version`, whose replicas are ready, serve; returns the replicas that do no more."""
        old = app.others(version.digest)
        self._sleep.forget(app)
        app.serve(version)
        app.row = replace(app.row, version=version.version, wanted="active")
        committed = self._set(app, AppStatus.ACTIVE, message, force=True)
        self.route_changed(app)
        await committed
        return old

    async def unswitch(self, app: LiveApp, row: AppRow, version: AppVersionRow) -> None:
        """The deployment failed elsewhere: the version that served before serves again, as `row` says."""
        new = app.others(version.digest)
        self._sleep.forget(app)
        app.serve(version)
        app.row = replace(row, port=app.row.port, status=app.row.status)
        status = row.status
        if status in (AppStatus.ACTIVE, AppStatus.DEPLOYING, AppStatus.SLEEPING):
            status = AppStatus.ACTIVE if app.serving() else AppStatus.SLEEPING
        message = f"the deployment failed; version {row.version} goes on"
        written = self._journal.commit(Change(app_versions=(version,)))  # where the new one had the same name
        committed = self._set(app, status, message, force=True)
        self.route_changed(app)
        self.replicas.end(new, "the deployment was rolled back")
        await asyncio.gather(written, committed)

    async def withdraw(self, app: LiveApp) -> None:
        """A first deployment failed: the app never was."""
        self._sleep.forget(app)
        self.replicas.end(list(app.replicas.values()), "the deployment failed")
        await self._forget(app)

    def set_status(self, app: LiveApp, status: AppStatus, message: str) -> None:
        self._set(app, status, message)

    def _set(
        self, app: LiveApp, status: AppStatus, message: str, force: bool = False, by: str = ""
    ) -> asyncio.Future[None]:
        """Record what the app is doing now, with its event, unless nothing changed. `by`: who said so."""
        if app.row.status == status and app.row.message == message and not force:
            return self._journal.commit(Change())
        app.go(status, message, time.time())
        subject = subject_of_app(app.id)
        body = {"version": app.row.version or "", **({"by": by} if by else {})}
        event = self._journal.event(subject, status.value, message, body=body)
        return self._commit(app, event)

    def _commit(self, app: LiveApp, *events: wire.Event) -> asyncio.Future[None]:
        """Write the app as it is now; when that is on disk it is shown so."""
        row = app.row

        def then() -> None:
            app.shown = row

        return self._journal.commit(Change(apps=(row,), events=events), then)
