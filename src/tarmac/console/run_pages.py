"""The pages of runs: the list, and one run with its tree of actions and the details of the selected one."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Redirect

from flyte.errors import InvalidInputError, RunNotFoundError
from flyte.rules import moment
from flyte.wire import ROOT_ACTION, Action, ActionDetails, ActionFilter, ActionPhase, Run, RunFilter, Scope
from tarmac.api.parameters import MOST_ATTEMPTS
from tarmac.api.plane import By, Control, ControlPlane
from tarmac.api.runs import phase_of
from tarmac.console import tree
from tarmac.console.pages import Fragment, page
from tarmac.console.places import Place
from tarmac.console.submitted import LARGEST_FORM

RUNS_ON_PAGE = 50
COUNTED = 1000
"""Up to this many runs, an empty list says how many there are without the filters."""
WATCHED_ACTIONS = 2_000
"""Up to this many actions the page watches each of them; with more, it looks at the run every few seconds."""

Open = Annotated[str | None, QueryParameter(name="open")]
PageNumber = Annotated[int, QueryParameter(name="page", ge=0)]


@get("/runs")
async def runs_page(
    control: Control,
    project: FromPath[str],
    domain: FromPath[str],
    phase: FromQuery[list[str] | None] = None,
    task: FromQuery[str | None] = None,
    since: FromQuery[str | None] = None,
    created_before: FromQuery[float | None] = None,
    fragment: Fragment = False,
) -> Response[str]:
    """The runs of a project, newest first."""
    place = Place(project, domain)
    phases = [name for name in phase or [] if name]
    scope = Scope(project, domain)
    chosen = RunFilter(
        phases=tuple(phase_of(name) for name in phases),
        task_contains=task or None,
        created_after=_moment(since),
        created_before=created_before,
        limit=RUNS_ON_PAGE + 1,
    )
    found = await control.runs.list(scope, chosen)
    shown = found[:RUNS_ON_PAGE]
    is_filtered = bool(phases or task or since)
    others = 0
    if is_filtered and not shown:
        others = len(await control.runs.list(scope, RunFilter(limit=COUNTED)))
    here = partial(place.page, "runs", phase=phases, task=task, since=since)
    return await page(
        control,
        place,
        "runs.html",
        fragment,
        runs=shown,
        chosen=phases,
        task=task,
        since=since,
        is_filtered=is_filtered,
        others=f"{others:,}" + (" or more" if others == COUNTED else ""),
        phases=list(ActionPhase),
        first_page=here() if created_before else None,
        older=here(created_before=repr(shown[-1].created)) if len(found) > RUNS_ON_PAGE else None,
        every=None if created_before else 2,
    )


def _moment(text: str | None) -> float | None:
    """The time that the text names. Raises InvalidInputError."""
    if not text:
        return None
    try:
        return moment(text, time.time())
    except ValueError as error:
        raise InvalidInputError(str(error)) from None


@get("/runs/{run:str}")
async def run_page(
    control: Control,
    project: FromPath[str],
    domain: FromPath[str],
    run: FromPath[str],
    unfolded: Open = None,
    action: FromQuery[str] = ROOT_ACTION,
    phase: FromQuery[str | None] = None,
    number: PageNumber = 0,
    attempt: FromQuery[int | None] = None,
    fragment: Fragment = False,
) -> Response[Any]:
    """One run. Children are shown below each action that is expanded by the address."""
    record = await control.runs.get(run)
    place = Place(record.project, record.domain)
    if place != Place(project, domain):
        return Redirect(place.page("runs", run), status_code=303)
    opened = tree.Unfolded.read(unfolded)
    here = partial(_address, place, run, {"open": unfolded, "action": action, "phase": phase, "page": number})
    rows, more = await _rows(control, run, opened, phase, number)
    details = await control.actions.get(run, action)
    return await page(
        control,
        place,
        "run.html",
        fragment,
        run=record,
        rows=rows,
        more=more,
        number=number,
        phase=phase,
        phases=list(ActionPhase),
        bars=tree.bars(record, (row.action for row in rows)),
        here=here,
        details=details,
        inputs=inputs_shown(details),
        outputs=outputs_shown(details),
        log=_log(place, details.action, attempt),
        report=await _report(control, place, details.action),
        attempt=attempt or details.action.attempt,
        **_liveness(place, record),
    )


def _address(place: Place, run: str, now: dict[str, Any], **changes: Any) -> str:
    """The page's own address with these changes; an empty `open` collapses all actions."""
    query = {**now, **changes}
    if query["action"] == ROOT_ACTION:
        query["action"] = None
    if query["open"] == "":
        query["open"] = ","
    query["page"] = query["page"] or None
    return place.page("runs", run, **query)


async def _rows(
    control: ControlPlane, run: str, unfolded: tree.Unfolded, phase: str | None, number: int
) -> tuple[list[tree.Row], bool]:
    """The tree's lines or, with a phase, one page of the actions in that phase; and whether there are more."""
    if not phase:
        return await tree.rows(control, run, unfolded), False
    chosen = ActionFilter(phases=(phase_of(phase),), limit=tree.PAGE + 1, offset=number * tree.PAGE)
    found = await control.actions.list(run, chosen)
    return [tree.Row(0, action) for action in found[: tree.PAGE]], len(found) > tree.PAGE


