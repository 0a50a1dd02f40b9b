"""The layers of an image, and the values from which layers and images are made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flyte._calling import calling_frame
from flyte._declare.requirements import Needs
from flyte._declare.secret import secrets_of

Architecture = Literal["linux/amd64", "linux/arm64"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One step that makes an image out of the one before."""

    kind: str
    """pip, env, apt, run, workdir, copy, bundle, ignore, …: what `text` is about."""
    text: str
    """The step in one line, for people."""
    packages: tuple[str, ...] = ()
    """Requirement strings, for layers that bring packages."""
    constraints: tuple[str, ...] = ()
    """Requirement strings for what is installed because something else needs it."""
    overrides: tuple[str, ...] = ()
    """Requirement strings that replace all others for the same package."""
    python: str = ""
    """What a project or script says of Python's version, as `>=3.12`."""
    secrets: tuple[Any, ...] = ()
    """The `Secret`s that packages and indexes may name as `$NAME`."""
    env: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    arguments: tuple[str, ...] = ()
    """Options of the installer, one word each: indexes, pre-releases, and what the user gave besides."""
    files: tuple[Path, ...] = ()
    """For a copy: the files, or the one folder. For a .dockerignore: that file."""
    target: str = ""
    """For a copy or a working directory: the place, as the program writes it."""
    is_folder: bool = False
    """Whether `files` is a folder, whose contents come to `target`."""
    missing: Path | None = None
    """The file that names the packages, where it was not found.

    On a platform, where only the code was sent, that is usual: what it said was registered when the code was deployed.
    A deployment reports it (`Image.packages`); the process that declares the image cannot know which of both it is.
    """

    @property
    def needs_container(self) -> bool:
        """Whether only a container engine can do this; code, files and packages come another way here."""
        return self.kind not in ("pip", "env", "bundle", "ignore", "copy", "workdir")


def one_default_index(words: Iterable[str]) -> list[str]:
    """There is one default index; where another layer names one, too, that is one more index."""
    found: list[str] = []
    for word in words:
        first = word not in found or word not in ("--index-url", "--default-index", "-i")
        found.append(word if first else "--extra-index-url")
    return found


def file_beside(file: Path | str) -> Path:
    """The path as it is written if it exists, else beside the file that declares the image if it exists there."""
    path = Path(file)
    frame = calling_frame()
    if path.exists() or frame is None:
        return path
    beside = Path(frame.f_code.co_filename).parent / path
    return beside if beside.exists() else path


def wanted_python(requirement: str) -> tuple[int, int] | None:
    """The version that `==3.12.*` or `~=3.12` pins; None where this interpreter will do as well."""
    found = re.search(r"(?:==|~=)\s*(\d+)\.(\d+)", requirement)
    return (int(found[1]), int(found[2])) if found else None


def check_python(version: Any) -> None:
    if not isinstance(version, tuple) or len(version) != 2 or not all(isinstance(part, int) for part in version):
        raise ValueError(f"python_version must be a pair such as (3, 12), not {version!r}")
    if version < (3, 10):
        raise ValueError(f"Python {version[0]}.{version[1]} is too old: 3.10 is the oldest that runs Flyte code")


def platforms_of(platform: Any) -> tuple[str, ...]:
    if platform is None:
        return ("linux/amd64",)
    return (platform,) if isinstance(platform, str) else tuple(platform)


def options_of(options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((key, str(value)) for key, value in options.items() if value))


def pip_layer(text: str, file: Path | None, needs: Needs, secrets: Any, mode: str) -> Layer:
    """The layer that installs `needs`, which were read from `file` if there is one; `mode` as for a uv project."""
    return Layer(
        "pip",
        text,
        packages=needs.packages,
        constraints=needs.constraints,
        overrides=needs.overrides,
        python=needs.python,
        arguments=needs.arguments,
        secrets=secrets_of(secrets),
        options=(("install_mode", mode),) if mode != "dependencies_only" else (),
        missing=file if file is not None and not file.exists() else None,
    )
