"""Rooms: mount namespaces with folders of their own, which units enter.

To make one (folders, a namespace, mounts) costs a millisecond of work, and so does its end. Most actions write nothing
beside their code and nothing among their temporary files, or clean it up. So the fork server makes a room while nobody
waits for one, and a room that a unit left as it had found it is the next one's.

A room is handed on only when nothing was written in it and nobody is left in it. The fork server adopts the orphans of
its descendants, so what a unit left running is among its children.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from flyte.runtime import linux

_MOST_FREE = 16
"""Rooms that are kept for the next units."""

_MOST_LENT = 64
"""Rooms that are held open to be handed on; each takes two of the fork server's file descriptors."""

_State = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Room:
    """`states`: those of the folders that a unit can write into, as they were made."""

    folder: str
    mounts: linux.Mounts
    states: dict[str, _State]


class Rooms:
    """The rooms of one fork server. Raises OSError where they cannot be had.

    `folder`: where they are made. `left`: where the folder of one that is not handed on is moved, under its unit's
    name. `furnish` makes the folders below the one that it is given and mounts them, in the namespace of the new room;
    it returns those that a unit can write into.
    """

    def __init__(self, folder: str, left: str, furnish: Callable[[str], Sequence[str]]) -> None:
        os.mkdir(folder, 0o700)
        self._folder = folder
        self._left = left
        self._furnish = furnish
        self._numbers = itertools.count(1)
        self._free: list[Room] = []
        self._lent: dict[str, Room] = {}
        self._closed: dict[str, str] = {}
        """Unit → the folder of a room that is not handed on."""
        linux.own_mounts()  # a program that was executed anew has no right to come back to those that it began with
        self._own = linux.present_mounts()
        self._children = linux.Children()

    def lend(self, unit: str) -> None:
        """Have a room for a unit that is about to be forked. Raises OSError."""
        self._lent[unit] = self._free.pop() if self._free else self._made()

    def enter(self, unit: str) -> None:
        """In the unit: enter its room, and let go of the others. Raises OSError."""
        self._lent[unit].mounts.enter()
        for room in (*self._free, *self._lent.values()):
            room.mounts.close()
        self._own.close()
        self._children.close()

    def forked(self, unit: str, returns: bool) -> None:
        """The unit lives. `returns`: it will soon end, and its room may be the next one's."""
        if not returns or len(self._lent) > _MOST_LENT:
            room = self._lent.pop(unit)
            room.mounts.close()
            self._closed[unit] = room.folder

    def take_back(self, unit: str, units: Collection[int]) -> None:
        """The unit has ended, or was never forked. `units`: the pids of those that live."""
        room = self._lent.pop(unit, None)
        if room is None:
            self._put_away(self._closed.pop(unit, ""), unit)
        elif len(self._free) < _MOST_FREE and self._is_untouched(room) and self._children.are_only(units):
            self._free.append(room)
        else:
            room.mounts.close()
            self._put_away(room.folder, unit)

    @property
    def is_short(self) -> bool:
        """Whether the next unit would have to wait until a room is made for it."""
        return bool(self._lent) and not self._free

    def prepare(self) -> None:
        """Make a room ahead of need. Where that fails, it will fail once more for the unit, and be told."""
        with contextlib.suppress(OSError):
            self._free.append(self._made())

    def _made(self) -> Room:
        folder = f"{self._folder}/{next(self._numbers)}"
        here = os.open(".", os.O_PATH)
        linux.own_mounts()
        try:
            written = self._furnish(folder)
            mounts = linux.present_mounts()
        finally:
            self._own.enter()
            os.fchdir(here)
            os.close(here)
        return Room(folder, mounts, {path: _state(path) for path in written})

    def _is_untouched(self, room: Room) -> bool:
        with contextlib.suppress(OSError):
            return all(_state(path) == state for path, state in room.states.items())
        return False

    def _put_away(self, folder: str, unit: str) -> None:
        """Leave the folder to the agent, which removes it. One that cannot be moved is removed with the fork server."""
        with contextlib.suppress(OSError):
            os.rename(folder, f"{self._left}/{unit}")


def _state(folder: str) -> _State:
    found = os.stat(folder)
    return found.st_mode, found.st_uid, found.st_gid, tuple(os.listdir(folder)), tuple(os.listxattr(folder))
