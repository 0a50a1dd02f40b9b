"""One run with 100,000 children, and its page in the console meanwhile and afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import Any

from benchmarks import console, house, size
from benchmarks.sample import Sample, Samples

_TASK = "bench-reused.fan_again"


def scale_actions() -> list[Sample]:
    count = size.of(100_000, 2000)
    sample = Samples("scale-actions")
    with house.running() as env:
        house.deploy(env, "trivial.py")
        house.submit(env, _TASK, 1, warm=2, expect=50 * 51 // 2, n=50)
        began = time.time()
        arguments = house.order(_TASK, 1, count * (count + 1) // 2, 0, {"n": count})
        with house.started("submit.py", env, *arguments) as client:
            run = _run_since(env, began)
            asyncio.run(_during(env, run, client, sample("the run's page, while children are added")))
            (took,) = house.result(client)
        asyncio.run(_after(env, run, sample("the run's page, when all have ended")))
        sample(f"ours, reused: {count:,} children", "1/s").values.append(count / (took / 1e3))
        sample("control plane, PSS afterwards", "MB").values.append(house.memory(env)["control"])
    return sample.all()


def _run_since(env: dict[str, str], began: float) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = house.ask(env, f"/v1/runs?task={_TASK}&created_after={began}&limit=1")
        if found:
            run: dict[str, Any] = found[0]
            return run
        time.sleep(0.02)
    raise TimeoutError("the client started no run")


async def _during(env: dict[str, str], run: dict[str, Any], client: subprocess.Popen, sample: Sample) -> None:
    async with console.signed_in(env) as session:
        while client.poll() is None:
            await console.page(session, console.of_run(run), run["name"], sample)
            await asyncio.sleep(0.2)


async def _after(env: dict[str, str], run: dict[str, Any], sample: Sample) -> None:
    async with console.signed_in(env) as session:
        for _ in range(size.of(30, 3)):
            await console.page(session, console.of_run(run), "succeeded", sample)
