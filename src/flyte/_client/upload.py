"""Uploads of files and folders to the platform's blob store.

Content is stored by its sha256, so that the same file is sent once. A folder is a blob that lists its files; the
folder's digest is that of the list.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
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


def default_batch_size() -> int:
    """How many files of a folder are sent at a time: 32, or what FLYTE_IO_BATCH_SIZE says."""
    text = os.environ.get("FLYTE_IO_BATCH_SIZE", "32")
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"FLYTE_IO_BATCH_SIZE={text!r} is not a number of files; set it to 1 or more")
    return int(text)


async def send_folder(client: Client, folder: Path, batch_size: int | None = None) -> str:
    """Upload the folder's files and a list of them (`{"path": "sha256"}`); returns the sha256 of the list.

    `batch_size` files are sent at a time. Raises NotADirectoryError, TooLargeError for a file above 100 MiB, and
    ValueError for a batch size below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; it is 1 or more")
    if not await asyncio.to_thread(folder.is_dir):
        raise NotADirectoryError(f"{folder} is not a folder")
    files = await asyncio.to_thread(lambda: sorted(file for file in folder.rglob("*") if file.is_file()))
    slots = asyncio.Semaphore(batch_size or default_batch_size())

    async def send(file: Path) -> str:
        async with slots:
            return await send_file(client, file)

    try:
        async with asyncio.TaskGroup() as group:
            sent = {file.relative_to(folder).as_posix(): group.create_task(send(file)) for file in files}
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    content = {name: task.result() for name, task in sent.items()}
    return await _put(client, msgspec.json.encode(content, order="sorted"))


async def _put(client: Client, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    if not await client.has_blob(digest):
        await client.put_blob(digest, data)
    return digest
