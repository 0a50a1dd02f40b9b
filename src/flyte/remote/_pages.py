"""Long lists, fetched page by page on demand: runs by the last run of the page before, actions by number."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flyte import wire

if TYPE_CHECKING:
    from flyte.remote._io import Runs

RUNS = 200
"""Runs in one request. Each may have 64 KiB of outputs, and an answer to a program on this machine 16 MiB."""

ACTIONS = 1000
"""Actions in one request, which is the API's limit."""

EVERY_ACTION = wire.ActionFilter(limit=ACTIONS)


async def runs_of(runs: Runs, chosen: wire.RunFilter) -> AsyncGenerator[wire.Run, None]:
    """All chosen runs, newest first, in pages of `chosen.limit`."""
    while True:
        found = await runs.list_runs(chosen)
        for record in found:
            yield record
        if len(found) < chosen.limit:
            return
        chosen = replace(chosen, before_run=found[-1].name)


async def ends(
    newest_first: AsyncIterator[wire.Run], fits: Callable[[wire.Run], bool], limit: int, oldest: bool
) -> AsyncGenerator[wire.Run, None]:
    """The first `limit` matching items or, with `oldest`, the last ones in reverse; no more are kept in memory."""
    kept: deque[wire.Run] = deque(maxlen=limit)
    async for record in newest_first:
        if not fits(record):
            continue
        kept.append(record)
        if not oldest:
            yield record
            if len(kept) == limit:
                return
    if oldest:
        for record in reversed(kept):
            yield record


async def actions_of(runs: Runs, run: str, chosen: wire.ActionFilter = EVERY_ACTION) -> AsyncIterator[wire.Action]:
    """All chosen actions of a run, in the order of their creation, in pages of `chosen.limit`."""
    while page := await runs.list_actions(run, chosen):
        for action in page:
            yield action
        if len(page) < chosen.limit:
            return
        chosen = replace(chosen, offset=chosen.offset + len(page))
