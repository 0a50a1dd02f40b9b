"""Files of the folders that tasks and apps write into too (logs, blobs, in-flight records), opened by the platform.

A task can replace its log by a symbolic link to the owner's token, by a pipe or by a device. The platform, which could
read the token and would wait for the pipe, opens regular files only and treats everything else as damage.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import BinaryIO

NOT_A_FILE = (errno.ELOOP, errno.EINVAL, errno.ENXIO)
"""Error numbers for a path that is not a regular file but a link, a device, an idle pipe or a socket."""


def open_to_read(path: Path) -> FileIO:
    """The file, unbuffered. Raises OSError, with a number of NOT_A_FILE if the path is not a regular file."""
    return open(path, "rb", buffering=0, opener=_open_regular)


def open_to_append(path: Path) -> BinaryIO:
    """The file, which is created if there is none. Raises OSError like `open_to_read`."""
    return open(path, "ab", opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    # O_NONBLOCK: opening a pipe would wait for its other end; it changes nothing for a regular file
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return fd
