"""One trivial task, warm: from the client's call to the value in the client."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import multiprocessing
import subprocess
import sys
import urllib.request
from collections.abc import Callable

import aiohttp

from benchmarks import house, peers, size
from benchmarks.sample import Sample, Samples, interleave

_WHAT = "task → result"


def run() -> list[Sample]:
    sample = Samples("run")
    count = size.of(300, 20)
    names = ("ours, reused", "ours, fresh", "ours, reused, plain HTTP", "ours, reused, from inside an app")
    reused, fresh, http, inside = (sample(f"{name}: {_WHAT}") for name in names)
    with house.running() as env, concurrent.futures.ProcessPoolExecutor(1) as executor:
        house.deploy(env, "trivial.py")
        house.deploy(env, "webapp.py", "env")
        context = multiprocessing.get_context("forkserver")
        executor.submit(abs, -1).result()
        contenders: dict[str, Callable[[], object]] = {
            "reused": lambda: reused.values.extend(house.submit(env, "bench-reused.add_again", count, expect=2)),
            "fresh": lambda: fresh.values.extend(house.submit(env, "bench-fresh.add", count // 2, expect=2)),
            "http": lambda: asyncio.run(_post_runs(env, http, count)),
            "inside": lambda: inside.values.extend(_from_inside(env, count)),
        }
        contenders |= {peer.name: _peer(peer, sample(f"{peer.name}: {_WHAT}")) for peer in peers.present()}
        floors = ("ProcessPoolExecutor", "multiprocessing forkserver", "python -c pass")
        pool, forkserver, python = (sample(f"floor, {name}: {_WHAT}") for name in floors)
        contenders |= {
            "pool": lambda: _calls(pool, count, lambda: executor.submit(abs, -1).result()),
            "forkserver": lambda: _calls(forkserver, 10, lambda: _process(context)),
            "python": lambda: _calls(python, 10, lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)),
        }
        interleave(size.rounds(3), contenders)
    return sample.all()


def _peer(peer: peers.Peer, sample: Sample) -> Callable[[], None]:
    def turn() -> None:
        with peers.warm(peer) as turns:
            sample.values.extend(turns.ask("run", size.of(peer.runs, 10)))

    return turn


def _from_inside(env: dict[str, str], count: int) -> list[float]:
    url = f"{house.app(env, 'bench-app')['url']}/measure/bench-reused.add_again"
    for number in (20, count):
        with urllib.request.urlopen(f"{url}/{number}", timeout=300) as answer:
            values = json.load(answer)
    return [float(value) for value in values]


async def _post_runs(env: dict[str, str], sample: Sample, count: int) -> None:
    body = {"task": "bench-reused.add_again", "inputs": {"x": 1}}
    async with aiohttp.ClientSession(house.endpoint(env), headers=house.headers(env)) as session:
        for _ in range(count):
            with sample.timed():
                async with session.post("/v1/runs?wait=30", json=body) as answer:
                    record = await answer.json()
            assert (record["phase"], record["outputs"]) == ("succeeded", [2]), record


def _calls(sample: Sample, count: int, call: Callable[[], object]) -> None:
    for _ in range(count):
        with sample.timed():
            call()


def _process(context: multiprocessing.context.ForkServerContext) -> None:
    process = context.Process(target=abs, args=(-1,))
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode
