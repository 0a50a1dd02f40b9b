"""The locations of actions' files, and access to a path or URI.

In a process of the platform, and in a program that uses the platform of its own machine, new files go into the folder
next to the platform's blob store, which every process of the machine sees. In local mode they go into a folder of this
user among the temporary files. Files for a platform on another machine are uploaded (see `_blob`). `file://` and plain
paths are read in place, `http(s)://` and `blob://` are fetched; other schemes raise an error.
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
from pathlib import Path
from typing import TYPE_CHECKING

from flyte._session import find as _platform
from flyte._session import state as _state
from flyte.io import _allowed, _blob
from flyte.runtime import identity

if TYPE_CHECKING:
    from urllib.request import Request

_BLOB = re.compile(r"v1/blobs/[0-9a-f]{64}")

_KEPT, _WRITING = 0o444, 0o222
"""Modes: files that others may read are read-only."""
_AT_ONCE = 1 << 30

FETCH_TIMEOUT = 60.0
"""Seconds without data after which fetching a URL is given up."""


def data_folder() -> Path:
    """The folder for new files; it is created if necessary, and only its owner can enter it."""
    folder = _platforms_folder() or Path(tempfile.gettempdir()) / f"flyte-files-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; set TMPDIR to a folder of yours")
    return folder


def _platforms_folder() -> Path | None:
    """The platform's folder for files; None if there is no active platform, or not on this machine."""
    if blobs := os.environ.get("FLYTE_BLOBS"):
        return Path(blobs).parent / "files"
    client = _state.current().client
    home = None if client is None else _platform.home_of(client.endpoint)
    return None if home is None else home / "files"


def is_shared() -> bool:
    """Whether the folder for new files is one that the readers of this process's files see, too."""
    return _platforms_folder() is not None or _state.current().client is None


def new_path(name: str = "") -> Path:
    """An unused path that ends in `name`, in an existing folder."""
    folder = data_folder() / uuid.uuid4().hex
    folder.mkdir(mode=0o700)
    return folder / (Path(name).name or "data")


def path_of_action(action: str, name: str) -> Path:
    """The path for the file `name` of an action, in an existing folder. It is the same in each attempt."""
    folder = data_folder() / hashlib.sha256(action.encode()).hexdigest()[:32]
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / name


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
    if not path.startswith(("http://", "https://")):
        raise ValueError(f"{path}: only local paths, file:// and http(s):// can be read; fetch it in the task instead")
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
        raise ValueError(f"{path}: only local paths and file:// can be written; write a local file and upload it")
    here.parent.mkdir(parents=True, exist_ok=True)
    return here


def readable_folder(path: str) -> Path:
    """A local folder with the content. Raises ValueError for a URI of another location that `keep` did not upload."""
    if path.startswith(_blob.SCHEME):
        return _blob.fetched_folder(path, data_folder())
    here = local_path(path)
    if here is None:
        raise ValueError(f"{path}: a Dir must be a local path or file://; fetch it in the task instead")
    return here


def keep(source: Path, destination: str | None, batch_size: int | None = None) -> str:
    """Copy a file or folder to a location that other actions can read, and return that; the original may then change.

    In local mode nothing is copied, since no other process reads it. Of a folder that is uploaded to another machine,
    `batch_size` files are sent at a time. Raises FileNotFoundError, and TooLargeError for a file above 100 MiB that
    must be uploaded.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist")
    if destination is None and _platforms_folder() is None:
        return str(source.absolute()) if _state.current().client is None else _blob.send(source, batch_size)
    target = writable(destination) if destination else new_path(source.name)
    if source.is_dir():
        copy_folder(source, target, 0 if destination else _WRITING)
    else:
        copy_file(source, target)
        if not destination:
            target.chmod(_KEPT)
    return str(target.absolute())


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
