"""The page of triggers: when tasks are started by themselves, what they started last, and how one is paused."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from tarmac.api.plane import By, Control
from tarmac.console.pages import Fragment, page
from tarmac.console.places import Place
from tarmac.console.submitted import LARGEST_FORM

MOST = 1000


@get("/triggers")
async def triggers_page(
    control: Control, project: FromPath[str], domain: FromPath[str], fragment: Fragment = False
) -> Response[str]:
    """The triggers of a project, those of each task together."""
    found = await control.triggers.list(project, domain, limit=MOST)
    return await page(control, Place(project, domain), "triggers.html", fragment, triggers=found, every=5)


@post("/triggers/{task:str}/{name:str}/activate", dto=None, request_max_body_size=LARGEST_FORM)
async def activate(
    control: Control, by: By, project: FromPath[str], domain: FromPath[str], task: FromPath[str], name: FromPath[str]
) -> Redirect:
    await control.triggers.switch(project, domain, task, name, True, by)
    return Redirect(Place(project, domain).page("triggers"), status_code=303)


@post("/triggers/{task:str}/{name:str}/deactivate", dto=None, request_max_body_size=LARGEST_FORM)
async def deactivate(
    control: Control, by: By, project: FromPath[str], domain: FromPath[str], task: FromPath[str], name: FromPath[str]
) -> Redirect:
    await control.triggers.switch(project, domain, task, name, False, by)
    return Redirect(Place(project, domain).page("triggers"), status_code=303)


PAGES: tuple[Any, ...] = (triggers_page, activate, deactivate)
