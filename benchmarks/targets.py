"""What was promised beside what was measured last, and ours beside each of the others: the tables in `README.md`, made
by `python -m benchmarks table`. The figures of a row are all of one run; what was not measured says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sample import Sample, quantile, results, short, who_and_what

README = Path(__file__).parent / "README.md"
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"

Measured = dict[str, dict[str, Sample]]
"""Benchmark → contender → the values of the last result."""

COMPARED = ("run", "fan-out", "webhook", "gateway")
"""The benchmarks in which others take part."""

_OURS, _FLOOR, _NOTHING = "ours", "floor, ", "no proxy"


@dataclass(frozen=True, slots=True)
class Target:
    what: str
    benchmark: str
    contender: str
    limit: float | None
    unit: str
    at_least: bool = False
    part: float = 0.5
    """Which quantile of the values counts."""
    minus: str | None = None
    """The contender of the same run whose figure is taken off."""
    floor: str | None = None
    """The contender of the same run that the ratio is taken to."""
    ratio: float | None = None
    """What the ratio, ours to the floor, may be at most (or must be at least, with `at_least`)."""


def _most(what: str, benchmark: str, contender: str, limit: float | None, unit: str = "ms", **more: Any) -> Target:
    return Target(what, benchmark, contender, limit, unit, **more)


def _least(what: str, benchmark: str, contender: str, limit: float | None, unit: str = "1/s", **more: Any) -> Target:
    return Target(what, benchmark, contender, limit, unit, at_least=True, **more)


_PASS = "floor, python -c pass: task → result"
_POOL = "floor, ProcessPoolExecutor: 5,000 children"
_FORKS = "floor, multiprocessing forkserver: 100 children"
_HITS = "10,000 children"
_FASTAPI, _BARE = "GET, 16 connections", "bare ASGI, GET, 16 connections"
_ALONE = "GET, 1 connection, latency"
_CALLS = "app → app as the document writes it, 1 at a time"
_BEGUN = "start one → result"

TARGETS = (
    _most("run, reused worker, p50", "run", "ours, reused: task → result", 1.5),
    _most("run, a fresh process, p50", "run", "ours, fresh: task → result", 5, floor=_PASS, ratio=0.4),
    _least("fan-out, reused", "fan-out", "ours, reused: 5,000 children", 5000, floor=_POOL, ratio=1),
    _least("fan-out, a fresh process each", "fan-out", "ours, fresh: 1,000 children", 350, floor=_FORKS, ratio=3),
    _most("a result from the cache, p50", "cache", "ours: a hit", None, floor="ours, reused: task → result", ratio=1.2),
    _least(
        "10,000 hits in one fan-out", "cache", f"ours, hits: {_HITS}", None, floor=f"ours, reused: {_HITS}", ratio=1
    ),
    _least("webhook that waits, 16 connections, reused", "webhook", "ours, reused: webhook, 16 at a time", 1200),
    _most("the same, p99", "webhook", "ours, reused: webhook, 16 at a time, latency", 30, part=0.99),
    _least(
        "gateway before FastAPI, 16 connections, keys and log on",
        "gateway",
        f"ours: {_FASTAPI}",
        None,
        floor=f"nginx: {_FASTAPI}",
        ratio=1,
    ),
    _least(
        "gateway before bare ASGI, 16 connections",
        "gateway",
        f"ours: {_BARE}",
        None,
        floor=f"nginx: {_BARE}",
        ratio=0.8,
    ),
    _most("gateway, added p50, 1 connection", "gateway", f"ours: {_ALONE}", 0.15, minus=f"no proxy: {_ALONE}"),
    _most(
        "wake: FastAPI asleep → first 200, p50",
        "wake",
        "ours: FastAPI → first 200",
        80,
        floor="cold uvicorn: FastAPI → first 200",
    ),
    _most(
        "wake: Streamlit asleep → first page",
        "wake",
        "ours: Streamlit → first page",
        1000,
        floor="cold streamlit: Streamlit → first page",
    ),
    _most("phase change → `run.stream()`, p50", "stream", "phase → run.stream(), one subscriber", 5),
    _most("the same, the last of 100 subscribers", "stream", "phase → run.stream(), the last of 100 subscribers", 50),
    _most("`flyte up` until ready", "start", "flyte up until ready", 1000, floor="python -c pass"),
    _most("idle platform, PSS", "start", "idle platform, PSS of all processes", 150, "MB"),
    _most(
        "`python program.py`, stopped → first result",
        "start",
        "program on a stopped platform → first result",
        2500,
        floor="python -c pass",
    ),
    _most("`import flyte`, over `pass`", "start", "import flyte, over `pass`", 60, floor="python -c pass"),
    _most("deploy, unchanged", "deploy", "unchanged", 300),
    _most("deploy, one file, until it answers", "deploy", "one changed file until the new version answers", 800),
    _least(
        "app → app, the document's own code",
        "app-to-app",
        f"ours: {_CALLS}",
        None,
        floor=f"as it stands: {_CALLS}",
        ratio=5,
    ),
    _most(
        "100,000 actions in one run: its page, meanwhile, p95",
        "scale-actions",
        "the run's page, while children are added",
        200,
        part=0.95,
    ),
    _most("the same, afterwards", "scale-actions", "the run's page, when all have ended", 200, part=0.95),
    _most("1,000,000 runs: list, first page", "scale-runs", "ours, many runs: list, first page", 50),
    _most("1,000,000 runs: list, the slowest of ten filters", "scale-runs", "ours, many runs: list, *", 50),
    _most(
        "1,000,000 runs: start one",
        "scale-runs",
        f"ours, many runs: {_BEGUN}",
        None,
        floor=f"empty platform: {_BEGUN}",
        ratio=1.1,
    ),
    _most(
        "idle WebSocket, HAProxy's memory", "scale-sockets", "ours: HAProxy's memory for an idle WebSocket", 8, "KiB"
    ),
)


def latest() -> tuple[Measured, list[str]]:
    """The last result of every benchmark, and the files they came from."""
    files = {path.stem[:-16]: path for path in results()}
    measured: Measured = {}
    for name, path in files.items():
        samples = [Sample(**each) for each in json.loads(path.read_text())["samples"]]
        measured[name] = {sample.contender: sample for sample in samples if sample.values}
    return measured, sorted(path.name for path in files.values())


# ----------------------------------------------------------------------------------------------- beside the targets


def rows(measured: Measured) -> Iterator[str]:
    """The lines of the targets' table."""
    yield "| what | ours | target | floor, same run | ours ÷ it | best of the others, same run | |"
    yield "|---|---|---|---|---|---|---|"
    for target in TARGETS:
        there = measured.get(target.benchmark, {})
        ours = _ours(target, there)
        if ours is None:
            yield f"| {target.what} | – | {_wanted(target)} | | | | not measured |"
            continue
        floor = there[target.floor].median if target.floor in there else None
        ratio = ours / floor if floor else None
        beside = f"{short(floor)} {target.unit} ({_name(target.floor)})" if floor and target.floor else ""
        yield (
            f"| {target.what} | {short(ours)} {target.unit} | {_wanted(target)} | {beside} "
            f"| {f'{ratio:.2f}' if ratio else ''} | {_best(target, there)} | {_verdict(target, ours, ratio)} |"
        )


