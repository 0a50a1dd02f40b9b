"""A run that is given a name: the same on a platform as in local mode."""

from __future__ import annotations

import uuid

import pytest

from tests.platform_fixture import Platform

PROGRAM = """
import sys
import flyte
from flyte.errors import RunAlreadyExistsError

env = flyte.TaskEnvironment("named")


@env.task
def add(x: int, by: int = 1) -> int:
    return x + by


@env.task
def other(x: int, by: int = 1) -> int:
    return x


def refused(task, *args):
    try:
        runner.run(task, *args)
    except RunAlreadyExistsError as error:
        return str(error)


if __name__ == "__main__":
    mode, name = sys.argv[1:]
    if mode == "remote":
        flyte.init_from_config()
    runner = flyte.with_runcontext(mode, name=name)
    first = runner.run(add, 1)
    second = runner.run(add, x=1, by=1)
    second.wait()
    third = runner.run(add, 1)
    assert first.name == second.name == third.name == name
    print(second.outputs()[0], third.outputs()[0], third.phase)
    print(refused(add, 2))
    print(refused(other, 1))
"""


@pytest.mark.parametrize("mode", ["local", "remote"])
def test_a_second_run_of_the_same_name_is_the_first_or_is_refused(platform: Platform, mode: str) -> None:
    name = f"nightly-{uuid.uuid4().hex[:8]}"
    script = platform.write("named.py", PROGRAM)
    done = platform.python(script, mode, name)
    assert done.code == 0, done.both
    assert done.out.splitlines() == [
        "2 2 succeeded",
        f"run '{name}' exists with other inputs; choose another name",
        f"run '{name}' exists in flytesnacks/development and runs named.add; choose another name",
    ]
