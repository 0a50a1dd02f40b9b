"""The times of a log's lines, read from the file that `flyte.log_times` describes."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from flyte.log_times import RECORD, file_of
from flyte.wire import LogLine
from tarmac.workload_files import open_to_read

_AT_ONCE = 4096
"""Records that are read at once."""


class LineTimes:
    """Gives lines their times, in the order in which they stand in the log."""

    def __init__(self, log: Path) -> None:
        """`log`: the path that the log has, or will have when its action is over."""
        self._path = Path(file_of(str(log)))
        self._records: list[tuple[int, float]] = []
        self._next = 0
        """Number of the first record in the file that is not read yet."""
        self._place = 0
        """Index in `_records` of the first record that is not before the last line."""

    def add(self, lines: list[LogLine], grew: float | None) -> list[LogLine]:
        """The lines with their times. `grew`: when the log was written to last; it stands for what is not noted yet."""
        if not lines:
            return lines
        try:
            with open_to_read(self._path) as file:
                count = os.fstat(file.fileno()).st_size // RECORD.size
                if count < self._next:
                    self._records, self._next, self._place = [], 0, 0  # the log was begun anew
                if not self._next:
                    self._next = _first_from(file.fileno(), count, lines[0].offset)
                return [
                    msgspec.structs.replace(line, time=self._of(line, file.fileno(), count, grew)) for line in lines
                ]
        except OSError:  # there is none, or a task has put something else in its place
            return lines

    def _of(self, line: LogLine, file: int, count: int, grew: float | None) -> float | None:
        while True:
            while self._place < len(self._records):
                size, when = self._records[self._place]
                if size >= line.offset:
                    return when
                self._place += 1
            if self._next >= count:
                return grew
            wanted = min(_AT_ONCE, count - self._next)
            data = os.pread(file, wanted * RECORD.size, self._next * RECORD.size)
            self._records, self._place = list(RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size])), 0
            self._next += len(self._records)
            if not self._records:
                return grew


def _first_from(file: int, count: int, offset: int) -> int:
    """Number of the first record that is not before `offset`."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        size, _ = RECORD.unpack(os.pread(file, RECORD.size, middle * RECORD.size))
        low, high = (middle + 1, high) if size < offset else (low, middle)
    return low
