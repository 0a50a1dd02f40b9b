"""What is declared and has no effect is one yellow line, and an error with --strict."""

from __future__ import annotations

import pytest

from tests.flyte.cli_world import Shell
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import FakePlatform

PROGRAM = """
    import flyte
    env = flyte.TaskEnvironment(name="greedy", resources=flyte.Resources(gpu=1))

    @env.task(queue="fast")
    def f() -> int:
        return 1
"""

COMMANDS = [["run", "job.py", "f"], ["run", "--local", "job.py", "f"], ["deploy", "job.py"],
            ["deploy", "job.py", "--dry-run"]]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_declaration_without_effect_is_said_once(
    shell: Shell, fake: FakePlatform, project: Project, words: list[str]
) -> None:
    project.write("job.py", PROGRAM)
    fake.functions["greedy.f"] = lambda: 1
    done = shell(*words)
    assert done.code == 0, done.err
    assert done.err.count("warning: queue= of greedy.f has no effect") == 1
    assert done.err.count("warning: Resources(gpu=) of greedy has no effect") == 1


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_strict_refuses_it_before_anything_is_sent(
    shell: Shell, fake: FakePlatform, project: Project, words: list[str]
) -> None:
    project.write("job.py", PROGRAM)
    done = shell(*words, "--strict")
    assert done.code == 2
    assert "queue= of greedy.f has no effect" in done.err
    assert not fake.requests


def test_a_deployed_task_tells_of_it_too(shell: Shell, fake: FakePlatform) -> None:
    fake.task("greedy.f", lambda: 1, no_effect=["queue= has no effect: there are no queues"])
    done = shell("run", "deployed-task", "greedy.f")
    assert (done.code, done.out) == (0, "1\n")
    assert "warning: queue= has no effect" in done.err
    assert shell("run", "deployed-task", "greedy.f", "--strict").code == 2
