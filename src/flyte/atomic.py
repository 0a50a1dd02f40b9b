"""Files that are written atomically: to a temporary file in the same folder, flushed to disk, then renamed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

UNFINISHED = ".put-"
"""The prefix of temporary files. A process that is killed while it writes leaves one behind."""


def replace_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace `path` atomically. The folder is not flushed: after a power cut the file may have its old content."""
    temporary = _written_beside(path, text.encode())
    try:
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def create_file(path: Path, text: str) -> None:
    """Create `path` with `text` unless it exists, atomically; processes that race agree on one content."""
    if path.exists():
        return
    temporary = _written_beside(path, text.encode())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
    sync(path.parent)


def store_file(path: Path, data: bytes) -> None:
    """Create `path`, whose name is made of its content, unless it exists; a file that a power cut truncated is
    written again. The file and its name are on disk when this returns.
    """
    if is_stored(path, len(data)):
        return
    temporary = _written_beside(path, data)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    sync(path.parent)


def is_stored(path: Path, size: int) -> bool:
    """Whether `path`, whose name is made of its content, exists with this size. It then counts as new.

    Its time of change is set, so that a collector which has found nobody who refers to it leaves it alone.
    """
    try:
        os.utime(path, follow_symlinks=False)
        return path.stat().st_size == size
    except FileNotFoundError:  # a collector may take it away between the two
        return False


def sync(path: Path) -> None:
    """Flush a file, or a folder: a name that was just created in it is on disk only after that."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _written_beside(path: Path, data: bytes) -> str:
    """Write `data` to a temporary file in the same folder, mode 0600, and flush it; a failure leaves no file."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{UNFINISHED}{path.name[:40]}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # else what did not fit would keep the disk full
        os.unlink(temporary)
        raise
    return temporary
