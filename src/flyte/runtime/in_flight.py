"""What a worker has in flight, where the next control plane finds it when both are gone.

That an action has begun is written into the database a moment later, and nobody waits for it. A control plane that dies
in that moment learns of it from the worker, which comes back and says what it holds. When the worker dies as well,
nobody would be left to say so, and the same attempt would be run twice. So a worker writes what it holds into its place
in a file that all workers share, before it runs anything: microseconds, no file of its own, no waiting for the disk.
Processes may die as they like; a power cut may lose it, and then also what the attempt had done.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from flyte.wire import SLOT_SIZE, InFlight, InFlightRecord

VARIABLE = "FLYTE_HELD"
"""The variable that says where: `file:number of the place`."""


def slot_of(variable: str) -> int | None:
    """The number of the place; None for a worker that was given none."""
    number = variable.rpartition(":")[2]
    return int(number) if number else None


class InFlightSlot:
    """This worker's place in the file."""

    def __init__(self, unit: str, place: str) -> None:
        path, _, number = place.rpartition(":")
        self._unit = unit
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._begin = int(number) * SLOT_SIZE

    def write(self, held: Iterable[InFlight]) -> None:
        """Write it down; of more than there is room for, the newest."""
        kept = list(held)
        while len(text := msgspec.json.encode(InFlightRecord(unit=self._unit, held=kept)) + b"\n") > SLOT_SIZE:
            del kept[0]
        os.pwrite(self._file, text, self._begin)
