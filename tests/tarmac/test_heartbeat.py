"""Who is silent, on a clock that the tests move."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tarmac.agent.standstill import Standstill
from tarmac.heartbeat import FIRST_LIMIT, PER_LEASE, Watch, pause, understood
from tarmac.home import Home


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


def test_who_is_expected_and_never_heard_is_found_after_a_minute() -> None:
    watch = Watch(3, 0)
    watch.expect(1, 0)
    watch.expect(1, 50)
    assert watch.patience(1) == FIRST_LIMIT
    assert [now for now in range(0, 70) if watch.silent(now, {1})] == list(range(61, 70))


def test_who_gave_its_first_sign_is_measured_by_the_lease() -> None:
    watch = Watch(3, 0)
    watch.expect(1, 0)
    watch.hear(1, 0.5)
    watch.expect(1, 0.6)
    assert watch.patience(1) == 3
    assert [now for now in range(0, 6) if watch.silent(now, {1})] == [4, 5]


def test_a_lease_that_is_longer_than_a_birth_goes_for_both() -> None:
    watch = Watch(600, 0)
    watch.expect(1, 0)
    assert watch.patience(1) == 600


def test_who_is_expected_is_forgotten_with_the_others() -> None:
    watch = Watch(3, 0)
    watch.expect(1, 0)
    assert watch.silent(1, set()) == []
    assert watch.silent(62, {1}) == []


def test_the_time_for_which_the_watch_was_stopped_is_not_part_of_a_birth() -> None:
    watch = Watch(3, 0)
    watch.expect(1, 0)
    assert watch.silent(10_000, {1}) == []
    assert watch.silent(10_001, {1}) == []


@pytest.mark.parametrize(
    ("sign", "meaning"),
    [(b"7", (7, True)), (b"7?", (7, False)), (b"", None), (b"?", None), (b"7?7", None), (b"seven", None)],
)
def test_a_sign_says_whose_it_is_and_whether_it_has_come_up(sign: bytes, meaning: tuple[int, bool] | None) -> None:
    assert understood(sign) == meaning


PART = """
import asyncio, sys
from tarmac import home, heartbeat

async def run():
    came_up = heartbeat.begin(home.find(), 0)
    await asyncio.to_thread(sys.stdin.readline)
    came_up()
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(run())
"""


def test_a_part_lives_first_and_then_says_that_it_has_come_up(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    env = {**os.environ, "TARMAC_HOME": str(tmp_path)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(home.heartbeat_socket))
        ear.settimeout(20)
        with subprocess.Popen([sys.executable, "-c", PART], env=env, stdin=subprocess.PIPE) as part:
            assert part.stdin is not None
            lives, is_up = b"%d?" % part.pid, b"%d" % part.pid
            assert [ear.recv(100), ear.recv(100)] == [lives, lives]
            part.stdin.write(b"come up\n")
            part.stdin.flush()
            assert next(sign for sign in iter(lambda: ear.recv(100), b"") if sign != lives) == is_up
            assert [ear.recv(100), ear.recv(100)] == [is_up, is_up]


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
    assert pause(0) == 1 / PER_LEASE


def test_who_is_stopped_for_a_lease_is_found_and_who_went_on_in_between_is_not() -> None:
    stopped = {1, 2, 3}
    standstill = Standstill(60, 0, stopped.__contains__)
    found: dict[int, float] = {}
    for beat in range(1, 3 * PER_LEASE):
        now = beat * pause(60)
        stopped ^= {2} if beat == 3 else set()
        stopped ^= {2} if beat == 4 else set()
        for pid in standstill.found({1, 2, 4}, now):
            found.setdefault(pid, now)
    assert found == {1: 80, 2: 100}, "counted from the first look, and from the last at which it ran"
