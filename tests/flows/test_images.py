"""Images of programs that were written for Flyte: what they name is checked where it is declared, and then they run."""

from __future__ import annotations

from pathlib import Path

from tests.platform_fixture import Platform

PROGRAM = """
import flyte

image = (
    flyte.Image.from_debian_base()
    .with_requirements("requirements.txt")
    .with_uv_project("pyproject.toml")
    .with_pip_packages("flyte>=2.0.0b35", "unionai-reuse>=0.1.9")
)
env = flyte.TaskEnvironment("made", image=image)


@env.task
async def answer() -> int:
    return await half() * 2


@env.task
async def half() -> int:
    return 21
"""


def test_a_program_whose_image_is_made_of_relative_files_runs(platform: Platform, tmp_path: Path) -> None:
    platform.write("made/requirements.txt", "msgspec\nflyte\n")
    platform.write("made/pyproject.toml", '[project]\nname = "made"\ndependencies = ["click>=8", "flyte==2.12.1"]\n')
    program = platform.write("made/made.py", PROGRAM)
    done = platform.cli("run", program, "answer")
    assert (done.code, done.out) == (0, "42\n"), done.both


def test_a_file_that_is_not_there_is_named_when_the_image_is_deployed(platform: Platform) -> None:
    program = platform.write("unmade/unmade.py", PROGRAM)
    done = platform.cli("run", program, "answer")
    assert done.code != 0
    assert "takes its packages from requirements.txt, which does not exist" in done.err, done.both
    assert "Traceback" not in done.err
