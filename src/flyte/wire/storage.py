"""Messages about the platform's storage: what lies there, and what `flyte prune` removes."""

from __future__ import annotations

from msgspec import field

from flyte import rules
from flyte.wire.specs import Record

PRUNE_GRACE = 3600.0
"""Seconds for which a value or file that nobody refers to yet is left alone: its upload may be under way."""


class DiskUse(Record, frozen=True, kw_only=True):
    """How much lies in one part of the platform's storage."""

    kind: str
    """`values` (with code bundles), `files`, `checkpoints`, `code`, `logs`, `images`, `database`; `objects` are the
    values of an object store."""
    bytes: int = 0
    items: int = 0
    """Number of files."""


class StorageUse(Record, frozen=True, kw_only=True):
    """Where the platform's data lies, and how much it is."""

    place: str
    """The platform's folder."""
    store: str = ""
    """The object store that has the values and files; empty where the folder has them."""
    use: list[DiskUse] = field(default_factory=list)
    free: int = 0
    """Bytes that are free on the folder's disk."""


class PruneStorageRequest(Record, frozen=True, kw_only=True):
    """Remove runs that have ended, and what nobody refers to."""

    older: rules.Duration | None = None
    """Remove the runs that ended at least so many seconds ago, and the versions of tasks from before that time that are
    not current and that no run has run; None removes none by age."""
    runs: list[rules.RunName] = field(default_factory=list)
    """Remove these runs."""
    grace: rules.Duration = PRUNE_GRACE
    """Leave alone what was written in the last so many seconds."""
    dry_run: bool = False
    """Remove nothing; only say what would be removed."""


class PrunedStorage(Record, frozen=True, kw_only=True):
    """What was removed, or would be."""

    runs: list[str] = field(default_factory=list)
    tasks: int = 0
    """Number of versions of tasks."""
    removed: list[DiskUse] = field(default_factory=list)
    dry_run: bool = False
