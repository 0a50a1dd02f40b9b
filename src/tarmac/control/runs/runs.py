"""Runs: created once whatever is asked twice, looked at, waited for, aborted, taken up again after a restart.

A run is its tree of actions; what moves those is in `actions`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import msgspec

from flyte import wire
from flyte.concurrency import check_limit
from flyte.errors import (
    InvalidInputError,
    RemoteTaskNotFoundError,
    RunNotFoundError,
    SystemUnavailableError,
    TooLargeError,
)
from flyte.names import run_name
from flyte.wire import ROOT_ACTION, ActionPhase, RunFilter, Scope
from tarmac import checks
from tarmac import inputs as declared
from tarmac.blobs import Blobs
from tarmac.control.clock import Clock
from tarmac.control.errands import Errands
from tarmac.control.live import KnownTask, LiveAction, LiveRun, accepted
from tarmac.control.ports import Lifecycle
from tarmac.control.recent import remember
from tarmac.control.records import run_record
from tarmac.control.runs.actions import Actions
from tarmac.control.runs.recovery import Recovery
from tarmac.control.runs.registry import Registry
from tarmac.control.runs.repeats import Repeats, key_of, marks_of, stored_inputs
from tarmac.control.runs.results import Results
from tarmac.control.startup import Startup
from tarmac.control.workers.dispatch import Dispatch
from tarmac.control.workers.pools import Pools
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.settings import Settings
from tarmac.store import ActionRow, RunRow, Store, WholeRun

REQUEST_LIMIT = 1024 * 1024
"""Bytes of a request to run without its inputs: variables, labels, context and overrides travel in every order."""

LOOKS = 3
"""Looks at memory and the store, one after the other, until a run is found in memory or over; two are enough."""

LATELY = 50_000
"""Idempotency keys that are kept at hand; a call is sent again within seconds, or never."""


class Runs:
    """All runs that are not over (`live`), and what can be done with a run as a whole."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        registry: Registry,
        blobs: Blobs,
        home: Home,
        settings: Settings,
        endpoint: str,
        clock: Clock,
        pools: Pools,
        dispatch: Callable[[Lifecycle], Dispatch],
    ) -> None:
        self.live: dict[str, LiveRun] = {}
        self._store = store
        self._journal = journal
        self._registry = registry
        self._repeats = Repeats(store, journal, blobs)
        self._blobs = blobs
        self._pools = pools
        self._home = home
        self._logs = str(home.run_logs("x").parent)
        self._settings = settings
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._creating: dict[str, asyncio.Future[None]] = {}
        self._started: dict[tuple[str, str, str], None] = {}
        """Idempotency keys of runs that were started lately."""
        self._ended_lately: dict[str, wire.Run] = {}
        """Runs that ended lately, in their final state: their callers will ask for them again."""
        self.errands = Errands(journal)
        self.results = Results(store, journal, blobs, clock)
        self.actions = Actions(journal, home, self._over, self.errands, clock, pools, dispatch, self.results, blobs)
        self.recovery = Recovery(store, self.live, self.actions, clock, home.stopping)

    def url(self, project: str, domain: str, run: str) -> str:
        return f"{self._endpoint}/v2/domain/{domain}/project/{project}/runs/{run}"

    # ------------------------------------------------------------------ create

    async def create(self, request: wire.RunRequest, by: str, fresh: bool = False) -> tuple[wire.Run, bool]:
        """Start a run, or find the one that the same name or idempotency key already started; and whether it started.

        A `fresh` key cannot have started one before this control plane did. When this returns the run is on disk. A key
        that comes with the name of a run that exists means that run from then on. Raises RemoteTaskNotFoundError,
        InvalidInputError, TooLargeError, and RunAlreadyExistsError for a name or a key that belongs to a run with
        another task or other inputs, and for a key that belongs to a run with another name.
        """
        checks.check(request)
        check_limit(request.max_action_concurrency)
        known = await self._registry.find(request.project, request.domain, request.task, request.version)
        rest = _without_inputs(request)
        await self._check_inputs(known, request, len(rest))
        finding = asyncio.ensure_future(self._find_or_create(request, rest, known, by, fresh))
        try:
            return await asyncio.shield(finding)
        except asyncio.CancelledError:  # the caller is gone; a commit under way is not
            self.errands.keep(finding)
            raise

    async def _find_or_create(
        self, request: wire.RunRequest, rest: bytes, known: KnownTask, by: str, fresh: bool
    ) -> tuple[wire.Run, bool]:
        async with self._alone(marks_of(request)):
            is_new = fresh and request.name is None and key_of(request) not in self._started
            found = None if is_new else await self._repeats.find(request, known, keeps_key=not fresh)
            if found is not None:
                return await self.get(found), False
            return await self._create(request, rest, known, by), True

    @contextlib.asynccontextmanager
    async def _alone(self, marks: list[str]) -> AsyncIterator[None]:
        """Requests that would be the same run come one after the other."""
        while pending := [self._creating[mark] for mark in marks if mark in self._creating]:
            await asyncio.wait(pending)
        done: asyncio.Future[None] = self._loop.create_future()
        self._creating.update(dict.fromkeys(marks, done))
        try:
            yield
        finally:
            for mark in marks:
                del self._creating[mark]
            done.set_result(None)

    async def _check_inputs(self, known: KnownTask, request: wire.RunRequest, rest: int) -> None:
        if rest > REQUEST_LIMIT:
            raise TooLargeError(
                f"the request to run {known.row.name} is {rest:,} bytes without its inputs; "
                f"the limit is {REQUEST_LIMIT:,} bytes"
            )
        if request.inputs_blob is not None:
            if not await self._blobs.has(request.inputs_blob):
                raise InvalidInputError(f"the inputs' blob {request.inputs_blob} was not sent; PUT /v1/blobs/… first")
            return
        size = len(request.inputs)
        if size > self._settings.value_limit:
            raise TooLargeError(
                f"the inputs of {known.row.name} are {size:,} bytes; the limit is {self._settings.value_limit:,} bytes"
            )
        interface = request.overrides.interface if request.overrides else known.spec.interface
        declared.check(known.row.name, interface, bytes(request.inputs))

    async def _create(self, request: wire.RunRequest, rest: bytes, known: KnownTask, by: str) -> wire.Run:
        now = time.time()
        row = RunRow(
            name=request.name or run_name(now),
            project=request.project,
            domain=request.domain,
            task=known.row.name,
            version=known.row.version,
            created=now,
            created_by=by,
            idempotency_key=request.idempotency_key,
            request=rest,
            labels=request.labels,
        )
        run = self._live_run(row, request)
        inputs, blob = await stored_inputs(request, self._blobs)
        root = LiveAction(
            run,
            ActionRow(
                run=row.name,
                name=ROOT_ACTION,
                parent=None,
                task=row.task,
                version=row.version,
                phase=ActionPhase.QUEUED,
                inputs=inputs,
                inputs_blob=blob,
                spec=None if request.overrides is None else msgspec.json.encode(request.overrides),
                custom_context=request.custom_context,
                created=now,
            ),
            known,
        )
        pool = await self._pools.make(known, request.overrides, request.env_vars)
        run.add(root)
        self.live[row.name] = run
        if request.idempotency_key is not None:
            remember(self._started, key_of(request), None, LATELY)
        change = dataclasses.replace(accepted(self._journal, root), runs=(row,))
        record = run.record(change.events[-1].seq)

        def then() -> None:
            run.stored = 1
            run.shown = run.shown or record
            self.actions.queue(root, pool)

        await self._journal.commit(change, then)
        return run.now(self._journal.told) or record

    def _live_run(self, row: RunRow, request: wire.RunRequest) -> LiveRun:
        return LiveRun(row, request, self.url(row.project, row.domain, row.name), f"{self._logs}/{row.name}")

    # ------------------------------------------------------------------ read

    async def get(self, name: str) -> wire.Run:
        """A run as of the last commit; its `seq` is the number of the last event that it includes.

        Raises RunNotFoundError.
        """
        live = self.live.get(name)
        shown = self._ended_lately.get(name) if live is None else live.now(self._journal.told)
        if shown is not None:
            return shown
        snapshot = await self._store.run(name)
        await self._journal.reach(snapshot.seq)
        if snapshot.found is None:
            raise RunNotFoundError(f"no run named {name!r}; list them with `flyte get run`")
        return self.shown(snapshot.found, snapshot.seq)

    def shown(self, whole: WholeRun, seq: int) -> wire.Run:
        """A run that was read from the store, as the API shows it."""
        row = whole.run
        return run_record(row, whole.root, self.url(row.project, row.domain, row.name), whole.actions, seq)

    async def _live_or_over(self, name: str) -> LiveRun | wire.Run:
        """The run in memory or, where it is over, its record. Raises RunNotFoundError.

        A run that is being created is on disk before anybody has heard of it: one that was read, and is not over, is
        in memory by then, or over by then. Raises SystemUnavailableError for one that is neither: it was left out when
        this control plane started.
        """
        for _ in range(LOOKS):
            if (live := self.live.get(name)) is not None:
                return live
            shown = await self.get(name)
            if shown.phase.is_terminal:
                return shown
        raise left_out(name)

    async def wait(self, name: str, seconds: float) -> wire.Run:
        """The run when it is over, or as it is after `seconds`."""
        started = self._loop.time()
        run = await self._live_or_over(name)
        if isinstance(run, wire.Run):
            return run
        if run.over is None:
            run.over = self._loop.create_future()
        await asyncio.wait([run.over], timeout=max(0, seconds - (self._loop.time() - started)))
        return run.over.result() if run.over.done() else await self.get(name)

    def _over(self, run: LiveRun, shown: wire.Run) -> None:
        """The run's end is on disk: remove it from memory and notify its waiters."""
        run.shown = shown
        self.live.pop(run.name, None)
        remember(self._ended_lately, run.name, shown, LATELY // 10)
        if run.over is not None and not run.over.done():
            run.over.set_result(shown)
        checkpoints = self._home.checkpoints(run.name)
        if checkpoints.exists():
            self.remove(checkpoints)

    def forget(self, names: Collection[str]) -> None:
        """These runs, which have ended, are not stored any more."""
        for name in names:
            self._ended_lately.pop(name, None)

    def remove(self, checkpoints: Path) -> None:
        """Remove the folder of a run that is over. It may be gigabytes: nobody waits for it."""
        self.errands.run(asyncio.to_thread(shutil.rmtree, checkpoints, ignore_errors=True))

    # ------------------------------------------------------------------ abort

    async def abort(self, name: str, reason: str, by: str) -> wire.Run:
        """Abort a run and everything in it; when this returns that is on disk. A run that is over stays as it is."""
        run = await self._live_or_over(name)
        if isinstance(run, wire.Run):
            return run
        await self.actions.abort(run.root, reason or f"by {by}", by)
        return await self.get(name)

    # ------------------------------------------------------------------ after a restart

    async def take_up(self, startup: Startup, row: RunRow, rows: list[ActionRow]) -> None:
        """Go on with a run that is not over; one that cannot be loaded fails, with the reason."""
        await startup.take_up(
            f"run {row.name}",
            functools.partial(self._load, row, rows),
            functools.partial(self._set_aside, row, rows),
            f"It has failed; see `flyte get run {row.name}`, and start it again under another name",
        )

    async def _load(self, row: RunRow, rows: list[ActionRow]) -> None:
        needed = {(a.task, a.version) for a in rows if a.kind == "task" and not a.phase.is_terminal}
        known = {}
        for task, version in needed:
            with contextlib.suppress(RemoteTaskNotFoundError):  # the run will say so
                known[task, version] = await self._registry.find(row.project, row.domain, task, version)
        self.restore(row, rows, known)
        await self._resume(self.live[row.name])

    async def _set_aside(self, row: RunRow, rows: list[ActionRow], why: str) -> None:
        """End a run that cannot be loaded: its root has failed, and what else was under way is aborted."""
        if (run := self.live.get(row.name)) is None:
            request = wire.RunRequest(task=row.task, project=row.project, domain=row.domain)
            run = self._live_run(row, request)
            for stored in rows:
                run.add(_restored(run, msgspec.structs.replace(stored, error=None), None))
            run.stored = len(run.actions)
            run.shown = run.record(self._journal.told)
            self.live[row.name] = run
        for action in run.actions.values():
            action.settled = action.over
        self.actions.give_up(run.root, f"the platform could not take up this run after a restart: {why}")

    def restore(self, row: RunRow, rows: list[ActionRow], known: dict[tuple[str, str], KnownTask]) -> None:
        """Put a run that is not over back into memory, as it is on disk."""
        request = msgspec.json.decode(row.request, type=wire.RunRequest)
        run = self._live_run(row, request)
        for stored in rows:
            run.add(action := _restored(run, stored, known.get((stored.task, stored.version))))
            if run.limit is not None and action.phase is ActionPhase.RUNNING:
                run.limit.goes_on(action.name)  # until its worker says that it waits, or does not come back
        run.stored = len(run.actions)
        run.shown = run.record(self._journal.told)
        self.live[row.name] = run

    async def _resume(self, run: LiveRun) -> None:
        """Queue again what was queued."""
        for action in list(run.actions.values()):
            if action.over:
                action.settled = True
            else:
                await self.recovery.resume(action)

    async def list(self, scope: Scope, chosen: RunFilter) -> list[wire.Run]:
        """The chosen runs, newest first, as of the last commit. Raises RunNotFoundError if `before_run` is unknown."""
        snapshot = await self._store.runs(scope, chosen)
        await self._journal.reach(snapshot.seq)
        return [self.shown(whole, snapshot.seq) for whole in snapshot.found]


def left_out(name: str) -> SystemUnavailableError:
    return SystemUnavailableError(
        f"run {name!r} was left out when the control plane started, and nothing moves it; see `flyte status`"
    )


def _without_inputs(request: wire.RunRequest) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(request, inputs=msgspec.Raw(b"{}")))


def _restored(run: LiveRun, row: ActionRow, task: KnownTask | None) -> LiveAction:
    return LiveAction(run, row, task, stored=(row.attempt, row.phase))
