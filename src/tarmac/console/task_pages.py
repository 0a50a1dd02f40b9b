"""The pages of tasks: the list, and one task with its interface and the form that starts it."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from flyte.errors import InvalidInputError, TooLargeError
from flyte.wire import InterfaceSpec, RunFilter, RunRequest, Scope, Task
from tarmac.api.plane import By, Control, ControlPlane
from tarmac.console import forms, submitted
from tarmac.console.pages import Fragment, page
from tarmac.console.places import Place
from tarmac.console.run_pages import inputs_of
from tarmac.console.submitted import LARGEST_FORM

_INPUT = "input."
"""The prefix of the names of input fields in the form."""


@get("/tasks")
async def tasks_page(
    control: Control,
    project: FromPath[str],
    domain: FromPath[str],
    name: FromQuery[str | None] = None,
    fragment: Fragment = False,
) -> Response[str]:
    """The current version of each task."""
    found = await control.tasks.list(project, domain, None, None, 1000)
    wanted = [task for task in found if (name or "").lower() in task.name.lower()]
    return await page(
        control, Place(project, domain), "tasks.html", fragment, tasks=wanted, name=name, total=len(found), every=5
    )


@get("/tasks/{task:str}")
async def task_page(
    control: Control,
    project: FromPath[str],
    domain: FromPath[str],
    task: FromPath[str],
    version: FromQuery[str | None] = None,
    like: FromQuery[str | None] = None,
    fragment: Fragment = False,
) -> Response[str]:
    """One version of a task; `like` names a run whose inputs fill the form."""
    record = await control.tasks.get(project, domain, task, version)
    given = await inputs_of(control, like) if like else None
    fields = forms.fields(_interface(record), given)
    return await _task_page(control, Place(project, domain), record, fields, fragment=fragment)


@post("/tasks/{task:str}", dto=None, request_max_body_size=LARGEST_FORM)
async def start(
    request: Request[Any, Any, Any],
    control: Control,
    by: By,
    project: FromPath[str],
    domain: FromPath[str],
    task: FromPath[str],
) -> Response[Any]:
    """Start a run with the submitted inputs; an error is shown beside its field."""
    form = await submitted.form(request)
    place = Place(project, domain)
    record = await control.tasks.get(project, domain, task, form.get("version") or None)
    typed = {name.removeprefix(_INPUT): value for name, value in form.items() if name.startswith(_INPUT)}
    try:
        inputs = forms.inputs(_interface(record), typed)
    except forms.FormErrors as error:
        return await _task_page(control, place, record, error.fields, status=422)
    wanted = RunRequest(
        task=record.name,
        version=record.version,
        project=project,
        domain=domain,
        inputs=msgspec.Raw(inputs),
        idempotency_key=form.get("key") or None,
    )
    try:
        run, _ = await control.runs.create(wanted, by)
    except (InvalidInputError, TooLargeError) as error:
        fields = forms.fields(_interface(record), msgspec.json.decode(inputs))
        return await _task_page(control, place, record, fields, error=str(error), status=422)
    return Redirect(place.page("runs", run.name), status_code=303)


async def _task_page(
    control: ControlPlane,
    place: Place,
    task: Task,
    fields: list[forms.Field],
    *,
    error: str = "",
    status: int = 200,
    fragment: bool = False,
) -> Response[str]:
    return await page(
        control,
        place,
        "task.html",
        fragment,
        task=task,
        interface=_interface(task),
        fields=fields,
        error=error,
        status=status,
        key=secrets.token_hex(16),
        runs=await control.runs.list(Scope(place.project, place.domain), RunFilter(task=task.name, limit=10)),
        every=3,
    )


def _interface(task: Task) -> InterfaceSpec:
    return task.spec.interface if task.spec else InterfaceSpec()


PAGES = [tasks_page, task_page, start]
