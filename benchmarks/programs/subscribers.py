"""A client: FOLDER SUBSCRIBERS COUNT. So many subscribe to each of COUNT runs and see it begin; then it ends. Tells the
milliseconds from the time that is written with its end until the last of them has `run.stream()`'s update.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import flyte
import flyte.remote as remote


async def subscribe(name: str, ready: asyncio.Semaphore) -> float:
    """Milliseconds from the end to its update."""
    run = await remote.Run.get.aio(name)
    is_ready = False
    async for update in run.stream():
        if update.status == "running" and not is_ready:
            is_ready = True
            ready.release()
        if update.status == "succeeded":
            return (time.time() - update.at.timestamp()) * 1e3
    raise AssertionError(f"the stream of {name} ended without its end")


async def main(folder: str, subscribers: int, count: int) -> None:
    await flyte.init_from_config.aio()
    task = remote.Task.get("bench-reused.held", auto_version="latest")
    values = []
    for number in range(count + 1):
        gate = Path(folder, f"gate-{number}")
        run = await flyte.run.aio(task, gate=str(gate))
        ready = asyncio.Semaphore(0)
        everyone = [asyncio.create_task(subscribe(run.name, ready)) for _ in range(subscribers)]
        async with asyncio.timeout(60):
            for _ in everyone:
                await ready.acquire()
            gate.touch()  # noqa: ASYNC240 -- one empty file
            values.append(max(await asyncio.gather(*everyone)))
    print(json.dumps(values[1:]))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
