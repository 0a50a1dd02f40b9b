"""Encoded values on their way through a worker: in the frame when small, in the blob store when not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flyte.atomic import store_file
from flyte.backoff import Pauses
from flyte.errors import RuntimeSystemError, SystemUnavailableError, TooLargeError
from flyte.wire import INLINE_LIMIT, VALUE_LIMIT, ErrorBody, ErrorInfo, Value

if TYPE_CHECKING:
    from urllib.request import Request

_TIMEOUT = 300
"""Seconds that a single call may take."""
_PATIENCE = 60.0
"""Seconds for which a call is made again while the platform is away."""


def pack_value(data: bytes, what: str) -> Value:
    """`data` as a frame carries it. Raises TooLargeError that names `what`."""
    if len(data) <= INLINE_LIMIT:
        return Value(inline=data, size=len(data))
    limit = int(os.environ.get("FLYTE_VALUE_LIMIT", VALUE_LIMIT))
    if len(data) > limit:
        raise TooLargeError(
            f"{what} is {len(data):,} bytes; the limit is {limit:,}. Write it to a file and pass a flyte.io.File"
        )
    return Value(blob=_put(data), size=len(data))


def unpack_value(value: Value) -> bytes:
    """The JSON text that `value` stands for."""
    if value.inline is not None:
        return value.inline
    if value.blob is None:
        return b"null"
    folder = os.environ.get("FLYTE_BLOBS")
    if folder and (path := Path(folder, value.blob)).exists():
        return path.read_bytes()
    data = _answered("GET", value.blob)
    if hashlib.sha256(data).hexdigest() != value.blob:
        raise RuntimeSystemError("DamagedValue", f"the value {value.blob} arrived damaged; run the action again")
    return data


def _put(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    folder = os.environ.get("FLYTE_BLOBS")
    if folder and not os.environ.get("FLYTE_STORAGE_URL") and os.path.isdir(folder):
        store_file(Path(folder, digest), data)
    else:
        _answered("PUT", digest, data)
    return digest


def _answered(method: str, digest: str, data: bytes | None = None) -> bytes:
    """What the platform answers. While it is away the call is made again: it may be made twice.

    Raises SystemUnavailableError when it stays away, and RuntimeSystemError for a refusal.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen  # not at the top: it brings TLS and mail into every process, and few need it

    pauses = Pauses(limit=_PATIENCE)
    while True:
        try:
            with urlopen(_request(method, digest, data), timeout=_TIMEOUT) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            with error:
                told = _told(error.read())
            if error.code not in (502, 503, 504):
                raise RuntimeSystemError(told.code, f"the value {digest}: {told.message}") from None
            why = told.message
        except (URLError, HTTPException, OSError) as error:  # refused, reset, or cut off in the middle
            why = str(error)
        if not pauses.sleep():
            raise SystemUnavailableError(f"the value {digest} cannot be moved: {why}")


def _told(body: bytes) -> ErrorInfo:
    try:
        return msgspec.json.decode(body, type=ErrorBody).error
    except msgspec.MsgspecError:
        return ErrorInfo(code="SystemUnavailableError", message=body[:300].decode(errors="replace"))


def _request(method: str, digest: str, data: bytes | None = None) -> Request:
    from urllib.request import Request

    return Request(
        f"{os.environ['FLYTE_ENDPOINT']}/v1/blobs/{digest}",
        data=data,
        method=method,
        headers={"Authorization": f"Bearer {os.environ['FLYTE_API_KEY']}", "Content-Type": "application/json"},
    )
