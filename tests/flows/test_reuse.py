"""Processes that are reused: module state stays, every action is itself, and a tree may be deeper than the pool."""

from __future__ import annotations

from tests.platform_fixture import Platform

PROGRAM = """
import os

import flyte

env = flyte.TaskEnvironment(name="kept", reusable=flyte.ReusePolicy(replicas=(1, 1)))
SEEN = []


@env.task
async def leaf(x: int) -> list[int]:
    return [os.getpid(), x]


@env.task
async def parent(x: int) -> list[str]:
    SEEN.append(flyte.ctx().action.run_name)
    await leaf(x)
    return SEEN


@env.task
async def nest(depth: int) -> int:
    return 0 if depth == 0 else await nest(depth=depth - 1) + 1
"""

DRIVER = """
import pathlib, sys

import flyte

flyte.init_from_config(root_dir=pathlib.Path(sys.argv[1]).parent)
sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
import kept

names = []
for number in range(3):
    run = flyte.run(kept.parent, x=number)
    run.wait()
    assert run.status == "succeeded", run.status
    names.append(run.name)
assert run.outputs()[0] == names, (run.outputs(), names)
deep = flyte.run(kept.nest, depth=6)
deep.wait()
assert deep.outputs()[0] == 6, deep.status
print("good")
"""


def test_a_reused_process_runs_action_after_action_each_with_children_of_its_own(platform: Platform) -> None:
    program = platform.write("kept.py", PROGRAM)
    driver = platform.write("drive_kept.py", DRIVER)
    done = platform.python(str(driver), str(program), timeout=60)
    assert done.out.strip().endswith("good"), done.both
