"""Actions are kept apart without any right of the superuser, too: on a platform that an ordinary user has started."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.platform_fixture import Platform, User, place

NOBODY = 65534

PROGRAM = """
import os
import pathlib
import threading
import time

import flyte

copied = flyte.TaskEnvironment(name="copied")
{thread}


@copied.task
def write(x: int) -> list[str]:
    before = sorted(name for name in os.listdir(".") if name != "__pycache__")
    pathlib.Path("new.txt").write_text("new")
    pathlib.Path(__file__).write_text("changed")
    return [*before, str(os.getuid())]


@copied.task
def reach(home: str) -> list[bool]:
    return [os.path.exists(home + "/token"), os.path.exists(home + "/run/control.sock")]


if __name__ == "__main__":
    flyte.init_from_config()
    for _ in range(2):
        run = flyte.run(write, x=1)
        run.wait(quiet=True)
        print(run.outputs()[0])
    run = flyte.run(reach, home=os.environ["TARMAC_HOME"])
    run.wait(quiet=True)
    print(run.outputs()[0])
"""

LEAVES_A_THREAD = (
    "threading.Thread(target=time.sleep, args=(600,), daemon=True).start() if __name__ != '__main__' else 0"
)


def interpreter_of(user: int) -> str | None:
    """One of the tests' version that the user may run: that of the tests, or the machine's. None where there is none.

    The tests' own is often in a folder of root's.
    """
    look = "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, sys.argv[1:])))"
    version = [str(part) for part in sys.version_info[:2]]
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with contextlib.suppress(OSError):
            command = [python, "-c", look, *version]
            if subprocess.run(command, cwd="/", user=user, group=user, extra_groups=[]).returncode == 0:
                return python
    return None


@pytest.fixture(scope="module")
def platform_of_nobody() -> Iterator[Platform]:
    python = interpreter_of(NOBODY) if os.geteuid() == 0 else None
    if python is None:
        pytest.skip("this test needs root, and an interpreter that others may run")
    with place(user=User(NOBODY, python)) as made:
        made.up()
        yield made
        made.down()


def test_an_ordinary_users_platform_keeps_actions_apart(platform_of_nobody: Platform) -> None:
    told = json.loads(platform_of_nobody.cli("status", "-o", "json").out)
    assert told["isolation"]["profile"] == "tidy", told


@pytest.mark.parametrize("thread", ["", LEAVES_A_THREAD], ids=["copied", "imported by each"])
def test_what_an_ordinary_users_action_writes_is_its_own(platform_of_nobody: Platform, thread: str) -> None:
    """Whether processes are copies of one that imported, or import the code themselves."""
    name = f"program_{len(thread)}.py"
    program = platform_of_nobody.write(name, PROGRAM.format(thread=thread))
    done = platform_of_nobody.python(program)
    expected = f"['{name}', '{NOBODY}']"
    assert done.out.splitlines() == [expected, expected, "[False, False]"], done.both
