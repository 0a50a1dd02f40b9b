"""What the agent died of: environments whose processes were being started when it did.

The agent is the parent of all processes, and its death costs a run none of its attempts. So what ends the agent
whenever it is started would do that for ever. What was being started at a death is a suspect; suspects are started one
at a time, so that the guilty one is found, and is given up after ENOUGH deaths; the others are cleared when they start.
"""

from __future__ import annotations

import asyncio

ENOUGH = 3
"""Deaths of the agent in a row, while one thing was being started, after which that is not started any more."""

PATIENCE = 60.0
"""Seconds that an app waits for the start of another suspect to be over."""


class Suspects:
    def __init__(self) -> None:
        self._deaths: dict[str, int] = {}
        self._trial = ""
        """The suspect that is being started."""
        self._over = asyncio.Event()

    def __contains__(self, key: str) -> bool:
        return key in self._deaths

    def may_start(self, key: str) -> bool:
        """Whether it is not a suspect, or no other suspect is being started."""
        return key not in self._deaths or self._trial in ("", key)

    async def turn(self, key: str) -> None:
        """Wait until it may be started, or for PATIENCE seconds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not self.may_start(key):
                    self._over.clear()
                    await self._over.wait()
        except TimeoutError:
            pass

    def begin(self, key: str) -> None:
        """It is being started."""
        if key in self._deaths:
            self._trial = key

    def died(self, key: str) -> bool:
        """The agent died while it was being started; whether that was once too often."""
        self._deaths[key] = self._deaths.get(key, 0) + 1
        self._end(key)
        return self._deaths[key] >= ENOUGH

    def ended(self, key: str) -> None:
        """Its start is over, and the agent lives."""
        self._end(key)

    def clear(self, key: str) -> None:
        """It was started."""
        self._deaths.pop(key, None)
        self._end(key)

    def forgive(self, key: str) -> None:
        """What was given up is asked for again: it is tried once."""
        if self.is_given_up(key):
            self._deaths[key] = ENOUGH - 1

    def _end(self, key: str) -> None:
        if self._trial == key:
            self._trial = ""
        self._over.set()

    def is_given_up(self, key: str) -> bool:
        return self._deaths.get(key, 0) >= ENOUGH
