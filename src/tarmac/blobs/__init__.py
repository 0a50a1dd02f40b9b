"""Large values and code bundles, by the sha256 of their bytes. A stored blob is never changed.

They lie in a folder of this machine (`files`), or in an object store (`objects`) where `TARMAC_STORAGE_URL` names one;
the folder then has copies of what was used here. Both do the same, which tests/contract/test_blobs.py proves of both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from tarmac.blobs.files import FileBlobs
from tarmac.blobs.objects import ObjectBlobs
from tarmac.blobs.stored import Stored

__all__ = ["Blobs", "FileBlobs", "ObjectBlobs", "Stored", "open_blobs"]


class Blobs(Protocol):
    """Bytes by the sha256 of their content.

    Every method raises InvalidInputError for what is not a sha256. Where a store lies elsewhere, StorageError says that
    it refuses, and SystemUnavailableError that it does not answer.
    """

    async def has(self, digest: str) -> bool:
        """Whether it is stored. A blob that was asked for counts as new for `remove`."""
        ...

    async def get(self, digest: str) -> bytes:
        """The bytes. Raises NotFoundError."""
        ...

    async def size(self, digest: str) -> int:
        """The number of the bytes. Raises NotFoundError."""
        ...

    def stream(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes in pieces. Raises NotFoundError before the first."""
        ...

    async def local(self, digest: str) -> Path:
        """A file of this machine with the bytes, which must not be changed. Raises NotFoundError."""
        ...

    async def put(self, data: bytes) -> str:
        """Store the bytes; when this returns they are stored for good. Returns their digest."""
        ...

    async def put_stream(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Store the bytes whose sha256 the sender says is `digest`; False if they were stored already.

        Raises InvalidInputError if they have another one; then nothing is stored.
        """
        ...

    def list(self) -> AsyncIterator[Stored]:
        """Everything that is stored, in no order."""
        ...

    async def remove(self, digest: str, unused_since: float) -> bool:
        """Remove the blob; False if it was stored or asked for after that time (seconds since 1970), or is gone."""
        ...


def open_blobs(url: str, folder: Path) -> Blobs:
    """The store at `url`, with `folder` for copies, or the store in `folder` if `url` is empty. Nothing is sent yet.

    Raises InvalidInputError for another kind of URL, and InitializationError where obstore is not installed.
    """
    return ObjectBlobs(url, folder) if url else FileBlobs(folder)
