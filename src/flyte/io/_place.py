"""The locations of actions' files, and access to a path or URI.

In a process of the platform, and in a program that uses the platform of its own machine, new files go into the folder
next to the platform's blob store, which every process of the machine sees. In local mode they go into a folder of this
user among the temporary files. A run may name another place for them, also in an object store (`flyte.storage`). Files
for a platform on another machine are uploaded (see `_blob`). `file://` and plain paths are read in place, `http(s)://`,
`blob://` and objects are fetched; other schemes raise an error.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flyte._session import state as _state
from flyte.io import _allowed, _blob, _open
from flyte.object_store import SCHEMES, is_object
from flyte.runtime import identity
from flyte.storage import _objects
from flyte.storage._new_files import chosen_path, data_folder, new_address, platforms_folder

if TYPE_CHECKING:
    from urllib.request import Request

_BLOB = re.compile(r"v1/blobs/[0-9a-f]{64}")

_KEPT, _WRITING = 0o444, 0o222
"""Modes: files that others may read are read-only."""
_AT_ONCE = 1 << 30
_STORES = ", ".join(f"{scheme}://" for scheme in SCHEMES)

FETCH_TIMEOUT = 60.0
"""Seconds without data after which fetching a URL is given up."""


def is_shared() -> bool:
    """Whether the folder for new files is one that the readers of this process's files see, too."""
    return platforms_folder() is not None or _state.current().client is None or chosen_path() is not None


def new_path(name: str = "") -> Path:
    """An unused path that ends in `name`, in an existing folder."""
    folder = data_folder() / uuid.uuid4().hex
    folder.mkdir(mode=0o700)
    return folder / (Path(name).name or "data")


def address_of_action(action: str, name: str) -> str:
    """The place for the file `name` of an action. It is the same in each attempt."""
    return new_address(name, hashlib.sha256(action.encode()).hexdigest()[:32])


def new_folder(name: str = "") -> str:
    """The place of a new, empty folder; in an object store there is nothing until something is written below it."""
    address = new_address(name)
    if not is_object(address):
        os.mkdir(address)
    return address


def is_ours(path: Path) -> bool:
    """Whether the path is among the files that the platform, or local mode, stores for tasks."""
    return path.is_relative_to(data_folder())


def local_path(path: str) -> Path | None:
    """The path on this machine for `path`; None for a URI of another location.

    Raises PermissionError for a path that a File or Dir may not name here.
    """
    scheme, _, rest = path.partition("://")
    if not _:
        return _allowed.check(Path(path))
    return _allowed.check(Path(urllib.parse.unquote(rest))) if scheme == "file" else None


def readable(path: str) -> Path:
    """A local file with the content; it is fetched if it is in another location."""
    here = local_path(path)
    if here is not None:
        return here
    if path.startswith(_blob.SCHEME):
        return _blob.fetched(path, data_folder())
    if is_object(path):
        return _objects.cached(_allowed.check_object(path), data_folder())
    if not path.startswith(("http://", "https://")):
        raise ValueError(
            f"{path}: only local paths, file://, http(s):// and object stores ({_STORES}) can be read; "
            "fetch it in the task instead"
        )
    import urllib.request  # not at the top: it brings mail, and few need it

    target = new_path(urllib.parse.urlsplit(path).path)
    with (
        identity.left_out(),
        urllib.request.urlopen(_request(path), timeout=FETCH_TIMEOUT) as answer,
        target.open("wb") as file,
    ):
        shutil.copyfileobj(answer, file)
    return target


def _request(url: str) -> Request:
    """A request for `url`, with this process's key if it is a blob of the process's own platform.

    Other URLs are requested without the key: the caller who chose the URL must not get what only this process may read.
    """
    from urllib.request import Request

    request = Request(url)
    endpoint, key = os.environ.get("FLYTE_ENDPOINT"), os.environ.get("FLYTE_API_KEY")
    if endpoint and key and _BLOB.fullmatch(url.removeprefix(f"{endpoint.rstrip('/')}/")):
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    return request


def writable(path: str) -> Path:
    """The local path to write to. Raises ValueError for a URI of another location."""
    here = local_path(path)
    if here is None:
        raise ValueError(f"{path}: only local paths, file:// and object stores ({_STORES}) can be written")
    here.parent.mkdir(parents=True, exist_ok=True)
    return here


