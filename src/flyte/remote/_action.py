"""The actions of a run: a run is a tree of them, and `a0` is its root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from flyte import wire
from flyte._absent import Absent
from flyte._session import state as _state
from flyte._sync import streamable, syncable, syncable_classmethod
from flyte.errors import InvalidInputError
from flyte.remote._code import CodeBundle, code_of, download
from flyte.remote._failures import no_outputs
from flyte.remote._io import (
    ActionInputs,
    ActionOutputs,
    AnyTask,
    Runs,
    as_dict,
    as_json,
    content,
    inputs_of,
    outputs_of,
)
from flyte.remote._listing import listing
from flyte.remote._pages import ACTIONS, actions_of
from flyte.remote._record import Record
from flyte.remote._time_filter import TimeFilter, moment
from flyte.wire import ActionPhase

WAIT = 60.0
"""Longest time, in seconds, that one request waits for an end; a longer wait sends another request."""

NOT_RUNNING_YET = frozenset({ActionPhase.QUEUED, ActionPhase.WAITING_FOR_RESOURCES, ActionPhase.INITIALIZING})


def runs_in_force() -> Runs:
    """The active platform, or this process in local mode."""
    state = _state.current()
    if state.client is not None:
        return state.client
    from flyte._local.client import LocalClient

    return LocalClient(state.project, state.domain)


WaitFor = Literal["terminal", "running"]


def check_wait_for(wanted: str) -> None:
    """Raises InvalidInputError for an unknown `wait_for`."""
    if wanted not in get_args(WaitFor):
        raise InvalidInputError(f"wait_for is {wanted!r}; it is 'terminal' (the end) or 'running' (the beginning)")


class Action(Record[wire.Action]):
    """One action, in its last known state. Properties do no I/O; methods may."""

    def __init__(self, record: wire.Action, runs: Runs) -> None:
        self._record = record
        self._runs = runs

    @syncable_classmethod
    @classmethod
    async def get(cls, uri: str | None = None, /, run_name: str | None = None, name: str | None = None) -> Action:
        """The action `name` of the run `run_name`, or that of `uri`: `run/action`, or the address of its page."""
        run, action = _place(uri, run_name, name)
        runs = runs_in_force()
        return cls((await runs.get_action(run, action)).action, runs)

    @listing
    @staticmethod
    async def listall(
        for_run_name: str,
        in_phase: Any = None,
        parent_name: str | None = None,
        sort_by: tuple[str, Literal["asc", "desc"]] | None = None,
        created_at: TimeFilter | None = None,
        updated_at: TimeFilter | None = None,
    ) -> AsyncIterator[Action]:
        """The actions of a run in the order of their creation, or backwards with `sort_by=("created_at", "desc")`."""
        runs = runs_in_force()
        chosen = wire.ActionFilter(phases=tuple(phases_of(in_phase)), parent=parent_name, limit=ACTIONS)
        found = [action async for action in actions_of(runs, for_run_name, chosen)]
        for record in reversed(found) if sort_by and sort_by[1] == "desc" else found:
            if created_at and not created_at.holds(record.created):
                continue
            if updated_at and not updated_at.holds(record.ended or record.started or record.created):
                continue
            yield Action(record, runs)

    # --- what is known

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def run_name(self) -> str:
        return self._record.run

    @property
    def action_id(self) -> str:
        """`run/action`."""
        return f"{self._record.run}/{self._record.name}"

    @property
    def task_name(self) -> str:
        return self._record.task

    @property
    def short_name(self) -> str:
        return self._record.short_name or self._record.task.rpartition(".")[2]

    @property
    def parent_name(self) -> str | None:
        return self._record.parent

    @property
    def group(self) -> str | None:
        return self._record.group

    @property
    def phase(self) -> ActionPhase:
        return self._record.phase

    @property
    def raw_phase(self) -> ActionPhase:
        return self._record.phase

    @property
    def status(self) -> str:
        return self._record.phase.value

    @property
    def message(self) -> str:
        return self._record.message

    @property
    def relation(self) -> None:
        """The run that this one repeats: always None here."""
        return None

    @property
    def start_time(self) -> datetime | None:
        return moment(self._record.started or self._record.created)

    def done(self) -> bool:
        """Whether the action has ended, by its last known state."""
        return self._record.phase.is_terminal

    # --- what asks the platform

    async def sync(self) -> Action:
        """Fetch the present state."""
        self._record = (await self._runs.get_action(self.run_name, self.name)).action
        return self

    async def details(self) -> ActionDetails:
        """The action with its attempts, inputs and outputs."""
        found = await self._runs.get_action(self.run_name, self.name)
        self._record = found.action
        return ActionDetails(found, self._runs)

    async def watch(
        self, cache_data_on_done: bool = False, wait_for: WaitFor = "terminal"
    ) -> AsyncIterator[ActionDetails]:
        """The action's details now and after each change, until it has ended (or started to run).

        Raises InvalidInputError for another `wait_for`.
        """
        check_wait_for(wait_for)
        subject = f"run/{self.run_name}/{self.name}"
        async for _, _, record in self._runs.run_events(self.run_name, actions="all"):
            if isinstance(record, wire.Event) and record.subject != subject and record.phase not in wire.TERMINAL:
                continue
            details = await self.details()
            if cache_data_on_done and details.done():
                await details.inputs()
            yield details
            if details.done() or (wait_for == "running" and details.phase not in NOT_RUNNING_YET):
                return

    async def wait(self, quiet: bool = True, wait_for: WaitFor = "terminal") -> None:
        """Return when the action has ended (or started to run). Does not raise when it has failed."""
        async for _ in self.watch(wait_for=wait_for):
            pass

    @syncable
    async def abort(self, reason: str = "") -> None:
        """Stop the action and all actions below it. An action that has ended is not changed."""
        await self._runs.abort_action(self.run_name, self.name, reason)

    @streamable
    async def get_logs(
        self, attempt: int | None = None, filter_system: bool = False, show_ts: bool = False, follow: bool = False
    ) -> AsyncIterator[str]:
        """The lines of its log; with `follow` those of every attempt, until it has ended. See `Run.get_logs`."""
        async for line in self._runs.run_logs(self.run_name, self.name, attempt=attempt, follow=follow):
            yield line.text

    @syncable
    async def get_report(self, attempt: int | None = None) -> str:
        """The last HTML page that the action, or one attempt, showed with `flyte.report.flush`.

        Raises NotFoundError if there is none.
        """
        return (await self._runs.get_report(self.run_name, self.name, attempt)).html

    @syncable
    async def download_code(
        self, dest: str | Path | None = None, extract: bool = True, attempt: int | None = None
    ) -> Path:
        """Download the action's code, which is the same for all attempts; see `Run.download_code`."""
        found = await self._runs.get_action(self.run_name, self.name)
        return await download(self._runs, code_of(found), dest or f"{self.run_name}-{self.name}", extract)

    @syncable
    async def show_logs(
        self, attempt: int | None = None, max_lines: int = 30, show_ts: bool = False, filter_system: bool = False
    ) -> None:
        """Print the last lines of its log."""
        async for line in self._runs.run_logs(self.run_name, self.name, attempt=attempt, tail=max_lines):
            print(line.text)

    def __repr__(self) -> str:
        return f"Action(run={self.run_name!r}, name={self.name!r}, task={self.task_name!r}, phase={self.status!r})"


