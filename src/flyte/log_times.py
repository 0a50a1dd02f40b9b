"""When the bytes of a log were written: a file beside the log, so that the log itself stays plain text.

`x.log` has its times in `x.times`: records of 16 bytes, little-endian: how long the log was (8 bytes), and when that
was (a double, seconds since the epoch). A line was written at the first moment for which the log is known to have been
long enough to include it. The process that writes the log notes the times, at most once in APART seconds. A reader
needs no more than that file, so the writer may be killed at any time. A log without such a file, for instance one of an
older release, has no times.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable

RECORD = struct.Struct("<Qd")

APART = 0.005
"""Seconds between two records at least; the last one that is left out is written with the next."""

_LONGEST_WAIT = 1.0
"""Seconds for which `begin` and `close` wait for another thread that is noting a time at this moment."""


def file_of(log: str) -> str:
    """The path of the times of the log at this path."""
    return os.path.splitext(log)[0] + ".times"


class Times:
    """Notes the times of a log. Nothing here raises OSError: a full disk costs the times, and not the output.

    Several threads may note times. One that finds another at it leaves that out instead of waiting, so that a process
    forked at that moment cannot wait forever for a thread that it does not have.
    """

    def __init__(self, log: str = "", clock: Callable[[], float] = time.time) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._file = -1
        self._size, self._when = 0, 0.0
        """The last record that was written."""
        self._left_out: tuple[int, float] | None = None

    def begin(self, log: str) -> None:
        """From now on note the times of this log, of which none are noted yet."""
        self.close()
        self._log, self._size, self._when, self._left_out = log, 0, 0.0, None

    def note(self, size: int) -> None:
        """The log is `size` bytes long now. The time is left out if it follows the last one too closely."""
        if size > self._size and self._log and self._lock.acquire(blocking=False):
            try:
                now = self._clock()
                if 0 <= now - self._when < APART:
                    self._left_out = size, now
                else:
                    self._write(size, now)
            finally:
                self._lock.release()

    def note_all(self, size: int) -> None:
        """The same, and nothing is left out: it may be long until the log grows again."""
        self.settle()
        if size > self._size and self._log and self._lock.acquire(blocking=False):
            try:
                self._write(size, self._clock())
            finally:
                self._lock.release()

    def settle(self) -> None:
        """Write the time that was left out, if one was."""
        if self._left_out is not None and self._log and self._lock.acquire(blocking=False):
            try:
                if self._left_out is not None:
                    self._write(*self._left_out)
            finally:
                self._lock.release()

    def close(self) -> None:
        """Note nothing more."""
        taken = self._lock.acquire(timeout=_LONGEST_WAIT)
        self._log = ""
        if self._file >= 0 and taken:
            os.close(self._file)
        self._file = -1
        if taken:
            self._lock.release()

    def _write(self, size: int, when: float) -> None:
        records = RECORD.pack(size, when)
        if self._left_out is not None and self._size < self._left_out[0] < size:
            records = RECORD.pack(*self._left_out) + records
        self._size, self._when, self._left_out = size, when, None
        try:
            if self._file < 0:
                self._file = open_to_append(file_of(self._log), os.O_NOFOLLOW | os.O_NONBLOCK)
            os.write(self._file, records)
        except OSError:
            pass


def open_to_append(path: str, more_flags: int = 0) -> int:
    """A descriptor of the file, which is made with its folder where it is not there; never that of a standard stream.

    Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | more_flags
    try:
        file = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        file = os.open(path, flags, 0o600)
    if file > 2:
        return file
    above = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)  # an action may have closed standard output
    os.close(file)
    return above
