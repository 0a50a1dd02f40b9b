"""Uploads of files and folders to the platform's blob store.

Content is stored by its sha256, so that the same file is sent once. A folder is a blob that lists its files; the
folder's digest is that of the list.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec

from flyte import wire
from flyte._client.client import Client
from flyte.errors import TooLargeError


async def send_file(client: Client, file: Path) -> str:
    """Upload the file; returns its sha256. Raises FileNotFoundError, TooLargeError above 100 MiB."""
    size = (await asyncio.to_thread(file.stat)).st_size
    if size > wire.VALUE_LIMIT:
        raise TooLargeError(
            f"{file} is {size / 2**20:.0f} MiB; the limit is {wire.VALUE_LIMIT / 2**20:.0f} MiB. Send it in parts"
        )
    return await _put(client, await asyncio.to_thread(file.read_bytes))


async def send_folder(client: Client, folder: Path) -> str:
    """Upload the folder's files and a list of them (`{"path": "sha256"}`); returns the sha256 of the list.

    Raises NotADirectoryError, and TooLargeError for a file above 100 MiB.
    """
    if not await asyncio.to_thread(folder.is_dir):
        raise NotADirectoryError(f"{folder} is not a folder")
    files = await asyncio.to_thread(lambda: sorted(file for file in folder.rglob("*") if file.is_file()))
    content = {file.relative_to(folder).as_posix(): await send_file(client, file) for file in files}
    return await _put(client, msgspec.json.encode(content, order="sorted"))


async def _put(client: Client, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    if not await client.has_blob(digest):
        await client.put_blob(digest, data)
    return digest
