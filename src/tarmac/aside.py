"""What the platform comes up without: one run, app, key or route that could not be loaded, and why.

Each part keeps a list of its own in the platform's folder (`aside/PART.json`), so that `flyte up` and `flyte status`
can tell of it whether or not that part is well.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tarmac.home import Home, replace_file


class LeftOut(msgspec.Struct, frozen=True):
    what: str
    """Such as `app flytesnacks/development/hello`."""
    why: str
    mend: str
    """What to do about it: to bring it back, or to be rid of it."""

    def __str__(self) -> str:
        return f"{self.what} was left out: {self.why}. {self.mend}"


def write(home: Home, part: str, found: Sequence[LeftOut]) -> None:
    """These, and no others, are what the part leaves out from now on. Raises OSError where that cannot be written."""
    file = home.aside / f"{part}.json"
    if found:
        home.aside.mkdir(mode=0o700, exist_ok=True)
        replace_file(file, msgspec.json.encode(found).decode())
    else:
        file.unlink(missing_ok=True)


def read(home: Home) -> list[LeftOut]:
    """What all parts leave out."""
    return [found for file in sorted(home.aside.glob("*.json")) for found in read_of(home, file.stem)]


def read_of(home: Home, part: str) -> list[LeftOut]:
    """What one part leaves out."""
    try:
        return msgspec.json.decode((home.aside / f"{part}.json").read_bytes(), type=list[LeftOut])
    except (OSError, msgspec.MsgspecError):  # there is none, or it is from another version
        return []


def clear(home: Home) -> None:
    """At the start of the platform: each part says anew what it leaves out."""
    for file in home.aside.glob("*.json"):
        file.unlink(missing_ok=True)
