"""Items that the platform starts without: a run, app, key or route that could not be loaded, and why.

Each part writes its own list into the platform's folder (`aside/PART.json`), so that `flyte up` and `flyte status` can
show it whether or not that part runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flyte.atomic import replace_file
from tarmac.home import Home


class LeftOut(msgspec.Struct, frozen=True):
    what: str
    """The item, such as `app flytesnacks/development/hello`."""
    why: str
    mend: str
    """The command or step that brings the item back, or removes it."""

    def __str__(self) -> str:
        return f"{self.what} was left out: {self.why}. {self.mend}"


def write(home: Home, part: str, found: Sequence[LeftOut]) -> None:
    """Replace the list of items that the part leaves out. Raises OSError if it cannot be written."""
    file = home.aside / f"{part}.json"
    if found:
        home.aside.mkdir(mode=0o700, exist_ok=True)
        replace_file(file, msgspec.json.encode(found).decode())
    else:
        file.unlink(missing_ok=True)


def read(home: Home) -> list[LeftOut]:
    """The items that are left out, by all parts."""
    return [found for file in sorted(home.aside.glob("*.json")) for found in read_of(home, file.stem)]


def read_of(home: Home, part: str) -> list[LeftOut]:
    """The items that one part leaves out."""
    try:
        return msgspec.json.decode((home.aside / f"{part}.json").read_bytes(), type=list[LeftOut])
    except (OSError, msgspec.MsgspecError):  # there is no list, or another version wrote it
        return []


def clear(home: Home) -> None:
    """Remove all lists, at the start of the platform: each part writes its list again."""
    for file in home.aside.glob("*.json"):
        file.unlink(missing_ok=True)
