"""What both stores know of a blob, and how one is received: into a temporary file that is hashed as it is written."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from flyte.atomic import UNFINISHED
from flyte.errors import InvalidInputError

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")

PIECE = 1 << 20
"""Bytes that are read at once."""


@dataclass(frozen=True, slots=True)
class Stored:
    name: str
    """The digest of a blob."""
    size: int
    at: float
    """When it was stored or asked for last, in seconds since 1970."""


def is_digest(name: str) -> bool:
    return _DIGEST.match(name) is not None


def checked(digest: str) -> str:
    """Raises InvalidInputError if `digest` is not a sha256."""
    if not is_digest(digest):
        raise InvalidInputError(f"{digest[:80]!r} is not a sha256: 64 hexadecimal digits, in lower case")
    return digest


@contextlib.asynccontextmanager
async def received(folder: Path, digest: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[Path]:
    """A temporary file in `folder` with the bytes, on disk. It is removed at the end, unless it was renamed.

    Raises InvalidInputError if their sha256 is not `digest`.
    """
    fd, name = await asyncio.to_thread(tempfile.mkstemp, dir=folder, prefix=f"{UNFINISHED}{digest[:40]}.")
    try:
        with os.fdopen(fd, "wb") as file:
            sha256 = hashlib.sha256()
            async for chunk in chunks:
                sha256.update(chunk)
                file.write(chunk)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        if sha256.hexdigest() != digest:
            raise InvalidInputError(
                f"the bytes that arrived have the sha256 {sha256.hexdigest()}, not {digest}; they were changed on "
                "their way: send them again"
            )
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
