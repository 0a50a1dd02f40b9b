"""The start of a control plane: it takes up what the last one left, item by item, and comes up without what it cannot.

One run, app or deployment whose rows cannot be loaded is set aside with its reason, whether loading it raises or has
ended the control plane twice. Everything else goes on, and `flyte status` tells what was left out.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from tarmac import aside
from tarmac.aside import LeftOut
from tarmac.home import Home
from tarmac.starting import ENOUGH, Starting
from tarmac.store import StoreError

log = logging.getLogger("tarmac.startup")


_ENDED = ("run ", "deployment ")
"""What is set aside by being ended, so that no later start meets it."""


class Startup:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._starting = Starting(home, "control")
        self._left_out = [found for found in aside.read_of(home, "control") if found.what.startswith(_ENDED)]
        """With what an earlier control plane of the same life of the platform ended for good."""

    async def take_up(
        self,
        item: str,
        load: Callable[[], Awaitable[None]],
        set_aside: Callable[[str], Awaitable[None]],
        mend: str,
    ) -> None:
        """Load one item; where that fails, or has ended the control plane before, set it aside for a reason in words.

        `mend` says how it is brought back, or got rid of. Raises StoreError: without a store there is no start.
        """
        deaths = self._starting.deaths(item)
        if deaths < ENOUGH:
            try:
                with self._starting.loading(item):
                    await load()
            except StoreError:
                raise
            except Exception as error:  # one item that cannot be loaded does not keep the others from being loaded
                log.exception("%s cannot be loaded", item)
                why = f"it cannot be loaded: {type(error).__name__}: {error}"
            else:
                self._starting.loaded(item)
                return
        else:
            why = f"loading it has ended the control plane {deaths} times in a row"
        self.leave_out(item, why, mend)
        if deaths <= ENOUGH:  # else this has ended it, too
            await self._set_aside(item, set_aside, why)

    async def _set_aside(self, item: str, set_aside: Callable[[str], Awaitable[None]], why: str) -> None:
        try:
            with self._starting.loading(item):
                await set_aside(why)
        except StoreError:
            raise
        except Exception:
            log.exception("%s cannot be marked as set aside", item)

    def leave_out(self, item: str, why: str, mend: str) -> None:
        """The control plane comes up without this."""
        found = LeftOut(item, why, mend)
        log.error("%s", found)
        self._left_out = [*(each for each in self._left_out if each.what != item), found]
        aside.write(self._home, "control", self._left_out)  # at once: the next item may end the process

    def close(self) -> None:
        """All is taken up. Raises OSError where it cannot be written down what was left out."""
        self._starting.close()
        aside.write(self._home, "control", self._left_out)
