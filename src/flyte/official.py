"""Distributions whose files lie in the same folders as ours: the official `flyte`, and a stranger's `tarmac`.

Installing our distribution, which is called `flyte` too, replaces the official one, and the other way round. Both can
be on the path all the same: in two folders of it, after an installation that ignored what was there, or beside an
older version of this project, whose distribution was called `tarmac`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

from flyte.errors import InitializationError

OURS = "+tarmac"
"""In the version of every distribution `flyte` that is this project."""

SUMMARY = "Summary: Flyte tasks and apps anywhere Python runs"
"""In the metadata of a distribution `tarmac` that is an older version of this project."""

_PACKAGE = Path(__file__).parent

_ONLY_OFFICIAL = "_initialize.py"
"""A file of the official package that ours has not."""

_AGAIN = "in a clone of this project, pip install --force-reinstall ."


@functools.cache
def refuse_official() -> None:
    """Raises InitializationError where one of the two is installed, naming it and how to mend it."""
    if (_PACKAGE / _ONLY_OFFICIAL).exists():
        raise InitializationError(
            "OfficialDistributionError",
            "user",
            f"files of the official `flyte` lie between those of tarmac ({_PACKAGE}), so neither is whole. "
            f"Mend it with: pip uninstall flyte, rm -r {_PACKAGE}, and then, {_AGAIN}",
        )
    for info in _infos("flyte"):
        if OURS not in info.name:
            raise InitializationError(
                "OfficialDistributionError",
                "user",
                f"the official `flyte` {_version(info)} is installed beside tarmac ({info.parent}); both put their "
                f"files into one folder, so neither is whole. Mend it with: pip uninstall flyte, and then, {_AGAIN}",
            )
    for info in _infos("tarmac"):
        if not is_older_version(info):
            raise InitializationError(
                "StrangerDistributionError",
                "user",
                f"the distribution `tarmac` {_version(info)} in {info.parent} is another project's of that name; its "
                f"files replace this platform's. Mend it with: pip uninstall tarmac, and then, {_AGAIN}",
            )


def is_older_version(info: Path) -> bool:
    """Whether the metadata of a distribution `tarmac` is an older version of this project's."""
    for name in ("METADATA", "PKG-INFO"):
        if (info / name).is_file():
            return SUMMARY in (info / name).read_text(errors="replace")
    return False


def _infos(name: str) -> Iterator[Path]:
    # names of folders only: `importlib.metadata` takes 20 ms to be imported
    for folder in sys.path:
        yield from Path(folder or ".").glob(f"{name}[-.]*-info")


def _version(info: Path) -> str:
    return info.stem.partition("-")[2] or "(of an unknown version)"
