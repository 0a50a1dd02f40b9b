"""A client: TASK COUNT WARM INPUTS EXPECTED. Runs the task one time after the other; tells the milliseconds of each,
from `flyte.run` to the value in this process, without the first WARM.
"""

import json
import sys
import time

import flyte
import flyte.remote as remote

name, count, warm, inputs, expected = sys.argv[1], *map(int, sys.argv[2:4]), json.loads(sys.argv[4]), int(sys.argv[5])
flyte.init_from_config()
task = remote.Task.get(name, auto_version="latest")
values = []
for _ in range(warm + count):
    began = time.perf_counter()
    run = flyte.run(task, **inputs)
    run.wait(quiet=True)
    outputs = list(run.outputs())
    values.append((time.perf_counter() - began) * 1e3)
    assert run.status == "succeeded", run.status
    assert outputs == [expected], outputs
print(json.dumps(values[warm:]))
