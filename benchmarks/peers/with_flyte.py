"""The official SDK's local mode: tasks run in this process, nothing is written."""

import asyncio

import turns

import flyte

env = flyte.TaskEnvironment(name="bench")


@env.task
async def add(x: int) -> int:
    return x + 1


@env.task
async def many(number: int) -> int:
    return sum(await asyncio.gather(*(add(x=i) for i in range(number))))


def result(task, **inputs: int) -> int:
    run = flyte.with_runcontext(mode="local").run(task, **inputs)
    run.wait()
    return run.outputs()[0]


if __name__ == "__main__":
    flyte.init()
    turns.serve(lambda: result(add, x=1), lambda number: result(many, number=number))
