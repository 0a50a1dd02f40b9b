"""Log files: every line once, in order, with the offset from which reading goes on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from flyte.log_times import RECORD, file_of
from flyte.wire import LogLine
from tarmac import logs
from tests.tarmac.house import eventually


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def put(log: Path, text: str) -> None:
    log.write_text(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "a0.1.log"


def test_a_file_that_does_not_exist_has_no_lines(log: Path) -> None:
    assert logs.read(log) == []
    assert logs.read(log, tail=5) == []


def test_lines_come_in_order_with_the_offset_after_each(log: Path) -> None:
    log.write_bytes("one\nzwö\n\nlast".encode())
    lines = logs.read(log)
    assert texts(lines) == ["one", "zwö", "", "last"]
    assert [line.offset for line in lines] == [4, 9, 10, 14]


def test_reading_on_from_any_offset_loses_and_doubles_nothing(log: Path) -> None:
    log.write_text("".join(f"line {n}\n" for n in range(50)))
    every = logs.read(log)
    for n, line in enumerate(every):
        assert logs.read(log, after=line.offset) == every[n + 1 :]


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("tail", [0, 1, 3, 9, 10, 11, 1000])
def test_the_tail_is_the_last_lines_whether_or_not_the_last_one_is_ended(log: Path, tail: int, end: str) -> None:
    log.write_text("\n".join(f"line {n}" for n in range(10)) + end)
    assert logs.read(log, tail=tail) == (logs.read(log)[-tail:] if tail else [])


def put_times(log: Path, *records: tuple[int, float]) -> None:
    Path(file_of(str(log))).write_bytes(b"".join(RECORD.pack(*record) for record in records))


def test_a_line_has_the_time_at_which_the_log_was_long_enough_for_it(log: Path) -> None:
    log.write_text("one\ntwo\nthree\n")
    put_times(log, (6, 100.0), (8, 101.0), (14, 105.0))
    assert [line.time for line in logs.read(log)] == [100.0, 101.0, 105.0]
    for after, tail in ((4, None), (None, 2)):
        assert [line.time for line in logs.read(log, after, tail)] == [101.0, 105.0]


def test_a_line_whose_time_is_not_noted_yet_has_that_of_the_last_write(log: Path) -> None:
    log.write_text("one\ntwo\n")
    os.utime(log, (200.0, 200.0))
    put_times(log, (4, 100.0))
    assert [line.time for line in logs.read(log)] == [100.0, 200.0]


def test_a_log_of_an_older_release_has_no_times(log: Path) -> None:
    log.write_text("one\ntwo\n")
    assert [line.time for line in logs.read(log)] == [None, None]


def test_times_are_found_among_many(log: Path) -> None:
    log.write_text("".join(f"{n:7}\n" for n in range(10_000)))
    put_times(log, *((8 * (n + 1), float(n)) for n in range(10_000)))
    assert [line.time for line in logs.read(log)] == [float(n) for n in range(10_000)]
    assert [line.time for line in logs.read(log, tail=2)] == [9_998.0, 9_999.0]


async def test_a_followed_log_has_times(log: Path) -> None:
    over: list[bool] = []
    put(log, "one\n")
    put_times(log, (4, 100.0))
    seen = []
    async for line in logs.follow(log, None, lambda: bool(over)):
        seen.append((line.text, line.time))
        if not over:
            put_times(log, (4, 100.0), (8, 103.0))
            put(log, "one\ntwo\n")
            over.append(True)
    assert seen == [("one", 100.0), ("two", 103.0)]


def test_the_tail_of_a_large_file_is_found_across_blocks(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "BLOCK", 37)
    log.write_text("".join(f"line number {n}\n" for n in range(200)))
    assert logs.read(log, tail=90) == logs.read(log)[-90:]


def test_a_tail_starts_no_earlier_than_the_offset_asked_for(log: Path) -> None:
    log.write_text("a\nb\nc\n")
    assert texts(logs.read(log, after=4, tail=3)) == ["c"]


def test_a_line_without_end_comes_in_pieces_that_cut_no_character(log: Path) -> None:
    text = "x" + "é" * logs.LONGEST_LINE
    log.write_text(text + "\nnext\n")
    *pieces, last = logs.read(log)
    assert len(pieces) == 3
    assert "".join(texts(pieces)) == text
    assert [line.open for line in (*pieces, last)] == [True, True, False, False], "a piece says that its line goes on"
    assert last.text == "next"
    assert last.offset == log.stat().st_size


def test_bytes_that_are_no_text_and_returns_at_the_end_do_no_harm(log: Path) -> None:
    log.write_bytes(b"\xff\xfe\r\nok\n")
    assert texts(logs.read(log)) == ["\ufffd\ufffd", "ok"]


async def test_a_follower_waits_for_a_file_that_does_not_exist_yet(log: Path) -> None:
    over = False
    following = logs.follow(log, None, lambda: over)
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    assert not first.done()
    put(log, "here\n")
    assert (await asyncio.wait_for(first, 5)).text == "here"
    over = True
    assert [line async for line in following] == []


async def test_a_follower_gets_each_line_once_however_its_bytes_arrive(log: Path) -> None:
    written = "".join(f"line {n} {'é' * n}\n" for n in range(60)).encode()
    over = False

    async def write() -> None:
        nonlocal over
        with log.open("ab", buffering=0) as file:
            for at in range(0, len(written), 41):
                file.write(written[at : at + 41])
                await asyncio.sleep(0.001)
        over = True

    writing = asyncio.ensure_future(write())
    lines = [line async for line in logs.follow(log, None, lambda: over)]
    await writing
    assert lines == logs.read(log)
    assert len(lines) == 60


async def test_what_is_written_at_the_very_end_is_not_lost(log: Path) -> None:
    put(log, "first\n")
    asked = 0

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:  # between a look at the file and the word that it is complete
            with log.open("a") as file:
                file.write("second\nthird without an end")
        return asked >= 3

    assert [line.text async for line in logs.follow(log, None, is_over)] == ["first", "second", "third without an end"]


async def test_words_that_were_still_in_a_pipe_when_the_process_ended_are_not_lost(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(log, "first\n")
    now = 100.0
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now))
    over, looks = False, 0

    def is_over() -> bool:
        nonlocal looks
        looks += 1
        return over

    async def looked(times: int) -> None:
        """The follower has asked so many times more, and drawn its conclusions from all but the last answer."""
        wanted = looks + times + 1
        assert await eventually(lambda: looks >= wanted)

    following = logs.follow(log, None, is_over)
    assert (await anext(following)).text == "first"
    waiting = asyncio.ensure_future(anext(following))
    await looked(1)
    over = True
    await looked(1)
    now += logs.SETTLE * 0.99
    await looked(2)
    assert not waiting.done(), "the time for last words is not over"
    with log.open("a") as file:
        file.write("late\n")
    assert (await waiting).text == "late"
    ending = asyncio.ensure_future(anext(following, None))
    await looked(2)
    assert not ending.done(), "it has begun anew"
    now += logs.SETTLE
    assert await ending is None


async def test_following_from_an_offset_goes_on_where_reading_stopped(log: Path) -> None:
    put(log, "a\nb\nc\n")
    start = logs.read(log)[0].offset
    assert [line.text async for line in logs.follow(log, start, lambda: True)] == ["b", "c"]


async def test_the_end_of_something_that_never_wrote_ends_its_followers(log: Path) -> None:
    assert [line async for line in logs.follow(log, None, lambda: True)] == []


async def test_a_file_that_was_begun_anew_is_followed_from_its_start(log: Path) -> None:
    put(log, "a long line of the old file\n")
    over = False
    following = logs.follow(log, None, lambda: over)
    assert (await anext(following)).text == "a long line of the old file"
    put(log, "new\n")
    assert (await anext(following)).text == "new"
    over = True
    assert [line async for line in following] == []


async def test_a_follower_who_wants_it_sees_a_line_before_it_ends(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PARTIAL_PAUSE", 0.0)
    over = False
    following = logs.batches(log, None, lambda: over, partial=True)
    for written in ("\r 10%", "\r 20%", "\r100%\n"):
        with log.open("a") as file:
            file.write(written)
        (piece,) = await asyncio.wait_for(anext(following), 5)
        assert (piece.text, piece.open) == (written.rstrip("\n"), not written.endswith("\n"))
    over = True
    assert [batch async for batch in following] == []


def test_a_piece_holds_no_half_of_a_character() -> None:
    cutter = logs._Cutter(0)
    pieces = []
    for byte in "a€é🙂.\r\n".encode():
        pieces += cutter.feed(bytes([byte])) or cutter.begun()
    assert texts(pieces) == ["a", "€", "é", "🙂", ".", ""]
    assert [piece.offset for piece in pieces] == [1, 4, 6, 10, 11, 13]


async def test_several_logs_end_together_when_no_more_appear(tmp_path: Path) -> None:
    over, there = False, ["one"]

    async def sources() -> list[logs.Source]:
        return [(name, tmp_path / name, lambda: over) for name in there]

    put(tmp_path / "one", "1\n")
    following = logs.together(sources, is_over=lambda: over)
    assert [(line.source, line.text) for line in await asyncio.wait_for(anext(following), 5)] == [("one", "1")]
    put(tmp_path / "two", "2\n")
    there.append("two")
    over = True
    assert [[(line.source, line.text) for line in batch] async for batch in following] == [[("two", "2")]]
