"""The environments of this machine: each is made once, however many ask for it, by a process of its own.

What is there is found in milliseconds, without one. A builder that is killed fails what waits for it, and leaves
nothing that is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from flyte import wire
from flyte.wire import ErrorInfo
from tarmac import process
from tarmac.agent.fork_server import environment
from tarmac.environments import interpreters, overlay
from tarmac.environments.build import News, Order
from tarmac.environments.place import Asked, Known, Place, Whole
from tarmac.home import Home

log = logging.getLogger("tarmac.agent")

AT_ONCE = 2
"""Builders that run at the same time: each of them has several downloads and keeps the disk busy."""

PATIENCE = 30.0
"""Seconds that a builder gets beyond its own limit before it is killed."""


LONGEST_LINE = 4 * 1024 * 1024
"""Bytes of one line that a builder says."""

_TYPE = "flyte.errors:ImageBuildError"


@dataclass(frozen=True, slots=True)
class Found:
    """What a request came to."""

    asked: Asked
    known: Known
    whole: Whole


class BuildFailed(Exception):
    """An environment cannot be made; `error` is what its owner should read."""

    def __init__(self, error: ErrorInfo) -> None:
        super().__init__(error.message)
        self.error = error


class Images:
    """`report` gets ImageProgress, ImageReady and ImageFailed. `limit`: seconds that one build may take."""

    def __init__(
        self, home: Home, report: Callable[[wire.Frame], None], tasks: asyncio.TaskGroup, limit: float
    ) -> None:
        self._home = home
        self._place = Place(home.images)
        self._report = report
        self._tasks = tasks
        self._limit = limit
        self._room = asyncio.Semaphore(AT_ONCE)
        self._making: dict[str, asyncio.Task[None]] = {}
        """What is being prepared, by request."""
        self._ensuring: dict[str, asyncio.Task[News]] = {}
        """What is being made again, by key."""
        self._led: set[str] = set()
        """Environments that are known to lead to our package as it is now."""

    # ------------------------------------------------------------------------------------------------------- requests

    def prepare(self, order: wire.PrepareImage) -> None:
        """Have the environment, and report it. A request that is being carried out already is not carried out twice."""
        request = order.request.id
        if request not in self._making:
            task = self._making[request] = self._tasks.create_task(self._prepare(order))
            task.add_done_callback(lambda _: self._making.pop(request, None))

    async def _prepare(self, order: wire.PrepareImage) -> None:
        request = order.request.id
        try:
            self._report(await self._prepared(order))
        except BuildFailed as failed:
            self._report(wire.ImageFailed(request=request, error=failed.error))
        except Exception as error:  # whatever it is: the other environments, and all units, go on
            log.exception("the environment for %s cannot be made", request)
            problem = _system(f"the agent: {type(error).__name__}: {error}")
            self._report(wire.ImageFailed(request=request, error=problem))

    async def _prepared(self, order: wire.PrepareImage) -> wire.ImageReady:
        begun, request = time.monotonic(), order.request.id
        choice = await asyncio.to_thread(self._choice, order.request)
        if order.own_suffices and choice.interpreter.minor == sys.version_info[:2]:
            version = str(choice.interpreter)
            return wire.ImageReady(request=request, python=sys.executable, version=version, notes=[choice.note])
        found, is_new = await asyncio.to_thread(self._found, request), False
        if found is None or order.force or found.known.interpreter != choice.interpreter:
            news = await self._build(request, order)
            found, is_new = await asyncio.to_thread(self._found, request), news.is_new
        if found is None:
            raise BuildFailed(_system("the environment that was made is gone again; deploy again"))
        return wire.ImageReady(
            request=request,
            key=found.asked.key,
            python=str(self._place.python(found.asked.key)),
            version=str(found.known.interpreter),
            lock=found.known.lock,
            bytes=found.whole.bytes,
            seconds=time.monotonic() - begun,
            is_new=is_new,
            notes=found.asked.notes,
        )

    def _choice(self, request: wire.ImageRequest) -> interpreters.Choice:
        found = interpreters.find(self._place.interpreters)
        return interpreters.choose(found, request.python, request.requires_python)

    def _found(self, request: str) -> Found | None:
        """What the request came to before, where that is whole."""
        asked = self._place.asked(request)
        if asked is None:
            return None
        known, whole = self._place.known(asked.key), self._place.whole(asked.key)
        return None if known is None or whole is None else Found(asked, known, whole)

    # ------------------------------------------------------------------------------------------------------------ pools

    async def ensure(self, key: str) -> None:
        """Have the environment whole, and lead to our package as it is now, before a process is started in it.

        Raises BuildFailed for one that is gone and cannot be made again.
        """
        if await asyncio.to_thread(self._place.whole, key) is None:
            log.warning("the environment %s is not whole: it is made again from its lock", key)
            making = self._ensuring.get(key)
            if making is None:
                making = self._ensuring[key] = asyncio.ensure_future(self._build(key))
                making.add_done_callback(lambda _: self._ensuring.pop(key, None))
            await asyncio.shield(making)
            self._led.discard(key)
        if key not in self._led:
            await asyncio.to_thread(overlay.put, self._place.environment(key), self._place.ours)
            self._led.add(key)

    def remove(self, keys: list[str]) -> None:
        """Remove environments of which nothing runs. They lose their names at once."""
        for key in keys:
            gone = self._place.path / "making" / f"{key}.removed"
            with contextlib.suppress(OSError):  # it is not there, or a builder's sweep was quicker
                self._place.environment(key).rename(gone)
                self._tasks.create_task(asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True))

    def end(self) -> None:
        """Nothing more is made; what is being made is given up."""
        for task in (*self._making.values(), *self._ensuring.values()):
            task.cancel()

    # --------------------------------------------------------------------------------------------------------- building

    async def _build(self, name: str, order: wire.PrepareImage | None = None) -> News:
        """What a builder said last: of the environment for a request, or, without one, of that with the key `name`."""
        whole = Order(
            folder=str(self._place.path),
            timeout=self._limit,
            log=str(self._home.image_log(name)),
            request=order.request if order else None,
            key="" if order else name,
            secrets=order.secrets if order else {},
            parent=os.getpid(),
            force=order.force if order else False,
        )
        async with self._room:
            news = await self._carried_out(whole, name)
        if news.error:
            raise BuildFailed(_system(news.error) if news.is_passing else _users(news.error))
        return news

    async def _carried_out(self, order: Order, name: str) -> News:
        """Run a builder to its end, and tell of its progress."""
        builder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "tarmac.environments.build"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(str(self._home.path)),
            cwd="/",
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        assert builder.stdin is not None
        try:
            async with asyncio.timeout(self._limit + PATIENCE):
                builder.stdin.write(msgspec.json.encode(order))
                builder.stdin.close()
                said = asyncio.ensure_future(_read(builder.stderr))
                last = await self._heard(builder.stdout, name)
                await builder.wait()
                return last or News(
                    error=f"the builder ended (code {builder.returncode}): {await said}", is_passing=True
                )
        except TimeoutError:
            return News(error=f"the builder was not done in {self._limit + PATIENCE:g} s", is_passing=True)
        finally:
            if builder.returncode is None:
                process.signal_group(builder.pid, signal.SIGKILL)
                await builder.wait()
            if builder.returncode != 0:  # a package's own build may have been under way, which uv started
                process.kill(await asyncio.to_thread(process.leftovers, {f"builder-{builder.pid}": builder.pid}))

    async def _heard(self, output: asyncio.StreamReader | None, name: str) -> News | None:
        """Its last news; None where it ended without any."""
        last = None
        while output is not None and (line := await output.readline()):
            news = msgspec.json.decode(line, type=News)
            if news.message:
                self._report(wire.ImageProgress(request=name, message=news.message))
            else:
                last = news
        return last


async def _read(output: asyncio.StreamReader | None) -> str:
    data = await output.read() if output is not None else b""
    return data.decode(errors="replace").strip()[-2000:]


def _system(message: str) -> ErrorInfo:
    return ErrorInfo(code="ImageBuildError", message=message, kind="system", type=_TYPE)


def _users(message: str) -> ErrorInfo:
    return ErrorInfo(code="ImageBuildError", message=message, type=_TYPE, retryable=False)
