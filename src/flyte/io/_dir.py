"""`Dir`: a folder as an input or output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from flyte.io import _place
from flyte.io._file import File
from flyte.io._located import Located
from flyte.types._type_engine import CodecTransformer

T = TypeVar("T")


class Dir(Located[T]):
    """A folder by its path. `T` documents the content of its files; it is not checked."""

    __slots__ = ()

    FORMAT: ClassVar[str] = "dir"

    @classmethod
    def new_remote(cls, dir_name: str | None = None, hash: str | None = None) -> Dir[T]:
        """A new, empty folder where other actions can read it. `hash` is for cache keys."""
        return cls(path=_place.new_folder(dir_name or ""), hash=hash)

    @classmethod
    def empty(cls) -> Dir[T]:
        """A folder with nothing in it; see `EmptyDir`."""
        return EmptyDir()

    @classmethod
    def from_existing_remote(cls, remote_path: str, dir_cache_key: str | None = None) -> Dir[T]:
        """An existing folder."""
        return cls(path=remote_path, hash=dir_cache_key)

    @classmethod
    def from_local_sync(
        cls,
        local_path: str | Path,
        remote_destination: str | None = None,
        dir_cache_key: str | None = None,
        batch_size: int | None = None,
    ) -> Dir[T]:
        """Copy a folder of this machine to a location that other actions can read (or to `remote_destination`).

        `batch_size` is how many files are uploaded at a time, 32 by default (`FLYTE_IO_BATCH_SIZE`); only files for a
        platform on another machine are. See `File.from_local_sync`, whose size limit applies to each file.
        Raises NotADirectoryError for a path that is not a folder.
        """
        source = Path(local_path)
        if source.exists() and not source.is_dir():
            raise NotADirectoryError(f"{source} is not a folder; use File.from_local() for a file")
        return cls(path=_place.keep(source, remote_destination, batch_size), name=source.name, hash=dir_cache_key)

    @classmethod
    async def from_local(
        cls,
        local_path: str | Path,
        remote_destination: str | None = None,
        dir_cache_key: str | None = None,
        batch_size: int | None = None,
    ) -> Dir[T]:
        """`from_local_sync`, without blocking the event loop."""
        return await asyncio.to_thread(cls.from_local_sync, local_path, remote_destination, dir_cache_key, batch_size)

    def walk_sync(
        self, recursive: bool = True, file_pattern: str = "*", max_depth: int | None = None
    ) -> Iterator[File[T]]:
        """The folder's files in the order of their paths; `max_depth` 1 is the folder alone.

        Raises FileNotFoundError if there is no folder.
        """
        root = self._here()
        if not root.is_dir():
            raise FileNotFoundError(f"there is no folder {root}")
        for path in sorted(root.rglob(file_pattern) if recursive else root.glob(file_pattern)):
            depth = len(path.relative_to(root).parts)
            if path.is_file() and (max_depth is None or depth <= max_depth):
                yield File(path=str(path))

    async def walk(
        self, recursive: bool = True, file_pattern: str = "*", max_depth: int | None = None
    ) -> AsyncIterator[File[T]]:
        for file in await asyncio.to_thread(lambda: list(self.walk_sync(recursive, file_pattern, max_depth))):
            yield file

    def list_files_sync(self) -> list[File[T]]:
        """The files of the folder itself."""
        return list(self.walk_sync(recursive=False))

    async def list_files(self) -> list[File[T]]:
        return await asyncio.to_thread(self.list_files_sync)

    def get_file_sync(self, file_name: str) -> File[T] | None:
        """The file with that name or relative path, or None."""
        path = self._here() / file_name
        return File(path=str(path)) if path.is_file() else None

    async def get_file(self, file_name: str) -> File[T] | None:
        return await asyncio.to_thread(self.get_file_sync, file_name)

    def download_sync(self, local_path: str | Path | None = None) -> str:
        """A local copy at `local_path`; without one, among the temporary files. See `File.download_sync`."""
        source = self._here()
        if local_path is None:
            return str(_place.own_copy(source))
        _place.copy_folder(source, local_path)
        return str(Path(local_path).absolute())

    async def download(self, local_path: str | Path | None = None) -> str:
        return await asyncio.to_thread(self.download_sync, local_path)

    def exists_sync(self) -> bool:
        return _place.is_folder(self.path)

    async def exists(self) -> bool:
        return await asyncio.to_thread(self.exists_sync)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in the folder. Raises FileNotFoundError if there is no folder."""
        return not any(self._here().iterdir())

    def _here(self) -> Path:
        return _place.readable_folder(self.path)

    def __fspath__(self) -> str:
        return str(self._here())


class EmptyDir(Dir[Any]):
    """A folder with nothing in it, for a task that has no files to return; its `is_empty` is true.

    It arrives as a Dir: ask `is_empty`, not for the class.
    """

    __slots__ = ()

    def __init__(
        self, path: str | Path | None = None, name: str | None = None, format: str = "", hash: str | None = None
    ) -> None:
        super().__init__(_place.new_folder() if path is None else path, name, format, hash)


class DirTransformer(CodecTransformer):
    """What plugins register for their subclasses of Dir, whose values travel as those of Dir do."""

    def __init__(self) -> None:
        super().__init__("Dir", Dir)