def _liveness(place: Place, run: Run) -> dict[str, Any]:
    """How the page is kept up to date: by the events of every action or, in very large runs, of the run alone.

    The page is also fetched every few seconds, since bars grow while no event comes.
    """
    if run.phase.is_terminal:
        return {}
    few = run.actions <= WATCHED_ACTIONS
    events = place.api("runs", run.name, "events", after=run.seq, actions="all" if few else "root")
    return {"events": events, "every": 2 if few else 3}


def _log(place: Place, action: Action, attempt: int | None) -> str:
    """The address of the log; it is the same before and after the end, so that the log is not fetched again."""
    return place.api(
        "runs", action.run, "actions", action.name, "logs", tail=2000, attempt=attempt, follow=1, partial=1
    )


async def _report(control: ControlPlane, place: Place, action: Action) -> str | None:
    """The address of what the action has shown last, which changes when it shows something new; None for nothing."""
    found = await control.actions.report_time(action.run, action.name)
    if found is None:
        return None
    attempt, at = found
    return place.page("runs", action.run, "actions", action.name, "report", attempt=attempt, at=f"{at:.6f}")


Shown = list[tuple[str, str, msgspec.Raw | None]]
"""Name, type in words, value; the value is None if it is too large for the page and is a blob."""


def inputs_shown(details: ActionDetails) -> Shown:
    types = {spec.name: spec.type for spec in details.interface.inputs}
    if details.inputs is None:
        return [(name, kind, None) for name, kind in types.items()]
    values = msgspec.json.decode(details.inputs, type=dict[str, msgspec.Raw])
    return [(name, types.get(name, ""), value) for name, value in values.items()]


def outputs_shown(details: ActionDetails) -> Shown:
    """The action's outputs: `result`, or `result 1`, `result 2`, …."""
    types = [spec.type for spec in details.interface.outputs]
    if details.outputs is None:
        nothing: list[None] = [None] * len(types)
        return list(zip(_results(len(types)), types, nothing, strict=True)) if details.outputs_blob else []
    values = msgspec.json.decode(details.outputs, type=list[msgspec.Raw])
    if len(values) != len(types):
        types = [""] * len(values)
    return list(zip(_results(len(values)), types, values, strict=True))


def _results(count: int) -> list[str]:
    return ["result"] if count == 1 else [f"result {number}" for number in range(1, count + 1)]


@post("/runs/{run:str}/abort", dto=None, request_max_body_size=LARGEST_FORM)
async def abort_run(
    control: Control, by: By, project: FromPath[str], domain: FromPath[str], run: FromPath[str]
) -> Redirect:
    await control.runs.abort(run, f"by {by}, in the console", by)
    return Redirect(Place(project, domain).page("runs", run), status_code=303)


@post("/runs/{run:str}/actions/{action:str}/abort", dto=None, request_max_body_size=LARGEST_FORM)
async def abort_action(
    control: Control, by: By, project: FromPath[str], domain: FromPath[str], run: FromPath[str], action: FromPath[str]
) -> Redirect:
    await control.actions.abort(run, action, f"by {by}, in the console", by)
    return Redirect(Place(project, domain).page("runs", run, action=action), status_code=303)


async def inputs_of(control: ControlPlane, run: str) -> dict[str, Any]:
    """The inputs of an earlier run, to fill the form; none if the run is gone or they are too large."""
    try:
        details = await control.actions.get(run, ROOT_ACTION)
    except RunNotFoundError:
        return {}
    if details.inputs is None:
        return {}
    values: dict[str, Any] = msgspec.json.decode(details.inputs)
    return values


REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-downloads; default-src 'none'; base-uri 'none'; form-action 'none'; "
    "script-src 'unsafe-inline' 'unsafe-eval' https: blob:; style-src 'unsafe-inline' https:; font-src https: data:; "
    "img-src https: data: blob:; media-src https: data: blob:; worker-src blob:; frame-ancestors 'self'"
)
"""A report is a page that a task wrote. The sandbox gives it an origin of its own, which no other page has: its scripts
run, and can read neither the console nor its session, nor ask this platform or another server of the machine for
anything. Libraries and pictures may come from the web, by HTTPS.
"""


@get("/runs/{run:str}/actions/{action:str}/report")
async def report_page(
    control: Control,
    run: FromPath[str],
    action: FromPath[str],
    attempt: Annotated[int | None, QueryParameter(ge=1, le=MOST_ATTEMPTS)] = None,
    at: FromQuery[str | None] = None,
) -> Response[str]:
    """What an action has shown last, as a page for the frame on the run's page; `at` only tells addresses apart."""
    found = await control.actions.report(run, action, attempt)
    headers = {"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
    return Response(found.html, media_type="text/html; charset=utf-8", headers=headers)


PAGES = [runs_page, run_page, report_page, abort_run, abort_action]
