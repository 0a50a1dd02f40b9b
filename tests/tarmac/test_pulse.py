"""Who is silent, on a clock that the tests move."""

from __future__ import annotations

from tarmac.agent.standstill import Standstill
from tarmac.pulse import BEATS, Watch, pause


def look(watch: Watch, since: float, until: float, among: set[int], beating: frozenset[int] = frozenset()) -> set[int]:
    """Look once in every beat of a lease of 60 s; all that were found silent."""
    found: set[int] = set()
    now = since
    while now < until:
        now += pause(60)
        for pid in beating:
            watch.hear(pid, now)
        found |= set(watch.silent(now, among))
    return found


def test_who_is_silent_for_a_lease_is_found_and_who_beats_is_not() -> None:
    watch = Watch(60, 0)
    watch.hear(1, 0)
    watch.hear(2, 0)
    assert look(watch, 0, 60, {1, 2}, frozenset({2})) == set()
    assert look(watch, 60, 70, {1, 2}, frozenset({2})) == {1}


def test_who_was_never_heard_is_not_missed() -> None:
    assert look(Watch(60, 0), 0, 1000, {1, 2}) == set()


def test_who_is_gone_is_forgotten() -> None:
    watch = Watch(60, 0)
    watch.hear(1, 0)
    assert look(watch, 0, 100, set()) == set()
    assert look(watch, 100, 200, {1}) == set()


def test_the_time_for_which_the_watch_itself_was_stopped_does_not_count() -> None:
    watch = Watch(60, 0)
    watch.hear(1, 0)
    assert watch.silent(10_000, {1}) == []
    assert look(watch, 10_000, 10_050, {1}) == set()
    assert look(watch, 10_050, 10_100, {1}) == {1}


def test_a_lease_of_nothing_is_one_of_a_second() -> None:
    assert pause(0) == 1 / BEATS


def test_who_is_stopped_for_a_lease_is_found_and_who_went_on_in_between_is_not() -> None:
    stopped = {1, 2, 3}
    standstill = Standstill(60, 0, stopped.__contains__)
    found: dict[int, float] = {}
    for beat in range(1, 3 * BEATS):
        now = beat * pause(60)
        stopped ^= {2} if beat == 3 else set()
        stopped ^= {2} if beat == 4 else set()
        for pid in standstill.found({1, 2, 4}, now):
            found.setdefault(pid, now)
    assert found == {1: 80, 2: 100}, "counted from the first look, and from the last at which it ran"
