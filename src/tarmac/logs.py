"""Log files, read and followed by byte offset.

A log is a file to which one process appends. Only this module splits it into lines: a line ends at a newline; a line
longer than LONGEST_LINE is returned in pieces, which bounds a reader's memory. A follower that asks for `partial` lines
also gets the beginning of a line that has not ended: a progress bar may write for an hour without a newline. Each piece
of a line but the last is `open`. Every line has the offset just after it, so that reading on from there neither loses
nor repeats anything.

A follower notices new bytes by the file's size, at most LONGEST_PAUSE after they were written: that works on every
system and file system, for files that do not exist yet, and for any number of followers. Before each read it asks
whether the log is complete; since the read comes afterwards, nothing is lost at the end.

Lines get the times at which they were written, as far as these were noted (`line_times`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from flyte.wire import LogLine
from tarmac.line_times import LineTimes
from tarmac.workload_files import NOT_A_FILE, open_to_read

T = TypeVar("T")

BLOCK = 256 * 1024
LONGEST_LINE = 64 * 1024
"""Bytes after which a line without an end is returned in pieces."""
SHORTEST_PAUSE = 0.02
LONGEST_PAUSE = 0.25
LOOK_AGAIN = 1.0
"""Seconds after which a reader of several logs looks for new ones."""
PARTIAL_PAUSE = 0.4
"""Seconds between two pieces of a line that has not ended."""
SETTLE = 0.25
"""Seconds for which a follower goes on after the end, since a process's last output may still be in a pipe."""


@dataclass(frozen=True, slots=True)
class Moving:
    """The log of an action that may still run: it gets its `final` name when the action is over.

    Until then it is the worker's file `first`, which begins with the action. Later that name, and even that file, may
    belong to another action. So content of `first` counts only if, after it was read, there is still no `final` file
    and the action still `runs`.
    """

    final: Path
    first: Path
    runs: Callable[[], bool]


LogFile = Path | Moving


def read(path: LogFile, after: int | None = None, tail: int | None = None) -> list[LogLine]:
    """The lines of `path` after the offset `after`, at most the last `tail`; none if there is no such file.

    The text after the last newline counts as a line.
    """
    cutter = _Cutter(start_of(path, after, tail))
    lines: list[LogLine] = []
    while block := _block(path, cutter.position):
        lines += cutter.feed(block)
    return _times_of(path).add(lines + cutter.rest(), _grew(path))


async def follow(
    path: LogFile, after: int | None, is_over: Callable[[], bool], tail: int | None = None
) -> AsyncIterator[LogLine]:
    """The lines of `path` from `after` on, then each new line as it is written, until `is_over` returns True.

    Waits for a file that does not exist yet. A line is returned when its newline was written; at the end, the text
    after the last newline is a line too.
    """
    async for lines in batches(path, after, is_over, tail):
        for line in lines:
            yield line


async def batches(
    path: LogFile, after: int | None, is_over: Callable[[], bool], tail: int | None = None, partial: bool = False
) -> AsyncIterator[list[LogLine]]:
    """Like `follow`, with the lines of one read together, and with partial lines if `partial`."""
    follower = _Follower(path, after, is_over, tail, partial)
    pause = SHORTEST_PAUSE
    while not follower.ended:
        if lines := follower.take():
            yield lines
        pause = await _rest(pause, idle=not (lines or follower.ended))


Source = tuple[str, LogFile, Callable[[], bool]]
"""One of several logs: its name, its file, and a function that tells whether it is complete."""


def _never() -> bool:
    return False


