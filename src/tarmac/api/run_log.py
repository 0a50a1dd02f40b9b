"""The log of a whole run: the logs of all attempts of all its actions, merged by the times of their lines.

A log is opened when the merge has come to the start of its action, so that not all of them are open at once. A line
without a time (of a log of an older release) counts as written when the line before it was, or when its action started.
With `follow`, lines that are found at one look are sent in the order of their times.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import cast

import msgspec
from litestar import get
from litestar.response import Stream

from flyte.wire import Action, ActionFilter, ActionPhase, AttemptRef, Event, LogLine, Run
from tarmac import logs
from tarmac.api import streams
from tarmac.api.parameters import Follow, Name, Partial, Tail
from tarmac.api.plane import Control, ControlPlane

PAGE = 1000
"""Actions that are listed at once, and lines that are sent at once."""


@get("/runs/{run:str}/logs", summary="Read a run's log", media_type="application/x-ndjson")
async def read_run_log(
    run: Name, control: Control, tail: Tail = None, follow: Follow = False, partial: Partial = False
) -> Stream:
    """The logs of all its actions: a LogLine on each line, whose `source` is the action's name.

    Lines come in the order in which they were written. With `follow` the answer goes on with later lines until the run
    is over; it begins with the last `tail` lines of each action.
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
    """The present content of the logs, merged by time."""
    merge = _Merge()
    async for action in _actions(control, run):
        async for batch in merge.until(action.created):
            yield batch
        for attempt in range(1, action.attempt + 1):
            begun = (action.started if attempt == action.attempt else None) or action.created
            merge.add(begun, _lines_of(control, run, action.name, attempt, tail))
    async for batch in merge.until(math.inf):
        yield batch


class _Merge:
    """The lines of several logs in the order of their times."""

    def __init__(self) -> None:
        self._logs: list[tuple[float, int, LogLine | None, AsyncIterator[LogLine]]] = []
        """A heap: the time of a log's next line, the log's number, and the line; None as long as the log is not opened.

        The number decides between equal times.
        """
        self._numbers = itertools.count()

    def add(self, begun: float, lines: AsyncIterator[LogLine]) -> None:
        """Include a log that has no line before the time `begun`."""
        heapq.heappush(self._logs, (begun, next(self._numbers), None, lines))

    async def until(self, time: float) -> AsyncIterator[list[LogLine]]:
        """The lines that were written before `time`."""
        batch: list[LogLine] = []
        while self._logs and self._logs[0][0] < time:
            since, number, line, lines = self._logs[0]
            if line is not None:
                batch.append(line)
            following = await anext(lines, None)
            if following is None:
                heapq.heappop(self._logs)
            else:
                heapq.heapreplace(self._logs, (max(since, following.time or since), number, following, lines))
            if len(batch) >= PAGE:
                yield batch
                batch = []
        if batch:
            yield batch


async def _lines_of(
    control: ControlPlane, run: str, action: str, attempt: int, tail: int | None
) -> AsyncIterator[LogLine]:
    """The present lines of one attempt's log."""
    path, _ = control.actions.attempt_log(AttemptRef(run, action, attempt))
    async for lines in logs.batches(path, None, lambda: True, tail):
        for line in lines:
            yield _of(line, action, attempt)


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
            path, is_over = self._control.actions.attempt_log(AttemptRef(self._run, action, attempt))
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
                yield [_placed(line) for line in _in_order(batch)]
        await watching
    finally:
        watching.cancel()
        await asyncio.wait((watching,))


def _in_order(lines: list[LogLine]) -> list[LogLine]:
    """The lines by their times; one without a time goes with the line before it."""
    since, ordered = 0.0, []
    for line in lines:
        since = line.time or since
        ordered.append((since, line))
    return [line for _, line in sorted(ordered, key=lambda each: each[0])]


def _placed(line: LogLine) -> LogLine:
    """The line with its action's name and attempt."""
    action, _, attempt = line.source.rpartition("/")
    return _of(line, action, int(attempt))
