"""A result from the cache beside a run that computes next to nothing; a fan-out of hits beside one of calls."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import house, size
from benchmarks.sample import Sample, Samples, interleave

HITS = 10_000


def cache() -> list[Sample]:
    sample = Samples("cache")
    count, number = size.of(300, 20), size.of(HITS, HITS // 20)
    hit, run = sample("ours: a hit"), sample("ours, reused: task → result")
    rates = {name: sample(f"{name}: {number:,} children", "1/s") for name in ("ours, hits", "ours, reused")}
    with house.running() as env:
        house.deploy(env, "trivial.py")
        _fan_out(env, "fan_cached", number)  # what is found afterwards
        contenders: dict[str, Callable[[], object]] = {
            "hit": lambda: hit.values.extend(house.submit(env, "bench-reused.add_cached", count, expect=2)),
            "run": lambda: run.values.extend(house.submit(env, "bench-reused.add_again", count, expect=2)),
            "hits": lambda: rates["ours, hits"].values.append(_fan_out(env, "fan_cached", number)),
            "calls": lambda: rates["ours, reused"].values.append(_fan_out(env, "fan_again", number)),
        }
        interleave(size.rounds(3), contenders)
    return sample.all()


def _fan_out(env: dict[str, str], task: str, number: int) -> float:
    """Children a second, of a parent that calls the task so many times."""
    (took,) = house.submit(env, f"bench-reused.{task}", 1, warm=1, expect=number * (number + 1) // 2, n=number)
    return number / (took / 1e3)