async def together(
    sources: Callable[[], Awaitable[Sequence[Source]]],
    after: int | None = None,
    tail: int | None = None,
    partial: bool = False,
    is_over: Callable[[], bool] = _never,
) -> AsyncIterator[list[LogLine]]:
    """The lines of several logs as they are written, each with its log's name as `source`.

    `sources` is asked again every LOOK_AGAIN seconds; a log that appears is followed from its start. It ends when
    `is_over` says that no more logs appear and each of them is complete.
    """
    followers: dict[str, _Follower] = {}
    looked, pause = -LOOK_AGAIN, SHORTEST_PAUSE
    while True:
        over = is_over()  # asked before the read, which then finds everything that was written until now
        if over or time.monotonic() - looked >= LOOK_AGAIN:
            for name, path, complete in await sources():
                if name not in followers:
                    begin = (after, tail) if looked < 0 else (None, None)
                    followers[name] = _Follower(path, begin[0], complete, begin[1], partial)
            looked = time.monotonic()
        found = [line for name, follower in followers.items() for line in named(follower.take(), name)]
        if found:
            yield found
        if over and all(follower.ended for follower in followers.values()):
            return
        pause = await _rest(pause, idle=not found)


def named(lines: list[LogLine], source: str) -> list[LogLine]:
    """The lines, each with the name of its log."""
    return [
        LogLine(text=line.text, offset=line.offset, source=source, open=line.open, time=line.time) for line in lines
    ]


async def _rest(pause: float, idle: bool) -> float:
    """Sleep for `pause`, or shortly if lines have come; returns the next pause."""
    await asyncio.sleep(pause if idle else 0)
    return min(pause * 1.5, LONGEST_PAUSE) if idle else SHORTEST_PAUSE


class _Follower:
    """The position of one reader in one log."""

    def __init__(
        self, path: LogFile, after: int | None, is_over: Callable[[], bool], tail: int | None, partial: bool = False
    ) -> None:
        self._path = path
        self._is_over = is_over
        self._partial = partial
        self._spoke = time.monotonic()
        self._cutter = _Cutter(start_of(path, after, tail))
        self._times = _times_of(path)
        self._waited = False
        self._quiet_since: float | None = None
        self.ended = False
        """True when the log is complete and was read to its end."""

    def take(self) -> list[LogLine]:
        """The complete lines since the last call, or the first of them if they are many."""
        return [] if self.ended else self._timed(self._take())

    def _timed(self, lines: list[LogLine]) -> list[LogLine]:
        return self._times.add(lines, _grew(self._path)) if lines else lines

    def _take(self) -> list[LogLine]:
        over = self._is_over()
        if _size(self._path) < self._cutter.position:
            self._cutter = _Cutter(0)  # the file was begun anew
        block = _block(self._path, self._cutter.position)
        lines = self._cutter.feed(block) if block else []
        if block:
            self._quiet_since = None
        elif not over:
            self._waited = True
        elif self._has_settled():
            self.ended = True
            return self._cutter.rest()
        return lines or ([] if len(block) == BLOCK else self._unended())

    def _unended(self) -> list[LogLine]:
        """The beginning of the last line if partial lines are wanted; at most once in PARTIAL_PAUSE seconds."""
        if not self._partial or time.monotonic() - self._spoke < PARTIAL_PAUSE:
            return []
        self._spoke = time.monotonic()
        return self._cutter.begun()

    def _has_settled(self) -> bool:
        """Whether a complete log has not grown for SETTLE seconds; True if it was complete from the start."""
        if self._quiet_since is None:
            self._quiet_since = time.monotonic()
        return not self._waited or time.monotonic() - self._quiet_since >= SETTLE


def start_of(path: LogFile, after: int | None, tail: int | None) -> int:
    """The offset where the last `tail` lines begin, but no earlier than `after`."""
    begin = max(after or 0, 0)
    return begin if tail is None else max(begin, _tail_start(path, tail))


