"""Files and folders in the blob store of a platform on another machine: `blob://SHA256/NAME`.

A program that uses a platform on another machine shares no folder with it, so `from_local` uploads the content. The
address contains no host: a process of the platform reads the content from the store's folder, other programs ask their
active platform. A folder is a blob that lists its files (see `remote.upload_dir`).

Content that is read is copied once into this machine's folder for files, since the store's own copy must not change.
"""

from __future__ import annotations

import os
import shutil
import urllib.parse
import uuid
from pathlib import Path, PurePosixPath

import msgspec

SCHEME = "blob://"


def send(source: Path, batch_size: int | None = None) -> str:
    """Upload a file or folder, `batch_size` files of it at a time; returns its address. Blocks.

    Raises TooLargeError for a file above 100 MiB, and the errors that the platform answers.
    """
    from flyte._client.upload import send_file, send_folder
    from flyte._session import state as _state
    from flyte._sync import syncable

    if source.is_dir():
        digest = syncable(send_folder)(_state.client(), source, batch_size)
    else:
        digest = syncable(send_file)(_state.client(), source)
    return address(digest, source.name)


def address(digest: str, name: str) -> str:
    """The address of content in the blob store, by its sha256, with the name that it has for readers."""
    return f"{SCHEME}{digest}/{urllib.parse.quote(name)}"


def fetched(address: str, place: Path) -> Path:
    """The file that was sent, as a copy in the folder `place`. Blocks. Raises NotFoundError where nobody has it."""
    digest, target = _target(address, place)
    if not target.exists():
        whole = _beside(target)
        whole.write_bytes(_content(digest))
        os.replace(whole, target)
    return target


def fetched_folder(address: str, place: Path) -> Path:
    """The folder that was sent, as a copy in the folder `place`. Blocks. Raises NotFoundError where nobody has it."""
    digest, target = _target(address, place)
    if not target.exists():
        whole = _beside(target)
        whole.mkdir()
        for name, content in msgspec.json.decode(_content(digest), type=dict[str, str]).items():
            file = whole / _inside(name, address)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_content(content))
        try:
            whole.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(whole)
            if not target.is_dir():
                raise
    return target


def _target(address: str, place: Path) -> tuple[str, Path]:
    digest, _, name = address.removeprefix(SCHEME).partition("/")
    folder = place / digest
    folder.mkdir(mode=0o700, exist_ok=True)
    return digest, folder / (PurePosixPath(urllib.parse.unquote(name)).name or "data")


def _beside(target: Path) -> Path:
    return target.parent / f".{uuid.uuid4().hex}"


def _inside(name: str, address: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{address} lists the file {name!r}, which is not inside the folder")
    return path


def _content(digest: str) -> bytes:
    blobs = os.environ.get("FLYTE_BLOBS")
    if blobs and (stored := Path(blobs, digest)).is_file():
        return stored.read_bytes()
    from flyte._session import state as _state
    from flyte._sync import syncable

    return syncable(_state.client().get_blob)(digest)
