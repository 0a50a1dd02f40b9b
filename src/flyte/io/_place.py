"""Where files of actions lie, and how to get at a path or URI.

In a process of the platform, new files go into the folder beside its blob store, which every process of the machine
sees; in local mode into a folder of this user's among the temporary files. `file://` and plain paths are read in
place, `http(s)://` is fetched; for anything else the error says so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

FETCH_TIMEOUT = 60.0
"""Seconds without a byte after which fetching a URL is given up."""


def data_folder() -> Path:
    """The folder for new files; made if need be, and only its owner can enter it."""
    blobs = os.environ.get("FLYTE_BLOBS")
    folder = Path(blobs).parent / "files" if blobs else Path(tempfile.gettempdir()) / f"flyte-files-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; set TMPDIR to a folder of yours")
    return folder


def new_path(name: str = "") -> Path:
    """A path that nothing has yet, ending in `name`, in a folder that exists."""
    folder = data_folder() / uuid.uuid4().hex
    folder.mkdir(mode=0o700)
    return folder / (Path(name).name or "data")


def local_path(path: str) -> Path | None:
    """The path on this machine that `path` stands for; None for a URI of elsewhere."""
    scheme, _, rest = path.partition("://")
    if not _:
        return Path(path)
    return Path(urllib.parse.unquote(rest)) if scheme == "file" else None


def readable(path: str) -> Path:
    """A local file with the content; fetched into a new place where it lies elsewhere."""
    here = local_path(path)
    if here is not None:
        return here
    if not path.startswith(("http://", "https://")):
        raise ValueError(f"{path}: only local paths, file:// and http(s):// can be read; fetch it in the task instead")
    target = new_path(urllib.parse.urlsplit(path).path)
    with urllib.request.urlopen(_request(path), timeout=FETCH_TIMEOUT) as answer, target.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return target


def _request(url: str) -> urllib.request.Request:
    """A request for `url`, with this process's key where it goes to the process's own platform."""
    request = urllib.request.Request(url)
    endpoint, key = os.environ.get("FLYTE_ENDPOINT"), os.environ.get("FLYTE_API_KEY")
    if endpoint and key and url.startswith(f"{endpoint.rstrip('/')}/"):
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    return request


def writable(path: str) -> Path:
    """The local path to write to. Raises ValueError for a URI of elsewhere."""
    here = local_path(path)
    if here is None:
        raise ValueError(f"{path}: only local paths and file:// can be written; write a local file and upload it")
    here.parent.mkdir(parents=True, exist_ok=True)
    return here


def keep(source: Path, destination: str | None) -> Path:
    """Put a copy of a file or folder where other actions find it; in local mode it stays where it is."""
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist")
    if destination is None and "FLYTE_BLOBS" not in os.environ:
        return source.absolute()
    target = writable(destination) if destination else new_path(source.name)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
    return target.absolute()
