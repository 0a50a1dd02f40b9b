"""From nothing to an answer, and what the idle platform weighs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import house, size
from benchmarks.sample import Sample, Samples, interleave


def start() -> list[Sample]:
    sample = Samples("start")
    up = sample("flyte up until ready")
    first = sample("program on a stopped platform → first result")
    importing = sample("import flyte, over `pass`")
    importing_all = sample("import flyte, flyte.remote, flyte.app, over `pass`")
    help_text = sample("flyte --help")
    idle = sample("idle platform, PSS of all processes", "MB")
    floor = sample("python -c pass")
    whole = Sample("start", "python -c 'import flyte'", "ms")
    all_three = Sample("start", "python -c 'import flyte, flyte.remote, flyte.app'", "ms")

    def cold() -> None:
        env = house.environment(house.new_home(), port=str(house.free_port()))
        with up.timed():
            house.flyte("up", env=env)
        idle.values.append(house.memory(env)["all"])
        house.flyte("down", env=env)
        with first.timed():
            house.client("first.py", env)
        house.flyte("down", env=env)

    interleave(
        size.rounds(7),
        {
            "pass": lambda: _command(floor, sys.executable, "-c", "pass"),
            "import": lambda: _command(whole, sys.executable, "-c", "import flyte"),
            "import all": lambda: _command(all_three, sys.executable, "-c", "import flyte, flyte.remote, flyte.app"),
            "help": lambda: _command(help_text, str(Path(sys.executable).parent / "flyte"), "--help"),
        },
    )
    importing.values = [value - floor.median for value in whole.values]
    importing_all.values = [value - floor.median for value in all_three.values]
    interleave(size.rounds(5), {"cold": cold})
    return sample.all()


def _command(sample: Sample, *command: str) -> None:
    with sample.timed():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
