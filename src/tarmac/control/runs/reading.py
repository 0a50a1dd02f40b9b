"""Actions as the API shows them: listed, looked at, aborted, with their reports and logs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flyte import wire
from flyte.errors import ActionNotFoundError, NotFoundError
from tarmac.control import records
from tarmac.control.live import LiveAction
from tarmac.control.runs.links import links_of
from tarmac.control.runs.registry import Registry
from tarmac.control.runs.runs import LOOKS, Runs, left_out
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.logs import LogFile, Moving
from tarmac.store import AttemptRow, Store, WholeAction


class ActionRecords:
    def __init__(self, store: Store, journal: Journal, home: Home, runs: Runs, tasks: Registry) -> None:
        self._store = store
        self._journal = journal
        self._home = home
        self._runs = runs
        self._tasks = tasks

    async def get(self, run: str, name: str) -> wire.ActionDetails:
        """One action with its inputs, outputs and attempts. Raises RunNotFoundError and ActionNotFoundError."""
        (row, children), attempts = await self._read(run, name)
        if row.kind != "task":
            return records.details_record(row, children, attempts, wire.InterfaceSpec())
        shown = await self._runs.get(run)
        known = await self._tasks.find(shown.project, shown.domain, row.task, row.version)
        declared = known.spec.links
        if row.spec is not None and b'"links":' in row.spec:
            declared = msgspec.json.decode(row.spec, type=wire.TaskSpec).links
        links = links_of(declared, shown, row, attempts)
        return records.details_record(row, children, attempts, known.spec.interface, known.row.bundle, links)

    async def report(self, run: str, name: str, attempt: int | None) -> wire.Report:
        """What an action, or one attempt of it, last showed as its report. Raises NotFoundError where that is nothing.

        Raises RunNotFoundError and ActionNotFoundError too.
        """
        row = await self._store.report(run, name, attempt)
        if row is None:
            await self._read(run, name)
            which = f"attempt {attempt} of the action" if attempt else "the action"
            raise NotFoundError(f"{which} {run}/{name} has no report; a task writes one with `flyte.report`")
        return wire.Report(attempt=row.attempt, at=row.at, html=row.html)

    async def report_time(self, run: str, name: str) -> tuple[int, float] | None:
        """The attempt of the action's last report, and when that was written; None where it has shown none."""
        return await self._store.report_time(run, name)

    async def log(self, run: str, name: str, attempt: int | None) -> tuple[LogFile, Callable[[], bool], int]:
        """The log file of an attempt (the last by default), and whether nothing more will be written to it."""
        action = (await self.get(run, name)).action
        number = attempt or action.attempt
        return *self.attempt_log(wire.AttemptRef(run, name, number)), number

    def attempt_log(self, ref: wire.AttemptRef) -> tuple[LogFile, Callable[[], bool]]:
        """The log file of an attempt that is known to be, and whether nothing more will be written to it."""

        def current() -> LiveAction | None:
            known = self._runs.live.get(ref.run)
            found = known.actions.get(ref.action) if known else None
            return None if found is None or found.over or found.attempt != ref.attempt else found

        return self._log_of(ref, current), lambda: current() is None

    async def abort(self, name: str, action_name: str, reason: str, by: str) -> wire.Action:
        """Abort an action and everything beneath it; when this returns that is on disk.

        Raises RunNotFoundError, ActionNotFoundError, and SystemUnavailableError for a run that was left out.
        """
        for _ in range(LOOKS):
            if (action := self._live_action(name, action_name)) is not None:
                await self._runs.actions.abort(action, reason or f"by {by}", by)
                return (await self.get(name, action_name)).action
            found = (await self.get(name, action_name)).action
            if found.phase.is_terminal:
                return found
        raise left_out(name)

    def _live_action(self, run: str, action: str) -> LiveAction | None:
        live = self._runs.live.get(run)
        return live.actions.get(action) if live else None

    async def _read(self, run: str, name: str) -> tuple[WholeAction, list[AttemptRow]]:
        """An action and its attempts as of the last commit. Raises RunNotFoundError and ActionNotFoundError."""
        snapshot = await self._store.action_and_attempts(run, name)
        await self._journal.reach(snapshot.seq)
        found, attempts = snapshot.found
        if found is None:
            await self._runs.get(run)
            raise ActionNotFoundError(f"run {run!r} has no action {name!r}; see `flyte get action {run}`")
        return found, attempts

    def _log_of(self, ref: wire.AttemptRef, current: Callable[[], LiveAction | None]) -> LogFile:
        """The log of an attempt; `current` gives its action as long as it runs."""
        final = self._home.action_log(ref)
        found = current()
        if found is None or found.worker is None:
            return final
        worker = found.worker

        def runs() -> bool:
            now = current()
            return now is not None and now.worker is worker

        return Moving(final, self._home.worker_log(worker.unit), runs)

    async def list(self, run: str, chosen: wire.ActionFilter = wire.EVERY_ACTION) -> list[wire.Action]:
        """The chosen actions of a run in the order of their creation. Raises RunNotFoundError."""
        await self._runs.get(run)
        snapshot = await self._store.actions(run, chosen)
        await self._journal.reach(snapshot.seq)
        return [records.action_record(row, children=children) for row, children in snapshot.found]
