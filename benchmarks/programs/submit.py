"""A client: TASK COUNT WARM INPUTS EXPECTED [WARM_INPUTS]. Runs the task one time after the other; tells the
milliseconds of each, from `flyte.run` to the value in this process, without the first WARM.
"""

import json
import sys
import time

import flyte
import flyte.remote as remote

name, count, warm, inputs, expected = sys.argv[1], *map(int, sys.argv[2:4]), json.loads(sys.argv[4]), int(sys.argv[5])
warm_inputs = json.loads(sys.argv[6]) if len(sys.argv) > 6 else inputs
flyte.init_from_config()
task = remote.Task.get(name, auto_version="latest")
values = []
for number in range(warm + count):
    given = inputs if number >= warm else warm_inputs
    began = time.perf_counter()
    run = flyte.run(task, **given)
    run.wait(quiet=True)
    outputs = list(run.outputs())
    values.append((time.perf_counter() - began) * 1e3)
    assert run.status == "succeeded", run.status
    assert given is not inputs or outputs == [expected], outputs
print(json.dumps(values[warm:]))
