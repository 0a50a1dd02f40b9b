"""Replicas: the processes of apps, from the order to start one until it is gone.

The agent keeps them alive; here they are ordered, their news is heard, and those that went on while no control plane
was there are taken over. What their coming and going means for the app is for `apps.py` to say.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets as randomness
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from flyte import wire
from flyte.errors import DeploymentError
from flyte.log_times import file_of
from tarmac.auth import Identities
from tarmac.control.agents import GONE, Agent
from tarmac.control.apps.addresses import Addresses
from tarmac.control.images import Images
from tarmac.control.live_apps import LiveApp, LiveReplica
from tarmac.control.ports import Serving
from tarmac.control.vault import Secrets
from tarmac.control.workers.freshness import Freshness
from tarmac.control.workers.pools import Code, Place, pool_spec
from tarmac.settings import Settings
from tarmac.store import AppVersionRow

log = logging.getLogger("tarmac.apps")

REPLICA_IDENTITY = 365 * 24 * 3600.0
"""Seconds a replica's own identity is valid. Nothing refuses it before that, also when the replica is gone."""

AGENT_PATIENCE = 20.0
"""Seconds a start waits for an agent that is being restarted."""

LOGS_KEPT = 20
"""Logs of an app's replicas that are kept, the present ones included."""

SWITCH_PAUSE = 0.5
"""Seconds between telling the gateway of a switch and ending the old replicas."""


