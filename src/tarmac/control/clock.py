"""How long ago something was, that is known by the time of day alone, though that clock may be set meanwhile.

What happens within the life of one control plane is measured by a clock that nobody sets. But when an attempt began is
on disk as the time of day, and after a restart nothing else is known of it. So the difference of the two clocks is kept
in a file, and where it jumps the jump is noted: what was before it is that much nearer, or farther, than it seems.
After a boot the other clock begins anew, and a jump that happened while the machine was off goes unnoticed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from flyte.atomic import replace_file

log = logging.getLogger("tarmac.clock")

JUMP = 1.0
"""Seconds; less than that is the slow correction that every machine makes."""

DRIFT = 0.2
"""Seconds of slow correction after which the file is written anew."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Jump(msgspec.Struct, frozen=True):
    """The clock was set `by` seconds forward."""

    shown: float
    """The first that it can have shown after that."""
    by: float


class Kept(msgspec.Struct, frozen=True):
    boot: str = ""
    difference: float = 0
    jumps: tuple[Jump, ...] = ()


def _wall() -> float:
    return time.time()


def _steady() -> float:
    """Seconds by a clock that nobody sets and that goes on while the machine sleeps; on macOS CLOCK_MONOTONIC does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    def __init__(
        self,
        path: Path,
        wall: Callable[[], float] = _wall,
        steady: Callable[[], float] = _steady,
        boot: Path = _BOOT,
    ) -> None:
        self._path = path
        self._wall = wall
        self._steady = steady
        self._boot = boot.read_text().strip() if boot.exists() else ""
        self._kept = _read(path)
        self._looked: float | None = None
        """What the clock showed at the last look."""
        if self._boot and self._kept.boot == self._boot:
            self.look()
        else:  # nothing that is there can be compared with now
            self._kept = Kept(self._boot, wall() - steady())
            self._write()

    def look(self) -> None:
        """See whether the clock was set. Called now and then, and at the start."""
        shown = self._wall()
        difference = shown - self._steady()
        by = difference - self._kept.difference
        if abs(by) >= JUMP:
            log.warning("the clock was set %+.1f s", by)
            first = shown if self._looked is None else self._looked + by
            self._kept = Kept(self._boot, difference, (*self._kept.jumps, Jump(first, by)))
            self._write()
        elif abs(by) >= DRIFT:
            self._kept = Kept(self._boot, difference, self._kept.jumps)
            self._write()
        self._looked = shown

    def since(self, shown: float) -> float:
        """Seconds since the clock showed that.

        Where it was set back it may have shown the same twice: then the later one is meant, which lets a time limit
        strike too late rather than too early.
        """
        self.look()  # it may have been set since the last look
        jumped = 0.0
        for jump in reversed(self._kept.jumps):
            if shown >= jump.shown:
                break
            jumped += jump.by
        return self._wall() - jumped - shown

    def _write(self) -> None:
        try:
            replace_file(self._path, msgspec.json.encode(self._kept).decode())
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)


def _read(path: Path) -> Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (FileNotFoundError, msgspec.DecodeError):
        return Kept()
