"""Layers: compressed archives of files. Equal files make equal bytes, on every machine and at every time.

So nothing of a file but its content, its place and whether it can be executed gets in.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from flyte.atomic import replace_file

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

EPOCH = 315_532_800
"""The time of every file: 1980-01-01, before which zip archives cannot date what they hold."""

CREATED = "1980-01-01T00:00:00Z"

LEVEL = 1
"""Of gzip's compression: three times as fast as the usual 6, for a tenth more bytes."""

_OPEN_TO_ALL = ("tmp", "var/tmp")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an image: the content of `source`, these bytes, or a symbolic link to `link`."""

    source: Path | None = None
    content: bytes = b""
    link: str = ""
    is_executable: bool = False
    is_folder: bool = False


Entries = Mapping[str, Entry]
"""By path in the image, without the leading slash."""


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    """`sha256:…` of the compressed archive, which is the name of its blob."""
    diff_id: str
    """The same of the archive itself."""
    size: int
    created_by: str
    media_type: str = MEDIA_TYPE


def file_entry(path: Path) -> Entry:
    """A file of this machine; what a symbolic link leads to."""
    return Entry(source=path, is_executable=os.access(path, os.X_OK))


def write(entries: Entries, blobs: Path, created_by: str) -> Layer:
    """Write the layer as a blob of that folder. Raises OSError, and leaves nothing then."""
    with tempfile.NamedTemporaryFile(dir=blobs, prefix=".layer-", delete=False) as file:
        try:
            packed = _Hashed(file)
            with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=LEVEL, mtime=0) as compressed:
                raw = _Hashed(compressed)
                _archive(entries, raw)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, blobs / packed.digest.hexdigest())
        except BaseException:
            os.unlink(file.name)
            raise
    return Layer(f"sha256:{packed.digest.hexdigest()}", f"sha256:{raw.digest.hexdigest()}", packed.size, created_by)


def kept_or_written(entries: Entries, blobs: Path, created_by: str, kept: Path) -> Layer:
    """The layer as it was written before from the same files, where the folder `kept` has it. Raises OSError."""
    note = kept / f"{_fingerprint(entries)}.json"
    try:
        layer = msgspec.json.decode(note.read_bytes(), type=Layer)
        take(kept / layer.digest.partition(":")[2], blobs)
    except (OSError, msgspec.MsgspecError):
        layer = write(entries, blobs, created_by)
        kept.mkdir(mode=0o700, exist_ok=True)
        take(blobs / layer.digest.partition(":")[2], kept)
        replace_file(note, msgspec.json.encode(layer).decode())
    return layer


def _fingerprint(entries: Entries) -> str:
    """Of what is written, as far as it can be told without reading the files."""
    found = hashlib.sha256(f"{LEVEL} {EPOCH}".encode())
    for path, entry in sorted(entries.items()):
        stat = entry.source.stat() if entry.source is not None else None
        content = [stat.st_size, stat.st_mtime_ns, stat.st_ino] if stat else hashlib.sha256(entry.content).hexdigest()
        found.update(repr([path, entry.link, entry.is_executable, entry.is_folder, content]).encode())
    return found.hexdigest()


def take(blob: Path, blobs: Path) -> None:
    """Have a blob of another folder in this one, too. Raises OSError.

    It is copied: what somebody does to one of the two must not damage the other.
    """
    if not (blobs / blob.name).exists():
        temporary = blobs / f".{blob.name}.{os.getpid()}"
        shutil.copyfile(blob, temporary)
        temporary.replace(blobs / blob.name)


class _Hashed(io.RawIOBase):
    """Writes through, and knows the digest and the number of the bytes."""

    def __init__(self, inner: IO[bytes] | gzip.GzipFile) -> None:
        self._inner = inner
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._inner.write(data)


def _archive(entries: Entries, output: _Hashed) -> None:
    with tarfile.open(fileobj=cast("IO[bytes]", output), mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in _with_folders(entries):
            info = _header(path, entry)
            if entry.source is not None:
                with entry.source.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info, io.BytesIO(entry.content))


def _with_folders(entries: Entries) -> Iterator[tuple[str, Entry]]:
    """In order, each folder before what it holds."""
    every = dict(entries)
    for path in entries:
        while path := posixpath.dirname(path):
            every.setdefault(path, Entry(is_folder=True))
    return iter(sorted(every.items()))


def _header(path: str, entry: Entry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mtime, info.uname, info.gname = EPOCH, "root", "root"
    info.mode = 0o755 if entry.is_executable or entry.is_folder else 0o644
    if entry.is_folder:
        info.type = tarfile.DIRTYPE
        info.mode = 0o1777 if path in _OPEN_TO_ALL else info.mode
    elif entry.link:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
    else:
        info.size = entry.source.stat().st_size if entry.source is not None else len(entry.content)
    return info
