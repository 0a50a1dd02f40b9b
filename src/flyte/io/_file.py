"""`File`: one file as an input or output."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, TypeVar

from flyte._context import ctx
from flyte._values.hashes import HashMethod, hash_of_file
from flyte.io import _open, _place
from flyte.io._located import Located
from flyte.io._open import AsyncFile
from flyte.storage._new_files import new_address
from flyte.types._type_engine import CodecTransformer

T = TypeVar("T")


class File(Located[T]):
    """A file by its path or URI. `T` documents its content; it is not checked.

    The task itself opens or downloads it: `async with file.open() as f: text = await f.read()`, or
    `with file.open_sync() as f: …`.
    """

    __slots__ = ("hash_method",)

    FORMAT: ClassVar[str] = "file"

    hash_method: HashMethod | None
    """Computes `hash` from what is written to the file in this process. It does not travel."""

    def __init__(
        self,
        path: str | Path,
        name: str | None = None,
        format: str = "",
        hash: str | None = None,
        hash_method: HashMethod | None = None,
    ) -> None:
        super().__init__(path, name, format, hash)
        object.__setattr__(self, "hash_method", hash_method)

    @classmethod
    def new_remote(cls, file_name: str | None = None, hash_method: HashMethod | str | None = None) -> File[T]:
        """A file that is to be written, at a location that other actions can read.

        `hash_method` is the hash for cache keys, or computes it from the content when the file has been written.
        """
        return cls._hashed(new_address(file_name or ""), hash_method)

    @classmethod
    def named_remote(cls, name: str) -> File[T]:
        """Like `new_remote`, at a location that is the same in all attempts of this action.

        A later attempt finds what an earlier one has written completely. Outside of an action the location is new.
        Raises ValueError for a name with a path in it.
        """
        if not name or Path(name).name != name:
            raise ValueError(f"{name!r} is not the name of a file; give a name without folders")
        action = ctx().action
        if action.name is None:
            return cls.new_remote(name)
        return cls(path=_place.address_of_action(f"{action.run_name}/{action.name}", name))

    @classmethod
    def from_existing_remote(cls, remote_path: str, file_cache_key: str | None = None) -> File[T]:
        """An existing file."""
        return cls(path=remote_path, hash=file_cache_key)

    @classmethod
    def _hashed(cls, path: str, method: HashMethod | str | None) -> File[T]:
        if isinstance(method, str):
            return cls(path=path, hash=method)
        return cls(path=path, hash_method=method)

    @classmethod
    def from_local_sync(
        cls, local_path: str | Path, remote_destination: str | None = None, hash_method: HashMethod | str | None = None
    ) -> File[T]:
        """Copy a file of this machine to a location that other actions can read (or to `remote_destination`).

        For a platform on another machine it is uploaded. In local mode it is not copied. `hash_method` is the hash for
        cache keys, or computes it from the content. Raises FileNotFoundError if the file does not exist, and
        TooLargeError if it must be uploaded and is above 100 MiB.
        """
        source = Path(local_path)
        if source.is_dir():
            raise IsADirectoryError(f"{source} is a folder; use Dir.from_local()")
        path = _place.keep(source, remote_destination)
        return cls(path=path, name=source.name, hash=hash_of_file(source, hash_method))

    @classmethod
    async def from_local(
        cls, local_path: str | Path, remote_destination: str | None = None, hash_method: HashMethod | str | None = None
    ) -> File[T]:
        """`from_local_sync`, without blocking the event loop."""
        return await asyncio.to_thread(cls.from_local_sync, local_path, remote_destination, hash_method)

    @contextmanager
    def open_sync(
        self,
        mode: str = "rb",
        block_size: int | None = None,
        cache_type: str | None = "readahead",
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> Iterator[IO[Any]]:
        """The file, open; `options` are those of the built-in `open`.

        `block_size` is the size of the buffer, in bytes. `compression` is gzip, bz2, xz, lzma, or "infer" (by the
        suffix). `cache_type` and `cache_options` say how an object store is read ahead; a local file is not.
        A new file of the platform appears under its name when it was written and closed without an error.
        """
        _open.check(cache_type, compression)
        options = {"buffering": block_size, **options} if block_size else options
        if not set(mode) & set("wax+"):
            with _open.opened(_place.readable(self.path), self.path, mode, compression, options) as file:
                yield file
            return
        with _place.writing(self.path, mode) as path:
            with _open.opened(path, self.path, mode, compression, options) as file:
                yield file
            if self.hash_method is not None:
                object.__setattr__(self, "hash", hash_of_file(path, self.hash_method))

    @asynccontextmanager
    async def open(
        self,
        mode: str = "rb",
        block_size: int | None = None,
        cache_type: str | None = "readahead",
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> AsyncIterator[AsyncFile]:
        """`open_sync`, with an AsyncFile, whose `read`, `write` and other methods are to be awaited."""
        opened = self.open_sync(mode, block_size, cache_type, cache_options, compression, **options)

        async def leave(*how: Any) -> bool | None:
            return await asyncio.to_thread(opened.__exit__, *how)

        async with AsyncExitStack() as stack:
            file = await asyncio.to_thread(opened.__enter__)
            stack.push_async_exit(leave)
            yield AsyncFile(file)

    def download_sync(self, local_path: str | Path | None = None) -> str:
        """A local copy at `local_path`; without one, among the temporary files.

        `local_path` is the file itself, or a folder: one that exists, or a path that ends with a slash.

        The caller may change it. A file that is not stored on the platform, but is a path of the machine, is returned
        itself when no `local_path` is given.
        """
        if local_path is None:
            return str(_place.own_copy(_place.readable(self.path)))
        target = Path(local_path)
        if target.is_dir() or str(local_path).endswith(os.sep):
            target = target / self.name
        target.parent.mkdir(parents=True, exist_ok=True)
        _place.fetch(self.path, target)
        return str(target.absolute())

    async def download(self, local_path: str | Path | None = None) -> str:
        """`download_sync`, without blocking the event loop."""
        return await asyncio.to_thread(self.download_sync, local_path)

    def exists_sync(self) -> bool:
        return _place.is_there(self.path)

    async def exists(self) -> bool:
        return await asyncio.to_thread(self.exists_sync)

    def __fspath__(self) -> str:
        return str(_place.readable(self.path))


class FileTransformer(CodecTransformer):
    """What plugins register for their subclasses of File, whose values travel as those of File do."""

    def __init__(self) -> None:
        super().__init__("File", File)
