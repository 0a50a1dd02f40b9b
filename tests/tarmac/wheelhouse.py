"""A folder of tiny packages that takes the place of an index: environments are made of it without a network."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

BACKEND = """
import os, pathlib, shutil, signal

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
{body}

def get_requires_for_build_wheel(config_settings=None):
    return []
"""


class Wheelhouse:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def options(self) -> list[str]:
        """What an image is told, so that its packages come from here alone."""
        return ["--no-index", "--find-links", str(self.folder)]

    def wheel(
        self,
        name: str,
        version: str = "1.0",
        requires: Sequence[str] = (),
        source: str | None = None,
        files: Mapping[str, str] | None = None,
        python: str = "",
    ) -> Path:
        """A package with one module of its name, whose content is `source`, by default `VERSION`."""
        module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        lines += [f"Requires-Python: {python}"] if python else []
        content = {
            f"{module}.py": source if source is not None else f"VERSION = {version!r}\n",
            **(files or {}),
            f"{info}/METADATA": "\n".join(lines) + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in content) + f"{info}/RECORD,,\n"
        path = self.folder / f"{module}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for inside, text in {**content, f"{info}/RECORD": record}.items():
                archive.writestr(inside, text)
        return path

    def source(self, name: str, body: Sequence[str], version: str = "1.0") -> Path:
        """A package that is built where it is installed; `body` is what its build does."""
        root = f"{name}-{version}"
        content = {
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\n',
            "backend.py": BACKEND.format(body="\n".join(f"    {line}" for line in body)),
            "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
        }
        path = self.folder / f"{root}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for inside, text in content.items():
                entry = tarfile.TarInfo(f"{root}/{inside}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        return path
