"""The checker finds what cannot be, and nothing else."""

from __future__ import annotations

from tests.simulation.checker import Asked, check


def created(at: float, till: float | None, run: str, answer: str = "created") -> Asked:
    return Asked("create", name="n", at=at, till=till, answer=answer if till else None, run=run)


def test_one_creates_and_the_other_finds_it() -> None:
    assert check([created(0, 2, "n"), created(1, 3, "n", "found")]) == []


def test_two_of_one_name_cannot_both_create_it() -> None:
    assert len(check([created(0, 2, "n"), created(1, 3, "n")])) == 1


def test_nobody_finds_what_nobody_has_created() -> None:
    assert len(check([created(0, 1, "n", "found"), created(2, 3, "n")])) == 1


def test_what_was_not_answered_may_have_been_done_or_not() -> None:
    assert check([created(0, None, ""), created(1, 2, "n", "found")]) == []
    assert check([created(0, None, ""), created(1, 2, "n")]) == []


def test_an_acknowledged_run_is_found_ever_after() -> None:
    lost = Asked("get", "n", at=3, till=4, answer="not found")
    assert len(check([created(0, 2, "n"), lost])) == 1
    early = Asked("get", "n", at=1, till=4, answer="not found")
    assert check([created(0, 2, "n"), early]) == []
    assert len(check([created(0, 2, "n"), Asked("list", at=3, till=4, names=frozenset())])) == 1


def test_no_answer_is_behind_one_that_was_given_before_it_was_asked_for() -> None:
    first = Asked("get", "n", at=0, till=1, answer="running", says=[("n", "running", 2, 1)])
    behind = Asked("get", "n", at=2, till=3, answer="queued", says=[("n", "queued", 1, 3)])
    assert len(check([first, behind])) == 1
    behind.at = 0.5
    assert check([first, behind]) == []


def test_a_run_ends_once() -> None:
    one = Asked("get", "n", at=0, till=1, answer="failed", says=[("n", "failed", 1, 1)])
    other = Asked("get", "n", at=0, till=1, answer="aborted", says=[("n", "aborted", 1, 1)])
    assert any("ended as" in wrong for wrong in check([one, other]))


def test_an_abort_that_is_answered_has_ended_the_run() -> None:
    assert len(check([Asked("abort", "n", at=0, till=1, answer="running")])) == 1
    assert check([Asked("abort", "n", at=0, till=1, answer="aborted")]) == []
