"""A task that starts many: count the primes below a number, one child for each slice.

    flyte run examples/fan_out.py count_primes --below 200000 --slices 8

Every child is an action in a process of its own, so the slices use all cores. Run it again with `--local` to see the
same code in one process.
"""

import asyncio
import itertools
import pathlib

import flyte

env = flyte.TaskEnvironment(name="primes")


@env.task
async def primes_between(first: int, last: int) -> int:
    """How many primes there are from `first` up to, not including, `last`."""
    return sum(1 for n in range(max(first, 2), last) if all(n % d for d in range(2, int(n**0.5) + 1)))


@env.task
async def count_primes(below: int = 20_000, slices: int = 4) -> int:
    """How many primes there are below `below`."""
    edges = [below * i // slices for i in range(slices + 1)]
    with flyte.group("slices"):
        counts = await asyncio.gather(*(primes_between(a, b) for a, b in itertools.pairwise(edges)))
    return sum(counts)


if __name__ == "__main__":
    flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    run = flyte.run(count_primes, below=50_000, slices=8)
    print(run.url)
    run.wait()
    print(run.outputs()[0])