def _ours(target: Target, there: dict[str, Sample]) -> float | None:
    """Our figure, None where it was not measured. A `*` at the end of the contender: the worst of all that match."""
    if target.contender.endswith("*"):
        found = [sample for name, sample in there.items() if name.startswith(target.contender[:-1])]
        return max((quantile(sample.values, target.part) for sample in found), default=None)
    if target.contender not in there or (target.minus and target.minus not in there):
        return None
    figure = (
        quantile(there[target.contender].values, target.part) if target.part != 0.5 else there[target.contender].median
    )
    return figure - there[target.minus].median if target.minus else figure


def _best(target: Target, there: dict[str, Sample]) -> str:
    """The best figure of the other systems that did the same work."""
    if target.benchmark not in COMPARED:
        return ""
    what = who_and_what(target.contender)[1]
    others = {
        who: quantile(sample.values, target.part)
        for name, sample in there.items()
        for who, did in [who_and_what(name)]
        if did == what and not who.startswith((_OURS, _FLOOR, _NOTHING))
    }
    if target.minus or not others:
        return ""
    best = (max if target.at_least else min)(others, key=lambda who: others[who])
    return f"{short(others[best])} {target.unit} ({best})"


def _name(contender: str | None) -> str:
    return who_and_what((contender or "").removeprefix(_FLOOR))[0]


