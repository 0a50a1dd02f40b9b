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
    sample = Samples("scale-sockets")
    for _ in range(size.rounds(3)):  # each on a new platform: HAProxy keeps what it once needed
        with house.running() as env:
            house.deploy(env, "bare.py", "sockets")
            _round(sample, env, size.of(5000, 400) // _CLIENTS)
    return sample.all()


def _round(sample: Samples, env: dict[str, str], count: int) -> None:
    """`count` WebSockets from each client."""
    urls = [f"{house.app(env, f'bench-sockets-{number}')['url']}/echo" for number in range(_APPS)]
    before = house.memory(env)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(house.started("idle_sockets.py", env, str(count), *urls)) for _ in range(_CLIENTS)
        ]
        with sample("ours: opening all of them", "s").timed(1):
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
    assert answered == count * _CLIENTS, answered
    for part, who in (("haproxy", "HAProxy"), ("controller", "the controller")):
        each = sample(f"ours: {who}'s memory for an idle WebSocket", "KiB")
        each.values.append((after[part] - before[part]) * 1e6 / 1024 / answered)


def _say(client, line: str) -> None:
    client.stdin.write(f"{line}\n")
    client.stdin.flush()