@contextmanager
def writing(path: str, mode: str) -> Iterator[Path]:
    """The local file to write to: what is written is at `path` when the block ends without an error.

    An object is stored whole; in the modes "a" and "+" it is fetched before. Raises ValueError for other URIs.
    """
    if not is_object(path):
        target = writable(path)
        with _open.whole(target, mode if is_ours(target) else "a") as file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="flyte-") as folder:
        file = Path(folder, PurePosixPath(path).name)
        if not set(mode) & set("wx") and _objects.is_there(path):
            _objects.fetch(_allowed.check_object(path), file)
        elif "x" in mode and _objects.is_there(path):
            raise FileExistsError(f"{path} exists")
        yield file
        _objects.send(file, path)


def is_there(path: str) -> bool:
    """Whether there is a file of that name."""
    if is_object(path):
        return _objects.is_there(_allowed.check_object(path))
    here = local_path(path)
    return here.is_file() if here is not None else readable(path).is_file()


def is_folder(path: str) -> bool:
    """Whether there is a folder of that name."""
    if is_object(path):
        return bool(_objects.below(_allowed.check_object(path)))
    return readable_folder(path).is_dir()


def readable_folder(path: str) -> Path:
    """A local folder with the content. Raises ValueError for a URI of another location that `keep` did not upload."""
    if is_object(path):
        return _objects.cached_folder(_allowed.check_object(path), data_folder())
    if path.startswith(_blob.SCHEME):
        return _blob.fetched_folder(path, data_folder())
    here = local_path(path)
    if here is None:
        raise ValueError(
            f"{path}: a Dir is a local path, file://, or in an object store ({_STORES}); fetch it in the task instead"
        )
    return here


def keep(source: Path, destination: str | None, batch_size: int | None = None) -> str:
    """Copy a file or folder to a location that other actions can read, and return that; the original may then change.

    In local mode nothing is copied, since no other process reads it. Of a folder that is uploaded to another machine,
    `batch_size` files are sent at a time. Raises FileNotFoundError, and TooLargeError for a file above 100 MiB that
    must be uploaded.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist")
    if destination is None and chosen_path() is None and platforms_folder() is None:
        return str(source.absolute()) if _state.current().client is None else _blob.send(source, batch_size)
    address = destination or new_address(source.name)
    if is_object(address):
        (_objects.send_folder if source.is_dir() else _objects.send)(source, address)
        return address
    target = writable(address)
    if source.is_dir():
        copy_folder(source, target, 0 if destination else _WRITING)
    else:
        copy_file(source, target)
        if not destination:
            target.chmod(_KEPT)
    return str(target.absolute())


def fetch(path: str, target: Path) -> None:
    """Copy the file to `target`, in an existing folder."""
    if is_object(path):
        _objects.fetch(_allowed.check_object(path), target)
    else:
        copy_file(readable(path), target)


def own_copy(stored: Path) -> Path:
    """A file or folder that the caller may change: a temporary copy if other processes read the original.

    A path that is not among the platform's files, and was not uploaded, is returned itself.
    """
    if not is_ours(stored.absolute()):
        return stored.absolute()
    target = Path(tempfile.mkdtemp(prefix="flyte-")) / stored.name
    if stored.is_dir():
        copy_folder(stored, target)
    else:
        copy_file(stored, target)
    return target


def copy_file(source: Path | str, target: Path | str) -> None:
    """Copy the content; if the file system supports it, the two share disk space until one is changed."""
    with open(source, "rb") as original, open(target, "wb") as copy:
        try:
            while os.copy_file_range(original.fileno(), copy.fileno(), _AT_ONCE):
                pass
        except (OSError, AttributeError):  # between file systems, or not on this system
            copy.seek(original.seek(copy.seek(0, os.SEEK_END)))
            shutil.copyfileobj(original, copy)


def copy_folder(source: Path, target: Path | str, without: int = 0) -> None:
    """Copy the content of the folder into `target`. Its owner may write the files, but for mode bits in `without`.

    What links lead to is copied in their places. Raises FileNotFoundError for one that leads nowhere.
    """
    for folder, _, names in os.walk(source):
        for name in names:
            if not os.path.exists(path := f"{folder}/{name}"):
                raise FileNotFoundError(f"{path} is a link to {os.readlink(path)}, which does not exist; remove it")

    def copied(original: str, copy: str) -> str:
        copy_file(original, copy)
        os.chmod(copy, (os.stat(original).st_mode | stat.S_IWUSR) & 0o777 & ~without)
        return copy

    shutil.copytree(source, target, copy_function=copied, dirs_exist_ok=True)
