"""Uploads of files and folders to the platform's blob store.

Content is stored by its sha256, so that the same file is sent once. A folder is a blob that lists its files; the
folder's address is that of the list.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec

from flyte import wire
from flyte._client.client import Client
from flyte._session import init as _init
from flyte._sync import syncable
from flyte.errors import TooLargeError


@syncable
async def upload_file(path: str | Path) -> tuple[str, str]:
    """Upload the file; returns (sha256, address). Raises FileNotFoundError, and TooLargeError above 100 MiB."""
    client = _init.client()
    digest = await _sent(client, Path(path))
    return digest, _address(client, digest)


@syncable
async def upload_dir(path: str | Path) -> str:
    """Upload the folder's files; returns the address of a list of them (`{"path": "sha256"}`).

    Raises NotADirectoryError, and TooLargeError for a file above 100 MiB.
    """
    folder, client = Path(path), _init.client()
    if not await asyncio.to_thread(folder.is_dir):
        raise NotADirectoryError(f"{folder} is not a folder")
    files = await asyncio.to_thread(lambda: sorted(file for file in folder.rglob("*") if file.is_file()))
    content = {file.relative_to(folder).as_posix(): await _sent(client, file) for file in files}
    return _address(client, await _put(client, msgspec.json.encode(content, order="sorted")))


async def _sent(client: Client, file: Path) -> str:
    size = (await asyncio.to_thread(file.stat)).st_size
    if size > wire.VALUE_LIMIT:
        raise TooLargeError(
            f"{file} is {size / 2**20:.0f} MiB; the limit is {wire.VALUE_LIMIT / 2**20:.0f} MiB. Send it in parts"
        )
    return await _put(client, await asyncio.to_thread(file.read_bytes))


async def _put(client: Client, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    if not await client.has_blob(digest):
        await client.put_blob(digest, data)
    return digest


def _address(client: Client, digest: str) -> str:
    return f"{client.endpoint}/v1/blobs/{digest}"
