"""Watching a run, an app or a deployment: a snapshot, then every later event, in order, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from flyte import wire
from flyte.wire import ROOT_ACTION, ActionPhase, DeploymentPhase
from tarmac.control.apps.apps import Apps
from tarmac.control.apps.deployments import Deployments
from tarmac.control.runs.runs import Runs
from tarmac.events import Journal, Watcher
from tarmac.model import subject_of_action, subject_of_app, subject_of_deployment
from tarmac.store import Store

Watched = tuple[Literal["snapshot", "event"], int, Any]
"""Which of the two, its number in the event log, and the record or the event."""


class Watching:
    def __init__(self, store: Store, journal: Journal, runs: Runs, apps: Apps, deployments: Deployments) -> None:
        self._store = store
        self._journal = journal
        self._runs = runs
        self._apps = apps
        self._deployments = deployments

    async def run(
        self, name: str, after: int | None, actions: Literal["root", "all"] = "root"
    ) -> AsyncIterator[Watched]:
        """A snapshot (or what came after `after`), then every later event, in order, once; ends with the run."""
        prefix = subject_of_action(name, "" if actions == "all" else ROOT_ACTION)
        with self._journal.watching(f"run/{name}") as watcher:
            run = await self._runs.get(name)
            if after is None:
                yield "snapshot", run.seq, run
            since = _since(after, run.seq)
            async for event in self._events(watcher, prefix, since, run.phase.is_terminal):
                yield "event", event.seq, event
                if event.subject.endswith(f"/{ROOT_ACTION}") and ActionPhase(event.phase).is_terminal:
                    return

    async def app(self, app: wire.AppId, after: int | None) -> AsyncIterator[Watched]:
        key = subject_of_app(app)
        with self._journal.watching(key) as watcher:
            record = self._apps.record(self._apps.find(app))
            if after is None:
                yield "snapshot", record.seq, record
            async for event in self._events(watcher, key, _since(after, record.seq), over=False):
                yield "event", event.seq, event

    async def deployment(self, name: str, after: int | None) -> AsyncIterator[Watched]:
        key = subject_of_deployment(name)
        with self._journal.watching(key) as watcher:
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
        while page := await self._store.events(subject, last, 1000):
            await self._journal.reach(page[-1].seq)
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


def _since(after: int | None, seq: int) -> int:
    """The number after which a stream goes on; `seq` is that of the record as it is now.

    A client may name a number that this platform has not given out yet: it had it from a database that was put back
    to an older copy since. What is to come is later than the record in any case.
    """
    return seq if after is None else min(after, seq)
