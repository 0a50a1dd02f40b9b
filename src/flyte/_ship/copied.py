"""The files that images copy, as they travel with the code."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

from flyte._declare import copies
from flyte._declare.copies import Copy
from flyte._declare.environment import Environment
from flyte._declare.image import Image
from flyte._ship import ignore
from flyte.errors import CodeBundleError, ImageBuildError


def of_environments(envs: Iterable[Environment]) -> dict[str, Path]:
    """The files that the environments' images copy, by their paths in the bundle.

    Raises ImageBuildError for a file that does not exist, CodeBundleError where two images copy different files to one
    place: the environments of a deployment share one folder.
    """
    found: dict[str, Path] = {}
    for image in (env.image for env in envs if isinstance(env.image, Image)):
        for name, file in of_image(image).items():
            other = found.setdefault(name, file)
            if other != file and other.read_bytes() != file.read_bytes():
                raise CodeBundleError(
                    f"two images copy different files to {name}: {other} and {file}; copy one of them to another place"
                )
    return found


def of_image(image: Image) -> dict[str, Path]:
    """What is shipped with the code: path relative to the working directory, and the file. A later copy wins.

    Raises ImageBuildError for a file or folder that does not exist.
    """
    found: dict[str, Path] = {}
    for path, copy in copies.inside(image):
        found |= {posixpath.normpath(posixpath.join(path, name)): file for name, file in contents_of(copy, image)}
    return found


def in_container(image: Image) -> tuple[dict[str, Path], str]:
    """All that the image copies, by its absolute path in a container, and the working directory there.

    Raises ImageBuildError for a file or folder that does not exist.
    """
    found: dict[str, Path] = {}
    placed, folder = copies.placed(image)
    for copy in placed:
        files = contents_of(copy, image)
        found |= {posixpath.normpath(posixpath.join(copy.target, name)): file for name, file in files}
    return found, folder


def contents_of(copy: Copy, image: Image) -> list[tuple[str, Path]]:
    """The files of one copy, by their paths below its target; `.` is the target itself.

    Raises ImageBuildError where the file or folder does not exist.
    """
    _check(copy)
    return list(_contents(copy, image))


def _check(copy: Copy) -> None:
    is_there = copy.source.is_dir() if copy.layer.is_folder else copy.source.is_file()
    if not is_there:
        kind = "folder" if copy.layer.is_folder else "file"
        raise ImageBuildError(
            f"the image copies the {kind} {copy.source}, which does not exist in {Path.cwd()}, nor beside the file "
            "that declares the image"
        )


def _contents(copy: Copy, image: Image) -> Iterator[tuple[str, Path]]:
    """The file itself, or the files of the folder, less what the image's or its own .dockerignore names."""
    if not copy.layer.is_folder:
        yield ".", copy.source.resolve()
        return
    named = [file for layer in image.layers if layer.kind == "ignore" for file in layer.files]
    folder = copy.source.resolve()
    for name in ignore.files_of_a_copy(folder, named[-1] if named else folder / ".dockerignore"):
        yield name, folder / name
