"""A worker that cannot keep its books, since the disk is full, is no reason for an action to fail."""

from __future__ import annotations

from tests.platform_fixture import Platform

PROGRAM = '''
import errno
import os
import pathlib

import flyte
from flyte.runtime import in_flight, output

fresh_env = flyte.TaskEnvironment(name="fresh")
kept_env = flyte.TaskEnvironment(name="kept", reusable=flyte.ReusePolicy(replicas=(1, 1)))
several_env = flyte.TaskEnvironment(name="several", reusable=flyte.ReusePolicy(replicas=(1, 1), concurrency=2))


def full(name, then):
    """There is no room for `then` when it is called for the first time in a pool."""

    def call(self, *args, **options):
        mark = pathlib.Path.home() / f"{name}.{os.environ['FLYTE_POOL']}"
        if not mark.exists():
            mark.touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        return then(self, *args, **options)

    return call


in_flight.InFlightSlot.write = full("write", in_flight.InFlightSlot.write)
output.Output.turn = full("turn", output.Output.turn)
output.Output.name = full("name", output.Output.name)


@fresh_env.task
def fresh(x: int) -> int:
    print("a line")
    return x + 1


@kept_env.task
def again(x: int) -> int:
    print("a line")
    return x + 1


@several_env.task
async def at_once(x: int) -> int:
    return x + 1
'''

DRIVER = """
import pathlib, sys

import flyte

sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
import books

flyte.init_from_config(root_dir=pathlib.Path(sys.argv[1]).parent)
for task in (books.fresh, books.again, books.at_once):
    runs = [flyte.run(task, x=x) for x in (1, 2)]
    for x, run in enumerate(runs, 1):
        run.wait()
        assert run.status == "succeeded", (task.name, run.status)
        assert run.outputs()[0] == x + 1
print("good")
"""


def test_a_worker_that_finds_no_room_for_its_books_costs_no_run(platform: Platform) -> None:
    program = platform.write("books.py", PROGRAM)
    driver = platform.write("drive_books.py", DRIVER)
    done = platform.python(str(driver), str(program), timeout=60)
    assert done.out.strip().endswith("good"), done.both
