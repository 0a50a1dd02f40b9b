"""A run that is given a name: the same on a platform as in local mode."""

from __future__ import annotations

import uuid
from typing import Any

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


KEYED = """
import flyte

env = flyte.TaskEnvironment("keyed")


@env.task
def add(x: int) -> int:
    return x + 1


@env.task
def other(x: int) -> int:
    return x


if __name__ == "__main__":
    flyte.init_from_config()
    flyte.deploy(env)
"""


def test_a_key_stands_for_one_call_whatever_name_it_came_with(platform: Platform) -> None:
    done = platform.python(platform.write("keyed.py", KEYED))
    assert done.code == 0, done.both
    mark = uuid.uuid4().hex[:8]
    nightly, first, second = f"nightly-{mark}", f"first-{mark}", f"second-{mark}"

    def started(key: str, **changes: Any) -> tuple[int, str]:
        """The status, and the run's name or the reason."""
        request = {"task": "keyed.add", "inputs": {"x": 1}} | changes
        with platform.client() as client:
            answer = client.post("/v1/runs", json=request, headers={"Idempotency-Key": key})
        found = answer.json()
        return answer.status_code, found["name"] if answer.is_success else found["error"]["message"]

    assert started(first, name=nightly) == (201, nightly)
    assert started(second, name=nightly) == (200, nightly)
    assert [started(key) for key in (first, second)] == [(200, nightly)] * 2
    for changes, reason in (
        ({"inputs": {"x": 2}}, "which has other inputs"),
        ({"task": "keyed.other"}, "which runs keyed.add"),
        ({"name": f"other-{mark}"}, "not the one that is named here"),
    ):
        status, message = started(second, **changes)
        assert status == 409
        assert f"the idempotency key '{second}' belongs to run '{nightly}', {reason}" in message
