"""Triggers: they start runs of their tasks when they are due, each time exactly once.

A trigger is declared by the current version of a deployed task, or was made without a deployment. What is stored of it
is whether it is active, since when, and the last time for which a run was started. The run's name is made from the
trigger and that time, so that a control plane that was killed in between finds the run and starts no other.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from flyte import wire
from flyte.errors import BaseRuntimeError, InvalidInputError, NotFoundError, RunAlreadyExistsError
from flyte.wire import TriggerSpec
from tarmac import checks, schedule
from tarmac.control.runs.registry import Registry
from tarmac.control.runs.runs import Runs
from tarmac.events import Journal
from tarmac.model import subject_of_trigger
from tarmac.store import Change, Delete, Store, StoreError, TaskRow, TriggerRow

log = logging.getLogger("tarmac.triggers")

Key = tuple[str, str, str, str]
"""Project, domain, full name of the task, name of the trigger."""

LOOK = 20.0
"""Seconds between two looks at the clock at most: it may be set."""

_SHOWN = 5
"""Coming times that are shown."""


@dataclass(frozen=True, slots=True)
class Live:
    """A trigger as it is stored, with its spec."""

    row: TriggerRow
    spec: TriggerSpec

    @property
    def key(self) -> Key:
        return _key(self.row)

    def next(self, now: float) -> list[float]:
        """The next times at which it is due."""
        if not self.row.active:
            return []
        begin = now if self.row.fired is None else max(now, self.row.fired)
        try:
            return list(itertools.islice(schedule.after(self.spec, self.row.since, begin), _SHOWN))
        except schedule.UNREADABLE:
            return []


class Triggers:
    """`is_deploying`: whether what is current may still be taken back; until then nothing is concluded from it."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        registry: Registry,
        runs: Runs,
        missed: str,
        is_deploying: Callable[[], bool],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._journal = journal
        self._registry = registry
        self._runs = runs
        self._missed = missed
        self._is_deploying = is_deploying
        self._now = now
        self._live: dict[Key, Live] = {}
        self._deployments, self._followed = 0, -1
        """How many deployments have ended, and how many of them were taken into account."""
        self._changing = asyncio.Lock()
        self._news = asyncio.Event()

    def deployed(self) -> None:
        """A deployment has ended."""
        self._deployments += 1
        self._news.set()

    async def restore(self) -> None:
        """Take up what an earlier control plane left. The declared ones' specs come with their tasks."""
        for row in await self._store.triggers():
            spec = TriggerSpec(name=row.name) if row.spec is None else msgspec.json.decode(row.spec, type=TriggerSpec)
            self._live[_key(row)] = Live(row, spec)

    # ------------------------------------------------------------------ what is due

    async def keep_firing(self) -> None:
        """Runs for as long as the control plane does."""
        while True:
            self._news.clear()
            try:
                await self.fire()
            except StoreError as error:  # it is due still, at the next look
                log.warning("triggers wait for the database: %s", error)
            except Exception:  # the next look is made all the same
                log.exception("triggers cannot be looked at")
            try:
                await asyncio.wait_for(self._news.wait(), self._pause())
            except TimeoutError:
                pass

    def _pause(self) -> float:
        """Seconds until the next trigger is due, or until the next look."""
        now = self._now()
        upcoming = [moment for live in self._live.values() for moment in live.next(now)[:1]]
        return min(LOOK, max(0.0, min(upcoming, default=now + LOOK) - now))

    async def fire(self) -> None:
        """Start the runs that are due."""
        await self._follow()
        for live in list(self._live.values()):
            for moment in self._due(live) if live.row.active else ():
                await self._fire(live.key, moment)

    def _due(self, live: Live) -> list[float]:
        try:
            return schedule.due(live.spec, live.row.since, live.row.fired, self._now(), self._missed)
        except schedule.UNREADABLE as error:  # it was readable when it was deployed; the others go on
            log.warning("trigger %s of %s is never due: %s", live.row.name, live.row.task, error)
            return []

    async def _fire(self, key: Key, moment: float) -> None:
        live = self._live.get(key)
        if live is None or not live.row.active:  # it was paused or deleted meanwhile
            return
        run, message = run_name(key, moment), ""
        try:
            await self._runs.create(_request(live, run, moment), f"trigger {live.row.task}/{live.row.name}")
        except RunAlreadyExistsError:
            pass  # it was started before the trigger's inputs were changed
        except BaseRuntimeError as error:
            log.warning("trigger %s of %s starts no run: %s", live.row.name, live.row.task, error)
            run, message = "", error.message
        async with self._changing:
            live = self._live.get(key)
            if live is not None:
                await self._put(replace(live.row, fired=moment, run=run, message=message), live.spec)

    # ------------------------------------------------------------------ what the tasks declare

    async def _follow(self) -> None:
        """Take over what the current versions of the deployed tasks declare."""
        async with self._changing:
            state = self._deployments
            if state == self._followed or self._is_deploying():
                return
            declared = {key: found for task in await self._store.deployed_tasks() for key, found in _declared(task)}
            for key, (version, spec) in declared.items():
                await self._declare(key, version, spec)
            for key, live in list(self._live.items()):
                if live.row.spec is None and key not in declared:
                    await self._remove(key)
            self._followed = state

    async def _declare(self, key: Key, version: str, spec: TriggerSpec) -> None:
        """A version that is newly current says anew whether its trigger is active; without one, it stays as it was."""
        live, now = self._live.get(key), self._now()
        if live is not None and live.row.spec is None and live.row.version == version:
            self._live[key] = Live(live.row, spec)
            return
        automation = spec.when
        row = TriggerRow(
            *key, None, version, automation, spec.active, now, updated=now, updated_by=f"version {version}"
        )
        if live is not None and live.row.active and spec.active and live.row.automation == automation:
            row = replace(row, since=live.row.since, fired=live.row.fired, run=live.row.run, message=live.row.message)
        await self._put(row, spec)

    async def _put(self, row: TriggerRow, spec: TriggerSpec, what: str = "", by: str = "") -> None:
        events = (self._journal.act(subject_of_trigger(_key(row)), what, by),) if what else ()
        await self._journal.write(Change(triggers=(row,), events=events))
        self._live[_key(row)] = Live(row, spec)

    async def _remove(self, key: Key, by: str = "") -> None:
        events = (self._journal.act(subject_of_trigger(key), "deleted", by),) if by else ()
        await self._journal.write(Change(deletes=(Delete("triggers", key),), events=events))
        self._live.pop(key, None)

    # ------------------------------------------------------------------ what is asked for

    async def create(self, request: wire.TriggerRequest, by: str) -> wire.Trigger:
        """Make a trigger without a deployment, or replace one. Raises InvalidInputError, RemoteTaskNotFoundError, and
        NotAllowedError for the name of one that stands in the task's code.
        """
        checks.check(request)
        known = await self._registry.find(request.project, request.domain, request.task, request.version)
        task, spec, now = known.row, request.trigger, self._now()
        schedule.check(spec, known.spec.interface, task.name)
        key = (task.project, task.domain, task.name, spec.name)
        await self._follow()
        async with self._changing:
            live = self._live.get(key)
            if live is not None and live.row.spec is None:
                raise InvalidInputError(f"trigger {spec.name!r} stands in the code of {task.name}; change it there")
            body, version = msgspec.json.encode(spec), request.version or ""
            row = TriggerRow(*key, body, version, spec.when, spec.active, now, updated=now, updated_by=by)
            await self._put(row, spec, "created", by)
        self._news.set()
        return await self.get(*key)

    async def switch(self, project: str, domain: str, task: str, name: str, active: bool, by: str) -> wire.Trigger:
        """Activate or pause a trigger. What was due while it was paused is not made up for."""
        key = (project, domain, task, name)
        await self._follow()
        async with self._changing:
            live, now = self._find(key), self._now()
            if live.row.active != active:
                since = now if active else live.row.since
                row = replace(live.row, active=active, since=since, updated=now, updated_by=by)
                await self._put(row, live.spec, "activated" if active else "paused", by)
        self._news.set()
        return await self.get(*key)

    async def delete(self, project: str, domain: str, task: str, name: str, by: str) -> None:
        """Raises NotFoundError, and InvalidInputError for one that stands in the task's code."""
        key = (project, domain, task, name)
        await self._follow()
        async with self._changing:
            if self._find(key).row.spec is None:
                raise InvalidInputError(
                    f"trigger {name!r} stands in the code of {task}: take it out there and deploy, or pause it"
                )
            await self._remove(key, by)

    async def get(self, project: str, domain: str, task: str, name: str) -> wire.Trigger:
        """Raises NotFoundError."""
        await self._follow()
        return self._record(self._find((project, domain, task, name)))

    async def list(self, project: str, domain: str, task: str | None = None, limit: int = 100) -> list[wire.Trigger]:
        """Those of a project and domain, or of one task there, by task and name."""
        await self._follow()
        chosen = [live for key, live in sorted(self._live.items()) if key[:2] == (project, domain)]
        return [self._record(live) for live in chosen if task in (None, live.row.task)][:limit]

    def _find(self, key: Key) -> Live:
        live = self._live.get(key)
        if live is None:
            others = ", ".join(sorted(repr(each[3]) for each in self._live if each[:3] == key[:3]))
            raise NotFoundError(
                f"no trigger {key[3]!r} of {key[2]} in {key[0]}/{key[1]}; it has {others or 'no triggers'}"
            )
        return live

    def _record(self, live: Live) -> wire.Trigger:
        row = live.row
        return wire.Trigger(
            project=row.project,
            domain=row.domain,
            task=row.task,
            name=row.name,
            spec=live.spec,
            version=row.version,
            declared=row.spec is None,
            active=row.active,
            next=live.next(self._now()),
            fired=row.fired,
            run=row.run,
            message=row.message,
            updated=row.updated,
            updated_by=row.updated_by,
        )


