"""What an Image asks for, and whether the platform's own Python has it.

An image that it satisfies needs no environment of its own. What others need is made by `tarmac.environments`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING

import msgspec

from flyte.distributions import NEVER_INSTALLED
from flyte.errors import ImageBuildError
from flyte.wire import EnvironmentSpec, ImageRequest, ImageSpec

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_UNNAMED = re.compile(r"(git|hg|bzr|svn)\+|[a-z]+://|\.{0,2}/")
"""A requirement that is a place and no name: only an installation tells what it is."""

Installed = Callable[[str], str | None]
"""The version of a distribution; None where it is not installed."""


def name_of(requirement: str) -> str:
    """The distribution that a requirement names, in its canonical form; empty where it names none."""
    found = re.match(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?![A-Za-z0-9:/+])", requirement)
    if found is None or _UNNAMED.match(requirement.strip()):
        return ""
    return re.sub(r"[-_.]+", "-", found[1]).lower()


def request_of(spec: EnvironmentSpec) -> ImageRequest:
    """What an environment for `spec` has to be made for. Two that ask for the same get one, in whatever order."""
    image = spec.image
    request = ImageRequest(
        id="",
        python=image.python,
        requires_python=image.requires_python,
        packages=sorted({line.strip() for line in image.packages if name_of(line) not in NEVER_INSTALLED}),
        constraints=sorted({line.strip() for line in image.constraints if name_of(line) not in NEVER_INSTALLED}),
        overrides=sorted({line.strip() for line in image.overrides if name_of(line) not in NEVER_INSTALLED}),
        options=image.options,
        install_flyte=image.install_flyte,
        for_app=spec.kind == "app",
    )
    digest = hashlib.sha256(msgspec.json.encode(request)).hexdigest()[:20]
    return msgspec.structs.replace(request, id=digest)


def has_wanted_python(image: ImageSpec) -> bool:
    """Whether the platform's own Python is of the version that the image asks for."""
    if image.python is not None:
        return image.python == sys.version_info[:2]
    return not image.requires_python or _meets(image.requires_python)


@functools.lru_cache(maxsize=256)
def _meets(requires: str) -> bool:
    from tarmac.environments.interpreters import meets

    return meets((sys.version_info.major, sys.version_info.minor), requires)


def missing_packages(image: ImageSpec, installed: Installed | None = None) -> list[str]:
    """The image's requirements that are not met here. Raises ImageBuildError for one that pip could not read."""
    find = installed or _installed_version
    missing = []
    for text, requirement in _requirements(image):
        if requirement is None or not _is_met(requirement, find):
            missing.append(text)
    return missing


def _requirements(image: ImageSpec) -> Iterator[tuple[str, Requirement | None]]:
    """Those that are not ours; None for one that is only a place."""
    from packaging.requirements import InvalidRequirement, Requirement  # 30 ms, at the first image with packages

    for line in image.packages:
        text = line.partition(" --hash")[0].strip()
        if name_of(text) in NEVER_INSTALLED:
            continue
        if _UNNAMED.match(text):
            yield text, None
            continue
        try:
            yield text, Requirement(text)
        except InvalidRequirement as error:
            message = f"image {image.name!r} asks for {text!r}, which is not a valid requirement: {error}"
            raise ImageBuildError(message) from error


def _is_met(requirement: Requirement, installed: Installed) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = installed(requirement.name)
    if version is None or requirement.url is not None:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def refusal(spec: EnvironmentSpec, missing: list[str]) -> ImageBuildError:
    """What is said where no environment may be made (setting images)."""
    wanted = " ".join(f"'{requirement}'" for requirement in missing)
    return ImageBuildError(
        f"environment {spec.name!r} needs {', '.join(missing)}, which this platform's Python ({sys.executable}) "
        f"does not have; install with: {sys.executable} -m pip install {wanted}, or let the platform make environments "
        "(TARMAC_IMAGES=auto)"
    )


def another_python(spec: EnvironmentSpec) -> str:
    """A warning: it runs on another Python than it asks for."""
    asked = ".".join(map(str, spec.image.python)) if spec.image.python else spec.image.requires_python
    here = sys.version_info
    return f"environment {spec.name!r} asks for Python {asked}; it runs on {here.major}.{here.minor} here"


def shortages(spec: EnvironmentSpec) -> list[str]:
    """Warnings: where the machine is smaller than what the environment asks for."""
    wanted, (cores, memory) = spec.resources, _machine()
    warnings = []
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