class DidNotStart(DeploymentError):
    """A replica ended before it answered. The message has the last lines of its log."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "DeploymentError")


class Replicas:
    """The replicas by unit; `apps` is told what becomes of them."""

    def __init__(
        self,
        apps: Serving,
        addresses: Addresses,
        agent: Agent,
        secrets: Secrets,
        images: Images,
        identities: Identities,
        place: Place,
        settings: Settings,
        freshness: Freshness,
    ) -> None:
        self._apps = apps
        self._addresses = addresses
        self._known: dict[str, LiveReplica] = {}
        self._agent = agent
        self._secrets = secrets
        self._images = images
        self._identities = identities
        self._place = place
        self._settings = settings
        self._freshness = freshness
        self._loop = asyncio.get_running_loop()

    async def agent_returned(self) -> None:
        """Wait for an agent that is being restarted: it may come back with replicas."""
        await self._agent.returned(AGENT_PATIENCE)

    # ------------------------------------------------------------------ starting

    async def start(self, app: LiveApp, version: AppVersionRow) -> LiveReplica:
        """Order one replica of `version`; its `ready` tells how it went. Raises what keeps it from being ordered."""
        spec = msgspec.json.decode(version.spec, type=wire.AppSpec)
        unit = f"r-{randomness.token_hex(8)}"
        order = await self._order(app, version, spec, unit)
        key = f"{app.id}@{version.digest}"
        await self._freshness.found(order.pool.id)
        await self._agent.suspects.turn(key)
        await self.agent_returned()
        replica = self._replica(unit, app, version.version, version.digest)
        app.replicas[unit] = self._known[unit] = replica
        if not self._agent.start(order, self):
            del app.replicas[unit], self._known[unit]
            raise DeploymentError(f"app {app.row.name!r} cannot start: the agent is being restarted; try again")
        self._agent.suspects.begin(key)
        self._remove_old_logs(app)  # not before the order is on its way: somebody waits
        return replica

    async def are_outdated(self, app: LiveApp, version: AppVersionRow) -> bool:
        """Whether a file has changed that was read when the code of the app's replicas was imported."""
        spec = msgspec.json.decode(version.spec, type=wire.AppSpec)
        pool = await self._pool(app, version, spec, self._given(app, spec))
        found = await self._freshness.found(pool.id, ageless=True)
        return bool(found.outdated) or not app.replicas.keys().isdisjoint(found.units)

    def _replica(self, unit: str, app: LiveApp, version: str, revision: str) -> LiveReplica:
        ready: asyncio.Future[None] = self._loop.create_future()
        ready.add_done_callback(_seen)
        gone: asyncio.Future[None] = self._loop.create_future()
        return LiveReplica(unit, app, version, revision, time.time(), ready, gone, since=self._loop.time())

    async def _order(self, app: LiveApp, version: AppVersionRow, spec: wire.AppSpec, unit: str) -> wire.StartUnit:
        project, domain, name = app.id
        parameters = self._parameters(app.id.scope, spec, app.row.parameters)
        given = self._given(app, spec)
        pool = await self._pool(app, version, spec, given)
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
                **self._addresses.told(app.id.scope),
                "FLYTE_PARAMETERS": json.dumps(parameters),
                "FLYTE_FILE_PARAMETERS": json.dumps({p.name: _file(p) for p in spec.parameters if _is_file(p)}),
            },
            start_timeout=self._settings.start_timeout,
            log=str(self._place.home.replica_log(app.id, unit)),
            revision=version.digest,
        )
        return wire.StartUnit(unit=unit, kind="replica", pool=pool, replica=replica)

    def _given(self, app: LiveApp, spec: wire.AppSpec) -> dict[str, str]:
        """The environment variables that parameters become."""
        parameters = self._parameters(app.id.scope, spec, app.row.parameters)
        return {p.env: parameters[p.name] for p in spec.parameters if p.env and p.name in parameters}

    async def _pool(
        self, app: LiveApp, version: AppVersionRow, spec: wire.AppSpec, given: dict[str, str]
    ) -> wire.PoolSpec:
        project, domain, _ = app.id
        secrets = await self._secrets.open(project, domain, spec.environment)
        made = await self._images.find(project, domain, spec.environment)
        code = Code(version.bundle, version.root, tuple(version.sys_path), version.version)
        modules = [spec.entry.partition(":")[0]] if spec.entry and spec.kind != "command" else []
        env_vars = {**app.row.env_vars, **given}  # modules may read them while they are imported
        return pool_spec(self._place, project, domain, spec.environment, code, modules, secrets, made, env_vars)

    def _parameters(self, scope: wire.Scope, spec: wire.AppSpec, given: dict[str, str]) -> dict[str, str]:
        """Parameter → value, as the app will see it. Raises AppNotFoundError for an endpoint of an unknown app."""
        values: dict[str, str] = {}
        for parameter in spec.parameters:
            if parameter.name in given:
                values[parameter.name] = given[parameter.name]
            elif parameter.kind == "endpoint":
                other = self._apps.find(scope.app(parameter.app_name or ""))
                values[parameter.name] = self._addresses.url(other)
            elif parameter.value is not None:
                values[parameter.name] = parameter.value
        return values

    def _remove_old_logs(self, app: LiveApp) -> None:
        """An app that sleeps and wakes has another replica, and another log, each time."""
        folder = self._place.home.replica_log(app.id, "x").parent
        logs = sorted(folder.glob("r-*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[LOGS_KEPT:]:
            if path.stem not in app.replicas:
                path.unlink(missing_ok=True)
                Path(file_of(str(path))).unlink(missing_ok=True)

    # ------------------------------------------------------------------ what is heard of them

    def unit_started(self, unit: str, pid: int) -> None:
        if (replica := self._known.get(unit)) is not None:
            replica.pid = pid

    def unit_ready(self, unit: str, address: str) -> None:
        if (replica := self._known.get(unit)) is not None:
            self._answers(replica, address)

    def unit_waits(self, unit: str, message: str) -> None:
        replica = self._known.get(unit)
        if replica is not None and replica.phase == "starting":
            replica.message = message

    def unit_exited(self, unit: str, exit: wire.UnitExited) -> None:
        if (replica := self._known.pop(unit, None)) is not None:
            self._exited(replica, exit)

    def _answers(self, replica: LiveReplica, address: str) -> None:
        """It is ready."""
        if replica.phase != "starting":
            return
        replica.go("ready")
        replica.message = ""
        replica.address, replica.ready_at = address, time.time()
        replica.since = self._loop.time()
        self._agent.suspects.clear(f"{replica.app.id}@{replica.revision}")
        if replica.is_current:
            self._apps.route_changed(replica.app)
        if not replica.ready.done():
            replica.ready.set_result(None)

    def _exited(self, replica: LiveReplica, exit: wire.UnitExited) -> None:
        app = replica.app
        app.replicas.pop(replica.unit, None)
        app.used = self._loop.time()
        replica.gone.set_result(None)
        was = replica.phase
        replica.go("stopped" if was == "draining" else "failed")
        replica.message = exit.reason
        if was == "starting":
            key = f"{app.id}@{replica.revision}"
            self._agent.suspects.died(key) if exit.reason == GONE else self._agent.suspects.ended(key)
        if not replica.ready.done():
            tail = f"\nThe last lines it wrote:\n{exit.tail}" if exit.tail else ""
            reason = exit.reason or "its process ended"
            replica.ready.set_exception(DidNotStart(f"app {app.row.name!r} did not start: {reason}{tail}"))
        if was != "draining" and replica.is_current:
            self._apps.replica_died(replica, was_ready=was == "ready")

    # ------------------------------------------------------------------ ending

    def end(self, replicas: Iterable[LiveReplica], reason: str) -> None:
        """Take replicas out of service; what they still answer they may finish."""
        for replica in replicas:
            if not replica.gone.done():
                replica.go("draining")
                self._agent.stop(replica.unit, self._settings.drain_timeout, reason)

    async def end_later(self, replicas: list[LiveReplica], reason: str) -> None:
        """The same after a pause in which the gateway learns that they serve no more."""
        for replica in replicas:
            if not replica.gone.done():
                replica.go("draining")
        await asyncio.sleep(SWITCH_PAUSE)
        self.end(replicas, reason)

    # ------------------------------------------------------------------ after a restart

    def take_over(self, units: Sequence[wire.UnitState]) -> list[LiveApp]:
        """Those that are alive, as the agent says; returns the apps that have a ready one again."""
        served: list[LiveApp] = []
        for state in units:
            replica = self._known.get(state.unit)
            if state.kind == "replica" and replica is None:
                try:
                    served += self._adopt(state)
                except Exception:  # the others are taken over all the same
                    log.exception("the replica %s cannot be taken over", state.unit)
                    self._agent.stop(state.unit, self._settings.grace, "it cannot be taken over")
            elif replica is not None and replica.phase == "draining" and replica not in replica.app.dozing:
                # the order may have been lost with the link
                self._agent.stop(state.unit, self._settings.drain_timeout, "it is not needed any more")
        return served

    def _adopt(self, state: wire.UnitState) -> list[LiveApp]:
        path, _, version = state.owner.partition("@")
        app = self._apps.live.get(wire.AppId.read(path))
        if state.stopping:
            return []
        if app is None or app.revision != state.revision or app.row.wanted != "active":
            self._agent.stop(state.unit, self._settings.grace, "it is not needed any more")
            return []
        replica = self._replica(state.unit, app, version, state.revision)
        replica.pid = state.pid
        app.replicas[state.unit] = self._known[state.unit] = replica
        self._agent.adopt(state.unit, self)
        if not state.ready:
            return []
        self._answers(replica, state.address)
        return [app]


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
