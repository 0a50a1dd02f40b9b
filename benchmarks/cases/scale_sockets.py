"""Five thousand idle WebSockets through the gateway, and the memory that HAProxy has for each.

They are spread over six apps, since a replica is given at most a thousand connections at once, and come from two client
processes.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

from benchmarks import house, size
from benchmarks.sample import Sample, Samples

_APPS = 6
_CLIENTS = 2


def scale_sockets() -> list[Sample]:
    count = size.of(5000, 400)
    sample = Samples("scale-sockets")
    each = sample("ours: HAProxy's memory for an idle WebSocket", "KiB")
    brain = sample("ours: the brain's memory for an idle WebSocket", "KiB")
    opened = sample("ours: opening all of them", "s")
    with house.running() as env:
        house.deploy(env, "bare.py", "sockets")
        urls = [f"{house.app(env, f'bench-sockets-{number}')['url']}/echo" for number in range(_APPS)]
        for _ in range(size.rounds(3)):
            before = house.memory(env)
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(house.started("idle_sockets.py", env, str(count // _CLIENTS), *urls))
                    for _ in range(_CLIENTS)
                ]
                with opened.timed(1):
                    for client in clients:
                        _say(client, json.dumps(house.headers(env)))
                    for client in clients:
                        line = client.stdout.readline()
                        if line.strip() != "open":
                            raise RuntimeError(f"{line}{client.communicate()[1][-4000:]}")
                time.sleep(1)  # what opening took may be given back
                after = house.memory(env)
                for client in clients:
                    _say(client, "look")
                answered = sum(house.result(client)[0] for client in clients)
            assert answered == count // _CLIENTS * _CLIENTS, answered
            each.values.append((after["haproxy"] - before["haproxy"]) * 1e6 / 1024 / answered)
            brain.values.append((after["brain"] - before["brain"]) * 1e6 / 1024 / answered)
    return sample.all()


def _say(client, line: str) -> None:
    client.stdin.write(f"{line}\n")
    client.stdin.flush()
