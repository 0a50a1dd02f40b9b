"""Log files, read and followed by byte offset.

A log is a file that one process appends to. Its lines are told apart here and nowhere else: a line ends at a newline;
one that is longer than LONGEST_LINE is handed out in pieces, so that a reader's memory is bounded whatever is written.
A follower who asks for `partial` lines also gets what there is of a line that has not ended: a progress bar may write
for an hour without a newline. Each piece but the last of a line is `open`. Every line carries the offset just after it,
so that reading on from there loses nothing and doubles nothing.

A follower learns of new bytes by asking for the file's size, at most LONGEST_PAUSE after they were written: that works
on every system and file system, for files that do not exist yet, and for any number of followers. Whether more may come
is asked *before* each read: what was written until then is read after it, so nothing is lost at the end.
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
from tarmac.workload_files import NOT_A_FILE, open_to_read

T = TypeVar("T")

BLOCK = 256 * 1024
LONGEST_LINE = 64 * 1024
"""Bytes after which a line without an end is handed out as it is."""
SHORTEST_PAUSE = 0.02
LONGEST_PAUSE = 0.25
LOOK_AGAIN = 1.0
"""Seconds after which a reader of several logs looks for new ones."""
PARTIAL_PAUSE = 0.4
"""Seconds between two pieces of a line that has not ended."""
SETTLE = 0.25
"""Seconds a follower goes on after the end: the last words of a process may still be on their way through a pipe."""


@dataclass(frozen=True, slots=True)
class Moving:
    """The log of an action that may still run: it gets its `final` name when the action is over.

    Until then it is `first`, which is its worker's, and begins with the action. Later that name, and even that file,
    may be another action's. So what was found there counts only if there is no `final` yet and the action `runs`, both
    asked after the look.
    """

    final: Path
    first: Path
    runs: Callable[[], bool]


LogFile = Path | Moving


def read(path: LogFile, after: int | None = None, tail: int | None = None) -> list[LogLine]:
    """The lines of `path` after the offset `after`, the last `tail` of them; none where there is no such file.

    What follows the last newline counts as a line.
    """
    cutter = _Cutter(start_of(path, after, tail))
    lines: list[LogLine] = []
    while block := _block(path, cutter.position):
        lines += cutter.feed(block)
    return lines + cutter.rest()


async def follow(
    path: LogFile, after: int | None, is_over: Callable[[], bool], tail: int | None = None
) -> AsyncIterator[LogLine]:
    """The lines of `path` from `after` on, then each new one as it is written, until `is_over` says that no more come.

    A file that does not exist yet is waited for. A line is handed out when its end was written; at the very end, what
    is left is a line too.
    """
    async for lines in batches(path, after, is_over, tail):
        for line in lines:
            yield line


async def batches(
    path: LogFile, after: int | None, is_over: Callable[[], bool], tail: int | None = None, partial: bool = False
) -> AsyncIterator[list[LogLine]]:
    """As `follow`, but the lines that were found together come together; `partial` ones where that is asked for."""
    follower = _Follower(path, after, is_over, tail, partial)
    pause = SHORTEST_PAUSE
    while not follower.ended:
        if lines := follower.take():
            yield lines
        pause = await _rest(pause, idle=not (lines or follower.ended))


Source = tuple[str, LogFile, Callable[[], bool]]
"""One log among several: its name, its file, and whether it is complete."""


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
        over = is_over()  # asked before the look: what there was until then is found by it
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
    """The lines, each with the name of the log it stands in."""
    return [LogLine(text=line.text, offset=line.offset, source=source, open=line.open) for line in lines]


async def _rest(pause: float, idle: bool) -> float:
    """Sleep for `pause` where nothing happens, and for an instant where something does; the next pause."""
    await asyncio.sleep(pause if idle else 0)
    return min(pause * 1.5, LONGEST_PAUSE) if idle else SHORTEST_PAUSE


class _Follower:
    """How far one reader is in one log."""

    def __init__(
        self, path: LogFile, after: int | None, is_over: Callable[[], bool], tail: int | None, partial: bool = False
    ) -> None:
        self._path = path
        self._is_over = is_over
        self._partial = partial
        self._spoke = time.monotonic()
        self._cutter = _Cutter(start_of(path, after, tail))
        self._waited = False
        self._quiet_since: float | None = None
        self.ended = False
        """Nothing more comes, and everything was taken."""

    def take(self) -> list[LogLine]:
        """The lines that were ended since the last time, or the first of them when they are many."""
        if self.ended:
            return []
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
        """What there is of the last line, where that is wanted; at most once in PARTIAL_PAUSE seconds."""
        if not self._partial or time.monotonic() - self._spoke < PARTIAL_PAUSE:
            return []
        self._spoke = time.monotonic()
        return self._cutter.begun()

    def _has_settled(self) -> bool:
        """Whether a log that is over has been quiet for long enough; one that was over from the start has."""
        if self._quiet_since is None:
            self._quiet_since = time.monotonic()
        return not self._waited or time.monotonic() - self._quiet_since >= SETTLE


def start_of(path: LogFile, after: int | None, tail: int | None) -> int:
    """The offset where the last `tail` lines begin, but no earlier than `after`."""
    begin = max(after or 0, 0)
    return begin if tail is None else max(begin, _tail_start(path, tail))


class _Cutter:
    """Cuts what is read from a file, block by block, into lines."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._unfinished = b""

    @property
    def position(self) -> int:
        """Where the next block begins."""
        return self._offset + len(self._unfinished)

    def feed(self, block: bytes) -> list[LogLine]:
        """The lines that `block` ends."""
        *whole, last = (self._unfinished + block).split(b"\n")
        lines = [line for text in whole for line in self._pieces(text, newline=1)]
        while len(last) > LONGEST_LINE:
            cut = _cut(last)
            lines.append(self._piece(last[:cut]))
            last = last[cut:]
        self._unfinished = last
        return lines

    def rest(self) -> list[LogLine]:
        """What is left when no more comes."""
        last, self._unfinished = self._unfinished, b""
        return [self._line(last, 0)] if last else []

    def begun(self) -> list[LogLine]:
        """What there is of a line that has not ended, up to its last whole character."""
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
        """A part of a line, whose rest follows."""
        self._offset += len(text)
        return LogLine(text=text.decode(errors="replace"), offset=self._offset, open=True)

    def _line(self, text: bytes, newline: int) -> LogLine:
        self._offset += len(text) + newline
        return LogLine(text=text.removesuffix(b"\r").decode(errors="replace"), offset=self._offset)


def _cut(text: bytes) -> int:
    """Where to cut a line that is too long: between two characters, never inside one."""
    cut = LONGEST_LINE
    while cut > LONGEST_LINE - 4 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def _whole(text: bytes) -> int:
    """How much of `text` can be shown: neither half a character nor a return that may be half of a line's end."""
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
    """The offset where the last `lines` lines begin, found from the end."""
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


def _size(path: LogFile) -> int:
    return _look(path, lambda file: os.fstat(file.fileno()).st_size) or 0


def _block(path: LogFile, offset: int) -> bytes:
    def at(file: BinaryIO) -> bytes:
        file.seek(offset, os.SEEK_SET)
        return file.read(BLOCK)

    return _look(path, at) or b""


def _look(path: LogFile, see: Callable[[BinaryIO], T]) -> T | None:
    """What `see` finds in the file, wherever that is now; None where there is none."""
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
