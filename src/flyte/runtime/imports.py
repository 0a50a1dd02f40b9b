"""What the import of the user's code drew by chance and looked at, which its copies do not do again.

A unit is a copy of the process that imported. `RNG = numpy.random.default_rng()` at the top of a module would give all
of them the same numbers, where in processes of their own each has others; and `random.seed(7)` there would be lost,
since Python seeds its own generator anew in each copy. So it is recorded, while the import runs, which generators took
their seed from the system: those are seeded anew in each unit, and all others are as the import left them.

`MODE = os.environ.get("MODE")` at the top of a module is what it was when that was imported. So it is recorded which
variables the import looked at: a run that sets one of them needs a process that imports anew.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import secrets
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

_SMALLEST_DRAWN = 2**32
"""Of a seed below it PyTorch's generator was told; what it draws by itself has 53 bits."""


class Imports:
    """What the import in this process did, from `watched` on; `seed_anew` is called in each copy."""

    def __init__(self) -> None:
        self._watching = False
        self._drawn: set[int] = set()
        """What numpy's generators got as their entropy."""
        self._unseeded: weakref.WeakSet[random.Random] = weakref.WeakSet()
        self._generators: list[Any] = []
        """numpy's bit generators that drew their seed."""
        self._variables: set[str] = set()
        self._all_variables = False
        self._python: Any = None
        """The state of Python's own generator, where the import has seeded it."""

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """While the import runs. numpy keeps the function that it is given here, which is of no effect afterwards."""
        own: random.Random = random._inst
        real_bits, real_seed, real_own_seed = secrets.randbits, random.Random.seed, random.seed

        def randbits(k: int) -> int:
            value = real_bits(k)
            if self._watching:
                self._drawn.add(value)
            return value

        def seed(generator: random.Random, a: Any = None, version: int = 2) -> None:
            (self._unseeded.add if a is None else self._unseeded.discard)(generator)
            real_seed(generator, a, version)

        secrets.randbits, random.Random.seed = randbits, seed  # type: ignore[method-assign, assignment]
        random.seed = types.MethodType(seed, own)  # as the real one is, so that classes can have it as an attribute
        self._watching = True
        self._unseeded.add(own)
        try:
            with self._environment_watched():
                yield
        finally:
            self._watching = False
            random.Random.seed, random.seed = real_seed, real_own_seed  # type: ignore[method-assign]
            if own not in self._unseeded:
                self._python = random.getstate()
            self._find_generators()

    @contextlib.contextmanager
    def _environment_watched(self) -> Iterator[None]:
        kind: Any = type(os.environ)
        real_get, real_iterate = kind.__getitem__, kind.__iter__

        def get(environ: Any, name: str) -> str:
            if environ is os.environ and isinstance(name, str):
                self._variables.add(name)
            value: str = real_get(environ, name)
            return value

        def iterate(environ: Any) -> Iterator[str]:
            self._all_variables = True
            names: Iterator[str] = real_iterate(environ)
            return names

        kind.__getitem__, kind.__iter__ = get, iterate
        try:
            yield
        finally:
            kind.__getitem__, kind.__iter__ = real_get, real_iterate

    def variables(self) -> list[str] | None:
        """The environment variables that the import looked at; None where that was all of them."""
        return None if self._all_variables else sorted(self._variables)

    def _find_generators(self) -> None:
        numpy = sys.modules.get("numpy.random")
        if numpy is not None and self._drawn:
            found = [each for each in gc.get_objects() if issubclass(type(each), numpy.BitGenerator)]
            self._generators = [each for each in found if _entropy(each) in self._drawn]

    def seed_anew(self) -> None:
        """In a copy of the process: what drew its seed draws another."""
        if self._python is not None:
            random.setstate(self._python)
        for generator in self._unseeded:
            generator.seed()
        for bits in self._generators:
            bits.state = type(bits)().state
        torch = sys.modules.get("torch")
        with contextlib.suppress(AttributeError):  # half imported
            if torch is not None and torch.initial_seed() >= _SMALLEST_DRAWN:
                torch.seed()


def _entropy(bits: Any) -> int | None:
    """What numpy's generator was seeded with; None for one whose state was set otherwise."""
    sequence = getattr(bits, "seed_seq", None) or getattr(bits, "_seed_seq", None)
    entropy = getattr(sequence, "entropy", None)
    return entropy if isinstance(entropy, int) else None
