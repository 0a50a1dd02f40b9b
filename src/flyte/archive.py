"""A code bundle, unpacked: regular files and folders inside of one folder, up to a size and a number, and nothing else.

The archive may have been made by anybody. Bundles hold no links, so none are unpacked; neither are sparse files, which
may be terabytes long in a few bytes. This does not use the filters of `tarfile`, which Python 3.11.2 does not have.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from flyte.errors import CodeBundleError

_LARGEST_HEADER = 1024 * 1024
"""Bytes; `tarfile` reads a header as a whole, whatever length it claims to have."""

_HEADERS = 64 * 1024 * 1024
"""Bytes that all headers together may have."""

_DEEPEST = 100
"""Folders inside of one another; removing a deeper tree exceeds Python's recursion limit."""

_DAMAGED = (tarfile.TarError, zlib.error, EOFError, ValueError, RecursionError, gzip.BadGzipFile)
"""What the standard library raises for an archive that is cut off, damaged, or made to deceive."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one bundle may unpack to: `size` in bytes, and `files`, the number of its files and folders."""

    size: int = 512 * 1024 * 1024
    files: int = 20_000


LIMITS = Limits()


def unpack(archive: BinaryIO, folder: Path, limits: Limits = LIMITS) -> None:
    """Unpack a tar.gz into `folder`, which must be there and empty.

    Raises CodeBundleError for an archive that is damaged, too large, or holds anything but files and folders inside of
    `folder`; and OSError, with part of it unpacked, where a file cannot be written.
    """
    try:
        with gzip.open(archive) as stream:
            guarded = _Guarded(stream, limits)
            _unpack_members(cast("IO[bytes]", guarded), folder, limits)  # it can all that tarfile asks for
            while guarded.read(_LARGEST_HEADER):  # the checksum comes at the end
                pass
    except _DAMAGED as error:
        raise CodeBundleError(f"it is damaged ({type(error).__name__}: {error})") from error
    except FileExistsError as error:
        raise CodeBundleError(f"it holds {error.filename!r} twice") from error


def _unpack_members(stream: IO[bytes], folder: Path, limits: Limits) -> None:
    left = limits.size
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for number, member in enumerate(tar, start=1):
            _check(member)
            if number > limits.files:
                raise CodeBundleError(f"it holds more than {limits.files:,} files and folders")
            left -= member.size
            if left < 0:
                raise _too_large(limits)
            _write(tar, member, folder / member.name)


class _Guarded:
    """The archive's bytes for `tarfile`, which asks for as many at once as a header says, and believes all of them."""

    def __init__(self, stream: gzip.GzipFile, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._left = limits.size + _HEADERS
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims a length of {size:,} bytes")
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._limits)
        return data


def _too_large(limits: Limits) -> CodeBundleError:
    return CodeBundleError(f"it unpacks to more than {limits.size / 2**20:,.0f} MiB")


def _check(member: tarfile.TarInfo) -> None:
    """Raise CodeBundleError for anything but a file or a folder inside of the bundle."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        raise CodeBundleError(f"it holds {member.name!r}, which is neither a regular file nor a folder")
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise CodeBundleError(f"it holds {member.name!r}, which lies outside of it")
    if "\0" in member.name or len(path.parts) > _DEEPEST:
        raise CodeBundleError(f"it holds {member.name[:200]!r}, which cannot be the path of a file")
    if member.size < 0:
        raise CodeBundleError(f"it holds {member.name!r} with a length of {member.size} bytes")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None, "it is a regular file"
    with content, path.open("xb") as file:
        shutil.copyfileobj(content, file)
        if file.tell() != member.size:
            raise CodeBundleError(f"it ends within {member.name!r}")
    if member.mode & 0o100:
        path.chmod(0o755)
