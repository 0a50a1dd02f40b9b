"""Moments and durations as people read them, on the console's pages and on the command line."""

from __future__ import annotations

import time


def duration(seconds: float) -> str:
    """`32 ms`, `1.2 s`, `1m 15s`, `2h 5m`, `3d 4h`."""
    seconds = max(seconds, 0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def ago(moment: float | None) -> str:
    """The time since `moment` (seconds since 1970): `just now`, `12 s ago`, `5 min ago`, `3 h ago`, `4 d ago`.

    Empty for None and 0, which stand for an unknown time.
    """
    if not moment:
        return ""
    seconds = time.time() - moment
    if seconds < 2:
        return "just now"
    for size, length, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < size:
            return f"{int(seconds // length)} {unit} ago"
    return f"{int(seconds // 86400)} d ago"
