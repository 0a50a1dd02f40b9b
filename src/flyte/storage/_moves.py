"""Files and folders copied and streamed between this machine and a store."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from pathlib import Path
from typing import Any

from flyte.object_store import is_object
from flyte.storage import _objects
from flyte.storage._filesystem import get_underlying_filesystem
from flyte.storage._new_files import new_address
from flyte.storage._paths import get_random_local_path, is_remote

_PIECE = 10 << 20


async def exists(path: str, **kwargs: Any) -> bool:
    """Whether there is such a file, object or folder."""
    return await asyncio.to_thread(_exists, path, kwargs)


async def get(from_path: str, to_path: str | Path | None = None, recursive: bool = False, **kwargs: Any) -> str:
    """Copy a file to this machine, or with `recursive` a folder; returns its path.

    Without `to_path` it goes into a new folder of temporary files. Raises FileNotFoundError.
    """
    target = Path(to_path) if to_path is not None else get_random_local_path(from_path.rstrip("/"))
    await asyncio.to_thread(_get, from_path, target, recursive, kwargs)
    return str(target)


async def put(from_path: str | Path, to_path: str | None = None, recursive: bool = False, **kwargs: Any) -> str:
    """Copy a file of this machine to a store, or with `recursive` a folder; returns its address there.

    Without `to_path` it goes to the run's new files (`flyte.ctx().raw_data_path`). Raises FileNotFoundError.
    """
    source = Path(str(from_path).removeprefix("file://"))
    target = to_path or new_address(source.name)
    await asyncio.to_thread(_put, source, target, recursive, kwargs)
    return target


async def get_stream(path: str, chunk_size: int = _PIECE, **kwargs: Any) -> AsyncGenerator[bytes, None]:
    """The bytes of a file or object, in pieces of about `chunk_size` bytes. Raises FileNotFoundError."""
    pieces = _objects.pieces_of(path, chunk_size) if is_object(path) else _pieces(path, chunk_size, kwargs)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


async def put_stream(
    data_iterable: AsyncIterable[bytes] | bytes, *, name: str | None = None, to_path: str | None = None, **kwargs: Any
) -> str:
    """Store bytes as they come; returns their address. Nothing is stored when they break off.

    Without `to_path` they become a new file of the run, called `name`.
    """
    target = to_path or new_address(name or "data")
    with tempfile.NamedTemporaryFile(prefix="flyte-") as file:
        if isinstance(data_iterable, bytes):
            file.write(data_iterable)
        else:
            async for data in data_iterable:
                await asyncio.to_thread(file.write, data)
        file.flush()
        await asyncio.to_thread(_put, Path(file.name), target, False, kwargs)
    return target


def _local(path: str) -> Path:
    return Path(path.removeprefix("file://"))


def _exists(path: str, options: dict[str, Any]) -> bool:
    if is_object(path):
        return _objects.is_there(path)
    if is_remote(path):
        return bool(get_underlying_filesystem(path=path, **options).exists(path))
    return _local(path).exists()


def _get(source: str, target: Path, recursive: bool, options: dict[str, Any]) -> None:
    if is_object(source):
        (_objects.fetch_folder if recursive else _objects.fetch)(source, target)
    elif is_remote(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        get_underlying_filesystem(path=source, **options).get(source, str(target), recursive=recursive)
    else:
        _copy(_local(source), target, recursive)


def _put(source: Path, target: str, recursive: bool, options: dict[str, Any]) -> None:
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist")
    if is_object(target):
        (_objects.send_folder if recursive else _objects.send)(source, target)
    elif is_remote(target):
        get_underlying_filesystem(path=target, **options).put(str(source), target, recursive=recursive)
    else:
        _copy(source, _local(target), recursive)


def _copy(source: Path, target: Path, recursive: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if recursive:
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _pieces(path: str, size: int, options: dict[str, Any]) -> Iterator[bytes]:
    if is_remote(path):
        opened = get_underlying_filesystem(path=path, **options).open(path, "rb")
    else:
        opened = _local(path).open("rb")
    with opened as file:
        while piece := file.read(size):
            yield piece
