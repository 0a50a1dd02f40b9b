"""Runs of every kind. Each task notes `began` and `done`, so that what really ran can be held against what is stored.

What fails does so exactly as often as it has retries: a failure that is counted twice fails the run.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar

import flyte
from flyte.errors import NonRecoverableError
from flyte.io import File

from .notes import note, noted, times

kept = flyte.TaskEnvironment(name="kept", reusable=flyte.ReusePolicy(replicas=(1, 2), idle_ttl=60))
shared = flyte.TaskEnvironment(name="shared", reusable=flyte.ReusePolicy(replicas=(1, 2), concurrency=4, idle_ttl=60))
env = flyte.TaskEnvironment(name="hurt", depends_on=[kept, shared])

# --------------------------------------------------------------------------------------------------- children, retries


@env.task
async def leaf(where: str, n: int, seconds: float = 0) -> int:
    with noted(where):
        await asyncio.sleep(seconds)
        return n


@env.task
async def fan(where: str, width: int, seconds: float = 0) -> int:
    with noted(where):
        return sum(await asyncio.gather(*(leaf(where=where, n=n, seconds=seconds) for n in range(width))))


@env.task
async def nest(where: str, key: str, depth: int) -> int:
    """A chain: each level calls the next, then notes that it has got its answer."""
    with noted(where):
        below = 0 if depth == 0 else await nest(where=where, key=f"{key}.{depth}", depth=depth - 1)
        return below + 1


@env.task
async def made(where: str, key: str, size: int) -> tuple[File[bytes], str]:
    """A file and a value that are large: both are stored apart from the row."""
    with noted(where):
        file: File[bytes] = File.new_remote("large.bin")
        async with file.open("wb") as opened:
            for _ in range(8):
                await opened.write(key.encode() * (size // 8))
        return file, key * size


@env.task
async def large(where: str, key: str, size: int) -> int:
    with noted(where):
        file, text = await made(where=where, key=key, size=size)
        async with file.open("rb") as opened:
            content = await opened.read()
        assert content == key.encode() * (size // 8 * 8)
        assert text == key * size
        return len(text)


@env.task
async def keyed(where: str, key: str, seconds: float) -> int:
    with noted(where):
        await asyncio.sleep(seconds)
        return 1


@kept.task
async def kept_leaf(where: str, key: str) -> int:
    with noted(where):
        return 1


@env.task
async def tree(where: str, key: str, width: int, seconds: float) -> int:
    """Children of every kind, side by side."""
    with noted(where):
        found = await asyncio.gather(
            *(keyed(where=where, key=f"{key}.{n}", seconds=seconds) for n in range(width)),
            nest(where=where, key=f"{key}.nest", depth=2),
            kept_leaf(where=where, key=f"{key}.kept"),
        )
        return sum(found)


@env.task(retries=1)
async def flaky_once(where: str, key: str) -> int:
    return _fail_first(where, 1)


@env.task(retries=2)
async def flaky_twice(where: str, key: str) -> int:
    return _fail_first(where, 2)


def _fail_first(where: str, failures: int) -> int:
    with noted(where):
        if times(where, "began") <= failures:
            raise ValueError("not yet")
        return 1


@env.task(retries=1)
async def comeback(where: str, width: int, seconds: float) -> int:
    """Fails once when its children are done; the second attempt must find them."""
    with noted(where):
        found = sum(await asyncio.gather(*(leaf(where=where, n=n, seconds=seconds) for n in range(width))))
        if times(where, "failed") == 0:
            note(where, "failed")
            raise ValueError("not yet")
        return found


@env.task(retries=5)
async def hopeless(where: str) -> None:
    with noted(where):
        raise NonRecoverableError("no use")


@env.task
def blocked(where: str, seconds: float) -> str:
    """Computes without a pause in Python; SIGTERM alone interrupts it."""
    with noted(where):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return "done"


@env.task
def silent(where: str, seconds: float) -> str:
    """Holds the GIL, as a library without a care does: no other thread of the process has a turn."""
    with noted(where):
        wait = ctypes.PyDLL(None).poll
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            wait(None, 0, int(left * 1000) + 1)
        return "done"


# ---------------------------------------------------------------------------------------------------------- the cache


@env.task(cache=flyte.Cache("auto", serialize=True, ignored_inputs=("where",)))
async def computed(where: str, key: str, seconds: float) -> str:
    """Several runs ask for the same key at the same time; one of them computes."""
    with noted(where):
        await asyncio.sleep(seconds)
        return key


@env.task
async def crowded(where: str, key: str, width: int, seconds: float) -> list[str]:
    with noted(where):
        return list(await asyncio.gather(*(computed(where=where, key=key, seconds=seconds) for _ in range(width))))


@env.task
async def deserter(where: str, key: str, seconds: float) -> None:
    """Is aborted, mostly while it computes and others wait for it."""
    with noted(where):
        await computed(where=where, key=key, seconds=seconds)
        await forever(where=where)


# ------------------------------------------------------------------------------------------------------ ended by others


@env.task
async def forever(where: str) -> None:
    with noted(where):
        await asyncio.Event().wait()


@env.task
async def staged(where: str) -> list[int]:
    """Finished children first, then one that runs until it is aborted."""
    with noted(where):
        done = [await leaf(where=where, n=n) for n in range(3)]
        await forever(where=where)
        return done


@env.task
async def canceller(where: str, key: str, seconds: float) -> int:
    """Gives up on a child, and lives on for a while."""
    with noted(where):
        doomed = asyncio.ensure_future(forever(where=where))
        await asyncio.wait({doomed}, timeout=seconds)
        doomed.cancel()
        await asyncio.wait({doomed})
        if not doomed.cancelled():  # an earlier attempt had cancelled it
            note(where, "was cancelled", repr(doomed.exception()))
        note(where, "cancelled")
        return await keyed(where=where, key=key, seconds=3)


@shared.task
async def endless(where: str) -> None:
    with noted(where):
        await asyncio.Event().wait()


@env.task
async def shedder(where: str, key: str, width: int, seconds: float) -> list[str]:
    """One of its children is aborted by somebody; the others run in the same process and must not notice."""
    with noted(where):
        found = await asyncio.gather(
            *(shared_leaf(where=where, key=f"{key}.{n}", seconds=seconds) for n in range(width)),
            endless(where=where),
            return_exceptions=True,
        )
        return [type(each).__name__ for each in found]


# ----------------------------------------------------------------------------------------- several actions in a process


@shared.task
async def shared_leaf(where: str, key: str, seconds: float) -> int:
    with noted(where):
        await asyncio.sleep(seconds)
        return 1


@shared.task
async def shared_nest(where: str, key: str, depth: int, seconds: float) -> int:
    """A parent that waits in the process in which its children run."""
    with noted(where):
        if depth == 0:
            return await shared_leaf(where=where, key=f"{key}.leaf", seconds=seconds)
        return 1 + await shared_nest(where=where, key=f"{key}.{depth}", depth=depth - 1, seconds=seconds)


@env.task
async def crowd(where: str, key: str, width: int, seconds: float) -> int:
    with noted(where):
        found = await asyncio.gather(
            *(shared_leaf(where=where, key=f"{key}.{n}", seconds=seconds) for n in range(width)),
            shared_nest(where=where, key=f"{key}.nest", depth=2, seconds=seconds),
        )
        return sum(found)


# ------------------------------------------------------------------------------------------------------- recorded steps


_owner: ContextVar[str] = ContextVar("owner")
"""The action, for `flyte.ctx()` names the step while one runs. It is no argument, for those must be equal."""


def _own() -> str:
    """A value that no other call gives, and that says whose it is."""
    return f"{_owner.get()}:{uuid.uuid4().hex}"


@flyte.trace
def token(n: int) -> str:
    return _own()


@flyte.trace
async def async_token(n: int) -> str:
    await asyncio.sleep(0)
    return _own()


@flyte.trace
def tokens(n: int) -> Iterator[str]:
    for _ in range(n):
        yield _own()


@flyte.trace
async def async_tokens(n: int) -> AsyncIterator[str]:
    for _ in range(n):
        await asyncio.sleep(0)
        yield _own()


async def _steps(where: str, dies: bool, seconds: float) -> int:
    """Every kind of step, with arguments that are the same in every action; dies once when `dies`."""
    found: list[str] = []
    _owner.set(str(flyte.ctx().action.name))

    def keep(*values: str) -> None:
        for value in values:
            note(where, "kept", [len(found), value])
            found.append(value)

    keep(token(1))
    keep(await async_token(1))
    await asyncio.sleep(seconds)
    keep(*tokens(2))
    keep(*[value async for value in async_tokens(2)])
    if dies and times(where, "dies") == 0:
        note(where, "dies")
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(seconds)
    keep(token(1))
    return len(set(found))


@env.task
async def stepping(where: str, key: str, dies: bool, seconds: float) -> int:
    with noted(where):
        return await _steps(where, dies, seconds)


@shared.task
async def shared_stepping(where: str, key: str, dies: bool, seconds: float) -> int:
    with noted(where):
        return await _steps(where, dies, seconds)


@env.task
def sync_stepping(where: str, key: str, seconds: float) -> int:
    with noted(where):
        _owner.set(str(flyte.ctx().action.name))
        found = [token(1), *tokens(2)]
        for place, value in enumerate(found):
            note(where, "kept", [place, value])
        time.sleep(seconds)
        return len(set(found))


@env.task
async def siblings(where: str, key: str, dies: bool, shared_dies: bool, seconds: float) -> int:
    """Actions that call the same steps with the same arguments, at the same time."""
    with noted(where):
        found = await asyncio.gather(
            stepping(where=where, key=f"{key}.0", dies=dies, seconds=seconds),
            stepping(where=where, key=f"{key}.1", dies=False, seconds=seconds),
            shared_stepping(where=where, key=f"{key}.2", dies=shared_dies, seconds=seconds),
            shared_stepping(where=where, key=f"{key}.3", dies=False, seconds=seconds),
            sync_stepping.aio(where=where, key=f"{key}.4", seconds=seconds),
        )
        return sum(found)


# ------------------------------------------------------------------------------------------------------------- printing


async def _say(where: str, lines: int, pause: float) -> int:
    """Each line says whose it is; standard output and error take turns."""
    me = flyte.ctx()
    for number in range(lines):
        out = sys.stdout if number % 2 == 0 else sys.stderr
        print(f"torture {me.action.run_name} {me.action.name} {me.attempt} {number}", file=out, flush=True)
        if number % 8 == 7 or number == lines - 1:
            note(where, "said", number + 1)
        await asyncio.sleep(pause)
    return lines


@env.task
async def talk(where: str, key: str, lines: int, pause: float) -> int:
    with noted(where):
        return await _say(where, lines, pause)


@kept.task
async def kept_talk(where: str, key: str, lines: int, pause: float) -> int:
    with noted(where):
        return await _say(where, lines, pause)


@shared.task
async def shared_talk(where: str, key: str, lines: int, pause: float) -> int:
    with noted(where):
        return await _say(where, lines, pause)


@env.task
async def chorus(where: str, key: str, lines: int, pause: float) -> int:
    with noted(where):
        found = await asyncio.gather(
            talk(where=where, key=f"{key}.0", lines=lines, pause=pause),
            kept_talk(where=where, key=f"{key}.1", lines=lines, pause=pause),
            shared_talk(where=where, key=f"{key}.2", lines=lines, pause=pause),
            shared_talk(where=where, key=f"{key}.3", lines=lines, pause=pause),
        )
        return sum(found)


# ---------------------------------------------------------------------------------------------------------- time limits


@env.task(timeout=flyte.Timeout(max_runtime=3, max_queued_time=30, deadline=3600))
async def limited(where: str, seconds: float) -> int:
    """Well within its limits."""
    with noted(where):
        await asyncio.sleep(seconds)
        return 1


@env.task(timeout=flyte.Timeout(max_runtime=2, deadline=3600), retries=1)
async def overruns(where: str) -> int:
    """Beyond its limit at first, and then not."""
    with noted(where):
        if times(where, "began") == 1:
            await asyncio.Event().wait()
        return 1


@env.task(timeout=flyte.Timeout(max_queued_time=4, deadline=3600))
async def patient(where: str) -> int:
    """Runs for longer than it may have to wait."""
    with noted(where):
        await asyncio.sleep(6)
        return 1
