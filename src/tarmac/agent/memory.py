"""Memory that an environment asks for is all that its units get: three ways to hold them to it, best first.

1. cgroup v2, or 2. v1, where this process may make groups: the kernel counts, and kills what goes over. A unit enters
   its group itself, before it does anything else, so nothing it starts escapes.
3. A watchdog everywhere else: twice a second the units' processes are asked how much they use, and what is over is
   killed. What is used and given back in between goes unseen.

A process that the kernel kills for want of memory looks like any other that got SIGKILL. Groups count such kills. For
units without a limit Linux counts them for the whole machine, strangers' groups included: when one dies of a SIGKILL
that nobody here sent while that count went up, memory may have been why. That is worth a word, and no reason to take it
for a fault of the unit, which asked for no limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flyte.wire import UnitExited
from tarmac import process

log = logging.getLogger("tarmac.agent")

VMSTAT = Path("/proc/vmstat")
CGROUPS = Path("/sys/fs/cgroup")

NO_MEMORY = (
    "killed by SIGKILL while the kernel killed for want of memory; this machine, or a group on it, had none left"
)


@dataclass(frozen=True, slots=True)
class Group:
    """The cgroup of one unit."""

    folder: Path
    version: int

    @property
    def entry(self) -> str:
        """The file that a process writes 0 to in order to enter."""
        return str(self.folder / "cgroup.procs")

    def limit(self, size: int) -> None:
        """Raises OSError where the kernel does not take the limit."""
        if self.version == 2:
            (self.folder / "memory.max").write_text(str(size))
            with contextlib.suppress(OSError):  # no swap here, or an older kernel
                (self.folder / "memory.swap.max").write_text("0")
                (self.folder / "memory.oom.group").write_text("1")
        else:
            (self.folder / "memory.limit_in_bytes").write_text(str(size))
            with contextlib.suppress(OSError):
                (self.folder / "memory.memsw.limit_in_bytes").write_text(str(size))

    def kills(self) -> int:
        """How many processes the kernel has killed in it for want of memory."""
        return _counter(self.folder / ("memory.events" if self.version == 2 else "memory.oom_control"))

    def remove(self) -> bool:
        """False as long as somebody is in it."""
        try:
            self.folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Groups:
    """The folder that holds the groups of one platform's units."""

    folder: Path
    version: int

    def make(self, unit: str, size: int) -> Group:
        group = Group(self.folder / unit, self.version)
        group.folder.mkdir(exist_ok=True)
        group.limit(size)
        return group

    def clear(self) -> None:
        """Remove what an earlier agent left."""
        for folder in self.folder.iterdir():
            if folder.is_dir():
                Group(folder, self.version).remove()


