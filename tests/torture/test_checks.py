"""Each check of the torture finds what it is there to find, and is silent about a story in which all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.torture import evidence, printing
from tests.torture.killing import WEIGHTS, strike
from tests.torture.kinds import FAILURES, KINDS, draw
from tests.torture.story import Action, Attempt, Note, Story

CHILD = Action("r", "c", "a0", "leaf", "succeeded", call=(b"{}", None, 0), created=100, ended=101)
ROOT = Action("r", "a0", None, "fan", "succeeded", created=99, ended=102)


def note(word: str, attempt: int = 1, **more: object) -> Note:
    return replace(Note("r", word, "c", attempt, pid=10, parent=3, agent=2, at=100.0 + attempt), **more)  # type: ignore[arg-type]


def lost(number: int = 1) -> Attempt:
    return Attempt("r", "c", number, 100, 101, {"kind": "system", "code": "WorkerLostError", "message": "gone"})


def failed(code: str, number: int = 1, seconds: float = 1) -> Attempt:
    return Attempt("r", "c", number, 100, 100 + seconds, {"kind": "user", "code": code, "message": "no"})


def story(*notes: Note, child: Action = CHILD, root: Action = ROOT, attempts: tuple[Attempt, ...] = ()) -> Story:
    return Story([root, child], list(attempts), list(notes), hurt={3}, kinds={"r": "fan"})


def test_a_story_in_which_all_is_well_has_no_violation() -> None:
    """A worker lost with its fork server, whose action is done by another."""
    child = replace(CHILD, attempt=2)
    again = note("began", 2, pid=20, parent=13), note("done", 2, pid=20, parent=13)
    assert evidence.violations(story(note("began"), *again, child=child, attempts=(lost(),))) == []


Check = Callable[[Story], list[str]]
IS_LATE = replace(CHILD, phase="timed_out", ended=101, error={"code": "MaxQueuedTimeExceededError"}, task="patient")

WRONG: dict[str, tuple[Check, Story]] = {
    "an attempt that ran twice": (evidence.run_twice, story(note("began"), note("began", pid=11))),
    "an attempt after the one that finished": (evidence.run_twice, story(note("began"), note("began", 2))),
    "a finished child that is called anew": (
        evidence.calls_doubled,
        replace(story(), actions=[ROOT, CHILD, replace(CHILD, name="d")]),
    ),
    "a cached result that two have computed": (
        evidence.computed_twice,
        replace(story(), actions=[replace(CHILD, name=name, cache_key="k", cache="populated") for name in "cd"]),
    ),
    "a result from the cache that nobody has computed": (
        evidence.computed_twice,
        story(child=replace(CHILD, cache_key="k", cache="hit")),
    ),
    "a lost worker that nobody hurt": (
        evidence.lost_without_cause,
        story(note("began", parent=4), attempts=(lost(),)),
    ),
    "a loss that counts though its fork server was killed": (
        evidence.losses_counted,
        story(note("began"), child=replace(CHILD, system_failures=1), attempts=(lost(),)),
    ),
    "a failure of code that does not fail": (
        evidence.failures_counted,
        story(note("began"), child=replace(CHILD, user_failures=1), attempts=(failed("ActionAbortedError"),)),
    ),
    "a failure that counts twice": (
        evidence.failures_counted,
        story(child=replace(CHILD, task="flaky_once", user_failures=2), attempts=(failed("ValueError"),)),
    ),
    "a child that was aborted, and its parent went on": (
        evidence.aborted_unasked,
        story(child=replace(CHILD, phase="aborted", message="its caller was cancelled")),
    ),
    "a child that runs on after it was cancelled": (
        evidence.given_up_in_vain,
        story(
            note("cancelled", action="a0", at=100.0),
            child=replace(CHILD, task="forever", phase="aborted", ended=110, message="aborted: fan ended before it"),
            root=replace(ROOT, ended=110),
        ),
    ),
    "a step that gave another value to the second attempt": (
        evidence.steps_kept,
        story(note("kept", value=[0, "c:1"]), note("kept", 2, value=[0, "c:2"])),
    ),
    "a step with the value of a sibling's": (evidence.steps_kept, story(note("kept", value=[0, "d:1"]))),
    "two steps with one value": (
        evidence.steps_kept,
        story(note("kept", value=[0, "c:1"]), note("kept", value=[1, "c:1"])),
    ),
    "too long a run that was short": (
        evidence.time_limits,
        story(
            note("began", at=100.0),
            note("done", at=100.5),
            child=replace(CHILD, task="limited"),
            attempts=(failed("MaxRuntimeExceededError", seconds=5),),
        ),
    ),
    "too long a run that was ended early": (
        evidence.time_limits,
        story(
            note("began", at=100.0),
            child=replace(CHILD, task="overruns"),
            attempts=(failed("MaxRuntimeExceededError", seconds=1),),
        ),
    ),
    "too long a wait that was short": (evidence.time_limits, story(child=IS_LATE)),
    "too long a wait of what had begun": (
        evidence.time_limits,
        story(note("began"), child=replace(IS_LATE, ended=120)),
    ),
    "a deadline that was far away": (
        evidence.time_limits,
        story(child=replace(CHILD, error={"code": "DeadlineExceededError"})),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_check_finds(wrong: str) -> None:
    check, told = WRONG[wrong]
    assert len(check(told)) == 1


def test_every_check_is_proven() -> None:
    assert {check for check, _ in WRONG.values()} == set(evidence.CHECKS)


def log(folder: Path, text: str) -> Path:
    (folder / "r").mkdir()
    (folder / "r" / "c.1.log").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("torture r c 1 0\nwarning: nothing\ntorture r c 1 1\ntorture r c 1 2\n", ""),
        ("torture r c 1 0\n", "1 of 2 lines are missing: [1]"),
        ("torture r c 1 0\ntorture r c 1 1\ntorture r c 1 1\n", "twice: [1]"),
        ("torture r c 1 0\ntorture r c 1 1\ntorture r d 1 0\n", "lines of [('r', 'd', 1)]"),
        ("torture r c 1 0\ntorture r c 1 1\ntorture r c 2 0\n", "lines of [('r', 'c', 2)]"),
    ],
)
def test_a_log_holds_every_line_of_its_own_attempt_once_and_no_other(tmp_path: Path, text: str, found: str) -> None:
    """The third line of the first log was printed, and not yet noted."""
    wrong = printing.violations(story(note("said", value=2)), log(tmp_path, text))
    assert [found in each for each in wrong] == ([True] if found else [])


def test_a_log_that_is_not_there_is_missed(tmp_path: Path) -> None:
    (wrong,) = printing.violations(story(note("said", value=2)), tmp_path)
    assert "there is no such log" in wrong


def test_strikes_and_runs_follow_from_the_seed_and_their_number_alone() -> None:
    first = [(s.kind, s.pause, s.chance.random()) for s in (strike(7, n) for n in range(50))]
    assert first == [(s.kind, s.pause, s.chance.random()) for s in (strike(7, n) for n in range(50))]
    assert [order.kind for order in (draw(7, n) for n in range(50))] == [draw(7, n).kind for n in range(50)]
    assert {strike(7, n).kind for n in range(2000)} == set(WEIGHTS)
    assert {draw(7, n).kind for n in range(2000)} == set(KINDS)


def test_what_fails_has_exactly_as_many_retries_as_failures() -> None:
    """So a failure that is counted twice fails the run."""
    from tests.torture.hurt import tasks

    retries = {task.short_name: task.retries.count for task in tasks.env.tasks.values()}
    assert {name: retries[name] for name in FAILURES if name != "hopeless"} == {
        name: count for name, count in FAILURES.items() if name != "hopeless"
    }
