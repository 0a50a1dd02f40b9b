"""Who makes an environment is killed while it does: it is made all the same, or the deployment says why, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.world import World
from tests.platform_fixture import Platform, wait_for
from tests.tarmac.wheelhouse import Wheelhouse

PROGRAM = """
import flyte

image = flyte.Image.from_debian_base().with_pip_packages("patient", extra_args="--no-index --find-links {house}")
env = flyte.TaskEnvironment("patience", image=image)


@env.task
async def version() -> str:
    import patient
    return patient.VERSION
"""


class Slow:
    """A program whose image has a package; the first build of that does not end, the next one does."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform, self.begun = platform, folder / "begun"
        house, wheel = Wheelhouse(folder / "house"), Wheelhouse(folder / "built").wheel("patient")
        body = [
            f"begun = pathlib.Path({str(self.begun)!r})",
            "if begun.exists():",
            f"    shutil.copy({str(wheel)!r}, wheel_directory)",
            f"    return {wheel.name!r}",
            "begun.write_text(str(os.getpid()))",
            "signal.pause()",
        ]
        house.source("patient", body)
        self.program = platform.write("slow/slow.py", PROGRAM.format(house=house.folder))

    def deploys(self) -> subprocess.Popen[str]:
        """`flyte deploy`, when its environment is being made."""
        command = [sys.executable, "-m", "flyte.cli", "deploy", str(self.program)]
        pipe = subprocess.PIPE
        deploying = subprocess.Popen(
            command, cwd=self.platform.work, env=self.platform.env, stdout=pipe, stderr=pipe, text=True
        )
        wait_for(lambda: self.begun.exists() and self.begun.read_text(), "the package is being built", 60)
        return deploying

    def unfinished(self) -> list[str]:
        return [path.name for path in (self.platform.home / "images" / "making").iterdir()]

    def pids(self, holds: Callable[[list[str]], bool]) -> list[int]:
        return [process.pid for process in self.platform.processes() if holds(process.cmdline())]


@pytest.fixture
def slow(fresh_platform: Platform, tmp_path: Path) -> Slow:
    return Slow(fresh_platform, tmp_path)


@pytest.mark.parametrize("part", ["agent", "control"])
def test_an_environment_is_made_though_a_part_of_the_platform_is_killed(slow: Slow, part: str) -> None:
    deploying = slow.deploys()
    slow_build = int(slow.begun.read_text())
    world = World(slow.platform)
    world.http.close()
    world.kill([part])
    if part == "control":  # what it was about to deploy is taken back; the next one finds what the agent has made
        os.kill(slow_build, signal.SIGKILL)
    out, err = deploying.communicate(timeout=90)
    if part == "agent":
        assert deploying.returncode == 0, out + err
        wait_for(lambda: not psutil.pid_exists(slow_build), "the killed agent's build has ended")
    else:
        assert deploying.returncode == 2, out + err
        assert "deploy again" in err
    run = slow.platform.cli("run", slow.program, "version", timeout=90)
    assert (run.code, json.loads(run.out or "null")) == (0, "1.0"), run.both
    assert slow.unfinished() == []


def test_a_deployment_whose_builder_is_killed_fails_and_the_next_one_succeeds(slow: Slow) -> None:
    deploying = slow.deploys()
    builders = slow.pids(lambda words: "tarmac.environments.build" in words)
    assert len(builders) == 1
    os.kill(builders[0], signal.SIGKILL)
    out, err = deploying.communicate(timeout=60)
    assert deploying.returncode == 2, out + err
    assert "environment 'patience': the builder ended (code -9)" in err
    run = slow.platform.cli("run", slow.program, "version", timeout=90)
    assert (run.code, json.loads(run.out or "null")) == (0, "1.0"), run.both
    assert slow.unfinished() == []