def find_groups(home: Path, root: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> Groups | None:
    """Where groups for the units of the platform in `home` can be made; None where they cannot."""
    name = "tarmac-" + hashlib.sha256(str(home).encode()).hexdigest()[:12]
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in lines:
        own = path.lstrip("/")
        if not controllers and (root / "cgroup.controllers").exists():
            # a v2 group with members has no groups below it, so ours are made beside it
            places = [(root / own, 2), ((root / own).parent, 2)] if own else [(root, 2)]
        elif "memory" in controllers.split(","):
            places = [(root / "memory" / own, 1), (root / "memory", 1)]
        else:
            continue
        for place, version in places:
            if groups := _usable(place / name, version):
                return groups
    return None


def _usable(folder: Path, version: int) -> Groups | None:
    if version == 2 and "memory" not in _words(folder.parent / "cgroup.subtree_control"):
        return None
    try:
        folder.mkdir(exist_ok=True)
        if version == 2:
            (folder / "cgroup.subtree_control").write_text("+memory")
        groups = Groups(folder, version)
        groups.clear()
        return groups if groups.make("probe", 1 << 30).remove() else None
    except OSError:
        return None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


class Memory:
    """Holds units to their limits, in the groups that `find` finds for the first of them, or else by the watchdog."""

    def __init__(self, find: Callable[[], Groups | None], counters: Path = VMSTAT) -> None:
        self._find = find
        self._groups: Groups | None = None
        self._looked = False
        self._held: dict[str, Group] = {}
        self._leaving: list[Group] = []
        self._watched: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        """What each unit with a limit may use."""
        self._used: dict[str, int] = {}
        """What the units that went over it had used when they were found."""
        self._over: set[str] = set()
        self._counters = counters
        self._seen = self._seen_before = _counter(counters)
        """How often the kernel had killed for want of memory, anywhere: at the last look, and at the one before."""

    def _look(self) -> None:
        """Not before it is needed: who limits nothing leaves no trace among the system's groups."""
        self._looked, self._groups = True, self._find()
        means = "a watchdog" if self._groups is None else f"cgroup v{self._groups.version}"
        log.info("limits of memory are enforced by %s", means)

    def admit(self, unit: str, size: int | None) -> str:
        """Hold `unit` to `size` bytes. The file through which it enters its group, empty where it has none."""
        if size is None:
            return ""
        self._sizes[unit] = size
        if not self._looked:
            self._look()
        if self._groups is not None:
            try:
                self._held[unit] = self._groups.make(unit, size)
                return self._held[unit].entry
            except OSError as error:
                log.warning("no memory group for %s, so it is watched: %s", unit, error)
        self._watched[unit] = size
        return ""

    @property
    def watching(self) -> bool:
        return bool(self._watched)

    def excess(self, sessions: Iterable[tuple[str, int]]) -> list[str]:
        """Which of the watched units, given with their sessions, use more than they may; takes milliseconds each."""
        watched = {session: unit for unit, session in sessions if unit in self._watched}
        used = dict.fromkeys(watched.values(), 0)
        for entry in process.entries():
            if unit := watched.get(entry.session):
                used[unit] += usage(entry.pid)
        over = [unit for unit, size in used.items() if size > self._watched.get(unit, size)]
        self._used.update({unit: used[unit] for unit in over})
        return over

    def condemn(self, unit: str) -> None:
        """It is killed for using too much."""
        if unit in self._watched:
            self._over.add(unit)

    def close(self) -> None:
        """All units are gone."""
        if self._groups is not None:
            self._groups.clear()
            with contextlib.suppress(OSError):
                self._groups.folder.rmdir()

    def pass_time(self) -> None:
        """To be called twice a second: what the kernel kills now says nothing of units that end in a while.

        The counter is the machine's. Of somebody else's want of memory a unit that is killed much later has not died.
        """
        self._seen_before, self._seen = self._seen, _counter(self._counters)

    def release(self, exited: UnitExited, unasked: bool) -> UnitExited:
        """The unit has ended: `exited` with `oom` set if it used more than it may. `unasked`: nobody here ended it."""
        unit = exited.unit
        self._watched.pop(unit, None)
        oom = unit in self._over
        self._over.discard(unit)
        if group := self._held.pop(unit, None):
            oom = oom or (exited.signal == signal.SIGKILL and group.kills() > 0)
            self._leaving.append(group)
        elif exited.signal == signal.SIGKILL and unasked:
            now = _counter(self._counters)
            if now > self._seen_before:
                exited = msgspec.structs.replace(exited, reason=NO_MEMORY)
            self._seen = self._seen_before = now
        self._leaving = [group for group in self._leaving if not group.remove()]
        allowed, used = self._sizes.pop(unit, 0), self._used.pop(unit, 0)
        return msgspec.structs.replace(exited, oom=True, reason=excess_in_words(allowed, used)) if oom else exited


def excess_in_words(allowed: int, used: int) -> str:
    """How much a unit was allowed, how much it used (0: the kernel stopped it at the limit), and what to set."""
    told = f"it used {_mebibytes(used)}" if used else "it needed more"
    enough = -(-max(used * 5 // 4, allowed * 3 // 2) // (50 << 20)) * 50
    return f'{_mebibytes(allowed)} are allowed, and {told}; allow more with Resources(memory="{enough}Mi")'


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def usage(pid: int) -> int:
    """Bytes that a process uses, what it shares with others counted by its share; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import psutil  # here: most systems have the file above

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _counter(file: Path) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
