"""The pages of images: the list, and one image with its exact versions, its users and its build log."""

from __future__ import annotations

from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from flyte.errors import NotFoundError
from flyte.wire import ImageRecord
from tarmac.api.plane import Control
from tarmac.console.pages import Fragment, page
from tarmac.console.places import Place


@get("/images")
async def images_page(
    control: Control, project: FromPath[str], domain: FromPath[str], fragment: Fragment = False
) -> Response[str]:
    """What images asked for and came to on this machine, for all projects."""
    images = control.builds.list()
    return await page(control, Place(project, domain), "images.html", fragment, images=images, every=5)


@get("/images/{image:str}")
async def image_page(
    control: Control,
    project: FromPath[str],
    domain: FromPath[str],
    image: FromPath[str],
    fragment: Fragment = False,
) -> Response[str]:
    """One image."""
    record = control.builds.get(image)
    try:
        log = (await control.builds.log(record.id)).text
    except NotFoundError:  # another image came to the same environment before, or the log was removed
        log = ""
    context = {"image": record, "log": log, "users": _users(record), "every": 10}
    return await page(control, Place(project, domain), "image.html", fragment, **context)


def _users(record: ImageRecord) -> list[tuple[str, Place]]:
    """The environments that use it, and where they are."""
    users = []
    for name in record.environments:
        project, domain, environment = name.split("/", 2)
        users.append((environment, Place(project, domain)))
    return users


PAGES: tuple[Any, ...] = (images_page, image_page)
