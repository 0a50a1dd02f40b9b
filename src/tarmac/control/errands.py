"""Work that is begun for somebody and awaited by nobody: kept until it is done, and heard of when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from tarmac.events import Journal
from tarmac.store import StoreError

log = logging.getLogger("tarmac.errands")


class Errands:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._under_way: set[asyncio.Task[Any]] = set()

    def run(self, coroutine: Coroutine[object, object, None]) -> None:
        self.keep(asyncio.get_running_loop().create_task(coroutine))

    def keep(self, task: asyncio.Task[Any]) -> None:
        """A task that was begun elsewhere; its failure is logged."""
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("an errand failed", exc_info=error)
        if isinstance(error, StoreError):  # nobody would go on with what it left undone
            self._journal.on_failure(error)
