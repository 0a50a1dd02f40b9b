"""A strict reader of OCI layouts, which knows nothing of the code that writes them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Image:
    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: list[list[tarfile.TarInfo]]
    contents: dict[str, bytes]
    """Of all regular files, as the last layer has them."""

    def unpack(self, folder: Path) -> None:
        folder.mkdir()
        for layer in self.layers:
            for info in layer:
                path = folder / info.name
                if info.isdir():
                    path.mkdir(exist_ok=True)
                elif info.issym():
                    path.unlink(missing_ok=True)
                    path.symlink_to(info.linkname)
                else:
                    path.write_bytes(self.contents[info.name])
                    path.chmod(info.mode)


class Reader:
    """Every document and blob of a layout is checked when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
        self.index = json.loads((folder / "index.json").read_text())
        assert self.index["schemaVersion"] == 2
        assert self.index["mediaType"] == "application/vnd.oci.image.index.v1+json"
        for one in self.index["manifests"]:
            assert one["mediaType"] == MANIFEST
            self.blob(one)
        stray = [path for path in folder.rglob("*") if path.name.startswith(".")]
        assert stray == [], "files that are being written"

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", descriptor["digest"])
        data: bytes = (self.folder / "blobs" / "sha256" / descriptor["digest"][7:]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == descriptor["digest"][7:]
        assert len(data) == descriptor["size"]
        return data

    def names(self) -> list[str]:
        found = [one.get("annotations", {}).get("org.opencontainers.image.ref.name") for one in self.index["manifests"]]
        return [name for name in found if name]

    def image(self, name: str) -> Image:
        [found] = [
            one
            for one in self.index["manifests"]
            if one.get("annotations", {}).get("org.opencontainers.image.ref.name") == name
        ]
        manifest = json.loads(self.blob(found))
        assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, MANIFEST)
        assert manifest["config"]["mediaType"] == CONFIG
        config = json.loads(self.blob(manifest["config"]))
        assert config["os"] == "linux"
        assert config["architecture"] in ("amd64", "arm64")
        assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == len(config["history"])
        layers: list[list[tarfile.TarInfo]] = []
        contents: dict[str, bytes] = {}
        for descriptor, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            assert descriptor["mediaType"] == LAYER
            raw = gzip.decompress(self.blob(descriptor))
            assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == diff_id
            members, files = _members(raw)
            layers.append(members)
            contents |= files
        return Image(found["digest"], manifest, config, layers, contents)

    def attached(self, digest: str) -> dict[str, Any]:
        """The list of components that names the image of that digest as its subject."""
        for one in self.index["manifests"]:
            manifest = json.loads(self.blob(one))
            if manifest.get("subject", {}).get("digest") == digest:
                assert one["artifactType"] == manifest["artifactType"] == "application/vnd.cyclonedx+json"
                assert self.blob(manifest["config"]) == b"{}"
                [layer] = manifest["layers"]
                found: dict[str, Any] = json.loads(self.blob(layer))
                return found
        raise AssertionError(f"nothing is attached to {digest}")


def _members(raw: bytes) -> tuple[list[tarfile.TarInfo], dict[str, bytes]]:
    """What is in a layer: in order, each folder before what it holds, and nothing of who wrote it and when."""
    seen: set[str] = set()
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        members = tar.getmembers()
        for info in members:
            assert not info.name.startswith(("/", ".")), info.name
            assert info.name not in seen, f"{info.name} is there twice"
            assert not os.path.dirname(info.name) or os.path.dirname(info.name) in seen
            assert (info.uid, info.gid, info.mtime) == (0, 0, 315_532_800)
            assert info.isdir() or info.isfile() or info.issym()
            seen.add(info.name)
            if info.isfile():
                file = tar.extractfile(info)
                assert file is not None
                contents[info.name] = file.read()
    assert [info.name for info in members] == sorted(info.name for info in members)
    return members, contents
