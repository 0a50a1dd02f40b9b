"""What was promised beside what was measured last: the table in `README.md`, made by `python -m benchmarks table`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sample import RESULTS, short

README = Path(__file__).parent / "README.md"
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"

Medians = dict[tuple[str, str], float]
"""(benchmark, contender) → the median of its last result."""


@dataclass(frozen=True, slots=True)
class Target:
    what: str
    benchmark: str
    contender: str
    limit: float
    unit: str
    at_least: bool = False
    floor: str | None = None
    """The contender of the same run that the ratio is taken to."""
    ratio: float | None = None
    """What the ratio, ours to the floor, may be at most (or must be at least, with `at_least`)."""


TARGETS = (
    Target("run, reused worker", "run", "ours, reused process", 1.5, "ms"),
    Target(
        "run, a fresh process", "run", "ours, a fresh process each", 5, "ms", floor="floor: python -c pass", ratio=0.4
    ),
    Target(
        "fan-out, reused",
        "fan-out",
        "ours, reused, 5,000 children",
        5000,
        "1/s",
        True,
        "floor: ProcessPoolExecutor, 5,000",
        1.0,
    ),
    Target(
        "fan-out, a fresh process each",
        "fan-out",
        "ours, fresh processes, 1,000 children",
        350,
        "1/s",
        True,
        "floor: forkserver, 100",
        3.0,
    ),
    Target("webhook that waits, 16 connections, reused", "webhook", "reused, 16 at a time: rate", 1200, "1/s", True),
    Target(
        "gateway before FastAPI, 16 connections",
        "gateway",
        "ours: GET, 16 connections",
        0,
        "1/s",
        True,
        "nginx: GET, 16 connections",
        1.0,
    ),
    Target(
        "wake: FastAPI asleep → first 200",
        "wake",
        "ours: sleeping FastAPI app → first 200",
        80,
        "ms",
        floor="cold uvicorn → first 200",
    ),
    Target("phase change → `run.stream()`", "stream", "phase → run.stream(), one subscriber", 5, "ms"),
    Target("`flyte up` until ready", "start", "flyte up until ready", 1000, "ms", floor="python -c pass"),
    Target("idle platform, PSS", "start", "idle platform, PSS of all processes", 150, "MB"),
    Target(
        "`python program.py`, stopped → first result",
        "start",
        "program on a stopped platform → first result",
        2500,
        "ms",
        floor="python -c pass",
    ),
    Target("`import flyte`, over `pass`", "start", "import flyte, over `pass`", 60, "ms", floor="python -c pass"),
    Target("deploy, unchanged", "deploy", "unchanged", 300, "ms"),
    Target("deploy, one file, until it answers", "deploy", "one changed file until the new version answers", 800, "ms"),
    Target(
        "app → app, the document's own code, 1 at a time",
        "app-to-app",
        "as the document writes it, 1 at a time",
        165,
        "1/s",
        True,
    ),
)


def latest() -> tuple[Medians, dict[str, str]]:
    """The medians of the last result of every benchmark, and the file each one came from."""
    medians: Medians = {}
    files: dict[str, str] = {}
    for path in sorted(RESULTS.glob("*-????????-??????.json")):
        for sample in json.loads(path.read_text())["samples"]:
            if sample["values"]:
                medians[sample["benchmark"], sample["contender"]] = statistics.median(sample["values"])
                files[sample["benchmark"]] = path.name
    return medians, files


def rows(medians: Medians) -> list[str]:
    """The table's lines; a target whose benchmark has no result says so."""
    lines = ["| what | ours | target | floor or peer, same run | ours ÷ it | |", "|---|---|---|---|---|---|"]
    for target in TARGETS:
        ours = medians.get((target.benchmark, target.contender))
        if ours is None:
            lines.append(f"| {target.what} | – | {_wanted(target)} | | | not measured |")
            continue
        floor = medians.get((target.benchmark, target.floor)) if target.floor else None
        ratio = ours / floor if floor else None
        beside = f"{short(floor)} {target.unit} ({_name(target.floor)})" if floor and target.floor else ""
        shown = f"{ratio:.2f}" if ratio else ""
        verdict = "met" if _met(target, ours, ratio) else "**missed**"
        lines.append(
            f"| {target.what} | {short(ours)} {target.unit} | {_wanted(target)} | {beside} | {shown} | {verdict} |"
        )
    return lines


def _name(contender: str) -> str:
    return contender.removeprefix("floor: ").partition(":")[0]


def _wanted(target: Target) -> str:
    sign = "≥" if target.at_least else "≤"
    parts = [f"{sign} {target.limit:g} {target.unit}"] if target.limit else []
    parts += [f"{sign} {target.ratio:g} × {_name(target.floor or '')}"] if target.ratio else []
    return "; ".join(parts)


def _met(target: Target, ours: float, ratio: float | None) -> bool:
    within: Callable[[float, float], bool] = float.__ge__ if target.at_least else float.__le__
    in_limit = within(float(ours), float(target.limit))
    return in_limit and (target.ratio is None or (ratio is not None and within(float(ratio), float(target.ratio))))


def write() -> str:
    """Put the table into README.md between its two marks; returns it."""
    medians, files = latest()
    table = "\n".join([*rows(medians), "", f"From {', '.join(f'`{file}`' for file in sorted(files.values()))}."])
    text = README.read_text()
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    README.write_text(f"{head}{_BEGIN}\n\n{table}\n\n{_END}{tail}")
    return table
