"""The event log: numbers are given here, written with the rows they speak of, and told to watchers after the commit.

A watcher subscribes first, then takes a snapshot that says up to which number it reaches, then gets every later event
once and in order. Commits end in the order they were asked for, so numbers reach every watcher in order too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flyte.wire import Event
from tarmac.store import Change, Store

WATCHER_LIMIT = 100_000
"""Events a watcher may be behind before it is cut off; it resumes from its last number."""


class Watcher:
    """The events of one key that are committed from now on."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(self, event: Event) -> None:
        if self._queue.qsize() < WATCHER_LIMIT:
            self._queue.put_nowait(event)
        else:
            self._queue.put_nowait(None)

    async def events(self) -> AsyncIterator[Event]:
        """Every event; ends only when the watcher fell too far behind."""
        while (event := await self._queue.get()) is not None:
            yield event


def key_of(subject: str) -> str:
    """What watchers subscribe to: a run with all its actions, an app, a deployment."""
    kind, _, rest = subject.partition("/")
    return f"run/{rest.partition('/')[0]}" if kind == "run" else subject


class Journal:
    """The only way to the store: a change and its events in one transaction, then the watchers."""

    def __init__(self, store: Store, on_failure: Callable[[BaseException], None]) -> None:
        self._store = store
        self._seq = store.last_seq
        self._watchers: dict[str, set[Watcher]] = {}
        self.on_failure = on_failure
        """What to call when the store cannot be relied on any more: it ends this control plane."""

    @property
    def seq(self) -> int:
        """The number given last."""
        return self._seq

    def event(
        self, subject: str, phase: str, message: str = "", attempt: int = 0, body: dict[str, Any] | None = None
    ) -> Event:
        """The next event; the caller puts it into the change that it speaks of."""
        self._seq += 1
        return Event(
            seq=self._seq,
            at=time.time(),
            subject=subject,
            phase=phase,
            message=message,
            attempt=attempt,
            body=body or {},
        )

    def commit(self, change: Change, then: Callable[[], None] | None = None) -> asyncio.Future[None]:
        """Write; when it is on disk call `then` and tell the watchers.

        A failed commit leaves memory ahead of the disk, which nothing could mend from here: `on_failure` ends this
        control plane, and the next one starts from what is on disk.
        """
        future = self._store.write(change)
        events = change.events

        def done(future: asyncio.Future[None]) -> None:
            if future.cancelled():
                return
            if (error := future.exception()) is not None:
                self.on_failure(error)
                return
            if then is not None:
                then()
            if self._watchers:
                self._tell(events)

        future.add_done_callback(done)
        return future

    def commit_events(self, *events: Event) -> asyncio.Future[None]:
        return self.commit(Change(events=events))

    def _tell(self, events: tuple[Event, ...]) -> None:
        for event in events:
            for watcher in self._watchers.get(key_of(event.subject), ()):
                watcher.put(event)

    @contextmanager
    def watching(self, key: str) -> Iterator[Watcher]:
        """Subscribe to `run/<name>`, `app/<project>/<domain>/<name>` or `deployment/<id>`."""
        watcher = Watcher()
        self._watchers.setdefault(key, set()).add(watcher)
        try:
            yield watcher
        finally:
            watchers = self._watchers[key]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[key]