class ActionDetails(Action):
    """An action with its attempts and, if requested, its inputs and outputs."""

    def __init__(self, found: wire.ActionDetails, runs: Runs, task: AnyTask | None = None) -> None:
        super().__init__(found.action, runs)
        self._found = found
        self._task = task

    @syncable_classmethod
    @classmethod
    async def get(  # type: ignore[override]
        cls, uri: str | None = None, /, run_name: str | None = None, name: str | None = None
    ) -> ActionDetails:
        """See `Action.get`."""
        run, action = _place(uri, run_name, name)
        runs = runs_in_force()
        return cls(await runs.get_action(run, action), runs)

    @property
    def error_info(self) -> wire.ErrorInfo | None:
        """The action's error: code, message, kind, traceback; None without one."""
        return self._record.error

    @property
    def error_message(self) -> str:
        return self._record.error.message if self._record.error else ""

    @property
    def abort_info(self) -> str | None:
        """Why it was aborted; None when it was not."""
        return self._record.message if self.phase is ActionPhase.ABORTED else None

    @property
    def attempts(self) -> int:
        """The number of attempts so far."""
        return self._record.attempt

    @property
    def attempt_records(self) -> list[wire.Attempt]:
        return list(self._found.attempts)

    @property
    def interface(self) -> wire.InterfaceSpec:
        return self._found.interface

    @property
    def links(self) -> list[wire.ActionLink]:
        """The links of the task to pages elsewhere, each with its name, its address (`uri`) and its icon's address."""
        return list(self._found.links)

    @property
    def metadata(self) -> dict[str, Any]:
        return {"task": self.task_name, "short_name": self.short_name, "parent": self.parent_name, "group": self.group}

    @property
    def is_running(self) -> bool:
        return self.phase is ActionPhase.RUNNING

    @property
    def runtime(self) -> timedelta:
        """The time from its creation to its end, or until now."""
        return _span(self._record.created, self._record.ended)

    @property
    def queued_time(self) -> timedelta:
        """The time from its creation to its start, or until now."""
        return _span(self._record.created, self._record.started or self._record.ended)

    @property
    def running_time(self) -> timedelta:
        """The time from its start to its end, or until now; zero before its start."""
        started = self._record.started
        return _span(started, self._record.ended) if started else timedelta()

    @property
    def code_bundle(self) -> CodeBundle:
        """The action's code."""
        return code_of(self._found)

    waiting_for_resources_time: Any = Absent("flyte.remote.ActionDetails")
    initializing_time: Any = Absent("flyte.remote.ActionDetails")

    @property
    def phase_durations(self) -> dict[ActionPhase, timedelta]:
        return {ActionPhase.QUEUED: self.queued_time, ActionPhase.RUNNING: self.running_time}

    def get_phase_transitions(
        self, attempt: int | None = None
    ) -> list[tuple[ActionPhase, datetime | None, datetime | None]]:
        """(phase, from, to) of each attempt, or of one."""
        chosen = [record for record in self._found.attempts if attempt in (None, record.number)]
        return [(record.phase, moment(record.started), moment(record.ended)) for record in chosen]

    def logs_available(self, attempt: int | None = None) -> bool:
        """Whether the action has started, so that it has a log."""
        return any(record.started for record in self._found.attempts if attempt in (None, record.number))

    async def inputs(self) -> ActionInputs:
        data = await content(self._runs, self._found.inputs, self._found.inputs_blob)
        return inputs_of(data or {}, self._task, self._found.interface)

    async def outputs(self) -> ActionOutputs:
        """Raises RuntimeError before the end; see `Run.outputs`."""
        data = await content(self._runs, self._found.outputs, self._found.outputs_blob)
        if data is None:
            return no_outputs(f"the action {self.action_id}", self.phase, self._record.error)
        return outputs_of(data, self._task, self._found.interface)

    async def watch_updates(self, cache_data_on_done: bool = False) -> AsyncIterator[ActionDetails]:
        """See `watch`."""
        async for details in self.watch(cache_data_on_done):
            yield details

    def to_dict(self) -> dict[str, Any]:
        return as_dict(self._found)

    def to_json(self) -> str:
        return as_json(self._found)


def phases_of(wanted: Any) -> list[ActionPhase]:
    """One phase, or several, by name or member. Raises InvalidInputError for an unknown phase."""
    if wanted is None:
        return []
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    try:
        return [ActionPhase(name) for name in names]
    except ValueError as error:
        phases = ", ".join(phase.value for phase in ActionPhase)
        raise InvalidInputError(f"{error}; the phases are {phases}") from None


def _span(start: float, end: float | None) -> timedelta:
    return timedelta(seconds=max(0.0, (end or datetime.now(UTC).timestamp()) - start))


def _place(uri: str | None, run_name: str | None, name: str | None) -> tuple[str, str]:
    if uri is not None:
        run, _, action = uri.partition("/runs/")[2].partition("/") if "/runs/" in uri else uri.partition("/")
        return run, action.rpartition("/")[2] or wire.ROOT_ACTION
    if run_name is None:
        raise InvalidInputError("name the action by run_name= and name=, or by its address")
    return run_name, name or wire.ROOT_ACTION
