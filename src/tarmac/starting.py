"""The item that a part is loading, recorded on disk, so that an item which kills the part is identified and left out.

An error while an item is loaded is caught, and affects that item alone. But an item may also end the process itself: it
uses all memory, crashes the interpreter, or takes so long that the part is killed for lack of heartbeats. So the name
of the item is in a file (`aside/PART.at`) while it is being loaded, and the next process of the part finds it there.
`aside/PART.deaths` has the number of such ends in a row for each item.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from flyte.atomic import replace_file
from tarmac.home import Home

ENOUGH = 2
"""After so many ends in a row while it loads the same item, a part starts without that item."""

_LENGTH = 1024
"""Bytes of the recorded name; the end of a longer name is cut off."""


def given_up(home: Home, part: str) -> int:
    """How many items the part leaves out because they ended it."""
    return sum(count >= ENOUGH for count in _counted(home, part).values())


def _counted(home: Home, part: str) -> dict[str, int]:
    try:
        return msgspec.json.decode((home.aside / f"{part}.deaths").read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}


class Starting:
    def __init__(self, home: Home, part: str) -> None:
        home.aside.mkdir(mode=0o700, exist_ok=True)
        self._counts = home.aside / f"{part}.deaths"
        self._deaths = _counted(home, part)
        self._seen: set[str] = set()
        self._note = os.open(home.aside / f"{part}.at", os.O_RDWR | os.O_CREAT, 0o600)
        if at := os.pread(self._note, _LENGTH, 0).rstrip().decode(errors="replace"):
            self._deaths[at] = self._deaths.get(at, 0) + 1
            self._write()

    def deaths(self, item: str) -> int:
        """How often in a row the part has ended while it loaded this item."""
        return self._deaths.get(_cut(item), 0)

    @contextlib.contextmanager
    def loading(self, item: str) -> Iterator[None]:
        """A context in which the item is loaded. If the process ends within it, the next process counts that."""
        item = _cut(item)
        self._seen.add(item)
        self._put(item)
        try:
            yield
        finally:
            self._put("")

    def loaded(self, item: str) -> None:
        """The item was loaded and the part still runs: reset its count."""
        if self._deaths.pop(_cut(item), 0):
            self._write()

    def close(self) -> None:
        """Everything is loaded: forget the counts of items that do not exist any more."""
        os.close(self._note)
        if self._deaths.keys() - self._seen:
            self._deaths = {item: count for item, count in self._deaths.items() if item in self._seen}
            self._write()

    def _put(self, item: str) -> None:
        os.pwrite(self._note, item.encode().ljust(_LENGTH), 0)  # no flush: only the end of a process is counted

    def _write(self) -> None:
        replace_file(self._counts, msgspec.json.encode(self._deaths).decode())


def _cut(item: str) -> str:
    """The name, cut to the length of a record."""
    return item.encode(errors="replace")[:_LENGTH].decode(errors="ignore").rstrip()
