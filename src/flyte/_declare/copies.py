"""The files that an image copies, and where they lie relative to the working directory of its processes.

The folder that holds the shipped code is the image's working directory. What the image copies to a place below its
working directory travels with the code and lies there at the same relative path. A place elsewhere cannot be had
without a container.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flyte._declare.image import Image
    from flyte._declare.layer import Layer

WORKDIR = "/root"
"""The working directory of an image that sets none."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One file or folder of this machine, and its absolute place in a container."""

    layer: Layer
    source: Path
    target: str
    """For a folder: the place of what is in it."""


def placed(image: Image) -> tuple[list[Copy], str]:
    """The copies, as a container engine makes them, and the working directory of the image's processes.

    A relative target starts in the working directory that holds where it is copied.
    """
    copies, place, folders = [], WORKDIR, {WORKDIR}
    for layer in image.layers:
        if layer.kind == "workdir":
            place = posixpath.normpath(posixpath.join(place, layer.target))
            folders.add(place)
        for source in layer.files if layer.kind == "copy" else ():
            target = posixpath.normpath(posixpath.join(place, layer.target))
            if layer.is_folder:
                folders.add(target)
            elif layer.target.endswith("/") or len(layer.files) > 1 or _holds(target, folders):
                target = posixpath.join(target, source.name)
            copies.append(Copy(layer, source, target))
    return copies, place


def _holds(folder: str, places: Iterable[str]) -> bool:
    """Whether the path is one of these folders, or above one."""
    return any(f"{place}/".startswith(f"{folder.rstrip('/')}/") for place in places)


def _below(target: str, folder: str) -> str | None:
    """The target relative to the folder; None where it is elsewhere."""
    path = posixpath.relpath(target, folder)
    return None if path == ".." or path.startswith("../") else path


def elsewhere(image: Image) -> list[str]:
    """The layers whose files cannot be where a container would have them, in words."""
    copies, folder = placed(image)
    return list(dict.fromkeys(copy.layer.text for copy in copies if _below(copy.target, folder) is None))


def inside(image: Image) -> list[tuple[str, Copy]]:
    """What is copied to a place below the working directory, with the path from there."""
    copies, folder = placed(image)
    return [(path, copy) for copy in copies if (path := _below(copy.target, folder)) is not None]
