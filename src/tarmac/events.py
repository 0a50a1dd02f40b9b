"""The event log: events get their numbers here, are written with their rows, and go to watchers after the commit.

A watcher subscribes first, then takes a snapshot, which has the number of the last event it includes, and then gets
every later event once and in order. Commits end in the order in which they were requested, so watchers get the numbers
in order too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flyte.errors import InvalidInputError
from flyte.wire import Event
from tarmac.store import Change, Store, Unwritable

WATCHER_LIMIT = 100_000
"""How many events a watcher may be behind before it is disconnected; it resumes from its last number."""


class Watcher:
    """A subscription to the events of one key that are committed from now on."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(self, event: Event) -> None:
        if self._queue.qsize() < WATCHER_LIMIT:
            self._queue.put_nowait(event)
        else:
            self._queue.put_nowait(None)

    async def events(self) -> AsyncIterator[Event]:
        """Every event; ends only when the watcher is too far behind."""
        while (event := await self._queue.get()) is not None:
            yield event


def key_of(subject: str) -> str:
    """The key of a subject's subscription: a run with all its actions, an app, a deployment."""
    kind, _, rest = subject.partition("/")
    return f"run/{rest.partition('/')[0]}" if kind == "run" else subject


class Journal:
    """The only way to the store: a change and its events in one transaction, then the watchers."""

    def __init__(self, store: Store, on_failure: Callable[[BaseException], None]) -> None:
        self._store = store
        self._seq = store.last_seq
        self._told = store.last_seq
        self._behind: list[tuple[int, asyncio.Future[None]]] = []
        """The callers that wait in `reach`, with their numbers."""
        self._failure: BaseException | None = None
        self._watchers: dict[str, set[Watcher]] = {}
        self.on_failure = on_failure
        """Called when a commit has failed for good: it ends this control plane."""

    @property
    def seq(self) -> int:
        """The last number that was given to an event."""
        return self._seq

    @property
    def told(self) -> int:
        """The number of the last event whose commit this loop has heard of. What memory shows includes all up to it."""
        return self._told

    async def reach(self, seq: int) -> None:
        """Return when `told` is `seq` or later.

        The reader's thread may find a commit of which the loop hears a moment later. Who answers with what was found
        waits here first, so that no answer out of memory is older than one that was given before it. Raises what the
        store failed with when the loop will not hear of any commit again.
        """
        if seq <= self._told:
            return
        if self._failure is not None:
            raise self._failure
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._behind.append((seq, reached))
        await reached

    def event(
        self, subject: str, phase: str, message: str = "", attempt: int = 0, body: dict[str, Any] | None = None
    ) -> Event:
        """The next event; the caller adds it to the change that it describes."""
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

    def act(self, subject: str, what: str, by: str) -> Event:
        """The next event, of a caller's act: it includes the caller."""
        return self.event(subject, what, f"{what} by {by}", body={"by": by})

    def commit(self, change: Change, then: Callable[[], None] | None = None) -> asyncio.Future[None]:
        """Like `post`, and return when the change is on disk."""
        return self._awaited(change, then, harmless=False)

    def write(self, change: Change, then: Callable[[], None] | None = None) -> asyncio.Future[None]:
        """Write a change that is applied in memory only after its commit, by `then`.

        If the database refuses it, only its caller is affected: raises InvalidInputError.
        """
        return self._awaited(change, then, harmless=True)

    def _awaited(self, change: Change, then: Callable[[], None] | None, harmless: bool) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done() -> None:
            if then is not None:
                then()
            if not future.done():
                future.set_result(None)

        def failed(error: Exception) -> None:
            refused = harmless and isinstance(error, Unwritable)
            if not future.done():
                future.set_exception(InvalidInputError(f"this cannot be stored: {error}") if refused else error)
            if not refused:
                self._fail(error)

        self._put(change, done, failed)
        return future

    def post(self, change: Change, then: Callable[[], None] | None = None, *, lazy: bool = False) -> None:
        """Write a change; when it is on disk, call `then` and send its events to the watchers.

        A `lazy` change may wait a moment for others, unless it has watchers. A failed commit leaves memory ahead of the
        disk, which cannot be repaired: `on_failure` ends this control plane, and the next one loads the stored state.
        """
        self._put(change, then, self._fail, lazy and not self._is_watched(change))

    def _put(
        self, change: Change, then: Callable[[], None] | None, failed: Callable[[Exception], None], lazy: bool = False
    ) -> None:
        def answered(error: Exception | None) -> None:
            if error is not None:
                failed(error)
                return
            if then is not None:
                self._follow(then)
            if change.events:
                self._hear(change.events)

        self._store.put(change, answered, lazy)

    def _follow(self, then: Callable[[], None]) -> None:
        """Apply a commit; an error here would leave memory different from the disk, so it ends the control plane."""
        try:
            then()
        except Exception as error:
            self._fail(error)
            raise

    def _hear(self, events: tuple[Event, ...]) -> None:
        self._told = events[-1].seq
        if self._watchers:
            self._tell(events)
        if self._behind:
            waiting, self._behind = self._behind, []
            for seq, reached in waiting:
                if seq > self._told:
                    self._behind.append((seq, reached))
                elif not reached.done():
                    reached.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        waiting, self._behind = self._behind, []
        for _, reached in waiting:
            if not reached.done():
                reached.set_exception(error)
        self.on_failure(error)

    def _is_watched(self, change: Change) -> bool:
        return bool(self._watchers) and any(key_of(event.subject) in self._watchers for event in change.events)

    def post_events(self, *events: Event) -> None:
        self.post(Change(events=events))

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
