"""Pauses between tries: they grow, end at a limit, and differ from one caller to the next."""

from __future__ import annotations

import math
import random

import pytest

from flyte.backoff import Pauses, pause


def test_each_failure_doubles_the_pause_up_to_the_longest() -> None:
    assert [pause(failures, 0.1, 2) for failures in (0, 1, 2, 3, 4, 5, 6, 7, 20)] == [
        *(0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0)
    ]


@pytest.mark.parametrize("first", [0.0, 0.5])
def test_a_pause_after_more_failures_than_a_float_can_count_is_the_longest(first: float) -> None:
    assert pause(1_000_000, first, 60) == (60 if first else 0)


def test_a_factor_of_one_keeps_the_pause() -> None:
    assert pause(9, 3, math.inf, 1) == 3


def test_the_pauses_of_one_caller_grow_and_begin_anew_after_a_success() -> None:
    pauses = Pauses(first=1, longest=4)
    for wanted in (1, 2, 4, 4):
        assert 0.75 * wanted <= (pauses.next() or 0) <= wanted
    pauses.reset()
    assert (pauses.next() or 0) <= 1


def test_pauses_differ_so_that_many_callers_do_not_return_at_once() -> None:
    assert len({Pauses(first=1).next() for _ in range(100)}) > 10


def test_a_pause_that_would_end_after_the_limit_is_none() -> None:
    assert Pauses(first=2, longest=2, limit=1).next() is None


def test_pauses_take_no_number_from_the_generator_that_a_program_has_seeded() -> None:
    random.seed(7)
    before = random.getstate()
    Pauses().next()
    assert random.getstate() == before
