"""When a log was written: few records, none of them wrong, and no harm where they cannot be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte.log_times import RECORD, Times, file_of


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def noted(log: Path) -> list[tuple[int, float]]:
    return list(RECORD.iter_unpack(Path(file_of(str(log))).read_bytes()))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "run" / "a0.1.log"


def test_each_growth_of_a_log_has_its_time(log: Path) -> None:
    clock = Clock()
    times = Times(str(log), clock)
    times.note(10)
    clock.now += 1
    times.note(25)
    times.close()
    assert noted(log) == [(10, 1_000.0), (25, 1_001.0)]


def test_of_many_writes_in_a_moment_the_last_is_kept_until_the_next_record(log: Path) -> None:
    clock = Clock()
    times = Times(str(log), clock)
    for size in range(10, 20):
        times.note(size)
    clock.now += 1
    times.note(30)
    assert noted(log) == [(10, 1_000.0), (19, 1_000.0), (30, 1_001.0)]


def test_before_a_silence_what_was_left_out_is_written_with_its_own_time(log: Path) -> None:
    clock = Clock()
    times = Times(str(log), clock)
    times.note(10)
    times.note(20)
    clock.now += 5
    times.note_all(20)
    times.note_all(20)
    assert noted(log) == [(10, 1_000.0), (20, 1_000.0)]


def test_a_log_that_does_not_grow_has_no_times(log: Path) -> None:
    times = Times(str(log))
    times.note(0)
    times.note_all(0)
    times.close()
    times.note(10)  # what is written after the end belongs to no log
    assert not log.parent.exists()


def test_times_of_the_next_log_begin_anew(log: Path) -> None:
    clock = Clock()
    times = Times(str(log), clock)
    times.note(1_000)
    following = log.with_name("a1.1.log")
    times.begin(str(following))
    times.note(10)
    assert (noted(log), noted(following)) == ([(1_000, 1_000.0)], [(10, 1_000.0)])


def test_where_times_cannot_be_kept_the_writer_notices_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    times = Times(str(tmp_path / "run" / "a0.1.log"))
    times.note(10)
    times.note_all(20)
    times.close()
