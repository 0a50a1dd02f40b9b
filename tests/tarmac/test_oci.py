"""Container images without a container engine: a valid layout, the same twice, that runs where nothing else is."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

import flyte
from flyte._ship import dockerfile
from flyte.wire import ContainerImage, ContainerNews, ContainerOrder, ContainerSpec, EnvironmentSpec, ImageSpec
from tarmac.environments import build
from tarmac.environments.uv import find_uv
from tarmac.oci import ContainerFailed, base, write
from tests.tarmac.oci_reader import Image, Reader
from tests.tarmac.wheelhouse import Wheelhouse

LOOK = """
import ctypes, hashlib, os, sqlite3, ssl, sys, zlib, zoneinfo
import cow, flyte
from flyte.runtime import worker
print(cow.VERSION, sys.prefix, os.getcwd(), os.environ["GREETING"])
print(zoneinfo.ZoneInfo("Europe/Berlin"), ssl.create_default_context().cert_store_stats()["x509"] > 0)
"""
SEEN = '1.0 /opt/flyte/environment /data it\'s "fine" $HOME\nEurope/Berlin True'


class Dock:
    """Images of one machine; `house` has the packages for them."""

    def __init__(self, folder: Path, house: Wheelhouse) -> None:
        self.folder, self.house = folder, house
        self.news: list[ContainerNews] = []

    def spec(self, name: str = "cow", packages: Sequence[str] = ("cow",), **more: Any) -> ContainerSpec:
        image = ImageSpec(
            packages=list(packages),
            options=self.house.options,
            install_flyte=False,
            python=more.pop("python", None),
            secrets=more.pop("secrets", []),
            env={"GREETING": 'it\'s "fine" $HOME'},
        )
        return ContainerSpec(environment=EnvironmentSpec(name=name, kind="task", image=image), **more)

    def makes(self, *specs: ContainerSpec, to: str = "images", **more: Any) -> list[ContainerImage]:
        order = ContainerOrder(images=list(specs), layout=str(self.folder / to), parent=os.getpid(), **more)
        self.news.clear()
        write.carry_out(order)
        return [news.image for news in self.news if news.image is not None]

    def image(self, name: str = "cow", of: str = "images") -> Image:
        return self.reader(of).image(name)

    def reader(self, of: str = "images") -> Reader:
        return Reader(self.folder / of)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the platform's home, uv's cache and packages, so that each environment is made once."""
    folder = tmp_path_factory.mktemp("shared")
    house = Wheelhouse(folder / "house")
    house.wheel("cow", "1.0")
    house.wheel("bull", "2.0")
    return folder


