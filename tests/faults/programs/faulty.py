"""What runs on a platform that is being hurt. Every side effect is a line at the end of a file, so none is lost.

`where` is that file; a line is `<word> <process> <attempt>`, written once for each time the function really ran.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import flyte
from flyte.errors import NonRecoverableError

pool = flyte.TaskEnvironment(name="pooled", reusable=flyte.ReusePolicy(replicas=(1, 2), idle_ttl=60))
env = flyte.TaskEnvironment(name="faulty", depends_on=[pool])


def note(where: str, word: str) -> None:
    """Append one line; O_APPEND keeps lines of many processes apart."""
    attempt = os.environ.get("FLYTE_ATTEMPT_NUMBER", "-")
    file = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{word} {os.getpid()} {attempt}\n".encode())
    os.close(file)


@env.task
async def leaf(where: str, n: int, seconds: float = 0) -> int:
    await asyncio.sleep(seconds)
    note(where, f"leaf-{n}")
    return n


@env.task
async def fan(where: str, width: int, seconds: float = 0) -> int:
    note(where, "fan")
    return sum(await asyncio.gather(*(leaf(where=where, n=n, seconds=seconds) for n in range(width))))


@env.task
async def gate(where: str, opens: str) -> str:
    """Runs until the file `opens` is there."""
    note(where, "gate")
    while not os.path.exists(opens):  # noqa: ASYNC110, ASYNC240 - the test is in another process
        await asyncio.sleep(0.02)
    return "open"


@env.task
def leaves_behind(where: str) -> None:
    """Starts programs of its own, one of them in another session, and waits for them."""
    started = [subprocess.Popen(["sleep", "600"], start_new_session=apart) for apart in (False, True)]
    for program in started:
        note(where, f"started-{program.pid}")
    note(where, "all-started")
    for program in started:
        program.wait()


@env.task
async def talk(where: str, lines: int, pause: float) -> int:
    for number in range(lines):
        print(f"line {number}", flush=True)
        await asyncio.sleep(pause)
    note(where, "talk")
    return lines


@env.task
async def chatter(where: str, opens: str) -> str:
    """Prints for as long as the file `opens` is not there."""
    note(where, "chatter")
    while not os.path.exists(opens):  # noqa: ASYNC240 - the test is in another process
        print("x" * 10_000, flush=True)
        note(where, "said")
        await asyncio.sleep(0.1)  # a small disk is to last until it is filled on purpose
    return "open"


@env.task
async def staged(where: str, opens: str) -> list[int]:
    """Finished children first, then a child that runs for as long as `opens` is not there."""
    note(where, "staged")
    done = [await leaf(where=where, n=n) for n in range(3)]
    await gate(where=where, opens=opens)
    return done


@env.task(retries=1)
async def calling(where: str, opens: str, raises: bool = False) -> str:
    """Calls a deployed task, which runs for as long as `opens` is not there."""
    note(where, "calling")
    said: str = await flyte.remote.Task.get("faulty.gate", auto_version="latest")(where=where, opens=opens)
    if raises and os.environ["FLYTE_ATTEMPT_NUMBER"] == "0":
        raise ValueError("once")
    return said


@pool.task
async def pooled(where: str, n: int) -> int:
    note(where, f"pooled-{n}")
    return n


@env.task(retries=5)
async def hopeless(where: str) -> None:
    note(where, "hopeless")
    raise NonRecoverableError("no use")


@env.task
async def shout(where: str, size: int, how: str) -> str:
    note(where, "shout")
    if how == "raise":
        raise ValueError("x" * size)
    return "x" * size


@flyte.trace
def step(where: str, n: int) -> int:
    note(where, f"step-{n}")
    return n * 10


@flyte.trace
async def async_step(where: str, n: int) -> int:
    note(where, f"async-{n}")
    return n * 100


@flyte.trace
def steps(where: str) -> Iterator[int]:
    for n in range(3):
        note(where, f"yield-{n}")
        yield n


@flyte.trace
async def async_steps(where: str) -> AsyncIterator[int]:
    for n in range(3):
        note(where, f"async-yield-{n}")
        yield n


@env.task
async def traced(where: str) -> list[int]:
    """Dies once in the middle, by a signal that no program can catch."""
    found = [step(where, 1), await async_step(where, 2), *steps(where)]
    found += [n async for n in async_steps(where)]
    if os.environ["FLYTE_ATTEMPT_NUMBER"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return [*found, step(where, 3)]


@flyte.trace
def token(where: str) -> str:
    """Another one each time it really runs."""
    note(where, "token")
    return os.urandom(8).hex()


@env.task
async def holder(where: str, n: int) -> list[str]:
    """Two tokens, with a death between them."""
    first = token(where)
    if os.environ["FLYTE_ATTEMPT_NUMBER"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return [first, token(where)]


@env.task
async def holders(where: str, count: int) -> list[list[str]]:
    return await asyncio.gather(*(holder(where=where, n=n) for n in range(count)))


@env.task
async def reluctant(where: str, opens: str) -> str:
    """Makes something of its own out of a cancellation."""
    note(where, "reluctant")
    try:
        return await gate(where=where, opens=opens)
    except asyncio.CancelledError:
        return "cancelled"


@env.task
def deaf(where: str, seconds: int) -> str:
    """Keeps the interpreter to itself: no other thread of the process runs meanwhile."""
    note(where, "deaf")
    ctypes.PyDLL(None).sleep(seconds)
    return "done"


@env.task
def blocked(where: str, seconds: float) -> str:
    """Computes without a pause in Python; SIGTERM alone interrupts it."""
    note(where, "blocked")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"
