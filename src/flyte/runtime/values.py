"""Encoded values on their way through a worker: in the frame when small, in the blob store when not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from flyte.atomic import store_file
from flyte.errors import TooLargeError
from flyte.wire import INLINE_LIMIT, VALUE_LIMIT, Value

if TYPE_CHECKING:
    from urllib.request import Request

_TIMEOUT = 300


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
    from urllib.request import urlopen  # not at the top: it brings TLS and mail into every process, and few need it

    with urlopen(_request("GET", value.blob), timeout=_TIMEOUT) as answer:
        return bytes(answer.read())


def _put(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    folder = os.environ.get("FLYTE_BLOBS")
    if folder and os.path.isdir(folder):
        store_file(Path(folder, digest), data)
    else:
        from urllib.request import urlopen

        with urlopen(_request("PUT", digest, data), timeout=_TIMEOUT):
            pass
    return digest


def _request(method: str, digest: str, data: bytes | None = None) -> Request:
    from urllib.request import Request

    return Request(
        f"{os.environ['FLYTE_ENDPOINT']}/v1/blobs/{digest}",
        data=data,
        method=method,
        headers={"Authorization": f"Bearer {os.environ['FLYTE_API_KEY']}", "Content-Type": "application/json"},
    )
