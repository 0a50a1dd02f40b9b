"""Files and folders among an app's parameters, put in their places before anything of the app runs.

FLYTE_FILE_PARAMETERS says which parameters are files: name → kind, env, mount, download. Afterwards their environment
variables and `flyte.app.get_parameter` give the path on this machine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flyte.runtime.command import BadCommand


def materialize() -> None:
    """Fetch and place them. Raises BadCommand for one that cannot be had."""
    files: dict[str, dict[str, Any]] = json.loads(os.environ.get("FLYTE_FILE_PARAMETERS") or "{}")
    if not files:
        return
    values: dict[str, Any] = json.loads(os.environ.get("FLYTE_PARAMETERS") or "{}")
    for name, file in files.items():
        if name not in values or not (file.get("mount") or file.get("download", True)):
            continue
        try:
            values[name] = _placed(values[name], file.get("kind") == "dir", file.get("mount"))
        except (OSError, ValueError) as error:
            raise BadCommand(f"the parameter {name!r} cannot be had: {error}") from None
        if file.get("env"):
            os.environ[file["env"]] = values[name]
    os.environ["FLYTE_PARAMETERS"] = json.dumps(values)


def _placed(source: str, is_folder: bool, mount: str | None) -> str:
    """The path of the file or folder on this machine, once it is where it is wanted."""
    from flyte.io import Dir, File

    if is_folder:
        return Dir[Any](path=source).download_sync(mount)
    if mount and mount.endswith("/"):
        Path(mount).mkdir(parents=True, exist_ok=True)
    return File[Any](path=source).download_sync(mount)
