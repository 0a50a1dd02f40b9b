"""What a worker needs, as wheels made of what is installed here: the platform's own Python never has to fetch them."""

from __future__ import annotations

import contextlib
import os
import zipfile
from importlib import metadata
from pathlib import Path


def offer(names: tuple[str, ...], folder: Path) -> None:
    """Have a wheel in `folder` of each installed distribution of these names."""
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            _offer(metadata.distribution(name), folder)


def _offer(distribution: metadata.Distribution, folder: Path) -> None:
    tags = [line[5:] for line in (distribution.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    name = distribution.metadata["Name"].replace("-", "_")
    if not tags or distribution.files is None:
        return
    wheel = folder / f"{name}-{distribution.version}-{_joined(tags)}.whl"
    if wheel.exists():
        return
    temporary = folder / f".{wheel.name}.{os.getpid()}"
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in distribution.files:
            inside = ".." not in file.parts and "__pycache__" not in file.parts
            if (
                inside
                and file.name not in ("INSTALLER", "REQUESTED", "direct_url.json")
                and Path(file.locate()).is_file()
            ):
                archive.write(file.locate(), str(file))
    temporary.replace(wheel)


def _joined(tags: list[str]) -> str:
    """Tags of a wheel as its name has them: `cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64`."""
    parts = [tag.split("-") for tag in tags]
    return "-".join(".".join(dict.fromkeys(part[at] for part in parts)) for at in range(3))
