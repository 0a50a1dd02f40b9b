"""Was that history possible? Judged by what clients asked and were told alone, not by the platform's own books.

A *reading* is what an answer says of a run: its attempt and phase only grow, and a final phase stays as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

NEVER = float("inf")

TERMINAL = frozenset({"succeeded", "failed", "aborted", "timed_out"})

_RANKS = {"queued": 0, "initializing": 0, "running": 1}

OVER = 10**9
"""Instead of an attempt's number, in the reading of a run that is over."""


@dataclass
class Asked:
    """One call of one client. Times are seconds of one clock."""

    kind: str
    name: str | None = None
    """The run that it is about; of a `create` the name that is given, if one is."""
    key: str | None = None
    at: float = 0
    """When it was sent."""
    till: float | None = None
    """When it was answered; None: it was not, and nobody knows whether it was carried out."""
    answer: str | None = None
    """`created`, `found`, `refused`, `not found`, or the run's phase."""
    run: str = ""
    """The run that a `create` was answered with."""
    says: list[tuple[str, str, int, float]] = field(default_factory=list)
    """What the answer says: run, phase, attempt, and when that was heard."""
    names: frozenset[str] | None = None
    """Of a list that holds all runs: their names."""


Reading = tuple[int, str]


def check(history: Sequence[Asked]) -> list[str]:
    """Everything that cannot be, in words."""
    return [*_runs(history), *_acknowledged(history), *_aborts(history), *_marks(history)]


def _reading(phase: str, attempt: int) -> Reading:
    return (OVER, phase) if phase in TERMINAL else (attempt, str(_RANKS[phase]))


def _readings(history: Sequence[Asked]) -> Iterator[tuple[str, Reading, float, float, Asked]]:
    """Run, reading, when it was asked for and heard. Events of a stream are late by nature: they answer no question."""
    for asked in history:
        for run, phase, attempt, heard in asked.says:
            yield run, _reading(phase, attempt), (-NEVER if asked.kind == "stream" else asked.at), heard, asked


def _runs(history: Sequence[Asked]) -> list[str]:
    """Each run is a register that only grows: no answer is behind one that was given before it was asked for."""
    of_run: dict[str, list[tuple[Reading, float, float, Asked]]] = defaultdict(list)
    for run, reading, at, heard, asked in _readings(history):
        of_run[run].append((reading, at, heard, asked))
    return [wrong for run, readings in of_run.items() for wrong in _register(run, readings)]


def _register(run: str, readings: list[tuple[Reading, float, float, Asked]]) -> list[str]:
    wrong = []
    ends = {reading[1] for reading, *_ in readings if reading[0] == OVER}
    if len(ends) > 1:
        wrong.append(f"{run} ended as {sorted(ends)}")
    known = sorted(((heard, reading, asked.kind) for reading, _, heard, asked in readings), key=lambda each: each[0])
    best: Reading = (0, "")
    told, at_known = "", 0
    for reading, at, _, asked in sorted(readings, key=lambda each: each[1]):
        while at_known < len(known) and known[at_known][0] < at:
            heard, said, kind = known[at_known]
            if said > best:
                best, told = said, f"{kind} had said {said} at {heard:.6f}"
            at_known += 1
        if at > -NEVER and reading < best:
            wrong.append(f"{run}: {asked.kind} sent at {at:.6f} answers {reading}; {told}")
    return wrong


def _acknowledged(history: Sequence[Asked]) -> list[str]:
    """What was acknowledged is found ever after."""
    first: dict[str, float] = {}
    for asked in history:
        if asked.till is not None and asked.answer in ("created", "found"):
            first[asked.run] = min(first.get(asked.run, NEVER), asked.till)
    wrong = []
    for asked in history:
        known = first.get(asked.name or "", NEVER)
        if asked.till is not None and asked.answer == "not found" and asked.at > known:
            wrong.append(f"{asked.kind} of {asked.name} at {asked.at:.6f}: not found; acknowledged at {known:.6f}")
        if asked.names is not None:
            lacks = [name for name, since in first.items() if since < asked.at and name not in asked.names]
            wrong += [f"the list of {asked.at:.6f} lacks {name}, acknowledged at {first[name]:.6f}" for name in lacks]
    return wrong


def _aborts(history: Sequence[Asked]) -> list[str]:
    """The answer to an abort is a run that is over."""
    return [
        f"the abort of {asked.name} at {asked.at:.6f} is answered with {asked.answer}"
        for asked in history
        if asked.kind == "abort" and asked.till is not None
        if asked.answer not in TERMINAL and asked.answer != "not found"
    ]


def _marks(history: Sequence[Asked]) -> list[str]:
    """A name and a key each stand for one run: whatever the calls' order was, one exists that explains the answers."""
    wrong = []
    for mark in ("name", "key"):
        groups: dict[str, list[Asked]] = defaultdict(list)
        for asked in history:
            value = getattr(asked, mark)
            if asked.kind == "create" and value and not (asked.key and asked.name) and asked.answer != "refused":
                groups[value].append(asked)
        for value, group in groups.items():
            if not _has_order(group):
                answers = [(each.at, each.till, each.answer, each.run) for each in group]
                wrong.append(f"{mark} {value}: no order explains {answers}")
    return wrong


def _has_order(calls: Sequence[Asked]) -> bool:
    """Wing's and Gong's search. The register is unset, a run's name, or `?`: set by a call of which nobody knows."""
    todo: list[tuple[frozenset[int], str | None]] = [(frozenset(range(len(calls))), None)]
    seen = set()
    while todo:
        left, register = todo.pop()
        ends = [till for at in left if (till := calls[at].till) is not None]
        if not ends:
            return True
        if (left, register) in seen:
            continue
        seen.add((left, register))
        for at in left:
            call = calls[at]
            if call.at > min(ends):
                continue  # one of the others was over before this one began
            if call.till is None:
                if register is None:
                    todo.append((left - {at}, "?"))
            elif (call.answer == "created" and register is None) or (
                call.answer == "found" and register in (call.run, "?")
            ):
                todo.append((left - {at}, call.run))
    return False
