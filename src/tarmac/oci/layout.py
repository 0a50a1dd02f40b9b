"""An OCI image layout: a folder with `oci-layout`, `index.json`, and blobs under the names of their digests.

Images of one layout share blobs. `index.json` is replaced last, so an image is named when it is whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from flyte.atomic import replace_file, store_file
from tarmac.oci import ContainerFailed

T = TypeVar("T")

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"

NAME = "org.opencontainers.image.ref.name"
"""The annotation by which engines choose an image of a layout."""

VERSION = '{"imageLayoutVersion": "1.0.0"}'

LARGEST_DOCUMENT = 16 * 1024 * 1024
"""Bytes of an index, a manifest or a config."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Platform(Struct, frozen=True, rename="camel", omit_defaults=True):
    architecture: str = ""
    os: str = ""


class Descriptor(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What names a blob."""

    media_type: str = ""
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    platform: Platform | None = None


class Manifest(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """An image; with `subject` and `artifact_type` something that belongs to one."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: list[Descriptor]
    subject: Descriptor | None = None
    annotations: dict[str, str] = field(default_factory=dict)


class Index(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    schema_version: int
    media_type: str = ""
    manifests: list[Descriptor]


class Layout:
    """Raises ContainerFailed for a folder that holds something else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"
        if folder.exists() and not folder.is_dir():
            raise ContainerFailed(f"{folder} is a file; name a folder")
        if folder.exists() and any(folder.iterdir()) and not (folder / "oci-layout").exists():
            raise ContainerFailed(f"{folder} is not empty and is not an OCI layout; name a new folder")
        self.blobs.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "oci-layout", VERSION, 0o644)

    def path(self, digest: str) -> Path:
        """The blob of that name. Raises ContainerFailed for a digest of another kind."""
        if not _DIGEST.fullmatch(digest):
            raise ContainerFailed(f"{self.folder}: {digest!r} is not a SHA-256 digest")
        return self.blobs / digest.partition(":")[2]

    def put(self, data: bytes, media_type: str) -> Descriptor:
        digest = hashlib.sha256(data).hexdigest()
        store_file(self.blobs / digest, data)
        (self.blobs / digest).chmod(0o644)
        return Descriptor(media_type=media_type, digest=f"sha256:{digest}", size=len(data))

    def add(self, name: str, described: Sequence[Descriptor]) -> None:
        """Name what an image consists of in the index: its manifest first, and then what belongs to it.

        What had the name before loses it.
        """
        old = [one for one in self.index().manifests if _owner(one) != name]
        image, *more = described
        image = msgspec.structs.replace(image, annotations={NAME: name})
        more = [msgspec.structs.replace(one, annotations={f"{NAME}.subject": name}) for one in more]
        new = Index(schema_version=2, media_type=INDEX, manifests=[*old, image, *more])
        replace_file(self.folder / "index.json", msgspec.json.encode(new).decode(), 0o644)

    def index(self) -> Index:
        path = self.folder / "index.json"
        return read(path, Index) if path.exists() else Index(schema_version=2, manifests=[])


def _owner(one: Descriptor) -> str | None:
    return one.annotations.get(NAME) or one.annotations.get(f"{NAME}.subject")


def read(path: Path, kind: type[T]) -> T:
    """A document of a layout. Raises ContainerFailed for one that is missing, too large or says something else."""
    try:
        if path.stat().st_size > LARGEST_DOCUMENT:
            raise ContainerFailed(f"{path} is larger than {LARGEST_DOCUMENT >> 20} MiB")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ContainerFailed(f"{path} cannot be read ({error.strerror}): it is not a whole OCI layout") from None
    except msgspec.MsgspecError as error:
        raise ContainerFailed(f"{path} is not a document of an OCI layout: {error}") from None
