"""Our distribution, the official one and a plugin that requires it, installed by pip and uv in every order."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import uv

import tarmac
from flyte import official
from tarmac import older_version
from tests.tarmac.wheelhouse import Wheelhouse

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
PLATFORM = {"tarmac.py": "WHOSE = 'ours'\n"}


class Machine:
    """A virtual environment, and a folder of wheels in place of an index."""

    def __init__(self, folder: Path, tool: str) -> None:
        self._python = folder / "env" / "bin" / "python"
        self._tool = tool
        self.wheels = Wheelhouse(folder / "wheels")
        self.wheels.wheel(PROJECT["name"], PROJECT["version"], source="WHOSE = 'ours'\n", files=PLATFORM)
        self.wheels.wheel("flyte", "2.12.1", source="WHOSE = 'official'\n")
        self.wheels.wheel("flyteplugins-x", requires=["flyte>=2.0.0b52"])
        self._call(uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(folder / "env"))

    @property
    def site(self) -> Path:
        return next(self._python.parents[1].glob("lib/python3*/site-packages"))

    def install(self, *words: str) -> None:
        self._call(*self._program("install"), *self.wheels.options, *words)

    def uninstall(self, name: str) -> None:
        self._call(*self._program("uninstall"), *([] if self._tool == "uv" else ["--yes"]), name)

    def whose(self) -> str:
        return self._call(str(self._python), "-c", "import flyte, tarmac; print(flyte.WHOSE, tarmac.WHOSE)")

    def _program(self, verb: str) -> list[str]:
        if self._tool == "uv":
            return [uv.find_uv_bin(), "pip", verb, "--quiet", "--python", str(self._python)]
        return [sys.executable, "-m", "pip", "--python", str(self._python), verb, "--quiet"]

    @staticmethod
    def _call(*words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(params=["pip", "uv"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


OURS = f"flyte=={PROJECT['version']}"


@pytest.mark.parametrize(
    "orders",
    [
        [[OURS], ["flyteplugins-x"], ["-U", "flyteplugins-x"], ["-U", "flyte"]],
        [["flyte==2.12.1", "flyteplugins-x"], [OURS], ["-U", "flyteplugins-x"]],
    ],
    ids=["ours first", "official first"],
)
def test_a_plugin_leaves_our_package_whole_in_every_order(machine: Machine, orders: list[list[str]]) -> None:
    for words in orders:
        machine.install(*words)
    assert machine.whose() == "ours ours"


def test_the_old_distribution_can_be_uninstalled_after_the_new_one_came(machine: Machine) -> None:
    old = machine.wheels.wheel(
        "tarmac", "0.1.0", source="WHOSE = 'old'\n", files={"flyte.py": "WHOSE = 'old'\n", "gone.py": ""}
    )
    machine.install(str(old))
    info = machine.site / "tarmac-0.1.0.dist-info"
    (info / "METADATA").write_text((info / "METADATA").read_text() + f"{official.SUMMARY}: one pip install\n")
    machine.install(OURS)
    assert older_version.disown(machine.site) == info
    assert older_version.disown(machine.site) is None, "once is enough"
    machine.uninstall("tarmac")
    assert machine.whose() == "ours ours"
    assert not (machine.site / "gone.py").exists()


def test_a_strangers_record_is_left_alone(machine: Machine) -> None:
    machine.install(str(machine.wheels.wheel("tarmac", "0.1.9")))
    machine.install(OURS)
    assert older_version.disown(machine.site) is None


def test_the_distributions_version_ends_with_the_platforms() -> None:
    assert PROJECT["version"] == f"2.9999.0{official.OURS}.{tarmac.__version__}"
    assert f"Summary: {PROJECT['description']}".startswith(official.SUMMARY)
