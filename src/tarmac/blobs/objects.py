"""Blobs as objects of an object store, `PREFIX/blobs/DIGEST`, with a folder of copies on this machine.

An object appears whole or not at all: that is what S3, GCS and Azure promise for a single upload as for one in parts. A
copy is checked against its digest before it gets its name. Only the control plane writes here, so it knows in memory
which blobs were asked for lately; what was asked for before its own start counts as asked for at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flyte.errors import BaseRuntimeError, InvalidInputError, NotFoundError, StorageError
from flyte.object_store import explained, open_store, split
from tarmac.blobs.files import FileBlobs
from tarmac.blobs.stored import PIECE, Stored, checked, is_digest, received

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which a store that does not answer is given up; an upload has a second for each megabyte besides."""

_NAMES = 1000
"""Names of one page of a list."""


class ObjectBlobs:
    """The blobs below the URL `s3://bucket/prefix`, with copies in an existing folder."""

    def __init__(self, url: str, folder: Path, patience: float = PATIENCE) -> None:
        root, prefix = split(url)
        self.url = f"{root}/{prefix}".rstrip("/")
        self._prefix = f"{prefix}/blobs/" if prefix else "blobs/"
        self._store: ObjectStore = open_store(url)
        self._folder = folder
        self._copies = FileBlobs(folder)
        self._patience = patience
        self._started = time.time()
        self._asked: dict[str, float] = {}
        """Digest → when it was stored or asked for last."""
        self._locks = [asyncio.Lock() for _ in range(256)]
        self.problem = ""
        """Why the last call failed, if it did: for the health of the platform."""

    async def has(self, digest: str) -> bool:
        self._asked[checked(digest)] = time.time()
        async with self._undisturbed(digest):
            return await self._head(digest) is not None

    async def get(self, digest: str) -> bytes:
        return b"".join([piece async for piece in self.stream(digest)])

    async def size(self, digest: str) -> int:
        found = await self._head(checked(digest))
        if found is None:
            raise self._missing(digest)
        return int(found["size"])

    async def stream(self, digest: str) -> AsyncIterator[bytes]:
        path = await self.local(digest)
        with await asyncio.to_thread(open, path, "rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece

    async def local(self, digest: str) -> Path:
        path = self._copies.path(digest)
        if not await self._copies.has(digest):
            try:
                await self._copies.put_stream(digest, self._fetched(digest))
            except InvalidInputError as error:
                raise StorageError(
                    f"{self.url}/blobs/{digest} is damaged; delete it, and send it again ({error})"
                ) from None
        return path

    async def put(self, data: bytes) -> str:
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        await self.put_stream(digest, _once(data))
        return digest

    async def put_stream(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        path = self._copies.path(digest)
        self._asked[digest] = time.time()
        async with received(self._folder, digest, chunks) as file, self._undisturbed(digest):
            size = file.stat().st_size
            found = await self._head(digest)
            is_new = found is None or found["size"] != size
            if is_new:
                await self._send(digest, file, size)
            await asyncio.to_thread(file.rename, path)
        return is_new

    async def list(self) -> AsyncIterator[Stored]:
        import obstore

        pages = obstore.list(self._store, prefix=self._prefix, chunk_size=_NAMES)
        while True:
            with self._explained(""):
                page = await asyncio.wait_for(anext(pages, None), self._patience)
            if page is None:
                return
            for entry in page:
                digest = entry["path"].rpartition("/")[2]
                if is_digest(digest):
                    yield Stored(digest, entry["size"], self._last_use(digest, entry["last_modified"].timestamp()))

    async def remove(self, digest: str, unused_since: float) -> bool:
        import obstore

        async with self._undisturbed(digest):
            found = await self._head(checked(digest))
            if found is None or self._last_use(digest, found["last_modified"].timestamp()) > unused_since:
                return False
            await self._answer(digest, obstore.delete_async(self._store, self._key(digest)))
            self._asked.pop(digest, None)
        self._copies.path(digest).unlink(missing_ok=True)
        return True

    async def check(self) -> None:
        """Ask the store for anything at all. Raises StorageError or SystemUnavailableError."""
        await self._head("0" * 64)
        async for _ in self.list():
            break

    # ------------------------------------------------------------------ the store's answers

    def _key(self, digest: str) -> str:
        return self._prefix + digest

    def _last_use(self, digest: str, stored: float) -> float:
        return max(stored, self._asked.get(digest, self._started))

    async def _head(self, digest: str) -> Any | None:
        import obstore

        with contextlib.suppress(FileNotFoundError):
            return await self._answer(digest, obstore.head_async(self._store, self._key(digest)))
        return None

    async def _fetched(self, digest: str) -> AsyncIterator[bytes]:
        import obstore

        try:
            answer = await self._answer(digest, obstore.get_async(self._store, self._key(digest)))
        except FileNotFoundError:
            raise self._missing(digest) from None
        pieces = answer.stream(min_chunk_size=PIECE)
        while (piece := await self._answer(digest, anext(pieces, None))) is not None:
            yield bytes(piece)

    async def _send(self, digest: str, file: Path, size: int) -> None:
        import obstore

        sent = obstore.put_async(self._store, self._key(digest), file)
        await self._answer(digest, sent, self._patience + size / 1e6)

    async def _answer(self, digest: str, call: Awaitable[T], patience: float = 0.0) -> T:
        with self._explained(digest):
            return await asyncio.wait_for(call, patience or self._patience)

    @contextlib.contextmanager
    def _explained(self, digest: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            told = explained(error, f"{self.url}/blobs/{digest}")
            if not isinstance(told, FileNotFoundError):
                self.problem = str(told)
            raise told from error
        self.problem = ""

    def _undisturbed(self, digest: str) -> asyncio.Lock:
        """While it is held, nobody else stores or removes this blob."""
        return self._locks[int(checked(digest)[:2], 16)]

    def _missing(self, digest: str) -> BaseRuntimeError:
        return NotFoundError(f"no blob {digest} in {self.url}; it was never sent there, or its run was removed")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
