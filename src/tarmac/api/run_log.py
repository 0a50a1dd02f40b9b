"""The log of a whole run: the logs of all attempts of all its actions.

Lines have no times. So the lines that were written before the call are sent action by action, in the order in which the
actions were created; with `follow`, later lines are sent as they are written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import cast

import msgspec
from litestar import get
from litestar.response import Stream

from flyte.wire import Action, ActionFilter, ActionPhase, Event, LogLine, Run
from tarmac import logs
from tarmac.api import streams
from tarmac.api.parameters import Follow, Name, Partial, Tail
from tarmac.api.plane import Control, ControlPlane

PAGE = 1000
"""Actions that are listed at once."""


@get("/runs/{run:str}/logs", summary="Read a run's log", media_type="application/x-ndjson")
async def read_run_log(
    run: Name, control: Control, tail: Tail = None, follow: Follow = False, partial: Partial = False
) -> Stream:
    """The logs of all its actions: a LogLine on each line, whose `source` is the action's name.

    Present lines are sent action by action, in the order of their creation. With `follow` the answer goes on with
    later lines until the run is over; it begins with the last `tail` lines of each action.
    """
    record = await control.runs.get(run)
    if follow and not record.phase.is_terminal:
        return streams.lines(_followed(control, run, tail, partial))
    return streams.lines(_written(control, run) if tail is None else _last(control, run, tail))


async def _actions(control: ControlPlane, run: str) -> AsyncIterator[Action]:
    """All actions of a run in the order of their creation."""
    chosen = ActionFilter(limit=PAGE)
    while page := await control.actions.list(run, chosen):
        for action in page:
            yield action
        chosen = msgspec.structs.replace(chosen, offset=chosen.offset + len(page))


async def _written(control: ControlPlane, run: str, tail: int | None = None) -> AsyncIterator[list[LogLine]]:
    """The present content of the logs."""
    async for action in _actions(control, run):
        for number in range(1, action.attempt + 1):
            path, _ = control.actions.attempt_log(run, action.name, number)
            async for batch in logs.batches(path, None, lambda: True, tail):
                yield [_of(line, action.name, number) for line in batch]


async def _last(control: ControlPlane, run: str, count: int) -> AsyncIterator[list[LogLine]]:
    """The last lines of the run."""
    last: deque[LogLine] = deque(maxlen=count)
    async for batch in _written(control, run, count):
        last.extend(batch)
    yield list(last)


def _of(line: LogLine, action: str, attempt: int) -> LogLine:
    return msgspec.structs.replace(line, source=action, attempt=attempt)


class _Begun:
    """The attempts of a run that have started, as they start."""

    def __init__(self, control: ControlPlane, run: str) -> None:
        self._control, self._run = control, run
        self._attempts: dict[tuple[str, int], logs.Source] = {}
        self.is_over = False
        """True when the run has ended, so that no more attempts start."""

    async def watch(self) -> None:
        """Collect the attempts until the run is over."""
        async for _, _, record in self._control.watching.run(self._run, None, "all"):
            if isinstance(record, Run):
                await self._list()
            elif isinstance(record, Event) and _has_begun(ActionPhase(record.phase)):
                self._add(record.subject.rpartition("/")[2], record.attempt)
        await self._list()
        self.is_over = True

    async def sources(self) -> Sequence[logs.Source]:
        return list(self._attempts.values())

    async def _list(self) -> None:
        async for action in _actions(self._control, self._run):
            if _has_begun(action.phase):
                for number in range(1, action.attempt + 1):
                    self._add(action.name, number)

    def _add(self, action: str, attempt: int) -> None:
        if (action, attempt) not in self._attempts:
            path, is_over = self._control.actions.attempt_log(self._run, action, attempt)
            self._attempts[action, attempt] = (f"{action}/{attempt}", path, is_over)


def _has_begun(phase: ActionPhase) -> bool:
    """Whether the action has started. Queued actions have no log, and there may be many thousands of them."""
    return phase not in (ActionPhase.QUEUED, ActionPhase.WAITING_FOR_RESOURCES)


async def _followed(control: ControlPlane, run: str, tail: int | None, partial: bool) -> AsyncIterator[list[LogLine]]:
    begun = _Begun(control, run)
    watching = asyncio.create_task(begun.watch())
    try:
        together = logs.together(begun.sources, None, tail, partial, lambda: begun.is_over or watching.done())
        async with contextlib.aclosing(cast("AsyncGenerator[list[LogLine], None]", together)) as batches:
            async for batch in batches:
                yield [_placed(line) for line in batch]
        await watching
    finally:
        watching.cancel()
        await asyncio.wait((watching,))


def _placed(line: LogLine) -> LogLine:
    """The line with its action's name and attempt."""
    action, _, attempt = line.source.rpartition("/")
    return _of(line, action, int(attempt))