@pytest.fixture
def dock(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Dock:
    monkeypatch.setenv("UV_CACHE_DIR", str(shared / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("TARMAC_HOME", str(shared / "home"))
    made = Dock(tmp_path, Wheelhouse(shared / "house"))
    monkeypatch.setattr(write, "_say", made.news.append)
    monkeypatch.setattr(build, "tell", lambda message: None)
    return made


def in_a_container(image: Image, folder: Path, code: str) -> str:
    """What Python prints where the image's files are all that there is."""
    image.unpack(folder)
    variables = dict(line.split("=", 1) for line in image.config["config"]["Env"])
    enter = ["/usr/sbin/chroot"] if os.getuid() == 0 else ["/usr/bin/unshare", "--map-root-user", "/usr/sbin/chroot"]
    command = [*enter, str(folder), "/bin/sh", "-c", 'cd "$0" && exec python -c "$1"']
    done = subprocess.run(
        [*command, image.config["config"]["WorkingDir"], code],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_image_is_a_valid_layout_and_runs_where_nothing_else_is(dock: Dock, tmp_path: Path) -> None:
    text = tmp_path / "hello.txt"
    text.write_text("hello")
    [made] = dock.makes(
        dock.spec(files={"/data/hello.txt": str(text), "/bin/x": str(text)}, workdir="/data", port=8080)
    )
    image = dock.image()
    assert made.digest == image.digest
    assert image.contents["data/hello.txt"] == b"hello"
    assert image.config["config"]["ExposedPorts"] == {"8080/tcp": {}}
    assert image.config["config"]["Cmd"] == ["python"]
    assert in_a_container(image, tmp_path / "root", LOOK) == SEEN
    assert not [name for name in image.contents if str(tmp_path)[1:] in name], "no path of this machine is in it"


def test_the_same_image_has_the_same_digest_wherever_it_is_made(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = dock.makes(dock.spec())
    monkeypatch.setenv("TARMAC_HOME", str(tmp_path / "another-home"))
    [again] = dock.makes(dock.spec(), to="others")
    assert again.digest == first.digest
    assert (dock.folder / "images" / "index.json").read_text() == (dock.folder / "others" / "index.json").read_text()


def test_images_of_one_layout_share_what_is_the_same(dock: Dock) -> None:
    dock.makes(dock.spec(), dock.spec("bull", ["bull"]))
    cow, bull = dock.image("cow"), dock.image("bull")
    layers = [[one["digest"] for one in image.manifest["layers"]] for image in (cow, bull)]
    assert layers[0][:2] == layers[1][:2]
    assert layers[0][2] != layers[1][2]
    dock.makes(dock.spec())
    assert sorted(dock.reader().names()) == ["bull", "cow"], "what another call wrote stays"


def test_an_image_has_a_list_of_its_components(dock: Dock) -> None:
    dock.makes(dock.spec())
    listed = dock.reader().attached(dock.image().digest)
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    purls = {one.get("purl") for one in listed["components"]}
    assert "pkg:pypi/cow@1.0" in purls
    assert f"pkg:generic/python@{'.'.join(map(str, sys.version_info[:3]))}" in purls
    [libc] = [one for one in listed["components"] if one["name"].endswith("/libc.so.6")]
    content = dock.image().contents[libc["name"].lstrip("/")]
    assert libc["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]


def test_an_image_is_built_on_another_that_has_the_interpreter(dock: Dock, tmp_path: Path) -> None:
    dock.makes(dock.spec("below", []), to="below")
    dock.makes(dock.spec(workdir="/data", files={"/data/x": __file__}), base=str(dock.folder / "below"))
    below, image = dock.image("below", of="below"), dock.image()
    assert image.manifest["layers"][: len(below.manifest["layers"])] == below.manifest["layers"]
    assert in_a_container(image, tmp_path / "root", LOOK) == SEEN


def test_a_base_that_cannot_be_built_on_is_refused_in_a_sentence(dock: Dock, tmp_path: Path) -> None:
    with pytest.raises(ContainerFailed, match="cannot be read"):
        dock.makes(dock.spec(), base=str(tmp_path))
    dock.makes(dock.spec("below", []), to="below")
    below = base.find(dock.folder / "below", write.ARCHITECTURES[os.uname().machine])
    with pytest.raises(ContainerFailed, match=r"the base has no python3\.99 .*it has python3\.\d+"):
        below.python((3, 99))
    musl = base.Base(below.config, [], [], frozenset({"lib/ld-musl-x86_64.so.1"}))
    with pytest.raises(ContainerFailed, match="musl"):
        musl.refuse_other_c_library()
    blob = below.blobs[0]
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(ContainerFailed, match="is damaged"):
        dock.makes(dock.spec(), base=str(dock.folder / "below"))
    dock.makes(dock.spec("one", []), dock.spec("two", []), to="two")
    with pytest.raises(ContainerFailed, match="must hold exactly one image to build on; it holds one, two"):
        dock.makes(dock.spec(), base=str(dock.folder / "two"))


def test_a_folder_that_holds_something_else_is_left_alone(dock: Dock, tmp_path: Path) -> None:
    kept = tmp_path / "mine" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("chapter 1")
    with pytest.raises(ContainerFailed, match="is not empty and is not an OCI layout"):
        dock.makes(dock.spec(), to="mine")
    assert [path.name for path in kept.parent.iterdir()] == ["thesis.txt"]


def test_an_environment_that_cannot_be_made_is_said_in_uvs_words_and_leaves_the_layout_as_it_was(dock: Dock) -> None:
    dock.makes(dock.spec())
    before = (dock.folder / "images" / "index.json").read_text()
    with pytest.raises(ContainerFailed, match=r"environment 'cow': [\s\S]*horse"):
        dock.makes(dock.spec(packages=["horse"]))
    assert (dock.folder / "images" / "index.json").read_text() == before


def test_a_program_says_what_it_made_and_why_it_failed(dock: Dock) -> None:
    def says(*specs: ContainerSpec) -> ContainerNews:
        order = ContainerOrder(images=list(specs), layout=str(dock.folder / "said"), parent=os.getpid())
        command = [sys.executable, "-P", "-m", "tarmac.oci.write"]
        done = subprocess.run(command, input=msgspec.json.encode(order), capture_output=True, timeout=120, check=True)
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=ContainerNews)

    made = says(dock.spec())
    assert made.image is not None
    assert made.image.digest == dock.image(of="said").digest
    assert "horse" in says(dock.spec(packages=["horse"])).error


@contextlib.contextmanager
def podman() -> Iterator[Callable[..., subprocess.CompletedProcess[str]] | None]:
    """Calls podman, with images and containers of its own; None where it is not to be had, or would need root."""
    program = shutil.which("podman")
    if program is None or os.getuid() != 0:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pod-", dir="/tmp") as folder:  # podman takes 50 characters at most
        own = ("--root", f"{folder}/store", "--runroot", f"{folder}/run", "--storage-driver", "vfs")
        command = [program, *own, "--cgroup-manager", "cgroupfs", "--runtime", "runc"]
        call = functools.partial(subprocess.run, capture_output=True, text=True, timeout=120)
        yield lambda *words: call([*command, *map(str, words)])
        call([*command, "system", "reset", "--force"])


IN_A_CONTAINER = (
    "--rm",
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
    "--network=none",
)


def test_podman_runs_what_was_written(dock: Dock) -> None:
    """Where there is no podman, another test has run the same files without it."""
    dock.makes(dock.spec(workdir="/data", files={"/data/x": __file__}))
    with podman() as call:
        if call is not None:
            done = call("run", *IN_A_CONTAINER, f"oci:{dock.folder / 'images'}:cow", "python", "-c", LOOK)
            assert (done.returncode, done.stdout.strip()) == (0, SEEN), done.stderr


def test_what_an_app_runs_is_its_command_and_there_is_no_entry_point(dock: Dock) -> None:
    dock.makes(dock.spec(command=["python", "-m", "cow"]))
    config = dock.image().config["config"]
    assert config["Cmd"] == ["python", "-m", "cow"]
    assert "Entrypoint" not in config


def test_podman_builds_the_dockerfile_of_an_image(dock: Dock, tmp_path: Path) -> None:
    """Where there is no podman, the text alone is looked at (tests/flyte/test_dockerfile.py)."""
    dock.makes(dock.spec("base", [], files={"/usr/local/bin/uv": find_uv()}), to="base")
    image = (
        flyte.Image.from_base("localhost/base")
        .with_source_folder(dock.house.folder, "/wheels")
        .with_pip_packages("cow", extra_args="--no-index --find-links /wheels")
        .with_env_vars({"GREETING": 'it\'s "fine" $HOME'})
        .with_commands(["echo 'moo' > /moo"])
        .with_workdir("/data")
    )
    with podman() as call:
        if call is not None:
            env = flyte.TaskEnvironment("cows", image=dataclasses.replace(image, install_flyte=False))
            dockerfile.render(env, tmp_path).write(tmp_path / "context")
            pulled = call("pull", "--quiet", f"oci:{tmp_path / 'base'}:base").stdout.strip()
            assert call("tag", pulled, "localhost/base").returncode == 0
            where = ("--isolation=chroot", "--network=host", "--runtime=runc")
            done = call("build", *where, "--tag=localhost/cows", tmp_path / "context")
            assert done.returncode == 0, done.stdout + done.stderr
            done = call("run", *IN_A_CONTAINER, "localhost/cows", "python", "-c", LOOK)
            assert (done.returncode, done.stdout.strip()) == (0, SEEN), done.stderr
