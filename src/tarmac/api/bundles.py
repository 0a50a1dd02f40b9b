"""Content by the sha256 of its bytes: code bundles (tar.gz) and blobs (the JSON text of large values).

Content is streamed in both directions. An upload is written to a temporary file while it is hashed. It is kept only if
its digest is that of the address, so a broken upload can be sent again and a stored one never changes.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, Router, get, head, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream

from flyte.errors import NotFoundError
from tarmac.api.parameters import Digest
from tarmac.api.plane import Blobs, Control

BUNDLE_LIMIT = 512 * 1024 * 1024
"""Bytes of the largest code bundle."""

_SENT = {200: ResponseSpec(None, description="It was there already.", generate_examples=False)}


@head("/bundles/{digest:str}", summary="Is a code bundle there?")
async def has_bundle(digest: Digest, control: Control) -> None:
    """200 or 404."""
    await _check_there(control.blobs, digest)


@put("/bundles/{digest:str}", status_code=201, summary="Send a code bundle", responses=_SENT)
async def put_bundle(digest: Digest, control: Control, request: Request[Any, Any, Any]) -> Response[None]:
    """The body is a tar.gz whose sha256 is the digest in the address."""
    return await _put(control.blobs, digest, request)


@get("/bundles/{digest:str}", summary="Fetch a code bundle", media_type="application/gzip")
async def get_bundle(digest: Digest, control: Control) -> Stream:
    return await _get(control.blobs, digest, "application/gzip")


@head("/blobs/{digest:str}", summary="Is a large value there?")
async def has_blob(digest: Digest, control: Control) -> None:
    """200 or 404."""
    await _check_there(control.blobs, digest)


@put("/blobs/{digest:str}", status_code=201, summary="Send a large value", responses=_SENT)
async def put_blob(digest: Digest, control: Control, request: Request[Any, Any, Any]) -> Response[None]:
    """The body is the JSON text of a value; a run names it as `inputs_blob`."""
    return await _put(control.blobs, digest, request)


@get("/blobs/{digest:str}", summary="Fetch a large value", media_type="application/json")
async def get_blob(digest: Digest, control: Control) -> Stream:
    return await _get(control.blobs, digest, "application/json")


async def _check_there(blobs: Blobs, digest: str) -> None:
    if not await blobs.has(digest):
        raise NotFoundError(f"nothing with the digest {digest} was sent; PUT it first")


async def _get(blobs: Blobs, digest: str, media_type: str) -> Stream:
    await _check_there(blobs, digest)
    length = {"Content-Length": str(await blobs.size(digest))}
    return Stream(blobs.stream(digest), media_type=media_type, headers=length)


async def _put(blobs: Blobs, digest: str, request: Request[Any, Any, Any]) -> Response[None]:
    is_new = await blobs.put_stream(digest, request.stream())
    return Response(None, status_code=201 if is_new else 200)


def routes(value_limit: int) -> list[Router]:
    """The routes, with bodies of at most BUNDLE_LIMIT and `value_limit` bytes."""
    return [
        Router(
            "/v1",
            route_handlers=[has_bundle, put_bundle, get_bundle],
            request_max_body_size=BUNDLE_LIMIT,
            tags=["bundles and blobs"],
        ),
        Router(
            "/v1",
            route_handlers=[has_blob, put_blob, get_blob],
            request_max_body_size=value_limit,
            tags=["bundles and blobs"],
        ),
    ]
