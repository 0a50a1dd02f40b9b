"""Pushing to a registry: what it has is not sent, a login is used where it is asked for, and failures are sentences."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from tarmac.oci import ContainerFailed, layers, registry, sbom
from tarmac.oci.layers import Entry
from tarmac.oci.layout import CONFIG, EMPTY, MANIFEST, Descriptor, Layout, Manifest
from tests import ports
from tests.platform_fixture import wait_for
from tests.tarmac.registry_server import LOGIN, RegistryServer, login_file


class Cargo:
    """An image with one layer, and a list of its components."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        layer = layers.write({"data/x": Entry(content=b"x" * 300_000)}, self.layout.blobs, "test")
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        }
        described = Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size)
        self.image = self._manifest(self.layout.put(msgspec.json.encode(config), CONFIG), described)
        empty, listed = self.layout.put(b"{}", EMPTY), self.layout.put(b'{"bomFormat": "CycloneDX"}', sbom.MEDIA_TYPE)
        manifest = self._manifest(empty, listed, artifact_type=sbom.MEDIA_TYPE, subject=self.image)
        self.attached = msgspec.structs.replace(manifest, artifact_type=sbom.MEDIA_TYPE)

    def _manifest(self, config: Descriptor, layer: Descriptor, **more: object) -> Descriptor:
        made = Manifest(schema_version=2, media_type=MANIFEST, config=config, layers=[layer], **more)  # type: ignore[arg-type]
        return self.layout.put(msgspec.json.encode(made), MANIFEST)

    async def goes_to(self, host: str, name: str = "farm/cow:1") -> str:
        return await registry.push(self.layout, self.image, self.attached, f"{host}/{name}", lambda line: None)


@pytest.fixture
def cargo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cargo:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return Cargo(tmp_path / "layout")


def logs_in(folder: Path, host: str, login: tuple[str, str] = LOGIN) -> None:
    (folder / "auth.json").write_text(login_file(host, login))


@pytest.mark.parametrize("auth", ["none", "basic", "token"])
async def test_an_image_and_its_components_arrive_whole(cargo: Cargo, tmp_path: Path, auth: str) -> None:
    async with RegistryServer(auth).running() as there:  # type: ignore[arg-type]
        logs_in(tmp_path, there.host)
        assert await cargo.goes_to(there.host) == f"{there.host}/farm/cow@{cargo.image.digest}"
        assert there.manifests["1"] == cargo.layout.path(cargo.image.digest).read_bytes()
        assert cargo.attached.digest in there.manifests
        sent = there.uploads
        await cargo.goes_to(there.host, "farm/cow:2")
        assert there.uploads == sent, "what it has is not sent again"


async def test_an_old_registry_gets_the_components_under_the_tag_where_clients_look(cargo: Cargo) -> None:
    async with RegistryServer(knows_subjects=False).running() as there:
        for _ in range(2):
            await cargo.goes_to(there.host)
        index = json.loads(there.manifests[cargo.image.digest.replace(":", "-")])
        assert [(one["digest"], one["artifactType"]) for one in index["manifests"]] == [
            (cargo.attached.digest, sbom.MEDIA_TYPE)
        ]


async def test_an_upload_that_is_broken_off_is_tried_again(cargo: Cargo) -> None:
    async with RegistryServer(breaks=2).running() as there:
        await cargo.goes_to(there.host)
        assert "1" in there.manifests


async def test_an_upload_that_always_breaks_off_is_a_sentence_and_no_manifest(cargo: Cargo) -> None:
    async with RegistryServer(breaks=99).running() as there:
        with pytest.raises(ContainerFailed, match=r"broke off the upload of sha256:\w+ 3 times .* try again"):
            await cargo.goes_to(there.host)
        assert there.manifests == {}


@pytest.mark.parametrize("auth", ["basic", "token"])
async def test_whoever_is_not_let_in_is_told_how_to_log_in(cargo: Cargo, tmp_path: Path, auth: str) -> None:
    async with RegistryServer(auth).running() as there:  # type: ignore[arg-type]
        with pytest.raises(ContainerFailed, match=f"farm/cow without a login; log in with `podman login {there.host}`"):
            await cargo.goes_to(there.host)
        logs_in(tmp_path, there.host, ("thief", "wrong"))
        with pytest.raises(ContainerFailed, match="farm/cow as 'thief'; log in with"):
            await cargo.goes_to(there.host)
        assert there.uploads == 0


async def test_a_password_is_not_sent_to_a_token_server_without_https(cargo: Cargo, tmp_path: Path) -> None:
    there = RegistryServer("token")
    there.realm = "http://elsewhere.example/token"
    async with there.running():
        logs_in(tmp_path, there.host)
        with pytest.raises(ContainerFailed, match="names a token server without https"):
            await cargo.goes_to(there.host)


async def test_a_host_where_nothing_listens_is_named(cargo: Cargo) -> None:
    with ports.one() as port, pytest.raises(ContainerFailed, match=f"the registry 127.0.0.1:{port} cannot be reached"):
        await cargo.goes_to(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "text", ["cow", "cow:1", "farm/cow:1", "host.example/", "host.example/Cow:1", "host.example/cow:a b", "h:x/cow:1"]
)
def test_what_names_no_image_in_a_registry_is_refused(text: str) -> None:
    with pytest.raises(ContainerFailed, match=r"write HOST/NAME:TAG|is not a host and a port"):
        registry.parse(text)


def test_only_a_registry_of_this_machine_is_spoken_to_without_https() -> None:
    assert registry.parse("localhost:5000/cow").url == "http://localhost:5000/v2/cow/"
    assert registry.parse("[::1]:5000/cow:1").url == "http://[::1]:5000/v2/cow/"
    assert registry.parse("place.example/farm/cow:1").url == "https://place.example/v2/farm/cow/"


def test_a_credential_helper_is_asked_for_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "bin" / "docker-credential-barn"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\nread host; echo "{\\"Username\\": \\"farmer\\", \\"Secret\\": \\"of $host\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    (tmp_path / "auth.json").write_text('{"credsStore": "barn"}')
    assert registry.credentials("place.example") == ("farmer", "of place.example")


@contextlib.asynccontextmanager
async def debians_registry(folder: Path) -> AsyncIterator[str]:
    """The registry of Debian's package `docker-registry`; the one in this process where it is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        async with RegistryServer().running() as there:
            yield there.host
        return
    with ports.one() as port:
        host, settings = f"127.0.0.1:{port}", folder / "registry.yml"
        storage = f"storage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}"
        settings.write_text(f"version: 0.1\n{storage}\nhttp: {{addr: '{host}'}}\n")
        with _process([program, "serve", str(settings)], folder / "registry.log"):
            await asyncio.to_thread(wait_for, lambda: _answers(host), "the registry answers", 30)
            yield host


def _answers(host: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}/v2/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}  # its settings
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output, env=own)
    try:
        yield
    finally:
        running.terminate()
        running.wait(30)


async def test_a_registry_of_debian_takes_an_image_and_gives_it_back(cargo: Cargo, tmp_path: Path) -> None:
    async with debians_registry(tmp_path) as host, aiohttp.ClientSession() as session:
        await cargo.goes_to(host)
        for tag, media_type in (("1", MANIFEST), (cargo.attached.digest, MANIFEST)):
            url = f"http://{host}/v2/farm/cow/manifests/{tag}"
            async with session.get(url, headers={"Accept": media_type}) as answer:
                assert answer.status == 200, await answer.text()
                described = cargo.image if tag == "1" else cargo.attached
                assert await answer.read() == cargo.layout.path(described.digest).read_bytes()
