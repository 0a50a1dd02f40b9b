"""Uploads of files and folders to the platform's blob store; see `_client.upload`."""

from __future__ import annotations

from pathlib import Path

from flyte._client.client import Client
from flyte._client.upload import send_file, send_folder
from flyte._session import init as _init
from flyte._sync import syncable


@syncable
async def upload_file(path: str | Path) -> tuple[str, str]:
    """Upload the file; returns (sha256, address). Raises FileNotFoundError, and TooLargeError above 100 MiB."""
    client = _init.client()
    digest = await send_file(client, Path(path))
    return digest, _address(client, digest)


@syncable
async def upload_dir(path: str | Path) -> str:
    """Upload the folder's files; returns the address of a list of them (`{"path": "sha256"}`).

    Raises NotADirectoryError, and TooLargeError for a file above 100 MiB.
    """
    client = _init.client()
    return _address(client, await send_folder(client, Path(path)))


def _address(client: Client, digest: str) -> str:
    return f"{client.endpoint}/v1/blobs/{digest}"