class _Cutter:
    """Splits the blocks that are read from a file into lines."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._unfinished = b""

    @property
    def position(self) -> int:
        """The offset of the next block."""
        return self._offset + len(self._unfinished)

    def feed(self, block: bytes) -> list[LogLine]:
        """The lines that end in `block`."""
        *whole, last = (self._unfinished + block).split(b"\n")
        lines = [line for text in whole for line in self._pieces(text, newline=1)]
        while len(last) > LONGEST_LINE:
            cut = _cut(last)
            lines.append(self._piece(last[:cut]))
            last = last[cut:]
        self._unfinished = last
        return lines

    def rest(self) -> list[LogLine]:
        """The text after the last newline, at the end of the file."""
        last, self._unfinished = self._unfinished, b""
        return [self._line(last, 0)] if last else []

    def begun(self) -> list[LogLine]:
        """The beginning of a line that has not ended, up to its last complete character."""
        whole = _whole(self._unfinished)
        piece, self._unfinished = self._unfinished[:whole], self._unfinished[whole:]
        return [self._piece(piece)] if piece else []

    def _pieces(self, text: bytes, newline: int) -> Iterator[LogLine]:
        while len(text) > LONGEST_LINE:
            cut = _cut(text)
            yield self._piece(text[:cut])
            text = text[cut:]
        yield self._line(text, newline)

    def _piece(self, text: bytes) -> LogLine:
        """A piece of a line whose rest follows."""
        self._offset += len(text)
        return LogLine(text=text.decode(errors="replace"), offset=self._offset, open=True)

    def _line(self, text: bytes, newline: int) -> LogLine:
        self._offset += len(text) + newline
        return LogLine(text=text.removesuffix(b"\r").decode(errors="replace"), offset=self._offset)


def _cut(text: bytes) -> int:
    """The position at which to cut a line that is too long: between two characters."""
    cut = LONGEST_LINE
    while cut > LONGEST_LINE - 4 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def _whole(text: bytes) -> int:
    """The length of `text` without an incomplete character at its end, or a `\\r` that may belong to a line's end."""
    end = len(text) - text.endswith(b"\r")
    for back in range(1, min(end, 3) + 1):
        byte = text[end - back]
        if byte & 0xC0 == 0xC0:  # the first byte of a character says how long that is
            length = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return end if back >= length else end - back
        if byte < 0x80:
            break
    return end


def _tail_start(path: LogFile, lines: int) -> int:
    """The offset where the last `lines` lines begin, searched from the end."""
    end = _size(path)
    if lines <= 0:
        return end
    # the newline that ends the last line separates it from nothing
    wanted = lines + 1 if end and _block(path, end - 1) == b"\n" else lines
    while end > 0:
        begin = max(0, end - BLOCK)
        block = _block(path, begin)[: end - begin]
        newlines = block.count(b"\n")
        if newlines >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            return begin + at + 1
        wanted -= newlines
        end = begin
    return 0


def _times_of(path: LogFile) -> LineTimes:
    return LineTimes(path if isinstance(path, Path) else path.final)


def _grew(path: LogFile) -> float | None:
    """When the log was written to last."""
    return _look(path, lambda file: os.fstat(file.fileno()).st_mtime)


def _size(path: LogFile) -> int:
    return _look(path, lambda file: os.fstat(file.fileno()).st_size) or 0


def _block(path: LogFile, offset: int) -> bytes:
    def at(file: BinaryIO) -> bytes:
        file.seek(offset, os.SEEK_SET)
        return file.read(BLOCK)

    return _look(path, at) or b""


def _look(path: LogFile, see: Callable[[BinaryIO], T]) -> T | None:
    """The result of `see` on the log's present file; None if there is none."""
    if isinstance(path, Path):
        return _see(path, see)
    found = _see(path.final, see)
    if found is not None:
        return found
    early = _see(path.first, see)
    found = _see(path.final, see)
    if found is not None:
        return found
    return early if path.runs() else None


def _see(path: Path, see: Callable[[BinaryIO], T]) -> T | None:
    try:
        with open_to_read(path) as file:
            return see(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in NOT_A_FILE:
            return None  # a task has put something else in its place: nothing was written there
        raise
