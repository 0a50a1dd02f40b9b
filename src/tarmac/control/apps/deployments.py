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
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from flyte import wire
from flyte.errors import DeploymentError, InvalidInputError, NotFoundError
from flyte.names import deployment_name
from flyte.wire import DeployedEnvironment, DeploymentPhase
from tarmac import checks, schedule
from tarmac.control.apps.apps import Apps
from tarmac.control.apps.parameters import RunOutputs
from tarmac.control.apps.underway import Underway, environment_specs
from tarmac.control.apps.undo import Undo, Unfinished
from tarmac.control.images import Images
from tarmac.control.runs.registry import Registry
from tarmac.control.startup import Startup
from tarmac.control.vault import Secrets, not_mounted
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.images import shortages
from tarmac.store import DeploymentRow, Store

log = logging.getLogger("tarmac.deployments")

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


class Deployments:
    def __init__(
        self,
        home: Home,
        store: Store,
        journal: Journal,
        registry: Registry,
        apps: Apps,
        secrets: Secrets,
        images: Images,
        outputs: RunOutputs,
    ) -> None:
        self._home = home
        self._store = store
        self._journal = journal
        self._apps = apps
        self._secrets = secrets
        self._images = images
        self._outputs = outputs
        self._begin = functools.partial(Underway, store, journal, registry, apps, secrets, images)
        self._underway: dict[str, Underway] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        self.on_over: Callable[[], None] = lambda: None
        """Called when a deployment has ended: what is current may be other tasks than before."""

    async def start(self, request: wire.DeployRequest, by: str) -> wire.Deployment:
        """Check the whole request, then begin. Raises DeploymentError and its kin with nothing changed.

        A deployment of tasks alone, whose environments are there, is done when this returns; others go on, and their
        events tell how.
        """
        checks.check(request)
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
        underway = self._underway[deployment.id] = self._begin(deployment, Undo())
        await underway.record(deployment, "accepted")
        task = asyncio.get_running_loop().create_task(self._carry_out(underway, request, plan))
        self._tasks[deployment.id] = task
        task.add_done_callback(lambda done: self._done(deployment.id, done))
        if not request.apps and all(map(self._images.is_at_hand, environment_specs(request))):
            await asyncio.shield(task)
        return await self.get(deployment.id)

    async def _carry_out(self, underway: Underway, request: wire.DeployRequest, plan: list[list[str]]) -> None:
        """Those of one project and domain come one after the other."""
        turn = self._turns.setdefault((request.project, request.domain), asyncio.Lock())
        await underway.carry_out(request, plan, turn)

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(name, None)
        self._underway.pop(name, None)
        self.on_over()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("deployment %s", name, exc_info=error)

    def is_under_way(self) -> bool:
        """Whether a deployment may still take back what it has made current."""
        return bool(self._underway)

    async def get(self, name: str) -> wire.Deployment:
        """The deployment as of the last commit. Raises NotFoundError."""
        underway = self._underway.get(name)
        if underway is not None and underway.shown is not None:
            return underway.shown
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

    async def _close_one(self, row: DeploymentRow) -> None:
        left = msgspec.json.decode(row.record, type=Unfinished)
        deployment = msgspec.convert(msgspec.structs.asdict(left), wire.Deployment)
        underway = self._begin(deployment, Undo(left.found, left.new_tasks, left.was_current))
        if left.environments and all(env.phase in ("ready", "unchanged") for env in left.environments):
            await underway.succeed()
        else:
            await underway.take_back()
            await underway.fail(DeploymentError(_CUT_OFF))

    async def _set_aside(self, row: DeploymentRow, why: str) -> None:
        """It has failed; nothing but its row is known of it."""
        deployment = wire.Deployment(
            id=row.id,
            project=row.project,
            domain=row.domain,
            version=row.version,
            phase=DeploymentPhase.RUNNING,
            created=row.created,
        )
        why = f"the deployment could not be taken back ({why}); deploy again"
        await self._begin(deployment, Undo()).fail(DeploymentError(why))

    # ------------------------------------------------------------------ check

    async def _check(self, request: wire.DeployRequest) -> list[str]:
        """Images, secrets, endpoints, code: everything that can be known before anything starts."""
        warnings: list[str] = []
        for environment in environment_specs(request):
            own = self._images.needs_none(environment)
            warnings += [*(own.warnings if own is not None else ()), *shortages(environment)]
            warnings += not_mounted(environment, self._home.isolation_profile()["profile"])
            await self._secrets.open(request.project, request.domain, environment)
        deployed_here = {spec.name for spec in request.apps}
        if both := deployed_here.intersection(spec.environment.name for spec in request.tasks):
            raise InvalidInputError(f"{min(both)!r} is the name of an app and of an environment of tasks; rename one")
        scope = wire.Scope(request.project, request.domain)
        self._apps.addresses.check_names(scope, request.apps)
        for task in request.tasks:
            for trigger in task.triggers:
                schedule.check(trigger, task.interface, task.name)
            if repeated := [name for name, times in Counter(each.name for each in task.triggers).items() if times > 1]:
                raise InvalidInputError(f"{task.name} has two triggers that are called {repeated[0]!r}")
        for spec in request.apps:
            for parameter in spec.parameters:
                if parameter.kind == "endpoint" and parameter.app_name not in deployed_here:
                    self._apps.find(scope.app(parameter.app_name or ""))
        return warnings


def _environments(request: wire.DeployRequest) -> list[str]:
    return sorted(spec.name for spec in environment_specs(request))


def _waiting(request: wire.DeployRequest, level_of: Mapping[str, int]) -> list[DeployedEnvironment]:
    apps = {spec.name for spec in request.apps}
    found = []
    for name, level in sorted(level_of.items(), key=lambda item: (item[1], item[0])):
        tasks = [spec.name for spec in request.tasks if spec.environment.name == name]
        kind = "app" if name in apps else "task"
        found.append(DeployedEnvironment(name=name, kind=kind, level=level, tasks=tasks))  # type: ignore[arg-type]
    return found
