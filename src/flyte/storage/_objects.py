"""Objects of a store as files and folders of this machine. Everything here blocks.

A file is never in memory as a whole. What arrives gets its name when it is complete, and its length is compared with
what the store says; an upload appears in the store whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from flyte.errors import StorageError
from flyte.object_store import explained, open_store, split
from flyte.storage._filesystem import settings_in_force

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PIECE = 4 << 20
"""Bytes that are held at once."""


def opened(url: str, **options: Any) -> tuple[ObjectStore, str]:
    """The store and the key in it."""
    return open_store(url, settings_in_force(), **options), split(url)[1]


@contextlib.contextmanager
def problems_of(url: str) -> Iterator[None]:
    """Raises what `explained` says for an error of obstore; errors of this machine's disk stay as they are."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        raise explained(error, url) from error
    except OSError as error:
        if error.errno is not None:  # of this machine's disk
            raise
        raise explained(error, url) from error


def is_there(url: str) -> bool:
    """Whether there is an object of that name, or one below it."""
    import obstore

    store, key = opened(url)
    with problems_of(url):
        with contextlib.suppress(FileNotFoundError):
            obstore.head(store, key)
            return True
        return any(len(page) > 0 for page in obstore.list(store, prefix=f"{key}/", chunk_size=1))


def version_of(url: str) -> tuple[str, int]:
    """What changes with the object's content, and its size. Raises FileNotFoundError."""
    import obstore

    store, key = opened(url)
    with problems_of(url):
        found = obstore.head(store, key)
    return str(found.get("e_tag") or found["last_modified"]), int(found["size"])


def pieces_of(url: str, size: int = PIECE) -> Iterator[bytes]:
    """The object's bytes in pieces of about that size. Raises FileNotFoundError."""
    import obstore

    store, key = opened(url)
    with problems_of(url):
        answer = obstore.get(store, key)
        expected, got = int(answer.meta["size"]), 0
        for piece in answer.stream(min_chunk_size=size):
            got += len(piece)
            yield bytes(piece)
    if got != expected:
        raise StorageError(f"{url} broke off after {got:,} of {expected:,} bytes; do it again")


def fetch(url: str, target: Path) -> None:
    """The object as a file; nothing is there when it fails. Raises FileNotFoundError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = target.parent / f".{uuid.uuid4().hex}"
    try:
        with whole.open("wb") as file:
            for piece in pieces_of(url):
                file.write(piece)
        os.replace(whole, target)
    finally:
        whole.unlink(missing_ok=True)


def below(url: str) -> list[str]:
    """The names of the objects below `url`, relative to it, in order."""
    import obstore

    store, key = opened(url)
    prefix = f"{key}/" if key else ""
    with problems_of(url):
        found = [entry["path"] for page in obstore.list(store, prefix=prefix or None) for entry in page]
    return sorted(path[len(prefix) :] for path in found if path[len(prefix) :])


def fetch_folder(url: str, target: Path) -> None:
    """The objects below `url` as files below `target`. Raises FileNotFoundError where there are none."""
    names = below(url)
    if not names:
        raise FileNotFoundError(f"nothing is below {url}/")
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{url} has the object {name!r}, which is not inside the folder")
        fetch(f"{url.rstrip('/')}/{name}", target / path)


def send(source: Path, url: str) -> None:
    """Store the file as the object `url`."""
    import obstore

    store, key = opened(url)
    with source.open("rb") as file, problems_of(url):
        obstore.put(store, key, file)
        found, size = int(obstore.head(store, key)["size"]), os.fstat(file.fileno()).st_size
    if found != size:
        raise StorageError(f"{url} has {found:,} bytes instead of {size:,}; send it again")


def send_folder(source: Path, url: str) -> None:
    """Store the files of a folder as objects below `url`."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            send(path, f"{url.rstrip('/')}/{path.relative_to(source).as_posix()}")


def cached(url: str, folder: Path) -> Path:
    """A read-only copy of the object in `folder`, which is fetched once for each version of the object.

    Raises FileNotFoundError.
    """
    import hashlib

    version, size = version_of(url)
    name = hashlib.sha256(f"{url}\0{version}\0{size}".encode()).hexdigest()
    target = folder / name / (PurePosixPath(split(url)[1]).name or "data")
    try:
        os.utime(target.parent)  # a collector leaves alone what was used lately
        if target.exists():
            return target
    except FileNotFoundError:
        target.parent.mkdir(mode=0o700, exist_ok=True)
    fetch(url, target)
    target.chmod(0o444)
    return target


def cached_folder(url: str, folder: Path) -> Path:
    """A copy of the objects below `url` as a folder; a new one for each call, since the store may have changed."""
    place = folder / uuid.uuid4().hex
    place.mkdir(mode=0o700)
    target = place / (PurePosixPath(split(url)[1]).name or "data")
    try:
        fetch_folder(url, target)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return target
