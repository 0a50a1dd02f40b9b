"""How much is measured: all of it, or, with `--quick`, just enough to see that everything runs through."""

from __future__ import annotations

import os

QUICK = os.environ.get("BENCH_QUICK", "") not in ("", "0")


def rounds(full: int) -> int:
    return 1 if QUICK else full


def of(full: int, quick: int) -> int:
    """A number of requests, children, runs."""
    return min(full, quick) if QUICK else full


def seconds(full: int) -> int:
    return 1 if QUICK else full
