"""Is a replica ready? It is when its port accepts a connection and any answer below 500 comes back.

Nobody has to write a `/health` route. A replica is asked often at first, since most are ready within milliseconds, and
more seldom the longer it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.1
GROWTH = 1.04
"""Of the pause; so an answer comes at most a twentieth of the time late that the replica took."""
ANSWER_LIMIT = 5.0
"""Seconds for one answer."""


class Ask(Protocol):
    async def __call__(self, port: int, path: str) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking once. `message` says why it is not ready."""

    ready: bool
    message: str = ""
    listening: bool = True


async def ask(port: int, path: str) -> Outcome:
    """Ask for `path` on 127.0.0.1:`port` once."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT):
            return await _get(port, path)
    except TimeoutError:
        return Outcome(False, f"it accepts connections, but GET {path} gets no answer")
    except ConnectionRefusedError:
        return Outcome(False, "nothing listens on its port", listening=False)
    except OSError as error:
        return Outcome(False, f"GET {path} failed: {error}")


async def _get(port: int, path: str) -> Outcome:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
    except ValueError:  # a line without end
        line = b""
    finally:
        writer.close()
    status = _status(line)
    if status is None:
        return Outcome(False, "what answers on its port does not speak HTTP")
    if status >= 500:
        return Outcome(False, f"GET {path} answers {status}")
    return Outcome(True)


def _status(line: bytes) -> int | None:
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return None
    return int(words[1])


SILENCE = 2.0
"""Seconds after which it is told why a replica is not ready, and again where that has changed since."""


def _nobody(outcome: Outcome) -> None:
    """Who does not listen."""


async def until_ready(
    port: int, path: str, limit: float, ask: Ask = ask, told: Callable[[Outcome], None] = _nobody
) -> Outcome:
    """Ask until the answer is yes, or `limit` seconds are over; the last outcome.

    After SILENCE seconds `told` is called with what was answered, and whenever that changes.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    deadline, pause, last = begun + limit, FIRST_PAUSE, ""
    while True:
        outcome = await ask(port, path)
        if outcome.ready or loop.time() >= deadline:
            return outcome
        if loop.time() - begun >= SILENCE and outcome.listening and outcome.message != last:
            last = outcome.message
            told(outcome)
        await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
        pause = min(pause * GROWTH, LONGEST_PAUSE)
