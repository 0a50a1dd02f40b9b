"""The kinds of runs, how often each is drawn, and what must come of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Check = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Order:
    """A run to be started."""

    kind: str
    task: str
    inputs: dict[str, Any]
    fits: Check
    """Whether a run that is over came out as it must."""


def draw(seed: int, number: int) -> Order:
    """The run with this number: the same for a seed, whatever else was drawn."""
    chance = random.Random(f"{seed}-{number}")
    kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    task, inputs, fits = KINDS[kind][1](chance, f"k{number}")
    return Order(kind, f"{'slow' if task == 'imported' else 'hurt'}.{task}", inputs, fits)


_Drawn = tuple[str, dict[str, Any], Check]
_Draw = Callable[[random.Random, str], _Drawn]


def _gives(*values: Any) -> Check:
    return lambda run: run["phase"] == "succeeded" and run["outputs"] == list(values)


def _ends(phase: str, code: str = "") -> Check:
    return lambda run: run["phase"] == phase and (not code or run["error"]["code"] == code)


def _limited(*values: Any) -> Check:
    """Whether a run that timed out had used up its time is seen in what it noted (`evidence.time_limits`)."""
    return lambda run: run["phase"] == "timed_out" or _gives(*values)(run)


def _seconds(chance: random.Random, most: float = 0.6) -> float:
    return round(chance.random() * most, 3)


def _fan(chance: random.Random, key: str) -> _Drawn:
    width = chance.randrange(1, 9)
    return "fan", {"width": width, "seconds": _seconds(chance)}, _gives(sum(range(width)))


def _nest(chance: random.Random, key: str) -> _Drawn:
    depth = chance.randrange(1, 6)
    return "nest", {"key": key, "depth": depth}, _gives(depth + 1)


def _retry(chance: random.Random, key: str) -> _Drawn:
    return chance.choice(("flaky_once", "flaky_twice")), {"key": key}, _gives(1)


def _tree(chance: random.Random, key: str) -> _Drawn:
    width = chance.randrange(1, 5)
    return "tree", {"key": key, "width": width, "seconds": _seconds(chance)}, _gives(width + 4)


def _abort(chance: random.Random, key: str) -> _Drawn:
    if chance.random() < 0.4:
        return "deserter", _asks(key), _ends("aborted")
    return "staged", {}, _ends("aborted")


def _cached(chance: random.Random, key: str) -> _Drawn:
    width = chance.randrange(1, 5)
    asked = _asks(key)
    return "crowded", {"width": width, **asked}, _gives([asked["key"]] * width)


def _asks(key: str) -> dict[str, Any]:
    """The same inputs for several runs that come one after the other."""
    common = f"c{int(key[1:]) // 25}"
    return {"key": common, "seconds": _seconds(random.Random(common), 1.5)}


def _blocked(chance: random.Random, key: str) -> _Drawn:
    return "blocked", {"seconds": _seconds(chance)}, _gives("done")


def _fails(chance: random.Random, key: str) -> _Drawn:
    return "hopeless", {}, _ends("failed", "NonRecoverableError")


def _quick(chance: random.Random, key: str) -> _Drawn:
    return "keyed", {"key": key, "seconds": 0}, _gives(1)


def _comeback(chance: random.Random, key: str) -> _Drawn:
    width = chance.randrange(1, 5)
    return "comeback", {"width": width, "seconds": _seconds(chance)}, _gives(sum(range(width)))


def _traces(chance: random.Random, key: str) -> _Drawn:
    dies = {"dies": chance.random() < 0.5, "shared_dies": chance.random() < 0.15}
    return "siblings", {"key": key, **dies, "seconds": _seconds(chance)}, _gives(4 * 7 + 3)


def _shared(chance: random.Random, key: str) -> _Drawn:
    width = chance.randrange(1, 7)
    return "crowd", {"key": key, "width": width, "seconds": _seconds(chance)}, _gives(width + 3)


def _prints(chance: random.Random, key: str) -> _Drawn:
    lines = chance.randrange(1, 60)
    return "chorus", {"key": key, "lines": lines, "pause": 0.01}, _gives(4 * lines)


def _cancels(chance: random.Random, key: str) -> _Drawn:
    at_once = chance.random() < 0.4  # while the call is on its way
    return "canceller", {"key": key, "seconds": 0 if at_once else _seconds(chance, 1.5)}, _gives(1)


def _sheds(chance: random.Random, key: str) -> _Drawn:
    width = chance.randrange(1, 4)
    inputs = {"key": key, "width": width, "seconds": 1 + _seconds(chance)}
    return "shedder", inputs, _gives(["int"] * width + ["ActionAbortedError"])


def _limits(chance: random.Random, key: str) -> _Drawn:
    task = chance.choice(("limited", "overruns", "patient"))
    return task, {"seconds": _seconds(chance)} if task == "limited" else {}, _limited(1)


def _silent(chance: random.Random, key: str) -> _Drawn:
    return "silent", {"seconds": 4}, _gives("done")


def _large(chance: random.Random, key: str) -> _Drawn:
    size = chance.randrange(40_000, 100_000)
    return "large", {"key": key, "size": size}, _gives(len(key) * size)


def _slow(chance: random.Random, key: str) -> _Drawn:
    return "imported", {}, _gives(1)


KINDS: dict[str, tuple[int, _Draw]] = {
    "fan": (6, _fan),
    "nest": (6, _nest),
    "retry": (6, _retry),
    "tree": (6, _tree),
    "abort": (4, _abort),
    "cached": (4, _cached),
    "blocked": (2, _blocked),
    "fails": (2, _fails),
    "quick": (8, _quick),
    "comeback": (4, _comeback),
    "traces": (4, _traces),
    "shared": (4, _shared),
    "prints": (4, _prints),
    "cancels": (2, _cancels),
    "sheds": (3, _sheds),
    "limits": (3, _limits),
    "silent": (1, _silent),
    "slow": (3, _slow),
    "large": (4, _large),
}

FAILURES = {"flaky_once": 1, "flaky_twice": 2, "comeback": 1, "hopeless": 1}
"""Task → how often its own code fails; any other's never does."""

ENDLESS = frozenset({"forever", "endless"})
"""Tasks that are there to be aborted."""

LIMITS = {
    "limited": {"max_runtime": 3.0, "max_queued_time": 30.0},
    "overruns": {"max_runtime": 2.0},
    "patient": {"max_queued_time": 4.0},
}
"""Task → its limits in seconds; no test takes an hour, which is the deadline of each."""
