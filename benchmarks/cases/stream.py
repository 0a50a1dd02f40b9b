"""From the time that is written with a run's end to its update: in `run.stream()`, one and a hundred subscribers, and
in the event stream that the console's page reads.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import aiohttp

from benchmarks import house, size
from benchmarks.console import signed_in
from benchmarks.sample import Sample, Samples, interleave


def stream() -> list[Sample]:
    sample = Samples("stream")
    one = sample("phase → run.stream(), one subscriber")
    hundred = sample("phase → run.stream(), the last of 100 subscribers")
    console = sample("phase → the console's events")
    folder = house.new_home()
    with house.running() as env:
        house.deploy(env, "trivial.py")
        interleave(
            size.rounds(3),
            {
                "one": lambda: one.values.extend(_subscribers(env, 1, size.of(60, 5))),
                "hundred": lambda: hundred.values.extend(_subscribers(env, 100, size.of(20, 2))),
                "console": lambda: asyncio.run(_console(env, folder, console, size.of(60, 5))),
            },
        )
    return sample.all()


def _subscribers(env: dict[str, str], subscribers: int, count: int) -> list[float]:
    values = house.client("subscribers.py", env, str(house.new_home()), str(subscribers), str(count))
    return [float(value) for value in values]


async def _console(env: dict[str, str], folder: Path, sample: Sample, count: int) -> None:
    """Signed in with a cookie, as a browser is; the stream that the run's page asks for."""
    async with signed_in(env) as session:
        for _ in range(count):
            gate = folder / f"gate-{time.monotonic_ns()}"
            body = {"task": "bench-reused.held", "inputs": {"gate": str(gate)}}
            async with session.post("/v1/runs", json=body, headers=house.headers(env)) as answer:
                run = (await answer.json())["name"]
            async with (
                asyncio.timeout(60),
                session.get(f"/v1/runs/{run}/events", params={"after": 0, "actions": "all"}) as answer,
            ):
                assert answer.status == 200, await answer.text()
                sample.values.append(await _end(answer, gate))


async def _end(answer: aiohttp.ClientResponse, gate: Path) -> float:
    """Milliseconds from the run's end to its event; the run may end when it is seen to be running."""
    async for line in answer.content:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line[6:])
        if event.get("phase") == "running":
            gate.touch()  # noqa: ASYNC240 -- one empty file
        if event.get("phase") == "succeeded":
            return (time.time() - event["at"]) * 1e3
    raise AssertionError("the stream ended without the run's end")
