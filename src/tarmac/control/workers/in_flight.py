"""The file in which workers record their actions in flight, and the records of workers that have died.

`flyte.runtime.in_flight` says why. The file has a slot of SLOT_SIZE bytes for each worker. A slot goes to another
worker only when the outcome of every action of the last one is on disk.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from flyte.wire import SLOT_SIZE, InFlightRecord
from tarmac.workload_files import open_to_read

LARGEST = 4096 * SLOT_SIZE
"""Largest part of the file that is read, in bytes."""

log = logging.getLogger("tarmac.in_flight")


class InFlightFile:
    """`left` has the records that an earlier control plane's workers left, by slot: these slots are not free yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.left = _read(path)
        self._free: set[int] = set()
        self._count = max(self.left, default=-1) + 1

    def take(self) -> int:
        """A free slot."""
        if self._free:
            return self._free.pop()
        self._count += 1
        return self._count - 1

    def claim(self, place: int) -> None:
        """Mark a slot as taken by a worker that has reconnected."""
        self._free.discard(place)
        self._count = max(self._count, place + 1)

    def give_back(self, place: int) -> None:
        self._free.add(place)

    def variable(self, place: int) -> str:
        """The value of the worker's environment variable."""
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
