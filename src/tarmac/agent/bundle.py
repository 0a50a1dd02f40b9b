"""Code bundles, unpacked: a blob that is a tar.gz becomes a folder, whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from flyte.archive import unpack as unpack_archive
from flyte.errors import CodeBundleError
from tarmac.agent.shortage import is_shortage
from tarmac.workload_files import NOT_A_FILE, open_to_read


def unpack(blob: Path, digest: str, folder: Path) -> None:
    """Unpack the bundle `blob`, whose sha256 must be `digest`, into `folder`, unless that exists.

    Raises CodeBundleError for one that is missing, damaged, too large, or would write outside of the folder, and
    OSError where the machine is to blame.
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
        with open_to_read(blob) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise CodeBundleError(f"the code bundle {digest} is not on this machine; deploy again to send it") from None
    except OSError as error:
        if error.errno not in NOT_A_FILE:
            raise
        raise CodeBundleError(f"{blob} is not a regular file; delete it and deploy again") from None
    if found != digest:
        raise CodeBundleError(f"the code bundle {blob} is damaged (its sha256 is {found}); delete it and deploy again")


def _extract(blob: Path, folder: Path) -> None:
    try:
        with open_to_read(blob) as archive:
            unpack_archive(archive, folder)
    except (CodeBundleError, OSError) as error:
        if is_shortage(error):
            raise
        why = error.message if isinstance(error, CodeBundleError) else str(error)
        raise CodeBundleError(f"the code bundle {blob} cannot be unpacked: {why}") from error


def _put(temporary: Path, folder: Path) -> None:
    """Give the finished folder its name; a process that was quicker has put the same content there."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
