"""Runs: the same class for runs on a platform and, in local mode, in this process.

A Run is a name and its last known record. Properties read the record and never do I/O; methods may ask the platform,
and each answer updates the record. The platform pushes changes to waiting and watching calls, which survive a lost
connection.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

from flyte import rules, wire
from flyte._absent import Absent
from flyte._client.client import Client
from flyte._sync import streamable, syncable, syncable_classmethod, syncable_when
from flyte.errors import RunNotFoundError
from flyte.remote._action import (
    NOT_RUNNING_YET,
    WAIT,
    Action,
    ActionDetails,
    WaitFor,
    check_wait_for,
    phases_of,
    runs_in_force,
)
from flyte.remote._code import CodeBundle, code_of, download
from flyte.remote._failures import error_of, first_failed, no_outputs
from flyte.remote._haste import haste
from flyte.remote._io import (
    ActionInputs,
    ActionOutputs,
    AnyTask,
    NoOutputs,
    Runs,
    content,
    inputs_of,
    outputs_of,
    typed,
)
from flyte.remote._listing import listing
from flyte.remote._pages import RUNS, ends, runs_of
from flyte.remote._run_record import RunDetails, RunRecord
from flyte.remote._time_filter import TimeFilter
from flyte.remote._update import RunUpdate, moved, of_event, of_run
from flyte.wire import ActionPhase


def _has_ended(self: Run, quiet: bool = False, wait_for: WaitFor = "terminal") -> bool:
    return wait_for == "terminal" and self._is_complete()


def _has_outputs(self: Run) -> bool:
    return isinstance(self._runs, Client) and self._is_complete() and self._record.outputs_blob is None


class Run(RunRecord):
    """A run. Get one from `flyte.run(…)`, `Run.get(name)` or `Run.listall()`."""

    def __init__(
        self,
        record: wire.Run,
        runs: Runs,
        task: AnyTask | None = None,
        interface: wire.InterfaceSpec | None = None,
    ) -> None:
        super().__init__(record)
        self._runs = runs
        self._task = task
        self._interface = interface

    # --- finding runs

    @syncable_classmethod
    @classmethod
    async def get(cls, name: str) -> Run:
        """The run of that name. Raises RunNotFoundError."""
        runs = runs_in_force()
        return cls(await runs.get_run(name), runs)

    @listing
    @staticmethod
    async def listall(
        in_phase: Any = None,
        task_name: str | None = None,
        task_version: str | None = None,
        created_by_subject: str | None = None,
        sort_by: tuple[str, Literal["asc", "desc"]] | None = None,
        limit: int = 100,
        project: str | None = None,
        domain: str | None = None,
        created_at: TimeFilter | None = None,
        updated_at: TimeFilter | None = None,
        with_labels: Mapping[str, str] | None = None,
        with_label_keys: list[str] | None = None,
        paused_actions_only: bool = False,
    ) -> AsyncIterator[Run]:
        """The first `limit` matching runs, newest first, or oldest first with `sort_by=("created_at", "asc")`.

        They are fetched page by page on demand. This process itself filters by `created_by_subject`, `with_label_keys`
        and `updated_at`, and fetches every run to find the oldest: add a task, a time or a label.
        Raises ValueError for labels that no run can have, such as a value with a comma.
        """
        rules.check_labels(with_labels or {}, "with_labels")
        if limit < 1:
            return
        runs: Runs = runs_in_force().scoped(project, domain)
        oldest = sort_by is not None and sort_by[1] == "asc"
        chooses = oldest or bool(created_by_subject or with_label_keys or updated_at)
        phases = [ActionPhase.PAUSED] if paused_actions_only else phases_of(in_phase)

        def fits(record: wire.Run) -> bool:
            return (
                created_by_subject in (None, record.created_by)
                and set(with_label_keys or ()) <= set(record.labels)
                and (updated_at is None or updated_at.holds(record.ended or record.started or record.created))
            )

        chosen = wire.RunFilter(
            limit=RUNS if chooses else min(limit, RUNS),
            phases=tuple(phases),
            task=task_name,
            version=task_version,
            labels=dict(with_labels or {}),
            created_after=created_at.after_seconds() if created_at else None,
            created_before=created_at.before_seconds() if created_at else None,
        )
        async with aclosing(runs_of(runs, chosen)) as every, aclosing(ends(every, fits, limit, oldest)) as fitting:
            async for record in fitting:
                yield Run(record, runs)

    @property
    def action(self) -> Action:
        """The root action, with the fields that are known from the run."""
        run = self._record
        record = wire.Action(
            run=run.name,
            name=wire.ROOT_ACTION,
            task=run.task,
            phase=run.phase,
            attempt=run.attempt,
            message=run.message,
            created=run.created,
            started=run.started,
            ended=run.ended,
            error=run.error,
        )
        return Action(record, self._runs)

    # --- waiting and watching

    @syncable
    async def sync(self) -> Run:
        """Fetch the present record."""
        await self._look()
        return self

    async def _look(self, wait: float | None = None) -> wire.Run:
        self._record = await self._runs.get_run(self.name, wait=wait)
        return self._record

    @syncable_when(_has_ended)
    async def wait(self, quiet: bool = False, wait_for: WaitFor = "terminal") -> None:
        """Return when the run has ended or, with `wait_for="running"`, has started. Does not raise when it has failed.

        On a terminal each change is a line on stderr, unless `quiet`. Raises InvalidInputError for another `wait_for`.
        """
        check_wait_for(wait_for)
        if not quiet and sys.stderr.isatty() and not self.done():
            async for update in self._updates():
                print(f"{self.name}: {update.message}", file=sys.stderr)
                if wait_for == "running" and update.phase not in NOT_RUNNING_YET:
                    break
        elif wait_for == "running":
            async for update in self._updates():
                if update.phase not in NOT_RUNNING_YET:
                    break
        if wait_for == "terminal" and not self._is_complete():
            while not (await self._look(WAIT)).phase.is_terminal:
                continue
            haste.learn(self._record, waited=True)

    def _is_complete(self) -> bool:
        """Whether the record is final: an event says that a run has succeeded, but does not contain the outputs."""
        run = self._record
        if run.phase.is_success:
            return run.outputs is not None or run.outputs_blob is not None
        return run.phase.is_terminal and (run.phase is ActionPhase.ABORTED or run.error is not None)

    @streamable
    async def stream(self, actions: Literal["root", "all"] = "root") -> AsyncIterator[RunUpdate]:
        """The run's present state, then every later update, in order, once; ends after the last.

        For `async for` and for plain `for`. With `actions="all"` also those of the actions below.
        """
        async for update in self._updates(actions):
            yield update

    async def _updates(self, actions: str = "root") -> AsyncIterator[RunUpdate]:
        root = f"run/{self.name}/{wire.ROOT_ACTION}"
        async for _, _, record in self._runs.run_events(self.name, actions=actions):
            if isinstance(record, wire.Run):
                self._record = record
                yield of_run(record)
                continue
            if record.subject == root:
                self._record = moved(self._record, record)
                if self._record.phase.is_terminal:
                    await self._look()
            yield of_event(record)

    async def watch(self, cache_data_on_done: bool = False) -> AsyncIterator[ActionDetails]:
        """The root action's details now and after each change, until its end."""
        async for details in self.action.watch(cache_data_on_done):
            yield details

    @syncable
    async def abort(self, reason: str = "Manually aborted from the SDK.") -> None:
        """Stop the run and all of its actions. A run that has ended, or is unknown, is not changed."""
        try:
            self._record = await self._runs.abort_run(self.name, reason)
        except RunNotFoundError:
            return

    # --- what came of it

    async def _ended(self) -> wire.Run:
        """The final record if the run has ended, else the newest."""
        return self._record if self._is_complete() else await self._look()

    @syncable_when(_has_outputs)
    async def outputs(self) -> ActionOutputs:
        """The task's outputs: a tuple with one element for each declared output.

        Raises RuntimeError before the end of the run. For a run that failed the tuple is empty, and indexing it raises
        RuntimeError with the reason. In local mode this waits for the end.
        """
        data = await self._output_data()
        return data if isinstance(data, NoOutputs) else outputs_of(data, self._task, self._interface)

    async def _output_data(self) -> list[Any] | NoOutputs:
        if not isinstance(self._runs, Client):  # local mode, where Flyte's own `run` returns only at the end
            await self.wait.aio(quiet=True)
        run = await self._ended()
        data: list[Any] | None = await content(self._runs, run.outputs, run.outputs_blob)
        return no_outputs(f"the run {run.name} of {run.task}", run.phase, run.error) if data is None else data

    async def _present_data(self) -> list[Any]:
        data = await self._output_data()
        if isinstance(data, NoOutputs):
            raise RuntimeError(data.reason)
        return data

    @syncable
    async def inputs(self) -> ActionInputs:
        """The task's inputs, by name."""
        found = await self._runs.get_action(self.name)
        data = await content(self._runs, found.inputs, found.inputs_blob)
        return inputs_of(data or {}, self._task, found.interface)

    @syncable
    async def typed_outputs(self, *types: Any, deserializers: Any = None) -> tuple[Any, ...]:
        """The outputs as values of the given types, in order."""
        data = await self._present_data()
        names = [str(at) for at in range(len(data))]
        values = typed(dict(zip(names, data, strict=True)), dict(zip(names, types, strict=False)))
        return tuple(values.values())

    @syncable
    async def typed_inputs(self, deserializers: Any = None, **types: Any) -> dict[str, Any]:
        """The inputs as values of the given types, by name."""
        found = await self._runs.get_action(self.name)
        return typed(await content(self._runs, found.inputs, found.inputs_blob) or {}, types)

    @syncable
    async def output_literals(self) -> dict[str, Any]:
        """The outputs as JSON data."""
        return {f"o{at}": item for at, item in enumerate(await self._present_data())}

    @syncable
    async def input_literals(self) -> dict[str, Any]:
        """The inputs as JSON data."""
        found = await self._runs.get_action(self.name)
        return dict(await content(self._runs, found.inputs, found.inputs_blob) or {})

    @syncable
    async def details(self) -> RunDetails:
        """The run with its root action's details."""
        found = await self._runs.get_action(self.name)
        return RunDetails(await self._look(), ActionDetails(found, self._runs, self._task))

    @syncable
    async def first_failure(self) -> ActionDetails | None:
        """The action that failed first, often the cause of other failures; None if none has failed."""
        first = await first_failed(self._runs, self.name)
        return ActionDetails(await self._runs.get_action(self.name, first), self._runs) if first is not None else None

    @syncable
    async def raise_for_status(self) -> None:
        """Return if the run succeeded. Raises the task's error if it failed, RuntimeError if it has not ended.

        The error is a `flyte.errors.RuntimeUserError`, and of its original class if this process can import that.
        """
        run = await self._ended()
        if not run.phase.is_terminal:
            raise RuntimeError(f"the run {run.name} has not ended: it is {run.phase}; wait for it first")
        if (error := error_of(run)) is not None:
            raise error

    @syncable
    async def get_report(self, attempt: int | None = None) -> str:
        """The last HTML page that the root action showed; see `Action.get_report`."""
        return (await self._runs.get_report(self.name, wire.ROOT_ACTION, attempt)).html

    @syncable
    async def code_bundle(self) -> CodeBundle:
        """The run's code."""
        return code_of(await self._runs.get_action(self.name))

    @syncable
    async def download_code(
        self, dest: str | Path | None = None, extract: bool = True, attempt: int | None = None
    ) -> Path:
        """Put the run's code into the folder `dest` (default: a folder with the run's name), and return its path.

        With `extract` the path is that of the folder, otherwise of the archive in it, `DIGEST.tar.gz`. Raises
        NotFoundError if the code was never sent: in local mode, and with `copy_style="none"`.
        """
        found = await self._runs.get_action(self.name)
        return await download(self._runs, code_of(found), dest or self.name, extract)

    get_debug_url: Any = Absent("flyte.remote.Run")

    # --- logs

    @streamable
    async def get_logs(
        self, attempt: int | None = None, filter_system: bool = False, show_ts: bool = False, follow: bool = False
    ) -> AsyncIterator[str]:
        """The log lines of the root action in its last attempt, or in `attempt`.

        With `follow` the lines of every attempt, from the first on, including future ones, until the action has ended.
        A log has only the task's own lines, without times, so that `filter_system` and `show_ts` have no effect.
        """
        async for line in self._runs.run_logs(self.name, wire.ROOT_ACTION, attempt=attempt, follow=follow):
            yield line.text

    @syncable
    async def show_logs(
        self, attempt: int | None = None, max_lines: int = 100, show_ts: bool = False, filter_system: bool = False
    ) -> None:
        """Print the last log lines of the root action."""
        async for line in self._runs.run_logs(self.name, wire.ROOT_ACTION, attempt=attempt, tail=max_lines):
            print(line.text)

    # --- as data

    def __repr__(self) -> str:
        return f"Run(name={self.name!r}, task={self.task_name!r}, phase={self.status!r}, url={self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)
