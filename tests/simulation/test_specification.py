"""The specification is short, and its tables are those that the code enforces."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from docs import specification as spec

from flyte.phases import SYSTEM_RETRIES, TRANSITIONS
from tarmac.control.runs.limits import TIMED_OUT
from tarmac.model import APP_TRANSITIONS, DEPLOYMENT_TRANSITIONS, ENVIRONMENT_TRANSITIONS

Moves = dict[str, set[str]]


def moves(pairs: Iterable[tuple[str, str]]) -> Moves:
    found: Moves = {}
    for old, new in pairs:
        found.setdefault(str(old), set()).add(str(new))
    return found


def test_the_tables_are_those_of_the_code() -> None:
    assert moves((row.old.value, row.new.value) for row in TRANSITIONS) == spec.ACTION_MOVES
    assert moves((row.old, row.new) for row in APP_TRANSITIONS) == spec.APP_MOVES
    assert moves((row.old, row.new) for row in DEPLOYMENT_TRANSITIONS) == spec.DEPLOYMENT_MOVES
    assert moves((row.old, row.new) for row in ENVIRONMENT_TRANSITIONS) == spec.ENVIRONMENT_MOVES
    assert SYSTEM_RETRIES == spec.SYSTEM_RETRIES
    assert spec.LIMITS.keys() == TIMED_OUT


def test_it_can_be_read_in_one_go() -> None:
    lines = Path(spec.__file__).read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 400


def test_it_needs_nothing_of_ours() -> None:
    assert not any(word in Path(spec.__file__).read_text() for word in ("import flyte", "import tarmac", "from tests"))


def test_a_run_is_created_once_retried_and_ended() -> None:
    state = spec.State({"add": spec.Task(retries=1, pause=2)})
    state, answer = state.create("n", "k", "add", 1)
    assert answer == ("created", "n")
    assert state.create(None, "k", "add", 1)[1] == ("found", "n")
    with pytest.raises(spec.Refused, match="RunAlreadyExists"):
        state.create("n", None, "add", 2)
    assert state.due() == {(("n", ()), 1)}
    state, _ = state.begin("w1", ("n", ()), 1)
    state, _ = state.finish("w1", ("n", ()), 1, None, spec.Error("ValueError"))
    assert state.due() == set()
    state, _ = state.tick(2)
    state, _ = state.begin("w2", ("n", ()), 2)
    assert state.finish("w1", ("n", ()), 1, 7)[1] == "fenced"
    state, answer = state.finish("w2", ("n", ()), 2, 7)
    assert answer == "taken"
    assert state.abort("n")[1] == ("succeeded", 2, 7)
