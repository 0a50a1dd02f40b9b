"""Blobs as files of one folder: the name is the digest, and a file is either complete or absent.

Workers on this machine read and write the same folder by the same rule: write a temporary file there, then rename it.
The time of a file's last change says when it was stored or asked for last: who finds a blob stored sets it anew
(`flyte.atomic.store_file`), and so keeps it from a collector that has found nobody who refers to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from flyte.atomic import is_stored, store_file, sync
from flyte.errors import NotFoundError
from tarmac.blobs.stored import PIECE, Stored, checked, is_digest, received
from tarmac.workload_files import NOT_A_FILE, open_to_read

REMOVING = ".remove-"
"""The prefix of a blob that is being removed. A process that is killed meanwhile leaves it; see `restore`."""


class FileBlobs:
    """The blobs of an existing folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        """The path of the blob, whether it exists or not."""
        return self._folder / checked(digest)

    async def has(self, digest: str) -> bool:
        try:
            os.utime(self.path(digest), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    async def get(self, digest: str) -> bytes:
        with _regular(digest):
            return await asyncio.to_thread(_read, self.path(digest))

    async def size(self, digest: str) -> int:
        with _regular(digest):
            return (await asyncio.to_thread(self.path(digest).stat)).st_size

    async def stream(self, digest: str) -> AsyncIterator[bytes]:
        with _regular(digest):
            file = await asyncio.to_thread(open_to_read, self.path(digest))
        with file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece

    async def local(self, digest: str) -> Path:
        path = self.path(digest)
        if not await asyncio.to_thread(os.path.lexists, path):
            raise _missing(digest)
        return path

    async def put(self, data: bytes) -> str:
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        await asyncio.to_thread(store_file, self.path(digest), data)
        return digest

    async def put_stream(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        path = self.path(digest)
        async with received(self._folder, digest, chunks) as file:
            if is_stored(path, file.stat().st_size):
                return False
            await asyncio.to_thread(_rename, file, path)
        return True

    async def list(self) -> AsyncIterator[Stored]:
        for found in await asyncio.to_thread(_listed, self._folder):
            yield found

    async def remove(self, digest: str, unused_since: float) -> bool:
        return await asyncio.to_thread(_remove, self.path(digest), unused_since)


@contextlib.contextmanager
def _regular(digest: str) -> Iterator[None]:
    """Turns the errors of opening a blob into NotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise _missing(digest) from None
    except OSError as error:
        if error.errno not in NOT_A_FILE:
            raise
        raise NotFoundError(f"what has the name of the blob {digest} is not a regular file; remove it") from None


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(f"no blob {digest}; it was never sent here, or its run was removed")


def _read(path: Path) -> bytes:
    with open_to_read(path) as file:
        return file.readall()


def _rename(file: Path, path: Path) -> None:
    os.replace(file, path)
    sync(path.parent)


def _listed(folder: Path) -> list[Stored]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_digest(entry.name):
                continue
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append(Stored(entry.name, status.st_size, status.st_mtime))
    return found


def _remove(path: Path, unused_since: float) -> bool:
    """Remove the file, unless somebody has stored it anew or asked for it: also at the very moment of the removal."""
    aside = path.parent / f"{REMOVING}{path.name}"
    try:
        os.rename(path, aside)
        if aside.lstat().st_mtime > unused_since:
            os.rename(aside, path)
            return False
        aside.unlink()
    except FileNotFoundError:
        return False
    return True


def restore(folder: Path) -> None:
    """Give back their names to the blobs whose removal was interrupted; somebody may have asked for them meanwhile."""
    for aside in folder.glob(f"{REMOVING}*"):
        with contextlib.suppress(OSError):
            os.rename(aside, folder / aside.name.removeprefix(REMOVING))
