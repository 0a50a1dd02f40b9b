"""Limits of memory: the kernel's counters and groups, on a tree of files that looks like the kernel's."""

from __future__ import annotations

import mmap
import os
import signal
from pathlib import Path

import pytest

from flyte.wire import UnitExited
from tarmac.agent.memory import NO_MEMORY, Groups, Memory, excess_in_words, find_groups, usage


def nowhere() -> Groups | None:
    """A system on which no groups can be made."""
    return None


KILLED = UnitExited(unit="w", signal=signal.SIGKILL)


def test_a_kill_that_the_kernel_counted_may_have_been_for_want_of_memory_and_is_no_fault_of_the_unit(
    tmp_path: Path,
) -> None:
    """The counter is the whole machine's: it may have been somebody else's process, in a group of its own."""
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free 1\noom_kill 4\n")
    memory = Memory(nowhere, counters)
    assert memory.release(KILLED, unasked=True) == KILLED
    counters.write_text("nr_free 1\noom_kill 5\n")
    crashed = UnitExited(unit="w", signal=signal.SIGSEGV)
    assert memory.release(KILLED, unasked=False) == KILLED
    assert memory.release(crashed, unasked=True) == crashed
    told = memory.release(KILLED, unasked=True)
    assert (told.reason, told.oom) == (NO_MEMORY, False)
    assert memory.release(KILLED, unasked=True) == KILLED, "each is counted once"


def test_a_kill_that_the_kernel_counted_for_somebody_else_some_time_ago_says_nothing(tmp_path: Path) -> None:
    counters = tmp_path / "vmstat"
    counters.write_text("oom_kill 4\n")
    memory = Memory(nowhere, counters)
    counters.write_text("oom_kill 5\n")
    memory.pass_time()
    memory.pass_time()
    assert memory.release(KILLED, unasked=True) == KILLED
    counters.write_text("oom_kill 6\n")
    memory.pass_time()  # the news of the end may come a moment later than the look
    assert memory.release(KILLED, unasked=True).reason == NO_MEMORY


class Tree:
    """A cgroup v2 hierarchy as files."""

    def __init__(self, folder: Path, controllers: str = "memory pids") -> None:
        self.root = folder / "cgroup"
        self.slice = self.root / "user.slice"
        (self.slice / "session.scope").mkdir(parents=True)
        (self.root / "cgroup.controllers").touch()
        (self.slice / "cgroup.subtree_control").write_text(controllers)
        self.membership = folder / "membership"
        self.membership.write_text("0::/user.slice/session.scope\n")


@pytest.fixture
def removable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group's files vanish with its folder, as the kernel's do."""

    def rmdir(folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        os.rmdir(folder)

    monkeypatch.setattr(Path, "rmdir", rmdir)


@pytest.mark.usefixtures("removable")
def test_v2_groups_are_made_beside_our_own_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    groups = find_groups(tmp_path, tree.root, tree.membership)
    assert groups is not None
    assert (groups.version, groups.folder.parent) == (2, tree.slice)
    memory = Memory(lambda: groups)
    entry = Path(memory.admit("w", 4096))
    assert entry == groups.folder / "w" / "cgroup.procs"
    assert (entry.parent / "memory.max").read_text() == "4096"
    assert (entry.parent / "memory.oom.group").read_text() == "1"
    (entry.parent / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert memory.release(KILLED, unasked=True).oom
    assert not entry.parent.exists()
    memory.close()
    assert sorted(path.name for path in tree.slice.iterdir()) == ["cgroup.subtree_control", "session.scope"]


@pytest.mark.usefixtures("removable")
def test_a_kill_in_a_group_that_was_not_for_memory_is_not_called_so(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    memory = Memory(lambda: find_groups(tmp_path, tree.root, tree.membership))
    memory.admit("w", 4096)
    assert not memory.release(KILLED, unasked=True).oom


def test_without_the_controller_there_are_no_groups_and_units_are_watched(tmp_path: Path) -> None:
    tree = Tree(tmp_path, controllers="pids")
    assert find_groups(tmp_path, tree.root, tree.membership) is None
    memory = Memory(nowhere)
    assert memory.admit("w", 1) == ""
    assert memory.watching


def test_a_unit_without_a_limit_is_left_alone() -> None:
    memory = Memory(nowhere)
    assert memory.admit("w", None) == ""
    assert not memory.watching


def test_the_watchdog_names_who_is_over_and_that_end_is_for_memory() -> None:
    memory = Memory(nowhere)
    memory.admit("w", 1)
    memory.admit("x", 2**40)
    session = os.getsid(0)
    assert memory.excess([("w", session)]) == ["w"]
    assert memory.excess([("x", session)]) == []
    memory.condemn("w")
    told = memory.release(KILLED, unasked=False)
    assert told.oom
    assert "0 MiB are allowed, and it used" in told.reason


def test_the_end_for_memory_is_told_with_numbers_and_what_to_set() -> None:
    assert excess_in_words(150 << 20, 412 << 20) == (
        '150 MiB are allowed, and it used 412 MiB; allow more with Resources(memory="550Mi")'
    )
    assert excess_in_words(150 << 20, 0) == (
        '150 MiB are allowed, and it needed more; allow more with Resources(memory="250Mi")'
    )


def test_what_a_process_uses_is_counted() -> None:
    before = usage(os.getpid())
    with mmap.mmap(-1, 2**25) as hoard:  # not what the allocator has at hand
        hoard.write(b"x" * 2**25)
        assert usage(os.getpid()) - before > 2**24
    assert usage(2**22 + 1) == 0
