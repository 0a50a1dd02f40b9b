"""Runs and their actions: start, list, look, wait, watch, abort, read logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec
from litestar import Response, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream

from flyte import wire
from flyte.errors import InvalidInputError
from flyte.wire import DEFAULT_DOMAIN, DEFAULT_PROJECT, ActionPhase, LogLine
from tarmac import logs
from tarmac.api import streams
from tarmac.api.parameters import (
    LARGEST,
    LATEST,
    MOST_ATTEMPTS,
    After,
    Domain,
    Follow,
    LastEventId,
    Limit,
    LogAfter,
    Name,
    Partial,
    Project,
    Tail,
    Wait,
)
from tarmac.api.plane import By, Control, ControlPlane, IsOver
from tarmac.api.run_log import read_run_log

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        max_length=200,
        description="A call that is made again with the same key answers with the run that the first one started. "
        "The key of another run, or one that comes with another task or other inputs, is refused (409).",
    ),
]


@post(
    "/runs",
    status_code=201,
    summary="Start a run",
    responses={200: ResponseSpec(wire.Run, description="The run that the name or the key already stands for.")},
)
async def create_run(
    data: JSONBody[wire.RunRequest], control: Control, by: By, wait: Wait = 0, idempotency_key: IdempotencyKey = None
) -> Response[wire.Run]:
    """Starts a task and answers when the run is on disk; with `wait`, when it is over or the time is up."""
    run, created = await control.runs.create(with_key(data, idempotency_key), by)
    if wait and not run.phase.is_terminal:
        run = await control.runs.wait(run.name, wait)
    return Response(run, status_code=201 if created else 200)


def with_key(request: wire.RunRequest, key: str | None) -> wire.RunRequest:
    """The request with the key of its header. Raises InvalidInputError if the body has another key."""
    if key is None or key == request.idempotency_key:
        return request
    if request.idempotency_key is not None:
        raise InvalidInputError(
            f"the header Idempotency-Key is {key!r} and idempotency_key in the body is {request.idempotency_key!r}; "
            "send one of them"
        )
    return msgspec.structs.replace(request, idempotency_key=key)


@get("/runs", summary="List runs")
async def list_runs(
    control: Control,
    project: Project = DEFAULT_PROJECT,
    domain: Domain = DEFAULT_DOMAIN,
    phase: Annotated[
        list[str] | None, QueryParameter(description="Only these phases; several, or joined by commas.")
    ] = None,
    task: Annotated[str | None, QueryParameter(description="Only runs of this task (full name).")] = None,
    task_contains: Annotated[
        str | None, QueryParameter(description="Only runs of tasks whose name has this in it, in any case.")
    ] = None,
    version: Annotated[str | None, QueryParameter(description="Only runs of this version.")] = None,
    label: Annotated[
        list[str] | None, QueryParameter(description="Only runs with this label, written `key=value`.")
    ] = None,
    created_after: Annotated[
        float | None,
        QueryParameter(ge=0, le=LATEST, description="Only runs created then or later, in seconds since 1970."),
    ] = None,
    created_before: Annotated[
        float | None,
        QueryParameter(ge=0, le=LATEST, description="Only runs created before then, in seconds since 1970."),
    ] = None,
    before_run: Annotated[
        str | None, QueryParameter(description="Only what follows this run in the list, for the next page.")
    ] = None,
    limit: Limit = 100,
) -> list[wire.Run]:
    """The runs of a project, newest first. Runs of the same instant have a fixed order, so that pages lose none."""
    chosen = wire.RunFilter(
        phases=_phases(phase),
        task=task,
        task_contains=task_contains,
        version=version,
        labels=labels_of(label or []),
        created_after=created_after,
        created_before=created_before,
        before_run=before_run,
        limit=limit,
    )
    return await control.runs.list(wire.Scope(project, domain), chosen)


def _phases(written: list[str] | None) -> tuple[ActionPhase, ...]:
    """The phases named once or several times, or joined by commas. Raises InvalidInputError for an unknown name."""
    return tuple(dict.fromkeys(phase_of(name) for name in _split(written)))


def phase_of(name: str) -> ActionPhase:
    """The phase of this name. Raises InvalidInputError for an unknown name."""
    try:
        return ActionPhase(name)
    except ValueError:
        raise InvalidInputError(
            f"{name!r} is not a phase; the phases are {', '.join(phase.value for phase in ActionPhase)}"
        ) from None


def _split(values: list[str] | None) -> list[str]:
    return [part for value in values or [] for part in value.split(",") if part]


def labels_of(written: list[str]) -> dict[str, str]:
    """`key=value`, once or several times, or joined by commas. Raises InvalidInputError for anything else."""
    labels: dict[str, str] = {}
    for part in _split(written):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise InvalidInputError(f"label is {part!r}; write it as key=value, without commas in key and value")
        labels[key] = value
    return labels


@get("/runs/{run:str}", summary="Look at a run")
async def get_run(run: Name, control: Control, wait: Wait = 0) -> wire.Run:
    """The present state of the run; with `wait`, answers when the run is over or the time is up."""
    return await (control.runs.wait(run, wait) if wait else control.runs.get(run))


@post("/runs/{run:str}/abort", status_code=200, summary="Abort a run")
async def abort_run(run: Name, control: Control, by: By, data: JSONBody[wire.AbortRequest | None] = None) -> wire.Run:
    """Aborts the run and everything below it; a run that is over stays as it is."""
    return await control.runs.abort(run, data.reason if data else "", by)


@get("/runs/{run:str}/events", summary="Watch a run", media_type="text/event-stream")
async def watch_run(
    run: Name,
    control: Control,
    after: After = None,
    actions: Annotated[
        Literal["root", "all"], QueryParameter(description="The run as a whole, or each of its actions.")
    ] = "root",
    last_event_id: LastEventId = None,
) -> Stream:
    """Server-sent events: a snapshot (unless `after` is given), then every later event, until the run is over."""
    await control.runs.get(run)
    return streams.events(control.watching.run(run, last_event_id if last_event_id is not None else after, actions))


@get("/runs/{run:str}/actions", summary="List a run's actions")
async def list_actions(
    run: Name,
    control: Control,
    parent: Annotated[str | None, QueryParameter(description="Only the children of this action.")] = None,
    phase: Annotated[
        list[str] | None, QueryParameter(description="Only these phases; several, or joined by commas.")
    ] = None,
    limit: Limit = 100,
    offset: Annotated[
        int, QueryParameter(ge=0, le=LARGEST, description="How many to leave out, for the next page.")
    ] = 0,
) -> list[wire.Action]:
    """Actions in the order of their creation."""
    chosen = wire.ActionFilter(phases=_phases(phase), parent=parent, offset=offset, limit=limit)
    return await control.actions.list(run, chosen)


@get("/runs/{run:str}/actions/{action:str}", summary="Look at an action")
async def get_action(run: Name, action: Name, control: Control) -> wire.ActionDetails:
    """The action with its inputs, outputs and attempts."""
    return await control.actions.get(run, action)


@post("/runs/{run:str}/actions/{action:str}/abort", status_code=200, summary="Abort an action")
async def abort_action(
    run: Name, action: Name, control: Control, by: By, data: JSONBody[wire.AbortRequest | None] = None
) -> wire.Action:
    """Aborts the action and everything below it."""
    return await control.actions.abort(run, action, data.reason if data else "", by)


@get("/runs/{run:str}/actions/{action:str}/report", summary="Read an action's report")
async def read_report(
    run: Name,
    action: Name,
    control: Control,
    attempt: Annotated[
        int | None, QueryParameter(ge=1, le=MOST_ATTEMPTS, description="The last one that has any when absent.")
    ] = None,
) -> wire.Report:
    """The last HTML report of the action. The task wrote it: display it in a sandbox."""
    return await control.actions.report(run, action, attempt)


@get("/runs/{run:str}/actions/{action:str}/logs", summary="Read an action's log", media_type="application/x-ndjson")
async def read_action_log(
    run: Name,
    action: Name,
    control: Control,
    attempt: Annotated[
        int | None, QueryParameter(ge=1, le=MOST_ATTEMPTS, description="The last one when absent.")
    ] = None,
    from_attempt: Annotated[
        int | None,
        QueryParameter(
            ge=1, le=MOST_ATTEMPTS, description="With `follow`: this attempt, and each that comes after it."
        ),
    ] = None,
    tail: Tail = None,
    after: LogAfter = None,
    follow: Follow = False,
    partial: Partial = False,
) -> Stream:
    """A LogLine on each line. With `follow` the answer goes on until the action, or the named attempt, is over.

    `after` is an offset into the log of the attempt that the answer begins with. A line above 64 KiB comes in pieces,
    of which all but the last are `open`.
    """
    if from_attempt is not None and (attempt is not None or not follow):
        raise InvalidInputError("from_attempt goes with follow, and not with attempt; name one attempt, or follow")
    first = await control.actions.log(run, action, attempt or from_attempt)
    if not follow:
        return streams.lines(_attempt(first, after, tail, _yes))
    if attempt is not None:
        return streams.lines(_attempt(first, after, tail, first[1], partial))
    return streams.lines(_attempts(control, run, action, first, after, tail, partial))


AttemptLog = tuple[logs.LogFile, IsOver, int]


async def _attempt(
    log: AttemptLog, after: int | None, tail: int | None, is_over: IsOver, partial: bool = False
) -> AsyncIterator[list[LogLine]]:
    path, _, number = log
    async for batch in logs.batches(path, after, is_over, tail, partial):
        yield [msgspec.structs.replace(line, attempt=number) for line in batch]


async def _attempts(
    control: ControlPlane,
    run: str,
    action: str,
    log: AttemptLog,
    after: int | None,
    tail: int | None,
    partial: bool,
) -> AsyncIterator[list[LogLine]]:
    """The log of this attempt and of each later one, including attempts that end at once."""
    while True:
        async for batch in _attempt(log, after, tail, log[1], partial):
            yield batch
        _, _, last = await control.actions.log(run, action, None)
        if last <= log[2]:
            return
        log, after, tail = await control.actions.log(run, action, log[2] + 1), None, None


def _yes() -> bool:
    return True


ROUTES = Router(
    "/v1",
    route_handlers=[
        create_run,
        list_runs,
        get_run,
        abort_run,
        watch_run,
        list_actions,
        get_action,
        abort_action,
        read_report,
        read_action_log,
        read_run_log,
    ],
    tags=["runs"],
)
