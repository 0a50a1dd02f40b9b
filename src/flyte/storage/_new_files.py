"""Where new files go: the raw data path.

It is what the run was given as `raw_data_path`, or a folder of the run below its `run_base_dir`; else the platform's
object store, where it has one; else the folder next to the platform's blob store, which every process of the machine
sees. In local mode it is a folder of this user among the temporary files.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path

from flyte._context import ctx
from flyte._session import find as _platform
from flyte._session import state as _state
from flyte.errors import InvalidInputError
from flyte.object_store import is_object

RAW_DATA_PATH, RUN_BASE_DIR, STORAGE_URL = "FLYTE_RAW_DATA_PATH", "FLYTE_RUN_BASE_DIR", "FLYTE_STORAGE_URL"
"""Variables of the environment: the first two are set for a run, the last by the platform."""


def raw_data_path() -> str:
    """A folder or URL below which new files of this action, or of this program, are made."""
    return chosen_path() or str(data_folder())


def chosen_path() -> str | None:
    """The raw data path, where it is not the folder of this machine."""
    path = ctx().raw_data_path or path_of_environment()
    return None if path is None or path == folder_of_machine() else path


def path_of_environment(run: str | None = None) -> str | None:
    """The raw data path that the variables of this process name for a run; None for the folder of this machine."""
    if path := os.environ.get(RAW_DATA_PATH):
        return path.rstrip("/") or "/"
    if base := os.environ.get(RUN_BASE_DIR):
        return below_base(base, run or os.environ.get("RUN_NAME", ""))
    if store := os.environ.get(STORAGE_URL):
        return f"{store.rstrip('/')}/files"
    return None


def variables(raw_data_path: str | None, run_base_dir: str | None) -> dict[str, str]:
    """The variables that bring the two to the processes of a run, or of an app."""
    given = {RAW_DATA_PATH: raw_data_path, RUN_BASE_DIR: run_base_dir}
    return {name: _whole(path) for name, path in given.items() if path}


def path_of_run(raw_data_path: str | None, run_base_dir: str | None, run: str) -> str | None:
    """The raw data path of a run of this process; None for the folder of this machine."""
    if raw_data_path:
        return _whole(raw_data_path)
    return below_base(_whole(run_base_dir), run) if run_base_dir else None


def _whole(path: str) -> str:
    """A path that means the same in every process; a URL as it is. Raises InvalidInputError for other URLs."""
    if "://" not in path:
        return os.path.abspath(path)
    if not is_object(path) and not path.startswith("file://"):
        raise InvalidInputError(
            f"{path!r} is not a place for files; write a folder, s3://, gs:// or az://BUCKET/PREFIX"
        )
    return path


def below_base(base: str, run: str) -> str:
    """The raw data path of a run that was given a `run_base_dir`."""
    return "/".join(filter(None, (base.rstrip("/"), run, "files")))


def new_address(name: str = "", number: str = "") -> str:
    """An unused path or URL that ends in `name`; the folder of a path exists.

    `number` is that of a file which has the same place in every attempt of an action.
    """
    base, number, name = raw_data_path(), number or uuid.uuid4().hex, Path(name).name or "data"
    if is_object(base):
        return f"{base}/{number}/{name}"
    folder = Path(base.removeprefix("file://"), number)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder / name)


def data_folder() -> Path:
    """The folder of this machine for files; it is created if necessary, and only its owner can enter it."""
    folder = Path(folder_of_machine())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; set TMPDIR to a folder of yours")
    return folder


def folder_of_machine() -> str:
    """`data_folder`, which may not have been made yet."""
    return str(platforms_folder() or Path(tempfile.gettempdir()) / f"flyte-files-{os.getuid()}")


def platforms_folder() -> Path | None:
    """The platform's folder for files; None if there is no active platform, or not on this machine."""
    if blobs := os.environ.get("FLYTE_BLOBS"):
        return Path(blobs).parent / "files"
    client = _state.current().client
    home = None if client is None else _platform.home_of(client.endpoint)
    return None if home is None else home / "files"
