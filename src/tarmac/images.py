"""Does the interpreter that runs the platform satisfy an Image? For now images are checked, not built.

This is the place of real environments: `environment_of` answers which interpreter runs an environment's units, and
today there is one answer. Packages that are missing are named with the command that installs them.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from flyte.errors import ImageBuildError
from flyte.wire import EnvironmentSpec, ImageSpec

OURS = ("flyte", "unionai-reuse")
"""Distributions whose place is taken by this one: `flyte` is the package that user code imports, and reuse is part of
it. Images for Flyte name them; whatever version they ask for, they have it."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where an environment's units run, and what its owner should know of it."""

    python: str
    warnings: tuple[str, ...] = ()


def environment_of(spec: EnvironmentSpec, installed: Callable[[str], str | None] | None = None) -> Environment:
    """The interpreter for `spec`. Raises ImageBuildError naming what is missing and the command that installs it."""
    missing = missing_packages(spec.image, installed or _installed_version)
    if missing:
        wanted = " ".join(f"'{requirement}'" for requirement in missing)
        raise ImageBuildError(
            f"environment {spec.name!r} needs {', '.join(missing)}, which this platform's Python ({sys.executable}) "
            f"does not have; install with: {sys.executable} -m pip install {wanted}"
        )
    return Environment(sys.executable, tuple(_warnings(spec)))


def missing_packages(image: ImageSpec, installed: Callable[[str], str | None]) -> list[str]:
    """The image's requirements that are not met. Raises ImageBuildError for one that pip could not read."""
    from packaging.requirements import InvalidRequirement, Requirement  # 30 ms, at the first image with packages
    from packaging.utils import canonicalize_name

    missing = []
    for text in image.packages:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            message = f"image {image.name!r} asks for {text!r}, which is not a valid requirement: {error}"
            raise ImageBuildError(message) from error
        if canonicalize_name(requirement.name) in OURS:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(text)
    return missing


def _warnings(spec: EnvironmentSpec) -> list[str]:
    """Where the machine is not what the environment asks for. What no machine would do, the SDK says."""
    image, here, wanted, (cores, memory) = spec.image, sys.version_info[:2], spec.resources, _machine()
    warnings = []
    if image.python is not None and image.python != here:
        asked = ".".join(map(str, image.python))
        warnings.append(f"environment {spec.name!r} asks for Python {asked}; it runs on {here[0]}.{here[1]} here")
    if wanted.cpu is not None and wanted.cpu > cores:
        warnings.append(f"environment {spec.name!r} asks for {wanted.cpu:g} cores; this machine has {cores}")
    if wanted.memory is not None and wanted.memory > memory:
        asked, there = (f"{size / 2**30:.1f} GiB" for size in (wanted.memory, memory))
        warnings.append(f"environment {spec.name!r} asks for {asked} of memory; this machine has {there}")
    return warnings


@functools.cache
def _machine() -> tuple[int, int]:
    """Cores, and bytes of memory."""
    return os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@functools.lru_cache(maxsize=4096)
def _found(name: str) -> str:
    return metadata.version(name)


def _installed_version(name: str) -> str | None:
    """The installed version; what is not installed is asked for again next time, since somebody may install it."""
    try:
        return _found(name)
    except metadata.PackageNotFoundError:
        return None