def _key(row: TriggerRow) -> Key:
    return (row.project, row.domain, row.task, row.name)


def _declared(task: TaskRow) -> list[tuple[Key, tuple[str, TriggerSpec]]]:
    if b'"triggers"' not in task.spec:  # most have none, and need not be decoded
        return []
    spec = msgspec.json.decode(task.spec, type=wire.TaskSpec)
    return [((task.project, task.domain, task.name, each.name), (task.version, each)) for each in spec.triggers]


def run_name(key: Key, moment: float) -> str:
    """The name of the run that a trigger starts for that time."""
    at = time.strftime("%Y%m%dt%H%M%S", time.gmtime(moment))
    slug = re.sub("[^a-z0-9]+", "-", key[3].lower()).strip("-")[:40]
    return f"{slug}-{at}-{hashlib.sha256(repr(key).encode()).hexdigest()[:8]}"


def _request(live: Live, run: str, moment: float) -> wire.RunRequest:
    row, spec = live.row, live.spec
    inputs = msgspec.json.decode(spec.inputs, type=dict[str, msgspec.Raw])
    at = msgspec.Raw(msgspec.json.encode(schedule.date_time(moment)))
    return wire.RunRequest(
        task=row.task,
        version=row.version or None,
        project=row.project,
        domain=row.domain,
        inputs=msgspec.Raw(msgspec.json.encode({**inputs, **dict.fromkeys(spec.time_inputs, at)})),
        name=run,
        env_vars=spec.env_vars,
        labels={"trigger": row.name, **spec.labels},
        custom_context=spec.custom_context,
        max_action_concurrency=spec.max_action_concurrency,
        overwrite_cache=spec.overwrite_cache,
    )
