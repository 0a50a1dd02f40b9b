"""Our own package in an environment: a `.pth` line leads to it, so that an upgrade of ours changes one line.

It comes last on the path, after what the image asked for, and is there also for programs that the user's code starts.
Beside it is the metadata of a distribution `flyte`: the installation of a plugin into the environment finds that
`flyte` is there already.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from pathlib import Path

from flyte import errors
from flyte.atomic import replace_file
from tarmac import __version__

PTH = "zz_flyte_platform.pth"
VERSION = f"2.9999.0+tarmac.{__version__}"
INFO = f"flyte-{VERSION}.dist-info"
METADATA_FILES = {
    "METADATA": f"Metadata-Version: 2.1\nName: flyte\nVersion: {VERSION}\n",
    "INSTALLER": "tarmac\n",
    "RECORD": "",
}


@functools.cache
def package() -> Path:
    """The package's folder."""
    return Path(errors.__file__).parent


@functools.cache
def _digest() -> str:
    """Of all its files; what is compiled from them is left out."""
    digest = hashlib.sha256()
    for file in files(package()):
        digest.update(str(file.relative_to(package())).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def files(package: Path) -> list[Path]:
    """Those of the package, without what is compiled from them."""
    return sorted(file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def folder(ours: Path) -> Path:
    """A folder within `ours` that holds this very package and nothing else; made where it is not there."""
    wanted = ours / _digest()
    if not wanted.exists():
        temporary = ours / f".{wanted.name}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package(), temporary / "flyte", ignore=ignore)
        try:
            temporary.rename(wanted)
        except OSError:  # somebody else was quicker
            shutil.rmtree(temporary, ignore_errors=True)
            if not wanted.exists():
                raise
    return wanted


def put(environment: Path, ours: Path) -> None:
    """Have the environment lead to this very package."""
    line = f"{folder(ours)}\n"
    for site in environment.glob("lib/python3*/site-packages"):
        pth = site / PTH
        if (site / INFO).exists() and pth.exists() and pth.read_text() == line:
            return
        for old in site.glob("flyte-*.dist-info"):
            shutil.rmtree(old, ignore_errors=True)
        _write_metadata(site / INFO)
        replace_file(pth, line, 0o644)


def _write_metadata(info: Path) -> None:
    info.mkdir(exist_ok=True)
    for name, text in METADATA_FILES.items():
        (info / name).write_text(text)
