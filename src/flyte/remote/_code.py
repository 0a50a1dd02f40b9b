"""The code of an action, as it was sent to the platform."""

from __future__ import annotations

import asyncio
import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from flyte import wire
from flyte._client.client import Client
from flyte.errors import NotFoundError
from flyte.remote._io import Runs


@dataclass(frozen=True, slots=True)
class CodeBundle:
    """The identification of a code bundle."""

    task: str
    version: str
    digest: str | None
    """sha256 of the archive; None if none was sent, in local mode and with `copy_style="none"`."""


def code_of(found: wire.ActionDetails) -> CodeBundle:
    return CodeBundle(found.action.task, found.version, found.bundle)


async def download(runs: Runs, code: CodeBundle, dest: str | Path, extract: bool) -> Path:
    """Put the archive, or its content, into the folder `dest`.

    Raises NotFoundError if there is none, and CodeBundleError if it cannot be unpacked.
    """
    if code.digest is None:
        raise NotFoundError(
            f"no code was sent for {code.task} {code.version}: it runs what lies on its own machine "
            '(local mode, or `copy_style="none"`)'
        )
    data = await cast("Client", runs).get_bundle(code.digest)
    return await asyncio.to_thread(_written, data, Path(dest), None if extract else f"{code.digest}.tar.gz")


def _written(data: bytes, folder: Path, archive: str | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if archive is not None:
        (folder / archive).write_bytes(data)
        return folder / archive
    from flyte.archive import unpack

    with tempfile.TemporaryDirectory(dir=folder, prefix=".code.") as unpacked:  # one that fails leaves nothing behind
        unpack(io.BytesIO(data), Path(unpacked))
        for path in Path(unpacked).iterdir():
            if path.is_dir():
                shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
            else:
                shutil.copy2(path, folder / path.name)
    return folder
