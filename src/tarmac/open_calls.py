"""Calls of the API that are under way, and their end when the key that made them is revoked.

A stream of events or a log that is followed may be open for hours. It was let in when it began; so when a key is
revoked, or a browser signs out, its open calls are looked for here and ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from flyte.errors import NotAuthenticatedError

Caller = TypeVar("Caller")


class OpenCalls(Generic[Caller]):
    def __init__(self, counts: Callable[[Caller], bool]) -> None:
        """`counts`: whether the caller's key, and the browser's session, count now."""
        self._counts = counts
        self._calls: dict[asyncio.Timeout, Caller] = {}

    def __len__(self) -> int:
        return len(self._calls)

    @contextlib.asynccontextmanager
    async def of(self, caller: Caller) -> AsyncIterator[None]:
        """A call by `caller`, for as long as the block runs. Raises NotAuthenticatedError when it is ended early."""
        call = asyncio.timeout(None)
        try:
            async with call:
                self._calls[call] = caller
                try:
                    yield
                finally:
                    del self._calls[call]
        except TimeoutError:
            if not call.expired():
                raise
            raise NotAuthenticatedError(
                "the key was revoked, or the session signed out, while this call was open"
            ) from None

    def end_withdrawn(self) -> None:
        """End the calls of callers who no longer count."""
        for call, caller in self._calls.items():
            if not self._counts(caller):
                call.reschedule(0.0)  # now
