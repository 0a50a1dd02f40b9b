"""Code bundles, unpacked: a blob that is a tar.gz becomes a folder, whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from flyte.errors import CodeBundleError
from tarmac.agent.shortage import is_shortage


def unpack(blob: Path, digest: str, folder: Path) -> None:
    """Unpack the bundle `blob`, whose sha256 must be `digest`, into `folder`, unless that exists.

    Raises CodeBundleError for one that is missing, damaged, or would write outside of the folder, and OSError where
    the machine is to blame.
    """
    if folder.exists():
        return
    _check(blob, digest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{digest[:12]}."))
    try:
        _extract(blob, temporary)
        temporary.chmod(0o755)
        _put(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(blob: Path, digest: str) -> None:
    try:
        with blob.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise CodeBundleError(f"the code bundle {digest} is not on this machine; deploy again to send it") from None
    if found != digest:
        raise CodeBundleError(f"the code bundle {blob} is damaged (its sha256 is {found}); delete it and deploy again")


def _extract(blob: Path, folder: Path) -> None:
    try:
        with tarfile.open(blob, "r:gz") as tar:
            for member in tar:
                _refuse_escape(member)
                _write(tar, member, folder / member.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        if is_shortage(error):
            raise
        raise CodeBundleError(f"the code bundle {blob} cannot be unpacked: {error}") from error


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, path.open("xb") as file:
        shutil.copyfileobj(content, file)
    if member.mode & 0o100:
        path.chmod(0o755)


def _refuse_escape(member: tarfile.TarInfo) -> None:
    """Raise for anything but a file or a folder inside of the bundle. Bundles have no links, so none are trusted."""
    if not (member.isfile() or member.isdir()):
        raise CodeBundleError(f"the code bundle holds {member.name!r}, which is neither a file nor a folder")
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise CodeBundleError(f"the code bundle holds {member.name!r}, which lies outside of it")


def _put(temporary: Path, folder: Path) -> None:
    """Give the finished folder its name; whoever was quicker has put the same there."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
