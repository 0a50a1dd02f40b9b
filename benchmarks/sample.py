"""Samples of durations and rates, and what is told of them: median, p50/p95/p99, least and most, how many.

A contender's name is `who: what`, such as `Ray: 1,000 children`. Those with the same `what` did the same work.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks.machine import where

RESULTS = Path(__file__).parent / "results"


@dataclass
class Sample:
    """The values of one contender in one benchmark, all in `unit`."""

    benchmark: str
    contender: str
    unit: str
    values: list[float] = field(default_factory=list)
    better: str = "less"
    """`less` for durations and sizes, `more` for rates."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def percentile(self, part: float) -> float:
        return quantile(self.values, part)

    @contextmanager
    def timed(self, scale: float = 1e3) -> Iterator[None]:
        """Add how long the block took; in milliseconds unless `scale` says otherwise."""
        began = time.perf_counter()
        yield
        self.values.append((time.perf_counter() - began) * scale)

    def row(self) -> list[str]:
        shown = [self.median, self.percentile(0.95), self.percentile(0.99), min(self.values), max(self.values)]
        return [self.contender, *(short(value) for value in shown), str(len(self.values)), self.unit]


class Samples:
    """The samples of one case, made when they are first asked for, in that order."""

    def __init__(self, benchmark: str) -> None:
        self._benchmark = benchmark
        self._made: dict[str, Sample] = {}

    def __call__(self, contender: str, unit: str = "ms") -> Sample:
        better = "more" if unit in ("1/s", "MB/s") else "less"
        return self._made.setdefault(contender, Sample(self._benchmark, contender, unit, better=better))

    def all(self) -> list[Sample]:
        return list(self._made.values())


def quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def short(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def who_and_what(contender: str) -> tuple[str, str]:
    who, _, what = contender.partition(": ")
    return who, what


def table(samples: list[Sample]) -> str:
    """The samples of one benchmark beside each other, with their ratio to the first that did the same work."""
    head = ["contender", "median", "p95", "p99", "min", "max", "n", "unit", "ratio to the first"]
    first: dict[str, Sample] = {}
    rows = []
    for sample in samples:
        beside = first.setdefault(who_and_what(sample.contender)[1] or sample.contender, sample)
        is_beside = beside is not sample and beside.median
        rows.append([*sample.row(), f"{sample.median / beside.median:.2f}" if is_beside else ""])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(lines)


def interleave(rounds: int, contenders: dict[str, Callable[[], object]]) -> None:
    """Run every contender once in each round, so that a drifting machine drifts for all of them."""
    for _ in range(rounds):
        for contend in contenders.values():
            contend()


KEPT = 500
"""Values of a sample that a result keeps: of more, the quantiles."""


def thinned(values: list[float]) -> list[float]:
    """At most KEPT of the values, evenly over their order, with the least and the most."""
    if len(values) <= KEPT:
        return values
    ordered = sorted(values)
    return [round(ordered[round(i * (len(ordered) - 1) / (KEPT - 1))], 4) for i in range(KEPT)]


def save(name: str, samples: list[Sample]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    body = {"where": where(), "samples": [asdict(replace(sample, values=thinned(sample.values))) for sample in samples]}
    path.write_text(json.dumps(body, indent=1))
    return path


def results() -> list[Path]:
    """The files of all results, the oldest first."""
    return sorted(RESULTS.glob("*-????????-??????.json"), key=lambda path: path.stem[-15:])


def compare(name: str, samples: list[Sample]) -> str:
    """How the medians stand against those of the last result of the same benchmark."""
    earlier = [path for path in results() if path.stem[:-16] == name]
    if not earlier:
        return ""
    old = {
        (s["benchmark"], s["contender"]): statistics.median(s["values"])
        for s in json.loads(earlier[-1].read_text())["samples"]
        if s["values"]
    }
    lines = []
    for sample in samples:
        before = old.get((sample.benchmark, sample.contender))
        if before and sample.values:
            lines.append(f"  {sample.contender}: {sample.median / before:.2f} × {earlier[-1].stem}")
    return "\n".join(lines)
