"""Uploads of files and folders to the platform's blob store; see `_client.upload`."""

from __future__ import annotations

from pathlib import Path

from flyte._client.upload import send_file, send_folder
from flyte._session import state as _state
from flyte._sync import syncable
from flyte.io._blob import address


@syncable
async def upload_file(
    fp: str | Path, verify: bool = True, fname: str | None = None, content_type: str | None = None
) -> tuple[str, str]:
    """Upload the file; returns its sha256 and its address, which `File.from_existing_remote` takes.

    `fname` is the file's name at its address, from which its content type is told; a `content_type` is not stored.
    `verify=False` is refused: whether certificates are verified is said once, in `flyte.init(insecure_skip_verify=)`.
    Raises FileNotFoundError, and TooLargeError above 100 MiB.
    """
    _check_verify(verify)
    digest = await send_file(_state.client(), Path(fp))
    return digest, address(digest, fname or Path(fp).name)


@syncable
async def upload_dir(dir_path: str | Path, verify: bool = True, prefix: str | None = None) -> str:
    """Upload the folder's files; returns its address, which `Dir.from_existing_remote` takes.

    `prefix` is the folder's name at its address. Raises NotADirectoryError, and TooLargeError for a file above 100 MiB.
    """
    _check_verify(verify)
    digest = await send_folder(_state.client(), Path(dir_path))
    return address(digest, prefix or Path(dir_path).name)


def _check_verify(verify: bool) -> None:
    if not verify:
        raise ValueError("verify=False has no effect for one upload; call flyte.init(insecure_skip_verify=True)")
