"""Tasks that do next to nothing, in fresh and in reused processes, and parents that call many of them."""

import asyncio
import os

import flyte

fresh = flyte.TaskEnvironment(name="bench-fresh")
reused = flyte.TaskEnvironment(name="bench-reused", reusable=flyte.ReusePolicy(replicas=(1, 4)))


@fresh.task
async def add(x: int) -> int:
    return x + 1


@reused.task
async def add_again(x: int) -> int:
    return x + 1


@reused.task
async def fan(n: int) -> int:
    return sum(await asyncio.gather(*(add(x=i) for i in range(n))))


@reused.task
async def fan_again(n: int) -> int:
    return sum(await asyncio.gather(*(add_again(x=i) for i in range(n))))


@reused.task(cache="auto")
async def add_cached(x: int) -> int:
    return x + 1


@reused.task
async def fan_cached(n: int) -> int:
    return sum(await asyncio.gather(*(add_cached(x=i) for i in range(n))))


@reused.task
async def fails(x: int) -> int:
    raise ValueError(f"{x} is not wanted")


@reused.task
async def held(gate: str) -> str:
    """Ends when the file is there, so that everybody who is to see the end can be waiting for it."""
    while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240 -- what another process does, looked at every ms
        await asyncio.sleep(0.001)
    return gate
