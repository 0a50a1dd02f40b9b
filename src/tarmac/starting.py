"""What a part is about to load, noted before each item, so that what ends the part can be told and be left out.

An error while an item is loaded is caught, and concerns that item. But an item may also end the process itself: it
uses all memory, crashes the interpreter, or never comes to an end and the part is killed for its silence. So the name
of the item is in a file (`aside/PART.at`) for as long as it is being loaded, and the next process of the part finds it
there. How often that happened in a row to which item is in `aside/PART.deaths`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from tarmac.home import Home, replace_file

ENOUGH = 2
"""Ends of the part, in a row, while it loaded one item: after so many it comes up without that item."""

_LENGTH = 1024
"""Bytes of a note; the end of a longer name is cut off."""


def given_up(home: Home, part: str) -> int:
    """How many items the part leaves out for having ended it."""
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
        """How often the part has ended, in a row, while it loaded this."""
        return self._deaths.get(_cut(item), 0)

    @contextlib.contextmanager
    def loading(self, item: str) -> Iterator[None]:
        """For as long as the item is being loaded. What does not end here is counted as an end of the part."""
        item = _cut(item)
        self._seen.add(item)
        self._put(item)
        try:
            yield
        finally:
            self._put("")

    def loaded(self, item: str) -> None:
        """It was loaded, and the part lives: what was counted is forgotten."""
        if self._deaths.pop(_cut(item), 0):
            self._write()

    def close(self) -> None:
        """All is loaded: forget what there was no item for any more."""
        os.close(self._note)
        if self._deaths.keys() - self._seen:
            self._deaths = {item: count for item, count in self._deaths.items() if item in self._seen}
            self._write()

    def _put(self, item: str) -> None:
        os.pwrite(self._note, item.encode().ljust(_LENGTH), 0)  # no flush: only the end of a process is counted

    def _write(self) -> None:
        replace_file(self._counts, msgspec.json.encode(self._deaths).decode())


def _cut(item: str) -> str:
    """As much of it as a note can hold."""
    return item.encode(errors="replace")[:_LENGTH].decode(errors="ignore").rstrip()
