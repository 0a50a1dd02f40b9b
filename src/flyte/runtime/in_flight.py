"""A worker's record of its actions in flight, for a control plane that starts after both have died.

The start of an action is written to the database a moment later, and nobody waits for that. If the control plane dies
in that moment, the next one learns of the action from the worker, which reconnects and reports what it has in flight.
If the worker dies as well, nobody could report it, and the same attempt would run twice. So a worker writes its actions
into its slot of a file that all workers share, before it runs anything: that takes microseconds, needs no file of its
own, and does not wait for the disk. The record survives the end of any process. A power cut may lose it, but then also
the effects of the attempt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from flyte.wire import SLOT_SIZE, InFlight, InFlightRecord

VARIABLE = "FLYTE_HELD"
"""The environment variable with the worker's slot: `FILE:NUMBER`."""


def slot_of(variable: str) -> int | None:
    """The number of the slot; None for a worker without one."""
    number = variable.rpartition(":")[2]
    return int(number) if number else None


class InFlightSlot:
    """This worker's slot in the file."""

    def __init__(self, unit: str, place: str) -> None:
        path, _, number = place.rpartition(":")
        self._unit = unit
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._begin = int(number) * SLOT_SIZE

    def write(self, held: Iterable[InFlight]) -> None:
        """Record the actions; if there is not enough room, only the newest."""
        kept = list(held)
        while len(text := msgspec.json.encode(InFlightRecord(unit=self._unit, held=kept)) + b"\n") > SLOT_SIZE:
            del kept[0]
        os.pwrite(self._file, text, self._begin)


def own_slot() -> InFlightSlot:
    """The slot of the worker that this process is."""
    return InFlightSlot(os.environ["FLYTE_UNIT"], os.environ[VARIABLE])
