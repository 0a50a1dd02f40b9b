"""What a peer's program is asked over its pipes: `run 200` or `fan 1000`, a line each; it answers with milliseconds, as
JSON. Runs in the peer's environment: standard library only.
"""

import json
import os
import sys
import time
from collections.abc import Callable


def warm_up(run: Callable[[], int], fan: Callable[[int], int]) -> None:
    for _ in range(20):
        check(run(), 2)
    check(fan(50), total(50))


def serve(run: Callable[[], int], fan: Callable[[int], int]) -> None:
    """`run()` is one task, `add(1)`; `fan(n)` is the sum of `add(0)` to `add(n - 1)`. Warm up, then answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    warm_up(run, fan)
    print("[]", file=answers, flush=True)
    for line in sys.stdin:
        what, number = line.split()
        times = [_timed(run, 2) for _ in range(int(number))] if what == "run" else [_timed_fan(fan, int(number))]
        print(json.dumps(times), file=answers, flush=True)


def _timed(work: Callable[[], int], expected: int) -> float:
    began = time.perf_counter()
    value = work()
    took = (time.perf_counter() - began) * 1e3
    check(value, expected)
    return took


def _timed_fan(fan: Callable[[int], int], number: int) -> float:
    return _timed(lambda: fan(number), total(number))


def total(number: int) -> int:
    return number * (number + 1) // 2


def check(value: int, expected: int) -> None:
    if value != expected:
        raise RuntimeError(f"the result is {value!r} and should be {expected!r}")


def port_is_open(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def await_port(port: int, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not port_is_open(port):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on port {port}")
        time.sleep(0.02)
