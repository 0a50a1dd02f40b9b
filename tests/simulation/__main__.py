"""`python -m tests.simulation`: see scripts/simulate."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.simulation.planted import Fault, faults, plant

CHUNK = 5
"""Seeds that a process takes at once."""

FAULT_SEEDS = 40
"""Seeds of each kind within which a planted fault has to be found."""


class Found(NamedTuple):
    """What some seeds came to."""

    counts: Counter[str]
    pairs: frozenset[Any]
    problems: list[str]
    digest: str = ""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Live the control plane's life in a simulated world, and compare it with docs/specification.py.",
    )
    parser.add_argument("seed", type=int, nargs="?", help="live this one, and print its story")
    parser.add_argument("--operations", action="store_true", help="of the operations for both, not of many clients")
    parser.add_argument("--seeds", type=int, help="so many seeds of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--database-url", help="the operations of SEED, on this empty PostgreSQL database")
    parser.add_argument("--length", type=int, default=120, help="operations of a sequence (default: 120)")
    parser.add_argument("--seconds", type=float, help="end after so many seconds, whatever is left")
    parser.add_argument("--until-covered", action="store_true", help="end when operations cover nothing new any more")
    parser.add_argument("--twice", action="store_true", help="live each seed twice, and compare all events")
    parser.add_argument("--planted", nargs="*", metavar="WORDS", help="the faults whose names have these words; all")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 2), help="processes (default: 2 at most)")
    parser.add_argument("--json", action="store_true", help="print figures alone")
    return parser.parse_args()


# ----------------------------------------------------------------------------------------- in a process of its own


def _operations(seed: int, shrinks: bool = True) -> Found:
    from tests.simulation import sequences

    operations = sequences.draw(seed)
    outcome = sequences.attempt(operations)
    tally = sequences.Tally()
    tally.add(outcome)
    problems = []
    if outcome.problem:
        failing = operations[: outcome.at]
        failing = sequences.shrink(failing) if shrinks else failing
        problem = sequences.attempt(failing).problem
        problems = [f"operations of seed {seed}: {outcome.problem}\n{sequences.as_test(failing, problem)}"]
    return Found(tally.counts, frozenset(tally.pairs), problems, outcome.digest)


def _clients(seed: int) -> Found:
    from tests.simulation.chaos import chaos

    result = chaos(seed)
    problems = [f"clients of seed {seed}: {wrong[:2000]}" for wrong in result.wrong]
    return Found(
        Counter({f"clients: {name}": n for name, n in result.counts.items()}), frozenset(), problems, result.digest
    )


def _both(seed: int, twice: bool) -> Found:
    logging.disable(logging.CRITICAL)
    founds = []
    for kind in (_operations, _clients):
        found = kind(seed)
        if twice and kind(seed).digest != found.digest:
            found.problems.append(f"seed {seed} lived twice is not the same")
        founds.append(found)
    one, other = founds
    return Found(one.counts + other.counts, one.pairs, one.problems + other.problems)


def _chunk(work: tuple[int, int, bool]) -> list[Found]:
    first, count, twice = work
    return [_both(seed, twice) for seed in range(first, first + count)]


def _try_fault(fault: Fault) -> tuple[str, int | None, str]:
    """Name, the seed that found it, and how; None where none did."""
    logging.disable(logging.CRITICAL)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - what a broken control plane complains of is nobody's business
    plant(fault)
    import tests.simulation.chaos  # noqa: F401 - what cannot be imported is not found, it is a mistake in the list

    for seed in dict.fromkeys([fault.seed, *range(FAULT_SEEDS)]):
        for kind in (lambda seed: _operations(seed, shrinks=False), _clients):
            try:
                problems = kind(seed).problems
            except Exception as error:  # noqa: BLE001 - a control plane that breaks off is found, too
                problems = [repr(error)]
            if problems:
                return fault.name, seed, problems[0].splitlines()[0]
    return fault.name, None, ""


# ------------------------------------------------------------------------------------------------- what is asked for


def tell(seed: int, of_operations: bool, length: int, database_url: str | None) -> int:
    """The story of one seed."""
    from tests.simulation import sequences
    from tests.simulation.chaos import chaos

    logging.disable(logging.CRITICAL)
    if of_operations or database_url:
        database = _postgres(database_url) if database_url else None
        outcome = sequences.attempt(sequences.draw(seed, length), story=True, database=database)
        story, wrong = outcome.story, [outcome.problem] if outcome.problem else []
    else:
        result = chaos(seed, story=True)
        story, wrong = result.story, result.wrong
    for at, what in story:
        print(f"{at:12.6f}  {what}")
    print(*wrong or ["nothing is wrong"], sep="\n")
    return 1 if wrong else 0


def _postgres(url: str) -> Any:
    from tarmac.store.postgres import PostgresDatabase

    return PostgresDatabase(url)


def live(given: argparse.Namespace) -> int:
    """Many seeds; figures."""
    import tests.simulation.chaos  # once, and not in each process
    import tests.simulation.sequences  # noqa: F401

    began, total, pairs, problems, quiet = time.monotonic(), Counter[str](), set[Any](), list[str](), 0
    work = ((first, CHUNK, given.twice) for first in range(given.first, given.first + (given.seeds or 10**9), CHUNK))
    for found in _in_processes(_chunk, work, given.jobs):
        for each in found:
            quiet = quiet + 1 if each.pairs <= pairs else 0
            total, pairs, problems = total + each.counts, pairs | each.pairs, problems + each.problems
        is_late = given.seconds is not None and time.monotonic() - began > given.seconds
        if is_late or problems or (given.until_covered and quiet >= 25):
            break
    figures: dict[str, Any] = {
        **dict(sorted(total.items())),
        "pairs of operation and state": len(pairs),
        "nothing new for": quiet,
    }
    figures |= {"seconds": round(time.monotonic() - began, 1), "problems": problems[:10]}
    print(json.dumps(figures, indent=2, ensure_ascii=False) if given.json else _readable(figures))
    return 1 if problems else 0


def find_planted(words: list[str], jobs: int, as_json: bool) -> int:
    """Every fault, in a process of its own each."""
    chosen = [fault for fault in faults() if not words or any(word in fault.name for word in words)]
    results = []
    for name, seed, how in _in_processes(_try_fault, iter(chosen), jobs):
        results.append((name, seed, how))
        if not as_json:
            found = "NOT FOUND" if seed is None else f"found in seed {seed}"
            print(f"{found:16} {name}: {how[:160]}", flush=True)
    missed = [name for name, seed, _ in results if seed is None]
    if as_json:
        print(json.dumps({"faults": len(results), "missed": missed}, ensure_ascii=False))
    else:
        print(f"{len(results)} faults, {len(missed)} not found")
    return 1 if missed or not results else 0


def _in_processes(function: Callable[[Any], Any], work: Iterator[Any], jobs: int) -> Iterator[Any]:
    """Each piece in a new process, since what it imports and patches is its own; results in the order of the work."""
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        waiting = [pool.apply_async(function, (each,)) for each in itertools.islice(work, jobs * 2)]
        while waiting:
            yield waiting.pop(0).get()
            waiting += [pool.apply_async(function, (each,)) for each in itertools.islice(work, 1)]


def _readable(figures: dict[str, Any]) -> str:
    lines = [f"{value:>12,}  {name}" for name, value in figures.items() if isinstance(value, int | float)]
    return "\n".join([*lines, *figures["problems"]])


def main() -> int:
    given = arguments()
    if given.planted is not None:
        return find_planted(given.planted, given.jobs, given.json)
    if given.seed is not None:
        return tell(given.seed, given.operations, given.length, given.database_url)
    return live(given)


if __name__ == "__main__":
    sys.exit(main())
