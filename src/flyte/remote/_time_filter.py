"""A span of time as a filter of listings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TimeFilter:
    """From `after` on, and before `before`. A time without a zone is local time."""

    after: datetime | None = None
    before: datetime | None = None

    def after_seconds(self) -> float | None:
        return self.after.timestamp() if self.after else None

    def before_seconds(self) -> float | None:
        return self.before.timestamp() if self.before else None

    def holds(self, seconds: float) -> bool:
        """Whether a time, in seconds since 1970, is in the span."""
        after, before = self.after_seconds(), self.before_seconds()
        return (after is None or seconds >= after) and (before is None or seconds < before)


def moment(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time in UTC; None for None."""
    from datetime import UTC

    return datetime.fromtimestamp(seconds, UTC) if seconds else None
