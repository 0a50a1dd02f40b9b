"""The places where workers write down what they hold, and what those held that died while nobody looked.

`flyte.runtime.in_flight` says why. The file has a place of SLOT_SIZE bytes for each worker. A place is another worker's
only when all that its last one held is on disk as it came out.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from flyte.wire import SLOT_SIZE, InFlightRecord
from tarmac.workload_files import open_to_read

LARGEST = 4096 * SLOT_SIZE
"""Bytes of the file that are read."""

log = logging.getLogger("tarmac.in_flight")


class InFlightFile:
    """`left` is what stands in the file from before, by place: no place in it is free until it is given back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.left = _read(path)
        self._free: set[int] = set()
        self._count = max(self.left, default=-1) + 1

    def take(self) -> int:
        """A place that nobody has."""
        if self._free:
            return self._free.pop()
        self._count += 1
        return self._count - 1

    def claim(self, place: int) -> None:
        """A worker that was there before has this one."""
        self._free.discard(place)
        self._count = max(self._count, place + 1)

    def give_back(self, place: int) -> None:
        self._free.add(place)

    def variable(self, place: int) -> str:
        """What a worker is told."""
        return f"{self._path}:{place}"


def _read(path: Path) -> dict[int, InFlightRecord]:
    try:
        with open_to_read(path) as file:
            data = file.read(LARGEST)  # workers can make it longer, and memory must not depend on them
    except FileNotFoundError:
        return {}
    found = {}
    for place in range(-(-len(data) // SLOT_SIZE)):
        line = data[place * SLOT_SIZE : (place + 1) * SLOT_SIZE].partition(b"\n")[0].strip(b"\0")
        if not line:
            continue
        try:
            found[place] = msgspec.json.decode(line, type=InFlightRecord)
        except msgspec.DecodeError as error:
            log.warning("the in-flight record in slot %d of %s cannot be read: %s", place, path, error)
    return found
