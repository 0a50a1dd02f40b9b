"""`flyte build --oci | --push | --dockerfile`: without a platform, and every failure is a sentence with exit code 2."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flyte.cli_world import Shell
from tests.tarmac.oci_reader import Reader
from tests.tarmac.registry_server import RegistryServer
from tests.tarmac.wheelhouse import Wheelhouse

PAGE = Path(__file__).parents[2] / "docs" / "images.md"

PROGRAM = """
import flyte
import flyte.app

image = flyte.Image.from_debian_base(install_flyte=False).with_pip_packages("cow", extra_args={options!r})
etl = flyte.TaskEnvironment("etl", image=image.with_code_bundle().with_env_vars({{"GREETING": "moo"}}))
absent = flyte.TaskEnvironment("absent", image=image.with_pip_packages("horse"))
own = flyte.TaskEnvironment("own", image=flyte.Image.from_dockerfile("Dockerfile"))
base = flyte.TaskEnvironment("based", image="place/cow:1")
app = flyte.app.AppEnvironment(name="moo", image=image, args="python -m http.server 8081", port=8081)


@etl.task
async def say() -> str:
    return "moo"
"""


@pytest.fixture
def program(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "uv-cache"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    house = Wheelhouse(tmp_path / "house")
    house.wheel("cow", "1.0")
    path = tmp_path / "work" / "etl.py"
    path.write_text(PROGRAM.format(options=" ".join(house.options)))
    yield path
    sys.modules.pop("etl", None)


def commands_of_the_page() -> list[list[str]]:
    """What docs/images.md has people type about container images, without podman's part."""
    section = PAGE.read_text().split("## Container images", 1)[1]
    block = section.split("```console\n", 1)[1].split("```", 1)[0]
    return [line.split()[2:] for line in block.splitlines() if line.startswith("$ flyte ")]


async def test_the_commands_of_the_page_write_and_push_an_image_without_a_platform(
    shell: Shell, program: Path, tmp_path: Path
) -> None:
    write, push = commands_of_the_page()
    assert (write, push[:4]) == (["build", "etl.py", "--oci", "images"], ["build", "etl.py", "etl", "--push"])
    async with RegistryServer().running() as there:
        said = await asyncio.to_thread(shell, *write[:2], "etl", *write[2:])
        assert said.code == 0, said.err
        image = Reader(tmp_path / "work" / "images").image("etl")
        to = push[4].replace("registry.example", there.host).replace("team/etl", "farm/cow")
        said = await asyncio.to_thread(shell, *push[:4], to, "-o", "json")
        assert said.code == 0, said.err
        assert json.loads(said.out)[0]["digest"] == image.digest
        assert json.loads(said.out)[0]["reference"] == f"{there.host}/farm/cow@{image.digest}"
        assert "1" in there.manifests
    assert "async def say()" in image.contents["root/etl.py"].decode(), "with_code_bundle puts the code into the image"
    assert "GREETING=moo" in image.config["config"]["Env"]
    assert not (tmp_path / "tarmac" / "platform.json").exists(), "no platform was started"


def test_an_app_is_an_image_that_runs_its_command(shell: Shell, program: Path, tmp_path: Path) -> None:
    said = shell("build", program, "app", "--oci", tmp_path / "images")
    assert said.code == 0, said.err
    config = Reader(tmp_path / "images").image("moo").config["config"]
    assert config["Cmd"] == ["python", "-m", "http.server", "8081"]
    assert config["ExposedPorts"] == {"8081/tcp": {}}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("absent", "--oci", "images"), "environment 'absent': "),
        (("own", "--oci", "images"), "the image of 'own' is made by Dockerfile: build it with a container engine"),
        (("base", "--oci", "images"), "starts from place/cow:1: give that as an OCI layout with --base DIR"),
        (("base", "--oci", "images", "--base", "nowhere"), "nowhere/index.json cannot be read"),
        (("etl", "--oci", "etl.py"), "etl.py is a file; name a folder"),
        (("etl", "--oci", "."), "is not empty and is not an OCI layout"),
        (("etl", "--push", "cow"), "'cow' does not name an image in a registry; write HOST/NAME:TAG"),
        (("--push", "localhost:1/cow"), "--push sends one image; name the environment: one of etl"),
        (("--dockerfile",), "--dockerfile is for one image; name the environment"),
        (("etl", "--base", "x"), "--base is for --oci and --push"),
        (("etl", "--context", "x"), "--context is for --dockerfile"),
        (("etl", "--dockerfile", "--oci", "x"), "--dockerfile makes nothing"),
        (("etl", "--dockerfile", "--context", "etl.py"), "--context etl.py: "),
    ],
)
def test_what_cannot_be_done_is_a_sentence(shell: Shell, program: Path, words: tuple[str, ...], sentence: str) -> None:
    said = shell("build", program, *words)
    assert said.code == 2, said.err
    assert sentence in said.err
    assert "Traceback" not in said.err


def test_a_dockerfile_is_printed_or_written_with_what_it_copies(shell: Shell, program: Path, tmp_path: Path) -> None:
    printed = shell("build", program, "etl", "--dockerfile")
    assert printed.code == 0, printed.err
    assert printed.out.startswith("FROM python:3.")
    assert "GREETING" in printed.out
    written = shell("build", program, "etl", "--dockerfile", "--context", tmp_path / "context")
    assert written.code == 0, written.err
    assert (tmp_path / "context" / "Dockerfile").read_text() == printed.out
    assert list((tmp_path / "context").glob("code-*/root/etl.py"))
