"""`File`: one file as an input or output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from flyte.io import _place
from flyte.io._located import Located

T = TypeVar("T")


class File(Located[T]):
    """A file by its path or URI. `T` documents its content; it is not checked.

    The task itself opens or downloads it: `async with file.open() as f: text = await f.read()`, or
    `with file.open_sync() as f: …`.
    """

    __slots__ = ()

    @classmethod
    def new_remote(cls, file_name: str | None = None, hash_method: str | None = None) -> File[T]:
        """A file that is to be written, at a location that other actions can read."""
        return cls(path=str(_place.new_path(file_name or "")), hash=hash_method)

    @classmethod
    def named_remote(cls, name: str) -> File[T]:
        """Like `new_remote`, with the given name."""
        return cls.new_remote(name)

    @classmethod
    def from_existing_remote(cls, remote_path: str, file_cache_key: str | None = None) -> File[T]:
        """An existing file."""
        return cls(path=remote_path, hash=file_cache_key)

    @classmethod
    def from_local_sync(
        cls, local_path: str | Path, remote_destination: str | None = None, hash_method: str | None = None
    ) -> File[T]:
        """Copy a file of this machine to a location that other actions can read (or to `remote_destination`).

        For a platform on another machine it is uploaded. In local mode it is not copied. Raises FileNotFoundError if it
        does not exist, and TooLargeError if it must be uploaded and is above 100 MiB.
        """
        source = Path(local_path)
        return cls(path=_place.keep(source, remote_destination), name=source.name, hash=hash_method)

    @classmethod
    async def from_local(
        cls, local_path: str | Path, remote_destination: str | None = None, hash_method: str | None = None
    ) -> File[T]:
        """`from_local_sync`, without blocking the event loop."""
        return await asyncio.to_thread(cls.from_local_sync, local_path, remote_destination, hash_method)

    @contextmanager
    def open_sync(
        self,
        mode: str = "rb",
        block_size: Any = None,
        cache_type: Any = None,
        cache_options: Any = None,
        compression: Any = None,
        **options: Any,
    ) -> Iterator[IO[Any]]:
        """The file, open; `options` are those of the built-in `open`.

        `block_size`, the cache's settings and `compression` are for object stores, and have no effect here.
        """
        reading = not set(mode) & set("wax+")
        path = _place.readable(self.path) if reading else _place.writable(self.path)
        with path.open(mode, **options) as file:
            yield file

    @asynccontextmanager
    async def open(self, mode: str = "rb", **options: Any) -> AsyncIterator[AsyncFile]:
        """The file, open, with `read`, `write`, `readline` and `readlines` to be awaited."""
        opened = self.open_sync(mode, **options)
        file = await asyncio.to_thread(opened.__enter__)
        try:
            yield AsyncFile(file)
        finally:
            await asyncio.to_thread(file.close)

    def download_sync(self, local_path: str | Path | None = None) -> str:
        """A local copy at `local_path` (a folder, or the file itself); without one, among the temporary files.

        The caller may change it. A file that is not stored on the platform, but is a path of the machine, is returned
        itself when no `local_path` is given.
        """
        source = _place.readable(self.path)
        if local_path is None:
            return str(_place.own_copy(source))
        target = Path(local_path)
        target = target / (self.name or source.name) if target.is_dir() else target
        target.parent.mkdir(parents=True, exist_ok=True)
        _place.copy_file(source, target)
        return str(target.absolute())

    async def download(self, local_path: str | Path | None = None) -> str:
        """`download_sync`, without blocking the event loop."""
        return await asyncio.to_thread(self.download_sync, local_path)

    def exists_sync(self) -> bool:
        here = _place.local_path(self.path)
        return here.is_file() if here is not None else _place.readable(self.path).is_file()

    async def exists(self) -> bool:
        return await asyncio.to_thread(self.exists_sync)

    def __fspath__(self) -> str:
        return str(_place.readable(self.path))


class AsyncFile:
    """An open file whose methods run in a thread."""

    def __init__(self, file: IO[Any]) -> None:
        self._file = file

    async def read(self, size: int = -1) -> Any:
        return await asyncio.to_thread(self._file.read, size)

    async def readline(self) -> Any:
        return await asyncio.to_thread(self._file.readline)

    async def readlines(self) -> list[Any]:
        return await asyncio.to_thread(self._file.readlines)

    async def write(self, data: Any) -> int:
        return await asyncio.to_thread(self._file.write, data)

    async def seek(self, offset: int, whence: int = 0) -> int:
        return await asyncio.to_thread(self._file.seek, offset, whence)

    async def flush(self) -> None:
        await asyncio.to_thread(self._file.flush)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while line := await self.readline():
            yield line
