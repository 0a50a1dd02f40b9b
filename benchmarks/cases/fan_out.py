"""Trivial children of one parent, in children a second: from the client's call of the parent to the children's sum."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable

from benchmarks import house, peers, size
from benchmarks.cases.run import _process
from benchmarks.sample import Sample, Samples, interleave

SIZES = (1000, 5000, 10_000)


def fan_out() -> list[Sample]:
    sample = Samples("fan-out")
    sizes = [size.of(number, number // 20) for number in SIZES]
    with house.running() as env, concurrent.futures.ProcessPoolExecutor(2) as executor:
        house.deploy(env, "trivial.py")
        contenders: dict[str, Callable[[], object]] = {}
        for number in sizes:
            contenders[f"reused {number}"] = _ours(env, "fan_again", number, _rate(sample, "ours, reused", number))
        contenders["fresh"] = _ours(env, "fan", sizes[0], _rate(sample, "ours, fresh", sizes[0]))
        for peer in peers.present():
            contenders[peer.name] = _peer(peer, sample)
        for number in sizes[:2]:
            contenders[f"pool {number}"] = _pool(executor, number, _rate(sample, "floor, ProcessPoolExecutor", number))
        contenders["forkserver"] = _forkserver(_rate(sample, "floor, multiprocessing forkserver", 100))
        interleave(size.rounds(3), contenders)
    return sample.all()


def _rate(sample: Samples, who: str, number: int) -> Sample:
    return sample(f"{who}: {number:,} children", "1/s")


def _sum(number: int) -> int:
    """Of 1 to `number`: what `add` makes of 0 to `number - 1`."""
    return number * (number + 1) // 2


def _ours(env: dict[str, str], task: str, number: int, rate: Sample) -> Callable[[], None]:
    def turn() -> None:
        (took,) = house.submit(env, f"bench-reused.{task}", 1, warm=2, expect=_sum(number), n=number)
        rate.values.append(number / (took / 1e3))

    return turn


def _peer(peer: peers.Peer, sample: Samples) -> Callable[[], None]:
    sizes = [size.of(number, number // 20) for number in peer.fan_out]
    rates = [_rate(sample, peer.name, number) for number in sizes]

    def turn() -> None:
        with peers.warm(peer) as turns:
            for number, rate in zip(sizes, rates, strict=True):
                (took,) = turns.ask("fan", number)
                rate.values.append(number / (took / 1e3))

    return turn


def _pool(executor: concurrent.futures.Executor, number: int, rate: Sample) -> Callable[[], None]:
    def turn() -> None:
        began = time.perf_counter()
        submitted = [executor.submit(abs, -x - 1) for x in range(number)]
        total = sum(future.result() for future in submitted)
        rate.values.append(number / (time.perf_counter() - began))
        assert total == _sum(number), total

    return turn


def _forkserver(rate: Sample) -> Callable[[], None]:
    context = multiprocessing.get_context("forkserver")

    def turn() -> None:
        began = time.perf_counter()
        for _ in range(100):
            _process(context)
        rate.values.append(100 / (time.perf_counter() - began))

    return turn
