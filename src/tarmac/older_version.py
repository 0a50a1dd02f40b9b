"""An older version of this project that is still recorded as installed, under its distribution's old name.

The distribution was called `tarmac` and is called `flyte` now, so installing the new one does not remove the old one:
its record goes on naming our files, and `pip uninstall tarmac` would delete them. So what the new distribution has is
taken out of the old one's record. Then uninstalling it removes only the rest.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from flyte import errors, official
from flyte.atomic import replace_file

SITE = Path(errors.__file__).parents[1]


def disown(site: Path = SITE) -> Path | None:
    """Take our files out of the record of an older version beside us; its folder, where there was something to take.

    Raises InitializationError where the record cannot be written.
    """
    ours = _first(site, f"flyte-*{official.OURS}*.dist-info")
    older = _first(site, "tarmac-*.dist-info")
    if ours is None or older is None or not official.is_older_version(older):
        return None
    kept = _files(ours)
    rows = _rows(older)
    left = [row for row in rows if row[0] not in kept]
    if len(left) == len(rows):
        return None
    _write(older / "RECORD", left)
    return older


def _first(site: Path, pattern: str) -> Path | None:
    return next(site.glob(pattern), None)


def _files(info: Path) -> set[str]:
    return {row[0] for row in _rows(info)}


def _rows(info: Path) -> list[list[str]]:
    record = info / "RECORD"
    if not record.is_file():
        return []
    return [row for row in csv.reader(io.StringIO(record.read_text())) if row]


def _write(record: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    try:
        replace_file(record, text.getvalue(), 0o644)
    except OSError as error:
        raise errors.InitializationError(
            "OlderVersionError",
            "user",
            f"an older version of this project is installed as `tarmac` ({record.parent}), and its record cannot be "
            f"changed ({error.strerror}): `pip uninstall tarmac` would delete this version's files. After it, install "
            "this version again: in a clone of this project, pip install --force-reinstall .",
        ) from error
