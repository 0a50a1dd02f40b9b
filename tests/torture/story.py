"""All that happened: what is stored of every action, what its processes noted, and whom we hurt."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

Rows = Callable[[str], list[Any]]
Which = tuple[str, str, int]
"""Run, action, number of the attempt."""


@dataclass(frozen=True, slots=True)
class Note:
    """A line that a task wrote while it ran."""

    run: str
    word: str
    action: str
    attempt: int
    pid: int
    parent: int = 0
    agent: int = 0
    at: float = 0.0
    value: Any = ""

    @property
    def which(self) -> Which:
        return self.run, self.action, self.attempt


@dataclass(frozen=True, slots=True)
class Action:
    run: str
    name: str
    parent: str | None
    task: str
    """Its short name."""
    phase: str
    attempt: int = 1
    user_failures: int = 0
    system_failures: int = 0
    call: tuple[Any, ...] = ()
    """What tells this call of its parent from every other: inputs, group, sequence."""
    error: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    created: float = 0.0
    ended: float = 0.0
    cache_key: str | None = None
    cache: str = ""
    """What the cache had to do with it: hit, populated or nothing."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that ended badly."""

    run: str
    action: str
    number: int
    started: float | None
    ended: float
    error: Mapping[str, Any]

    @property
    def which(self) -> Which:
        return self.run, self.action, self.number


@dataclass(frozen=True)
class Story:
    actions: list[Action]
    failed: list[Attempt]
    notes: list[Note]
    hurt: Collection[int] = ()
    """Processes that we killed, stopped or told to end."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Run → its kind."""

    @cached_property
    def action(self) -> Mapping[tuple[str, str], Action]:
        return {(each.run, each.name): each for each in self.actions}

    @cached_property
    def began(self) -> Mapping[Which, Note]:
        return {note.which: note for note in self.notes if note.word == "began"}

    @cached_property
    def done(self) -> Mapping[Which, Note]:
        return {note.which: note for note in self.notes if note.word == "done"}

    @cached_property
    def dead(self) -> frozenset[int]:
        """Processes that somebody killed or stopped: we, or they themselves."""
        return frozenset(self.hurt) | {note.pid for note in self.notes if note.word == "dies"}

    def was_hurt(self, note: Note) -> bool:
        """Whether the process that wrote it, or one that this lived on, was hurt at some time."""
        return not self.dead.isdisjoint((note.pid, note.parent, note.agent))


def tell(rows: Rows, notes: Path, hurt: Collection[int], kinds: Mapping[str, str]) -> Story:
    """Read everything, once the platform is down."""
    return Story(_actions(rows), _failed(rows), list(_notes(notes)), hurt, kinds)


def _actions(rows: Rows) -> list[Action]:
    columns = (
        "run, name, parent, task, phase, attempt, user_failures, system_failures, inputs, group_name, sequence, "
        "error, message, created, ended, cache_key, cache"
    )
    found = []
    for run, name, parent, task, phase, attempt, user, system, inputs, group, sequence, error, *rest in rows(
        f"select {columns} from actions where kind = 'task'"
    ):
        call = (bytes(inputs or b""), group, sequence)
        short = task.rpartition(".")[2]
        message, created, ended, key, cache = rest
        status = json.loads(bytes(cache))["status"] if cache else ""
        progress = phase, attempt, user, system
        end = message, created, ended or 0
        found.append(Action(run, name, parent, short, *progress, call, _json(error), *end, key, status))
    return found


def _failed(rows: Rows) -> list[Attempt]:
    asked = rows("select run, action, number, started, ended, error from attempts where error is not null")
    return [
        Attempt(run, action, number, started, ended or 0, _json(error))
        for run, action, number, started, ended, error in asked
    ]


def _json(error: Any) -> Mapping[str, Any]:
    return {} if error is None else {"kind": "user", **json.loads(bytes(error))}


def _notes(folder: Path) -> Iterable[Note]:
    for file in sorted(folder.iterdir()):
        for line in file.read_text().splitlines():
            yield Note(run=file.name, **json.loads(line))
