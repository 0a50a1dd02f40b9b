"""The pages of artifacts: the list of names, and the versions of one name."""

from __future__ import annotations

from typing import Any

from litestar import Response, get
from litestar.params import FromPath, FromQuery

from tarmac.api.plane import Control
from tarmac.console.pages import Fragment, page
from tarmac.console.places import Place

MOST = 200


@get("/artifacts")
async def artifacts_page(
    control: Control, project: FromPath[str], domain: FromPath[str], fragment: Fragment = False
) -> Response[str]:
    """The artifacts of a project, each at the version that was made last."""
    found = await control.artifacts.list(project, domain, latest=True, limit=MOST)
    return await page(control, Place(project, domain), "artifacts.html", fragment, artifacts=found, every=5)


@get("/artifacts/{name:str}")
async def artifact_page(
    control: Control,
    project: FromPath[str],
    domain: FromPath[str],
    name: FromPath[str],
    version: FromQuery[str | None] = None,
    fragment: Fragment = False,
) -> Response[str]:
    """One version, and the list of all."""
    shown = await control.artifacts.get(project, domain, name, version)
    versions = await control.artifacts.list(project, domain, name, limit=MOST)
    context = {"artifact": shown, "versions": versions, "every": 5}
    return await page(control, Place(project, domain), "artifact.html", fragment, **context)


PAGES: tuple[Any, ...] = (artifacts_page, artifact_page)