def _wanted(target: Target) -> str:
    sign = "≥" if target.at_least else "≤"
    parts = [f"{sign} {target.limit:g} {target.unit}"] if target.limit is not None else []
    parts += [f"{sign} {target.ratio:g} × {_name(target.floor)}"] if target.ratio else []
    return "; ".join(parts)


def _verdict(target: Target, ours: float, ratio: float | None) -> str:
    within: Callable[[float, float], bool] = float.__ge__ if target.at_least else float.__le__
    if target.ratio is not None and ratio is None:
        return f"not compared: {_name(target.floor)} did not take part"
    in_limit = target.limit is None or within(float(ours), float(target.limit))
    in_ratio = target.ratio is None or within(float(ratio or 0), float(target.ratio))
    return "met" if in_limit and in_ratio else "**missed**"


# ------------------------------------------------------------------------------------------------ beside the others


def beside_others(measured: Measured) -> Iterator[str]:
    """For each benchmark in which others take part: a line for each contender, a column for what each did."""
    for benchmark in COMPARED:
        groups = _groups(list(measured.get(benchmark, {}).values()))
        if not groups:
            yield f"\n**{benchmark}**: not measured."
            continue
        whos = list(dict.fromkeys(who for group in groups.values() for who in group))
        if len(groups) > 6:  # many kinds of work, few contenders: a line for each kind
            yield from _transposed(benchmark, groups, whos)
            continue
        yield f"\n| {benchmark} | " + " | ".join(groups) + " |"
        yield "|---" * (len(groups) + 1) + "|"
        for who in whos:
            yield f"| {who} | " + " | ".join(_cell(group, who) for group in groups.values()) + " |"


def _transposed(benchmark: str, groups: dict[str, dict[str, Sample]], whos: list[str]) -> Iterator[str]:
    yield f"\n| {benchmark} | " + " | ".join(whos) + " |"
    yield "|---" * (len(whos) + 1) + "|"
    for what, group in groups.items():
        yield f"| {what} | " + " | ".join(_cell(group, who) for who in whos) + " |"


def _groups(samples: list[Sample]) -> dict[str, dict[str, Sample]]:
    """What was done → who did it → its sample."""
    groups: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        who, what = who_and_what(sample.contender)
        if what:
            groups.setdefault(what, {})[who] = sample
    return groups


def _cell(group: dict[str, Sample], who: str) -> str:
    """Durations with their p99; the best of all in bold."""
    if who not in group:
        return "–"
    sample = group[who]
    shown = f"{short(sample.median)} {sample.unit}"
    if sample.better == "less":
        shown += f" (p99 {short(sample.percentile(0.99))})"
    medians = [other.median for name, other in group.items() if not name.startswith((_FLOOR, _NOTHING))]
    is_best = medians and sample.median == (max if sample.better == "more" else min)(medians)
    return f"**{shown}**" if is_best and len(medians) > 1 else shown


def write() -> str:
    """Put the tables into README.md between its two marks; returns them."""
    measured, files = latest()
    lines = [*rows(measured), "", "### Ours beside each of the others", *beside_others(measured)]
    lines += ["", f"From {', '.join(f'`{file}`' for file in files)}."]
    table = "\n".join(lines)
    text = README.read_text()
    head, _, rest = text.partition(_BEGIN)
    _, mark, tail = rest.partition(_END)
    if not mark:
        raise RuntimeError(f"{README} has not both marks, {_BEGIN} and {_END}")
    README.write_text(f"{head}{_BEGIN}\n\n{table}\n\n{_END}{tail}")
    return table
