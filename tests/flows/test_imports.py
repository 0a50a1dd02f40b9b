"""What a module computes when it is imported is that of the run: its variables, its generators, its time."""

from __future__ import annotations

from tests.platform_fixture import Platform

PROGRAM = """
import os
import sys

import flyte

MODE = os.environ.get("MODE", "none")
LOADED = os.getpid()
env = flyte.TaskEnvironment(name="imported")
kept = flyte.TaskEnvironment(name="imported_kept", reusable=flyte.ReusePolicy(replicas=1))
busy = flyte.TaskEnvironment(name="imported_busy", reusable=flyte.ReusePolicy(replicas=1, concurrency=2))
fresh = flyte.TaskEnvironment(name="imported_fresh", env_vars={"TARMAC_FRESH_IMPORT": "1"})


def found(name: str) -> list[str]:
    return [MODE, os.environ.get(name, "none"), str(LOADED == os.getpid())]


@env.task
def show(name: str) -> list[str]:
    return found(name)


@kept.task
def show_kept(name: str) -> list[str]:
    return found(name)


@busy.task
async def show_busy(name: str) -> list[str]:
    return found(name)


@fresh.task
def show_fresh(name: str) -> list[str]:
    return found(name)


@env.task
async def parent(name: str) -> list[str]:
    return await show.aio(name)


def run(task, **variables):
    (name,) = variables or ["MODE"]
    run = flyte.with_runcontext(env_vars=variables).run(task, name=name)
    run.wait()
    print(task.name, *run.outputs()[0])


if __name__ == "__main__":
    flyte.init_from_config()
    for each in (show, show_kept, show_busy, parent):
        run(each, MODE="a")
    run(show, MODE="b")
    run(show)
    run(show, OTHER="c")
    run(show_fresh)
    run(show_fresh, MODE="d")
"""


def test_variables_of_a_run_are_there_when_its_modules_are_imported(platform: Platform) -> None:
    """Whatever the processes; a run whose variables no module looks at is given to a process that has imported."""
    done = platform.python(platform.write("prog_imported.py", PROGRAM))
    assert done.out.splitlines()[-9:] == [
        "imported.show a a False",
        "imported_kept.show_kept a a False",
        "imported_busy.show_busy a a False",
        "imported.parent a a False",
        "imported.show b b False",
        "imported.show none none False",
        "imported.show none c False",
        "imported_fresh.show_fresh none none True",
        "imported_fresh.show_fresh d d True",
    ], done.both


def test_the_command_line_sets_them_as_well(platform: Platform) -> None:
    program = platform.write("prog_imported.py", PROGRAM)
    done = platform.cli("run", "-e", "MODE=cli", program, "show", "--name", "MODE")
    assert '["cli", "cli", "False"]' in done.out.replace("'", '"'), done.both
