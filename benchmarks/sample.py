"""Samples of durations and rates, and what is told of them: median, p50/p95/p99, least and most, how many."""

from __future__ import annotations

import json
import os
import platform as machine
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path

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
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    @contextmanager
    def timed(self, scale: float = 1e3) -> Iterator[None]:
        """Add how long the block took; in milliseconds unless `scale` says otherwise."""
        began = time.perf_counter()
        yield
        self.values.append((time.perf_counter() - began) * scale)

    def row(self) -> list[str]:
        shown = [self.median, self.percentile(0.95), self.percentile(0.99), min(self.values), max(self.values)]
        return [self.contender, *(short(value) for value in shown), str(len(self.values)), self.unit]


def short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def table(samples: list[Sample]) -> str:
    """The samples of one benchmark beside each other, with their ratio to the first."""
    head = ["contender", "median", "p95", "p99", "min", "max", "n", "unit", "ratio to ours"]
    rows = [[*sample.row(), f"{sample.median / samples[0].median:.2f}"] for sample in samples if sample.values]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(lines)


def interleave(rounds: int, contenders: dict[str, Callable[[], None]]) -> None:
    """Run every contender once in each round, so that a drifting machine drifts for all of them."""
    for _ in range(rounds):
        for contend in contenders.values():
            contend()


def where() -> dict[str, str | int]:
    """The machine, the commit and the versions that a result belongs to."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), machine.processor()
    )
    versions = {name: metadata.version(name) for name in ("tarmac", "uvloop", "msgspec", "litestar", "aiohttp")}
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "system": machine.platform(),
        "python": machine.python_version(),
        "commit": commit.stdout.strip(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        **versions,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


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


def compare(name: str, samples: list[Sample]) -> str:
    """How the medians stand against those of the last result of the same benchmark."""
    earlier = sorted(RESULTS.glob(f"{name}-*.json"))
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
            lines.append(
                f"  {sample.benchmark} / {sample.contender}: {sample.median / before:.2f} × {earlier[-1].stem}"
            )
    return "\n".join(lines)
