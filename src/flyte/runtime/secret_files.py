"""Secrets as files, in a folder that only the processes of one pool have.

The folder is in memory, and in the pool's mount namespace: nothing is written to a disk, nobody else can look into it,
and it vanishes with the last of the pool's processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from flyte import rules
from flyte.runtime import linux

_SIZE = "64m"
"""More than all secrets of an environment can have; memory is taken for what is written only."""


def show(files: Mapping[str, str], folder: str = rules.SECRETS_FOLDER) -> None:
    """Make them in `folder`, in a mount namespace of this process's own. Raises OSError.

    `files`: path within the folder → content. Programs for Flyte name the file as the secret, or in lower case.
    """
    if not files:
        return
    if not os.path.isdir(folder):
        _make(folder)
    linux.mount_empty(folder, _SIZE)
    for name, content in files.items():
        _write(f"{folder}/{name}", content)
    for name in files:
        _link_in_lower_case(f"{folder}/{name}")
    linux.forbid_writing(folder)


def _write(path: str, content: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400), "w", encoding="utf-8", newline="") as file:
        file.write(content)


def _link_in_lower_case(path: str) -> None:
    above, name = os.path.split(path)
    if not os.path.lexists(f"{above}/{name.lower()}"):
        os.symlink(name, f"{above}/{name.lower()}")


def _make(folder: str) -> None:
    """Have a folder that the machine does not have, and that we may not make: in this namespace alone.

    The nearest folder above it that there is (`/etc`) is covered by one in memory, which shows all that it held.
    """
    above = os.path.dirname(folder)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    shown = [(entry.name, entry.is_symlink(), entry.is_dir()) for entry in os.scandir(above)]
    held = os.open(above, os.O_PATH)
    linux.mount_empty(above)
    for name, is_link, is_folder in shown:
        source, target = f"/proc/self/fd/{held}/{name}", f"{above}/{name}"
        if is_link:
            os.symlink(os.readlink(source), target)
            continue
        if is_folder:
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
        linux.mount_again(source, target, with_mounts=True)
    os.close(held)
    os.makedirs(folder)
    linux.forbid_writing(above)
