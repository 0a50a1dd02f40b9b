"""Every constructor of an Image that an environment can hold, deployed and run: what it names is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.platform_fixture import Platform
from tests.tarmac.wheelhouse import Wheelhouse

PROGRAM = """
import os
import sys
from pathlib import Path
import flyte
import flyte.app

OPTIONS = "--no-index --find-links {house}"
base = flyte.Image.from_debian_base(install_flyte=False).with_env_vars({{"HERD": "cows"}})
image = base.with_requirements("requirements.txt", extra_args=OPTIONS)

def env(name, image):
    return flyte.TaskEnvironment(name, image=image)

requirements = env("requirements", image)
uv = env("uv", base.with_uv_project("uv/pyproject.toml").with_pip_packages(extra_args=OPTIONS))
poetry = env("poetry", base.with_poetry_project("poetry/pyproject.toml").with_pip_packages(extra_args=OPTIONS))
script = env("script", flyte.Image.from_uv_script("script.py", extra_args=OPTIONS))
cloned = env("cloned", image.clone(name="another").with_pip_packages("goat==1"))
files = env(
    "files",
    image.with_workdir("/app")
    .with_source_file("settings.toml", "conf/")
    .with_source_file(["one.txt", "two.txt"], "/app/texts")
    .with_source_folder("stable", "animals")
    .with_code_bundle(),
)
app = flyte.app.AppEnvironment("constructed", image=files.image, requires_auth=False)
main = flyte.TaskEnvironment("main", depends_on=[requirements, uv, poetry, script, cloned, files])


def seen() -> list[str]:
    from importlib import metadata
    names = ("cow", "goat")
    found = {{one.name: one.version for one in metadata.distributions() if one.name in names}}
    return [f"{{name}}=={{found[name]}}" for name in names if name in found] + [os.environ.get("HERD", "")]


def read() -> list[str]:
    from animals.sheep import WOOL
    paths = ("conf/settings.toml", "texts/one.txt", "texts/two.txt", "animals/data/fleece.csv")
    return [*(Path(path).read_text() for path in paths), WOOL]


@requirements.task
async def of_requirements() -> list[str]:
    return seen()

@uv.task
async def of_uv() -> list[str]:
    return seen()

@poetry.task
async def of_poetry() -> list[str]:
    return seen()

@script.task
async def of_script() -> list[str]:
    return seen()

@cloned.task
async def of_clone() -> list[str]:
    return seen()

@files.task
async def of_files() -> list[str]:
    return read()

@files.task
def of_files_in_a_thread() -> list[str]:
    return read()

@main.task
async def all_of_them() -> dict[str, list[str]]:
    tasks = (of_requirements, of_uv, of_poetry, of_script, of_clone, of_files)
    found = {{task.name.partition(".")[0]: await task() for task in tasks}}
    found["thread"] = await of_files_in_a_thread.aio()
    found["retried"] = await of_requirements.override(retries=1)()
    return found


@app.server
async def serve():
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(repr(read()).encode())

    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

UV_LOCK = """version = 1
requires-python = ">=3.11"

[[package]]
name = "cow"
version = "1.0"
source = {{ registry = "{house}" }}
"""

POETRY_LOCK = """[[package]]
name = "cow"
version = "1.0"
groups = ["main"]
"""

SCRIPT = """# /// script
# requires-python = ">=3.11"
# dependencies = ["goat"]
# [tool.uv]
# override-dependencies = ["cow<2"]
# ///
"""

FILES = {
    "requirements.txt": "-r more.txt\n",
    "more.txt": "cow<2\nflyte==2.0.9\n",
    "uv/pyproject.toml": '[project]\nname = "p"\nversion = "1"\ndependencies = ["cow"]\n'
    '[dependency-groups]\ndev = ["nothing"]\n',
    "uv/uv.lock": UV_LOCK,
    "poetry/pyproject.toml": '[tool.poetry]\nname = "p"\nversion = "1"\n[tool.poetry.dependencies]\n'
    'python = "^3.11"\ncow = "*"\n',
    "poetry/poetry.lock": POETRY_LOCK,
    "script.py": SCRIPT,
    "script.py.lock": 'version = 1\nrequires-python = ">=3.11"\n[[package]]\nname = "goat"\nversion = "1.0"\n'
    'source = {{ registry = "{house}" }}\n',
    "settings.toml": "a = 1",
    "one.txt": "one",
    "two.txt": "two",
    "stable/sheep.py": 'WOOL = "white"\n',
    "stable/data/fleece.csv": "1,2",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    house = Wheelhouse(tmp_path_factory.mktemp("house"))
    for version in ("1.0", "2.0"):
        house.wheel("cow", version)
        house.wheel("goat", version, requires=["cow"])
    return house


@pytest.fixture
def program(platform: Platform, house: Wheelhouse) -> Path:
    for name, text in FILES.items():
        platform.write(
            f"constructors/{name}", text.replace("{house}", str(house.folder)).replace("{{", "{").replace("}}", "}")
        )
    return platform.write("constructors/constructors.py", PROGRAM.format(house=house.folder))


def test_each_constructor_has_its_effect_in_the_tasks_that_run(platform: Platform, program: Path) -> None:
    done = platform.cli("run", program, "all_of_them", timeout=120)
    assert done.code == 0, done.both
    found = json.loads(done.out)
    copied = ["a = 1", "one", "two", "1,2", "white"]
    assert found == {
        "requirements": ["cow==1.0", "cows"],
        "uv": ["cow==1.0", "cows"],
        "poetry": ["cow==1.0", "cows"],
        "script": ["cow==1.0", "goat==1.0", ""],
        "cloned": ["cow==1.0", "goat==1.0", "cows"],
        "files": copied,
        "thread": copied,
        "retried": ["cow==1.0", "cows"],
    }
    assert "Image.with_workdir() of an absolute path (`workdir /app`) of files" in done.err


def test_an_app_reads_what_its_image_copies(platform: Platform, program: Path) -> None:
    done = platform.cli("deploy", program, "app", timeout=120)
    assert done.code == 0, done.both
    with platform.client() as http:
        assert http.get(platform.app_url("constructed")).text == repr(["a = 1", "one", "two", "1,2", "white"])
