"""A client that finds no platform running: it is started, and runs the task."""

from trivial import add

import flyte

flyte.init_from_config(root_dir=".")
run = flyte.run(add, x=41)
run.wait(quiet=True)
assert list(run.outputs()) == [42]
print("[]")
