"""Images: the environments that were made of them."""

from __future__ import annotations

from litestar import Router, get, post
from litestar.params import JSONBody

from flyte import wire
from tarmac.api.parameters import Limit, Name
from tarmac.api.plane import Control


@get("/images", summary="List images", sync_to_thread=False)
def list_images(control: Control, limit: Limit = 100) -> list[wire.ImageRecord]:
    """What images asked for and came to, the one that was used last first."""
    return control.builds.list()[:limit]


@post("/images", status_code=202, summary="Build images")
async def build_images(data: JSONBody[wire.BuildRequest], control: Control) -> list[wire.ImageBuild]:
    """Has the environments made, and says after a moment how far each is; the same request again says more."""
    return await control.builds.build(data)


@get("/images/{id:str}/log", summary="Read a build log")
async def image_log(id: Name, control: Control) -> wire.ImageLog:
    """What was run to make an environment, and what it said."""
    return await control.builds.log(id)


@post("/images/prune", status_code=200, summary="Remove images")
async def prune_images(data: JSONBody[wire.PruneRequest], control: Control) -> list[wire.ImageRecord]:
    """Removes environments that nothing deployed names and nothing runs in; answers which."""
    return await control.builds.prune(data)


ROUTES = Router("/v1", route_handlers=[list_images, build_images, image_log, prune_images], tags=["images"])
