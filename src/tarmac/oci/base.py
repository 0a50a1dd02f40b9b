"""The image that another one is built on: an OCI layout that somebody else made, which is checked before it is used."""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from tarmac.environments.interpreters import Minor
from tarmac.oci import ContainerFailed
from tarmac.oci.layout import INDEX, MANIFEST, NAME, Descriptor, Index, Manifest, read

_LAYERS = {
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar": "",
}
_MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")

_MOST_FILES = 1_000_000

_CHUNK = 1024 * 1024


class RootFs(Struct, frozen=True):
    type: str = "layers"
    diff_ids: list[str] = field(default_factory=list)


class Config(Struct, frozen=True):
    """What a config says that matters here; whatever else it says is left out."""

    architecture: str
    os: str
    rootfs: RootFs
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Base:
    config: Config
    layers: list[Descriptor]
    blobs: list[Path]
    files: frozenset[str]
    """Paths of what is in it, without the leading slash."""

    def python(self, minor: Minor) -> str:
        """The interpreter of that version. Raises ContainerFailed where it has none that is known."""
        name = f"python{minor[0]}.{minor[1]}"
        for folder in ("usr/local/bin", "usr/bin", "opt/flyte/python/bin"):
            if f"{folder}/{name}" in self.files:
                return f"/{folder}/{name}"
        there = {posixpath.basename(path) for path in self.files if posixpath.dirname(path).endswith("bin")}
        found = sorted(name for name in there if name.startswith("python3.") and name[8:].isdigit())
        raise ContainerFailed(
            f"the base has no {name} in /usr/local/bin or /usr/bin (it has {', '.join(found) or 'no Python'}); "
            "name another base, or set python_version of the image"
        )

    def refuse_other_c_library(self) -> None:
        """Packages are chosen for glibc, as this machine has it."""
        if any(posixpath.basename(path).startswith("ld-musl-") for path in self.files):
            raise ContainerFailed("the base has musl as its C library; packages are built for glibc: name another base")


def find(folder: Path, architecture: str) -> Base:
    """The image of that layout, with all of its blobs checked. Raises ContainerFailed."""
    blobs = folder / "blobs" / "sha256"
    manifest = _manifest(folder, read(folder / "index.json", Index), architecture)
    config = read(_checked(folder, manifest.config), Config)
    if (config.os, config.architecture) != ("linux", architecture):
        raise ContainerFailed(f"{folder} is for {config.os}/{config.architecture}, not for linux/{architecture}")
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise ContainerFailed(f"{folder}: its config names another number of layers than its manifest")
    paths = [_checked(folder, layer) for layer in manifest.layers]
    files = frozenset(
        name for layer, path in zip(manifest.layers, paths, strict=True) for name in _names(folder, layer, path)
    )
    return Base(config, manifest.layers, [blobs / path.name for path in paths], files)


def _manifest(folder: Path, index: Index, architecture: str, depth: int = 0) -> Manifest:
    """The one image of the index that is for this architecture."""
    fitting = [one for one in index.manifests if one.platform is None or one.platform.architecture == architecture]
    images = [one for one in fitting if one.media_type in _MANIFESTS and not one.artifact_type]
    nested = [one for one in fitting if one.media_type in _INDEXES]
    if len(images) + len(nested) != 1:
        names = [one.annotations.get(NAME, one.digest[:19]) for one in (*images, *nested)]
        there = ", ".join(names) if names else f"none for linux/{architecture}"
        raise ContainerFailed(f"{folder} must hold exactly one image to build on; it holds {there}")
    if nested and depth < 2:
        return _manifest(folder, read(_checked(folder, nested[0]), Index), architecture, depth + 1)
    if nested:
        raise ContainerFailed(f"{folder}: its indexes lead to more indexes")
    return read(_checked(folder, images[0]), Manifest)


def _checked(folder: Path, one: Descriptor) -> Path:
    """The blob, whose content has the digest. Raises ContainerFailed."""
    algorithm, _, digest = one.digest.partition(":")
    if algorithm != "sha256" or not digest.isalnum():
        raise ContainerFailed(f"{folder}: {one.digest!r} is not a SHA-256 digest")
    path, found = folder / "blobs" / "sha256" / digest, hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except OSError as error:
        raise ContainerFailed(f"{path} cannot be read ({error.strerror}): it is not a whole OCI layout") from None
    if found.hexdigest() != digest or path.stat().st_size != one.size:
        raise ContainerFailed(f"{path} is damaged: its content has another digest or size")
    return path


def _names(folder: Path, layer: Descriptor, path: Path) -> Iterator[str]:
    if layer.media_type not in _LAYERS:
        raise ContainerFailed(f"{folder} has a layer of the type {layer.media_type}; only tar and tar+gzip can be read")
    try:
        with (
            gzip.open(path) if _LAYERS[layer.media_type] else path.open("rb") as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for number, member in enumerate(tar):
                if number > _MOST_FILES:
                    raise ContainerFailed(f"{path} holds more than {_MOST_FILES:,} files")
                yield posixpath.normpath(member.name).lstrip("/")
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ContainerFailed(f"{path} is not a layer: {error}") from None
