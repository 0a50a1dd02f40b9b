"""Opening a file of this machine: compression, and files that appear under their name when they are whole."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from flyte.atomic import UNFINISHED

CACHE_TYPES = frozenset({"readahead", "mmap", "bytes", "none", "all", "background", "blockcache", "first", "parts"})
"""How fsspec, by whose names programs choose, reads ahead in an object store. A local file needs none of them."""

_COMPRESSIONS: Mapping[str, Callable[..., Any]] = {
    "gzip": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "lzma": lzma.open,
}
_SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".lzma": "lzma"}


def check(cache_type: str | None, compression: str | None) -> None:
    """Raises ValueError for a cache that is not known, and for a compression that is not supported."""
    if cache_type is not None and cache_type not in CACHE_TYPES:
        raise ValueError(f"cache_type={cache_type!r} is not one of {', '.join(sorted(CACHE_TYPES))}")
    if compression is not None and compression != "infer" and compression not in _COMPRESSIONS:
        known = ", ".join(_COMPRESSIONS)
        raise ValueError(f"compression={compression!r} is not supported; use one of {known}, or infer (by the suffix)")


def opened(path: Path, name: str, mode: str, compression: str | None, options: Mapping[str, Any]) -> IO[Any]:
    """The file `path`, open, with the compression that is named or that the suffix of `name` tells."""
    if compression == "infer":
        compression = _SUFFIXES.get(Path(name).suffix.lower())
    if compression is None:
        return path.open(mode, **options)
    text = {} if "b" in mode else {key: item for key, item in options.items() if key != "buffering"}
    opener = _COMPRESSIONS[compression]
    file: IO[Any] = opener(path, mode if set(mode) & set("bt") else f"{mode}t", **text)
    return file


@contextmanager
def whole(path: Path, mode: str) -> Iterator[Path]:
    """The place to write to: `path` has the new content when that is complete, and its old content until then.

    A file that is changed in place (modes "a" and "+") is `path` itself.
    """
    if "+" in mode or not set(mode) & set("wx"):
        yield path
        return
    if "x" in mode and path.exists():
        raise FileExistsError(f"{path} exists")
    unfinished = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


class AsyncFile:
    """An open file whose methods run in a thread."""

    def __init__(self, file: IO[Any]) -> None:
        self._file = file

    @property
    def closed(self) -> bool:
        return self._file.closed

    async def read(self, size: int | None = -1) -> Any:
        """At most `size` bytes or characters; all that is left without a size."""
        return await asyncio.to_thread(self._file.read, -1 if size is None else size)

    async def readall(self) -> Any:
        return await self.read()

    async def readline(self) -> Any:
        return await asyncio.to_thread(self._file.readline)

    async def readlines(self) -> list[Any]:
        return await asyncio.to_thread(self._file.readlines)

    async def write(self, data: Any) -> int:
        return await asyncio.to_thread(self._file.write, data)

    async def writelines(self, lines: Iterable[Any]) -> None:
        await asyncio.to_thread(self._file.writelines, lines)

    async def seek(self, offset: int, whence: int = 0) -> int:
        return await asyncio.to_thread(self._file.seek, offset, whence)

    async def tell(self) -> int:
        return await asyncio.to_thread(self._file.tell)

    async def truncate(self, size: int | None = None) -> int:
        return await asyncio.to_thread(self._file.truncate, size)

    async def flush(self) -> None:
        await asyncio.to_thread(self._file.flush)

    async def close(self) -> None:
        await asyncio.to_thread(self._file.close)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while line := await self.readline():
            yield line
