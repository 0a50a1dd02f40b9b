"""The warm-up: small actions of our own that a process runs before it forks others.

Python writes into the code it runs (it specializes instructions after some calls, and caches lookups), and every page
that is written after a fork must be copied first: a fresh process spent more time on that than on its action. After the
warm-up the parent has written these pages, and its children share them. No user code runs, and nothing remains: no
thread, no open file, no environment in the registry.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, cast

from flyte import wire
from flyte._declare.environment import unregister
from flyte._declare.task import TaskEnvironment, TaskTemplate
from flyte.runtime import worker
from flyte.runtime.action import Answers, Job
from flyte.runtime.link import Link

TIMES = 24
"""Calls after which Python does not specialize a function further."""

_ENTRY = "flyte.runtime.warm_up:nothing"


async def _nothing(x: int) -> int:
    await asyncio.sleep(0)
    return x


def _declared() -> TaskTemplate[..., Any, Any]:
    environment = TaskEnvironment(name="flyte-warm-up")
    unregister(environment)
    return environment.task(_nothing)


nothing = _declared()


class _Deaf:
    """A link without another end."""

    def send(self, frame: wire.Frame, keep: object = None) -> None:
        wire.pack(frame)

    post = send

    def flush(self) -> None: ...
    def watch(self) -> None: ...


def warm_up() -> None:
    """Run TIMES actions, each as a fresh process would; the environment is as it was when this returns."""
    before = dict(os.environ)
    frames = wire.Unpacker()
    link = cast("Link", _Deaf())
    for number in range(TIMES):
        order = wire.pack(_assign(number))
        (assign,) = cast("list[wire.Assign]", frames.feed(order))
        performer = worker.Worker("", reuse=False, concurrency=1)
        runner = asyncio.Runner(loop_factory=worker.new_loop)
        performer.receive([assign])
        finished = performer.perform(Job(assign, link, Answers(link), Path.cwd()), runner)
        link.send(finished)
        runner.close()
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def _assign(number: int) -> wire.Assign:
    return wire.Assign(
        run=f"warm-up{number}",
        action=wire.ROOT_ACTION,
        attempt=1,
        task=nothing.name,
        version="1",
        entry=_ENTRY,
        project=wire.DEFAULT_PROJECT,
        domain=wire.DEFAULT_DOMAIN,
        inputs=wire.Value(inline=b'{"x": 1}'),
    )
