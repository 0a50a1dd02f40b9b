"""Apps: their replicas, what the gateway is told of them, and waking.

An app is its versions plus its replicas; one version serves. What is *wanted* (active or stopped) is on disk; replicas
are not: the agent knows them, and tells a control plane that comes back which ones are alive. An active app without a
replica is *sleeping*: the first request is held by the gateway, which asks here to wake it, and everyone who waits for
the same app shares one start. How it goes to sleep is in `sleep.py`. A replica that dies is started again, a little
later each time it dies young.

A version that is deployed anew, with other values, is another *revision*: it is revisions that tell old replicas from
new ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import secrets as randomness
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from flyte import wire
from flyte.errors import AppNotFoundError, BaseRuntimeError, DeploymentError
from flyte.wire import AppStatus
from tarmac.auth import Identities
from tarmac.control.agents import Agent
from tarmac.control.errands import Errands
from tarmac.control.links import Link
from tarmac.control.pools import Code, Place, pool_spec
from tarmac.control.sleep import Sleep
from tarmac.control.vault import Secrets
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.model import subject_of_app
from tarmac.settings import Settings
from tarmac.store import AppRow, AppVersionRow, Change, Delete, Store

log = logging.getLogger("tarmac.apps")

REPLICA_IDENTITY = 365 * 24 * 3600.0
"""Seconds a replica's own identity is valid; the control plane refuses it once the replica is gone."""

YOUNG = 10.0
"""Seconds; a replica that dies younger counts as one that cannot stay up."""

AGENT_PATIENCE = 20.0
"""Seconds a start waits for an agent that is being restarted."""

GATEWAY_PATIENCE = 5.0
"""Seconds a deployment waits to hear that HAProxy has its routes."""

LONGEST_PAUSE = 30.0
SWITCH_PAUSE = 0.5
"""Seconds between telling the gateway of a switch and ending the old replicas."""

Key = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class LiveReplica:
    """One replica's process, from the order to start it until it is gone."""

    unit: str
    app: LiveApp
    version: str
    revision: str
    apps: Apps
    created: float
    ready: asyncio.Future[None]
    """Done when it answers; raises DeploymentError with its log's tail when it will not."""
    gone: asyncio.Future[None]
    """Done when its process has ended."""
    phase: str = "starting"
    address: str = ""
    pid: int | None = None
    ready_at: float | None = None
    message: str = ""

    def unit_started(self, unit: str, pid: int) -> None:
        self.pid = pid

    def unit_ready(self, unit: str, address: str) -> None:
        self.apps.replica_ready(self, address)

    def unit_exited(self, unit: str, exit: wire.UnitExited) -> None:
        self.apps.replica_exited(self, exit)

    def record(self) -> wire.Replica:
        return wire.Replica(
            name=self.unit,
            version=self.version,
            phase=self.phase,  # type: ignore[arg-type]
            address=self.address,
            pid=self.pid,
            created=self.created,
            ready=self.ready_at,
            message=self.message,
            restarts=self.app.deaths,
        )


@dataclass(slots=True, eq=False)
class LiveApp:
    row: AppRow
    served: AppVersionRow | None = None
    """The version that serves; None until the first one is ready."""
    spec: wire.AppSpec | None = None
    """What `served` says."""
    replicas: dict[str, LiveReplica] = field(default_factory=dict)
    dozing: list[LiveReplica] = field(default_factory=list)
    """Those that serve no more because no request came, and are not ended yet."""
    patience: asyncio.TimerHandle | None = None
    """When those that doze are taken back."""
    waking: asyncio.Task[None] | None = None
    deaths: int = 0
    """Replicas that died young, one after the other."""
    pause: asyncio.TimerHandle | None = None
    pool: str = ""
    """The pool of the replica that was ordered last; its processes stay ready while the app may wake."""
    used: float = 0
    """When a replica was last ordered or ended, on the loop's clock."""

    @property
    def key(self) -> Key:
        return (self.row.project, self.row.domain, self.row.name)

    @property
    def id(self) -> str:
        return "/".join(self.key)

    @property
    def revision(self) -> str | None:
        return None if self.served is None else self.served.digest

    @property
    def min_replicas(self) -> int:
        return self.spec.scaling.min_replicas if self.spec else 0

    def serve(self, version: AppVersionRow | None) -> None:
        """That version serves from now on."""
        self.served = version
        self.spec = None if version is None else msgspec.json.decode(version.spec, type=wire.AppSpec)

    def serving(self) -> list[LiveReplica]:
        return [r for r in self.replicas.values() if r.phase == "ready" and r.revision == self.revision]

    def present(self) -> list[LiveReplica]:
        """Those that serve, or are about to."""
        return [r for r in self.replicas.values() if r.phase in ("starting", "ready") and r.revision == self.revision]


