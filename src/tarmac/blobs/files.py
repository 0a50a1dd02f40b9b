"""Blobs as files of one folder: the name is the digest, and a file is either complete or absent.

Workers on this machine read and write the same folder by the same rule: write a temporary file there, then rename it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

from flyte.atomic import store_file
from flyte.errors import InvalidInputError, NotFoundError
from tarmac.workload_files import NOT_A_FILE, open_to_read

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Blobs:
    """Bytes by the sha256 of their content, in an existing folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        """The path of the blob, whether it exists or not. Raises InvalidInputError if `digest` is not a sha256."""
        if not _DIGEST.match(digest):
            raise InvalidInputError(f"{digest[:80]!r} is not a sha256: 64 hexadecimal digits, in lower case")
        return self._folder / digest

    async def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    async def get(self, digest: str) -> bytes:
        """The bytes. Raises NotFoundError."""
        path = self.path(digest)
        try:
            return await asyncio.to_thread(_read, path)
        except FileNotFoundError:
            raise NotFoundError(f"no blob {digest}; it was never sent here, or its run was removed") from None
        except OSError as error:
            if error.errno not in NOT_A_FILE:
                raise
            raise NotFoundError(f"what has the name of the blob {digest} is not a regular file; remove it") from None

    async def put(self, data: bytes) -> str:
        """Store the bytes; when this returns they are on disk. Returns their digest."""
        digest = await asyncio.to_thread(_digest, data)
        await asyncio.to_thread(store_file, self.path(digest), data)
        return digest

    async def put_at(self, digest: str, data: bytes) -> None:
        """Store bytes under the digest that the sender names. Raises InvalidInputError if they have another one."""
        path = self.path(digest)
        found = await asyncio.to_thread(_digest, data)
        if found != digest:
            raise InvalidInputError(
                f"the body's sha256 is {found}, not {digest}; it was changed on its way: send it again"
            )
        await asyncio.to_thread(store_file, path, data)


def _read(path: Path) -> bytes:
    with open_to_read(path) as file:
        return file.readall()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
