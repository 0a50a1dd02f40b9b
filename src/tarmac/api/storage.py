"""The platform's storage: how much lies there, and the collector that removes what is not used."""

from __future__ import annotations

from litestar import Router, get, post
from litestar.params import JSONBody

from flyte import wire
from tarmac.api.plane import By, Control


@get("/storage", summary="Look at the storage")
async def get_storage(control: Control) -> wire.StorageUse:
    """Where values, files, code and logs lie, and how much they are."""
    return await control.storage.use()


@post("/storage/prune", status_code=200, summary="Remove what is not used")
async def prune_storage(data: JSONBody[wire.PruneStorageRequest], control: Control, by: By) -> wire.PrunedStorage:
    """Removes the runs that are named or old enough, and then what nobody refers to; answers how much that was."""
    return await control.storage.prune(data, by)


ROUTES = Router("/v1", route_handlers=[get_storage, prune_storage], tags=["storage"])