class Apps:
    def __init__(
        self,
        store: Store,
        journal: Journal,
        agent: Agent,
        secrets: Secrets,
        identities: Identities,
        place: Place,
        settings: Settings,
        port: int,
    ) -> None:
        self.live: dict[Key, LiveApp] = {}
        self._store = store
        self._journal = journal
        self._agent = agent
        self._secrets = secrets
        self._identities = identities
        self._place = place
        self._settings = settings
        self._main_port = port
        self._ports = settings.port_range(port)
        self._unusable: set[int] = set()
        self._gateway: Link | None = None
        self._numbers = itertools.count(1)
        self._barriers: dict[int, asyncio.Future[None]] = {}
        """What the gateway has yet to say that it has applied."""
        self._replicas_known = False
        """Whether the agent has said, since this control plane started, which replicas are alive."""
        self._keys: dict[str, str] = {}
        self._addresses: dict[tuple[str, str], dict[str, str]] = {}
        """What was told of the apps of a project and domain since one of them changed."""
        self._loop = asyncio.get_running_loop()
        self._errands = Errands(journal)
        self._sleep = Sleep(self)
        agent.on_return.append(self._agent_returned)

    @property
    def home(self) -> Home:
        return self._place.home

    # ------------------------------------------------------------------ reading

    async def restore(self) -> None:
        """Put the apps back into memory, as they are on disk."""
        for row in await self._store.apps(None, None):
            app = LiveApp(row)
            if row.version is not None:
                app.serve(await self._store.app_version(row.project, row.domain, row.name, row.version))
            if row.status in (AppStatus.ACTIVE, AppStatus.DEPLOYING):
                app.row = replace(row, status=AppStatus.SLEEPING if row.version else AppStatus.FAILED)
            self.live[app.key] = app
        await self._move_into_range()

    async def _move_into_range(self) -> None:
        """Apps whose port is outside the range, since the platform listens elsewhere now, get another one."""
        moved = [app for app in self.live.values() if app.row.port not in self._ports]
        for app in moved:
            app.row = replace(app.row, port=0)
        for app in moved:
            app.row = replace(app.row, port=self._free_port())
        if moved:
            await self._journal.commit(Change(apps=tuple(app.row for app in moved)))

    def find(self, project: str, domain: str, name: str) -> LiveApp:
        """Raises AppNotFoundError that lists the apps there are."""
        app = self.live.get((project, domain, name))
        if app is None:
            there = ", ".join(sorted(key[2] for key in self.live if key[:2] == (project, domain)))
            raise AppNotFoundError(
                f"no app named {name!r} in {project}/{domain}; "
                + (f"apps there: {there}" if there else "none is deployed there; deploy one with `flyte deploy FILE`")
            )
        return app

    def url(self, app: LiveApp) -> str:
        return f"http://{self._host}:{app.row.port}"

    @property
    def _host(self) -> str:
        return "127.0.0.1" if self._settings.host in ("0.0.0.0", "::", "") else self._settings.host

    def hosts(self, app: LiveApp) -> list[str]:
        """The names under which the front door serves the app."""
        project, domain, name = app.key
        spec = app.spec
        plain = (project, domain) == (wire.DEFAULT_PROJECT, wire.DEFAULT_DOMAIN)
        label = (spec.subdomain if spec else None) or (name if plain else f"{name}-{project}-{domain}")
        names = [f"{label}.{self._settings.domain}"]
        return names + ([spec.custom_domain] if spec and spec.custom_domain else [])

    def endpoints(self, project: str, domain: str) -> dict[str, str]:
        """App name → URL, for the processes of a project and domain."""
        found = [(app.row.name, self.url(app)) for key, app in self.live.items() if key[:2] == (project, domain)]
        return dict(found[:200])

    def addresses(self, project: str, domain: str) -> dict[str, str]:
        """What a process is told of the apps of its project and domain: their URLs, and which ask for a key."""
        told = self._addresses.get((project, domain))
        if told is None:
            told = self._addresses[project, domain] = self._told(project, domain)
        return told

    def _told(self, project: str, domain: str) -> dict[str, str]:
        endpoints = self.endpoints(project, domain)
        guarded = [
            url.partition("://")[2]
            for name, url in endpoints.items()
            if (spec := self.live[project, domain, name].spec) is not None and spec.requires_auth
        ]
        return {"FLYTE_APP_ENDPOINTS": json.dumps(endpoints), "FLYTE_GUARDED_APPS": json.dumps(guarded)}

    def pools(self) -> list[str]:
        """The pools that apps run in, or would wake in before `pool_idle` is over."""
        oldest = self._loop.time() - self._settings.pool_idle
        return [app.pool for app in self.live.values() if app.pool and (app.replicas or app.used > oldest)]

    def record(self, app: LiveApp) -> wire.App:
        row, spec = app.row, app.spec
        project, domain, name = app.key
        return wire.App(
            project=project,
            domain=domain,
            name=name,
            version=row.version or "",
            status=row.status,
            url=self.url(app),
            host=f"http://{self.hosts(app)[0]}:{self._main_port}",
            console=f"{self._place.endpoint}/v2/domain/{domain}/project/{project}/apps/{name}",
            port=row.port,
            requires_auth=spec.requires_auth if spec else True,
            wanted="active" if row.wanted == "active" else "stopped",
            replicas=[replica.record() for replica in app.replicas.values()],
            links=spec.links if spec else [],
            description=spec.environment.description if spec else "",
            message=row.message,
            created=row.created,
            updated=row.updated,
            seq=self._journal.seq,
        )

    # ------------------------------------------------------------------ the gateway

    def gateway_connected(self, link: Link, hello: wire.Hello) -> Apps:
        self._gateway = link
        link.send(wire.Welcome(epoch=0))
        link.send(wire.Keys(keys=self._keys))
        self._tell_routes()
        for number in self._barriers:
            self._tell(wire.Barrier(number=number))
        return self

    def _tell_routes(self) -> None:
        """All routes; but while the replicas are not known, the gateway goes on with what it has."""
        if self._replicas_known:
            self._tell(wire.Routes(routes=[self._route(app) for app in self.live.values()]))

    async def told(self) -> None:
        """Return when HAProxy has every route as it is now; at once without a gateway, and after GATEWAY_PATIENCE."""
        if self._gateway is None:
            return
        number = next(self._numbers)
        applied = self._barriers[number] = self._loop.create_future()
        self._tell(wire.Barrier(number=number))
        await asyncio.wait([applied], timeout=GATEWAY_PATIENCE)
        self._barriers.pop(number, None)

    def keys_changed(self, keys: dict[str, str]) -> None:
        """sha256 of every key that may call apps → who it is."""
        self._keys = keys
        self._tell(wire.Keys(keys=keys))

    def frame(self, frame: wire.AnyFrame) -> None:
        match frame:
            case wire.Wake():
                self._errands.run(self._answer_wake(frame))
            case wire.Quiet():
                self._sleep.quiet(frame)
            case wire.Parted():
                self._sleep.parted(frame)
            case wire.Applied():
                if (applied := self._barriers.pop(frame.number, None)) is not None and not applied.done():
                    applied.set_result(None)
            case wire.GatewayStatus():
                self._unusable = set(frame.unusable_ports)
                if frame.message:
                    log.warning("gateway: %s", frame.message)
            case _:
                log.warning("the gateway sent a %s", type(frame).__name__)

    def lost(self, link: Link) -> None:
        if link is self._gateway:
            self._gateway = None
            log.warning("the gateway is gone")

    def _tell(self, frame: wire.Frame) -> None:
        if self._gateway is not None:
            self._gateway.send(frame)

    def _route(self, app: LiveApp) -> wire.Route:
        spec = app.spec
        return wire.Route(
            app=app.id,
            port=app.row.port,
            hosts=self.hosts(app),
            requires_auth=spec.requires_auth if spec else True,
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
        self._addresses.clear()
        if self._replicas_known:
            self._tell(wire.RouteChanged(route=self._route(app)))

    async def _answer_wake(self, frame: wire.Wake) -> None:
        project, domain, name = frame.app.split("/")
        try:
            await self.wake(self.find(project, domain, name))
        except BaseRuntimeError as error:
            self._tell(wire.Woken(key=frame.key, ok=False, message=error.message))
        else:
            self._tell(wire.Woken(key=frame.key, ok=True))

    # ------------------------------------------------------------------ waking and stopping

    async def wake(self, app: LiveApp) -> None:
        """Return when a replica answers; all who wait share one start. Raises DeploymentError when none will."""
        if app.row.wanted != "active":
            raise DeploymentError(
                f"app {app.row.name!r} is stopped; start it: flyte update app {app.row.name} --activate"
            )
        self._sleep.recall(app)
        if not app.serving():
            await self._start(app)

    async def _start(self, app: LiveApp) -> None:
        """Have as many replicas as the app wants at least, and one of them ready. Raises DeploymentError."""
        if app.waking is None or app.waking.done():
            app.waking = self._loop.create_task(self._start_wanted(app))
        await asyncio.shield(app.waking)

    async def _start_wanted(self, app: LiveApp) -> None:
        row, version = app.row, app.served
        if row.version is None:
            raise DeploymentError(f"no version of app {row.name!r} ever became ready; deploy it again")
        if version is None:
            raise DeploymentError(f"version {row.version} of app {row.name!r} is gone; deploy it again")
        await self._agent.returned(AGENT_PATIENCE)  # it may come back with a replica
        present = app.present()
        missing = max(1, app.min_replicas) - len(present)
        started = [await self.start_replica(app, version) for _ in range(missing)]
        try:
            await _first([replica.ready for replica in [*present, *started]])
        except DeploymentError as error:
            self._set(app, AppStatus.FAILED, error.message)
            raise
        self._set(app, AppStatus.ACTIVE, "a replica is ready")

    async def activate(self, app: LiveApp) -> None:
        if app.row.wanted != "active":
            app.row = replace(app.row, wanted="active")
            self._set(app, AppStatus.SLEEPING if app.row.version else AppStatus.FAILED, "activated", force=True)
            self.route_changed(app)
        await self.wake(app)

    async def deactivate(self, app: LiveApp) -> None:
        """Stop the app: no request starts it until it is activated."""
        self._sleep.forget(app)
        app.row = replace(app.row, wanted="stopped")
        committed = self._set(app, AppStatus.STOPPED, "deactivated", force=True)
        self.route_changed(app)
        self.end_replicas(list(app.replicas.values()), "the app was deactivated")
        await committed

    async def delete(self, app: LiveApp) -> None:
        await self.deactivate(app)
        del self.live[app.key]
        self._addresses.clear()
        self._tell(wire.RouteRemoved(app=app.id))
        await self._journal.commit(Change(deletes=(Delete("apps", app.key),)))

    # ------------------------------------------------------------------ replicas

    async def start_replica(self, app: LiveApp, version: AppVersionRow) -> LiveReplica:
        """Order one replica of `version`; its `ready` tells how it went. Raises what keeps it from being ordered."""
        spec = msgspec.json.decode(version.spec, type=wire.AppSpec)
        unit = f"r-{randomness.token_hex(8)}"
        order = await self._order(app, version, spec, unit)
        await self._agent.returned(AGENT_PATIENCE)
        replica = self._replica(unit, app, version.version, version.digest)
        app.replicas[unit] = replica
        if not self._agent.start(order, replica):
            del app.replicas[unit]
            raise DeploymentError(f"app {app.row.name!r} cannot start: the agent is being restarted; try again")
        return replica

    def _replica(self, unit: str, app: LiveApp, version: str, revision: str) -> LiveReplica:
        ready: asyncio.Future[None] = self._loop.create_future()
        ready.add_done_callback(_seen)
        gone: asyncio.Future[None] = self._loop.create_future()
        return LiveReplica(unit, app, version, revision, self, time.time(), ready, gone)

    async def until_gone(self, app: LiveApp) -> None:
        """Return when no replica of the app is left."""
        if app.replicas:
            await asyncio.wait([replica.gone for replica in app.replicas.values()])

    async def _order(self, app: LiveApp, version: AppVersionRow, spec: wire.AppSpec, unit: str) -> wire.StartUnit:
        project, domain, name = app.key
        secrets = await self._secrets.values(project, domain, spec.environment)
        code = Code(version.bundle, version.root, tuple(version.sys_path), version.version)
        modules = [spec.entry.partition(":")[0]] if spec.entry and spec.kind != "command" else []
        parameters = self.parameters(project, domain, spec, app.row.parameters)
        given = {p.env: parameters[p.name] for p in spec.parameters if p.env and p.name in parameters}
        env_vars = {**app.row.env_vars, **given}  # modules may read them while they are imported
        pool = pool_spec(self._place, project, domain, spec.environment, code, modules, secrets, env_vars)
        app.pool, app.used = pool.id, self._loop.time()
        token = self._identities.mint(unit, "workload", project, domain, REPLICA_IDENTITY)
        replica = wire.ReplicaSpec(
            app=name,
            project=project,
            domain=domain,
            version=version.version,
            kind=spec.kind,
            entry=spec.entry,
            argv=spec.argv,
            port=spec.port,
            health_path=spec.health_path,
            env={
                **given,
                "FLYTE_UNIT": unit,
                "FLYTE_API_KEY": token,
                "FLYTE_LINK_TOKEN": token,
                "FLYTE_APP_NAME": name,
                **self.addresses(project, domain),
                "FLYTE_PARAMETERS": json.dumps(parameters),
                "FLYTE_FILE_PARAMETERS": json.dumps({p.name: _file(p) for p in spec.parameters if _is_file(p)}),
            },
            start_timeout=self._settings.start_timeout,
            log=str(self.home.replica_log(project, domain, name, unit)),
            revision=version.digest,
        )
        return wire.StartUnit(unit=unit, kind="replica", pool=pool, replica=replica)

    def parameters(self, project: str, domain: str, spec: wire.AppSpec, given: dict[str, str]) -> dict[str, str]:
        """Parameter → value, as the app will see it. Raises AppNotFoundError for an endpoint of an unknown app."""
        values: dict[str, str] = {}
        for parameter in spec.parameters:
            if parameter.name in given:
                values[parameter.name] = given[parameter.name]
            elif parameter.kind == "endpoint":
                values[parameter.name] = self.url(self.find(project, domain, parameter.app_name or ""))
            elif parameter.value is not None:
                values[parameter.name] = parameter.value
        return values

    def replica_ready(self, replica: LiveReplica, address: str) -> None:
        if replica.phase != "starting":
            return
        replica.phase, replica.address, replica.ready_at = "ready", address, time.time()
        if replica.revision == replica.app.revision:
            self.route_changed(replica.app)
        if not replica.ready.done():
            replica.ready.set_result(None)

    def replica_exited(self, replica: LiveReplica, exit: wire.UnitExited) -> None:
        app = replica.app
        app.replicas.pop(replica.unit, None)
        app.used = self._loop.time()
        replica.gone.set_result(None)
        was, replica.phase = replica.phase, "failed"
        replica.message = exit.reason
        if not replica.ready.done():
            tail = f"; the last lines it wrote:\n{exit.tail}" if exit.tail else ""
            reason = exit.reason or "its process ended"
            replica.ready.set_exception(DeploymentError(f"app {app.row.name!r} did not start: {reason}{tail}"))
        if was == "draining" or replica.revision != app.revision:
            return
        self.route_changed(app)
        if was == "ready" and app.row.wanted == "active":
            self._replace(app, replica, exit)

    def _replace(self, app: LiveApp, dead: LiveReplica, exit: wire.UnitExited) -> None:
        """A serving replica died: start another, at once the first time, later when they keep dying young."""
        age = time.time() - (dead.ready_at or dead.created)
        app.deaths = app.deaths + 1 if age < YOUNG else 0
        delay = 0.0 if app.deaths < 2 else min(0.5 * 2 ** (app.deaths - 2), LONGEST_PAUSE)
        message = f"replica {dead.unit} died: {exit.reason or 'unknown'}" + (
            f"; next try in {delay:g} s" if delay else ""
        )
        if not app.serving():
            self._set(app, AppStatus.SLEEPING, message)
        if app.pause is not None:
            app.pause.cancel()
        app.pause = self._loop.call_later(delay, self._errand_replace, app)

    def _errand_replace(self, app: LiveApp) -> None:
        app.pause = None
        if app.row.wanted == "active" and self.live.get(app.key) is app:
            self._errands.run(self._wake_quietly(app))

    async def _wake_quietly(self, app: LiveApp) -> None:
        try:
            await self._start(app)
        except BaseRuntimeError as error:
            log.warning("app %s: %s", app.id, error.message)

    def end_replicas(self, replicas: Iterable[LiveReplica], reason: str) -> None:
        """Take replicas out of service; what they still answer they may finish."""
        for replica in replicas:
            replica.phase = "draining"
            self._agent.stop(replica.unit, self._settings.drain_timeout, reason)

    async def stop_later(self, replicas: list[LiveReplica], reason: str) -> None:
        """The same after a pause in which the gateway learns that they serve no more."""
        for replica in replicas:
            replica.phase = "draining"
        await asyncio.sleep(SWITCH_PAUSE)
        self.end_replicas(replicas, reason)

    def _agent_returned(self, units: Sequence[wire.UnitState]) -> None:
        """The replicas that are alive, after this control plane or the agent came back."""
        known = {unit: replica for app in self.live.values() for unit, replica in app.replicas.items()}
        for state in units:
            replica = known.get(state.unit)
            if state.kind == "replica" and replica is None:
                self._adopt(state)
            elif replica is not None and replica.phase == "draining" and replica not in replica.app.dozing:
                # the order may have been lost with the link
                self._agent.stop(state.unit, self._settings.drain_timeout, "it is not wanted any more")
        self._replicas_known = True
        self._tell_routes()
        for app in self.live.values():
            if app.row.wanted == "active" and len(app.present()) < app.min_replicas:
                self._errands.run(self._wake_quietly(app))

    def _adopt(self, state: wire.UnitState) -> None:
        path, _, version = state.owner.partition("@")
        project, _, rest = path.partition("/")
        domain, _, name = rest.partition("/")
        app = self.live.get((project, domain, name))
        if state.stopping:
            return
        if app is None or app.revision != state.revision or app.row.wanted != "active":
            self._agent.stop(state.unit, self._settings.grace, "it is not wanted any more")
            return
        replica = self._replica(state.unit, app, version, state.revision)
        replica.pid = state.pid
        app.replicas[state.unit] = replica
        self._agent.adopt(state.unit, replica)
        if state.ready:
            self.replica_ready(replica, state.address)
            self._set(app, AppStatus.ACTIVE, "its replica went on while the control plane was away")

    # ------------------------------------------------------------------ for deployments

    async def declare(self, project: str, domain: str, spec: wire.AppSpec, now: float) -> LiveApp:
        """The app of that name; a new one gets its port for good."""
        app = self.live.get((project, domain, spec.name))
        if app is None:
            row = AppRow(
                project=project,
                domain=domain,
                name=spec.name,
                port=self._free_port(),
                version=None,
                wanted="active",
                status=AppStatus.DEPLOYING,
                message="",
                created=now,
                updated=now,
                env_vars={},
                parameters={},
            )
            app = self.live[project, domain, spec.name] = LiveApp(row)
            await self._journal.commit(Change(apps=(row,)))
            self.route_changed(app)
        self._sleep.recall(app)
        return app

    def _free_port(self) -> int:
        taken = {app.row.port for app in self.live.values()} | self._unusable
        for port in self._ports:
            if port not in taken:
                return port
        raise DeploymentError(
            f"all {len(self._ports)} app ports ({self._ports.start}-{self._ports.stop - 1}) are taken; "
            "delete apps with `flyte delete app NAME`, or set TARMAC_APP_PORTS to a longer range"
        )

    async def switch(self, app: LiveApp, version: AppVersionRow, message: str) -> list[LiveReplica]:
        """Let `version`, whose replicas are ready, serve; returns the replicas that do no more."""
        old = [r for r in app.replicas.values() if r.revision != version.digest]
        self._sleep.forget(app)
        app.serve(version)
        app.row = replace(app.row, version=version.version, wanted="active")
        committed = self._set(app, AppStatus.ACTIVE, message, force=True)
        self.route_changed(app)
        await committed
        return old

    async def unswitch(self, app: LiveApp, row: AppRow, version: AppVersionRow) -> None:
        """The deployment failed elsewhere: the version that served before serves again, as `row` says."""
        new = [r for r in app.replicas.values() if r.revision != version.digest]
        self._sleep.forget(app)
        app.serve(version)
        app.row = replace(row, port=app.row.port)
        status = row.status
        if status in (AppStatus.ACTIVE, AppStatus.DEPLOYING, AppStatus.SLEEPING):
            status = AppStatus.ACTIVE if app.serving() else AppStatus.SLEEPING
        message = f"the deployment failed; version {row.version} goes on"
        written = self._journal.commit(Change(app_versions=(version,)))  # where the new one had the same name
        committed = self._set(app, status, message, force=True)
        self.route_changed(app)
        self.end_replicas(new, "the deployment was rolled back")
        await asyncio.gather(written, committed)

    async def withdraw(self, app: LiveApp) -> None:
        """A first deployment failed: the app never was."""
        self._sleep.forget(app)
        self.end_replicas(list(app.replicas.values()), "the deployment failed")
        self.live.pop(app.key, None)
        self._addresses.clear()
        self._tell(wire.RouteRemoved(app=app.id))
        await self._journal.commit(Change(deletes=(Delete("apps", app.key),)))

    def set_status(self, app: LiveApp, status: AppStatus, message: str) -> None:
        self._set(app, status, message)

    def _set(self, app: LiveApp, status: AppStatus, message: str, force: bool = False) -> asyncio.Future[None]:
        """Record what the app is doing now, with its event, unless nothing changed."""
        if app.row.status == status and app.row.message == message and not force:
            return self._journal.commit(Change())
        app.row = replace(app.row, status=status, message=message, updated=time.time())
        subject = subject_of_app(*app.key)
        event = self._journal.event(subject, status.value, message, body={"version": app.row.version or ""})
        return self._journal.commit(Change(apps=(app.row,), events=(event,)))


def _seen(future: asyncio.Future[None]) -> None:
    """A replica that nobody waits for may fail without a complaint of asyncio's."""
    if not future.cancelled():
        future.exception()


def _is_file(parameter: wire.ParameterSpec) -> bool:
    return parameter.kind in ("file", "dir") or parameter.mount is not None


def _file(parameter: wire.ParameterSpec) -> dict[str, str | bool | None]:
    """What the app's process has to know to put a file in its place."""
    return {
        "kind": parameter.kind,
        "env": parameter.env,
        "mount": parameter.mount,
        "download": parameter.download,
    }


async def _first(ready: list[asyncio.Future[None]]) -> None:
    """Return when one of them is done; raise the last one's error when all failed."""
    pending: set[asyncio.Future[None]] = set(ready)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            if future.exception() is None:
                return
            if not pending:
                future.result()
