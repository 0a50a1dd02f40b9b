"""The components of an image as a CycloneDX document: its packages, its interpreter, its system's libraries."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from tarmac import __version__
from tarmac.environments.interpreters import Interpreter
from tarmac.oci.layers import EPOCH, Entry

MEDIA_TYPE = "application/vnd.cyclonedx+json"

_PINNED = re.compile(r"(?m)^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?(?:==(\S+)| @ (\S+))")
"""A line of a lock: a package with its version, or the place that it comes from."""


def document(name: str, lock: str, python: Interpreter | None, system: Mapping[str, Entry]) -> bytes:
    """The document as JSON, the same for the same components.

    `python` is None where the interpreter is that of a base; `system`: files of the image by their paths.
    """
    components = [*_packages(lock), _ours(), *_interpreter(python), *_files(system)]
    image = Component(name=name, type=ComponentType.CONTAINER, bom_ref=f"image:{name}")
    bom = Bom(
        components=components, metadata=BomMetaData(component=image, timestamp=datetime.fromtimestamp(EPOCH, UTC))
    )
    bom.register_dependency(image, components)
    known = hashlib.sha256("\n".join(sorted(str(one.bom_ref) for one in components)).encode()).hexdigest()
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, f"{name}:{known}")
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1).encode()


def _packages(lock: str) -> Iterable[Component]:
    for name, version, place in _PINNED.findall(lock):
        purl = PackageURL("pypi", name=re.sub(r"[-_.]+", "-", name).lower(), version=version or None)
        yield _library(name, version or place, purl)


def _ours() -> Component:
    return _library(
        "flyte", f"2.9999.0+tarmac.{__version__}", PackageURL("generic", name="tarmac", version=__version__)
    )


def _interpreter(python: Interpreter | None) -> Iterable[Component]:
    if python is not None:
        yield _library("python", str(python), PackageURL("generic", name="python", version=str(python)))


def _library(name: str, version: str, purl: PackageURL) -> Component:
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=f"{purl.to_string()}#{version}"
    )


def _files(system: Mapping[str, Entry]) -> Iterable[Component]:
    """The system's libraries and commands, each with the digest of its content."""
    for path, entry in sorted(system.items()):
        if entry.source is not None and path.startswith(("usr/lib", "usr/bin")):
            digest = _digest(entry.source)
            yield Component(
                name=f"/{path}",
                type=ComponentType.FILE,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
                bom_ref=f"file:/{path}",
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
