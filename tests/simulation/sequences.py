"""Sequences of operations: drawn, driven by what they cover, tried, and shrunk when they fail."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.driver import KINDS, Differs, Driver, Operation, Pair, Tie
from tests.simulation.loop import Stuck
from tests.simulation.world import WallClock, World, digest, simulate

LENGTH = 120
"""Operations in a sequence."""

ENOUGH = 25
"""Sequences in a row that cover nothing new, after which it is enough."""


@dataclass
class Outcome:
    """What became of a sequence."""

    problem: str = ""
    at: int = 0
    """How many operations it took."""
    is_tie: bool = False
    operations: int = 0
    pairs: set[Pair] = field(default_factory=set)
    commits: int = 0
    crashes: int = 0
    steps: int = 0
    seconds: float = 0
    """Of the simulated time."""
    story: list[tuple[float, str]] = field(default_factory=list)
    digest: str = ""
    """Of all events: the same operations give the same."""


def draw(seed: int, length: int = LENGTH) -> list[Operation]:
    """Of this seed always the same. Each has a mix of its own: kinds that are rare in most are frequent in some."""
    chance = random.Random(f"operations {seed}")
    weights = [often * chance.choice([0.2, 1, 1, 4]) for often in KINDS.values()]
    kinds = chance.choices(list(KINDS), weights, k=length)
    return [Operation(kind, *(chance.randrange(1000) for _ in range(3))) for kind in kinds]


def attempt(operations: Sequence[Operation], *, story: bool = False, database: Any = None) -> Outcome:
    """Give them to both, one after the other, until they differ."""
    outcome = Outcome()

    async def life(world: World, wall: WallClock) -> None:
        world.story = outcome.story if story else None
        driver = Driver(world, wall)
        try:
            await driver.start()
            for at, operation in enumerate(operations):
                outcome.at = at + 1
                await asyncio.wait_for(driver.one(operation), 100_000)
        except Tie:
            outcome.is_tie = True
        except (Differs, AssertionError, TimeoutError) as error:
            outcome.problem = f"{type(error).__name__}: {error}"
        finally:
            outcome.operations, outcome.pairs = driver.done, driver.pairs
            outcome.commits, outcome.crashes = world.commits, world.crashes
            outcome.steps, outcome.seconds = world.loop.steps, world.loop.now
            outcome.digest = digest(world)

    try:
        simulate("calm", life, calm=True, database=database)
    except Stuck as stuck:
        outcome.problem = f"Stuck: {stuck}"
    return outcome


@dataclass
class Tally:
    """What many sequences came to."""

    pairs: Counter[Pair] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    quiet: int = 0
    """Sequences in a row that covered nothing new."""

    def add(self, outcome: Outcome) -> None:
        self.quiet = self.quiet + 1 if outcome.pairs <= self.pairs.keys() else 0
        self.pairs.update(outcome.pairs)
        self.counts.update(sequences=1, ties=outcome.is_tie, operations=outcome.operations)
        self.counts.update(commits=outcome.commits, crashes=outcome.crashes, steps=outcome.steps)
        self.counts.update(simulated_seconds=int(outcome.seconds))


def shrink(operations: Sequence[Operation], budget: int = 150) -> list[Operation]:
    """A part of the failing sequence that fails too, from which nothing more can be left out; or nearly."""
    best = list(operations)
    size = len(best) // 2
    while size >= 1 and budget > 0:
        at = 0
        while at < len(best) and budget > 0:
            shorter = best[:at] + best[at + size :]
            budget -= 1
            outcome = attempt(shorter)
            if outcome.problem:
                best = shorter[: outcome.at]
            else:
                at += size
        size //= 2
    return best


def as_test(operations: Sequence[Operation], problem: str) -> str:
    """The sequence as a test, to be put where the others are."""
    lines = ",\n".join(f"        Operation{tuple(operation)!r}" for operation in operations)
    return (
        f"def test_a_sequence_that_failed() -> None:\n"
        f"    # {problem[:300]}\n"
        f"    operations = [\n{lines},\n    ]\n"
        f'    assert attempt(operations).problem == ""\n'
    )
