"""Processes: who dies with whom, waiting for ends, finding what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tarmac import process
from tarmac.process import table
from tests.platform_fixture import wait_for

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
ENV = process.family_environment(Path("/"), os.environ)


def alive(pid: int) -> bool:
    return any(entry.pid == pid for entry in process.entries())


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes that are gone at the end of the test."""
    children: list[subprocess.Popen[bytes]] = []

    def start(command: tuple[str, ...], **options: object) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(command, **options)  # type: ignore[call-overload]
        children.append(child)
        return child  # type: ignore[no-any-return]

    yield start
    for child in children:
        with child:
            child.kill()


PARENT = """
import os, sys, time
from tarmac import process
child = process.start([sys.executable, "-S", "-c", "import time; time.sleep(600)"], env=dict(os.environ), output=2,
                      guard=GUARD)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("guard", [False, True])
def test_a_child_dies_with_its_parent_even_when_that_is_killed(
    guard: bool, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    if not guard and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent is gone; elsewhere there is the guard")
    parent = started((sys.executable, "-c", PARENT.replace("GUARD", str(guard))), stdout=subprocess.PIPE, env=ENV)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    family = [child, *(wait_for(lambda: children_of(child), "the guard started the program") if guard else [])]
    parent.kill()
    wait_for(lambda: not any(map(alive, family)), "the child is gone")


def children_of(pid: int) -> list[int]:
    return [entry.pid for entry in process.entries() if entry.parent == pid]


async def test_a_guard_hands_on_signals_and_the_exit_code() -> None:
    program = (
        "import signal, sys, time; signal.signal(15, lambda *a: sys.exit(7)); print('on', flush=True); time.sleep(60)"
    )
    reading, writing = os.pipe()
    child = process.start([sys.executable, "-c", program], env=ENV, output=writing, guard=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as output:
        assert output.readline() == b"on\n"
        child.terminate()
        assert await process.ended(child) == 7


@pytest.mark.parametrize("pidfd", [True, False])
async def test_an_end_is_noticed_with_and_without_pidfds(
    pidfd: bool, monkeypatch: pytest.MonkeyPatch, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    child = started((sys.executable, "-S", "-c", "raise SystemExit(3)"))
    assert await process.ended(child, pause=0.01) == 3


STILL_ANOTHERS = """
import asyncio, os, signal, sys
from tarmac import process

if sys.argv[1] == "False":
    del os.pidfd_open
process.adopt_orphans()
telling, told = os.pipe()
waiting, go = os.pipe()
us = os.getpid()
if os.fork() == 0:  # the process between
    process.die_with(us)
    child = os.fork()
    if child == 0:
        signal.pause()
    os.write(told, str(child).encode())
    os.read(waiting, 1)
    os._exit(0)


class Looked(process.Adopted):
    looks = 0

    def poll(self):
        Looked.looks += 1
        if Looked.looks == 3:  # only now does the process between end
            os.write(go, b"!")
        return super().poll()


child = Looked(int(os.read(telling, 20)))
os.kill(child.pid, signal.SIGKILL)
print(asyncio.run(asyncio.wait_for(process.ended(child, 0.01), 20)), Looked.looks >= 3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone")
@pytest.mark.parametrize("pidfd", [True, False])
def test_the_end_of_a_child_is_noticed_that_was_killed_before_it_became_ours(pidfd: bool) -> None:
    command = [sys.executable, "-c", STILL_ANOTHERS, str(pidfd)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True)
    assert done.stdout == "-9 True\n", done.stderr


def test_of_an_adopted_child_that_somebody_else_has_reaped_no_end_is_waited_for(
    started: Callable[..., subprocess.Popen[bytes]],
) -> None:
    child = started((sys.executable, "-S", "-c", ""))
    child.wait()
    assert process.Adopted(child.pid).poll() == -signal.SIGKILL


async def test_the_end_of_a_process_that_ended_long_ago_is_noticed(
    started: Callable[..., subprocess.Popen[bytes]],
) -> None:
    child = started((sys.executable, "-S", "-c", ""))
    child.wait()
    assert await process.ended(child) == 0


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [(1, None, "exit code 1"), (None, signal.SIGKILL, "killed by SIGKILL"), (None, 64 + 30, "killed by signal 94")],
)
def test_an_exit_is_put_into_words(code: int | None, number: int | None, words: str) -> None:
    assert process.describe_exit(code, number) == words


def test_processes_are_found_by_the_platforms_mark_and_so_is_their_session(
    tmp_path: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    program = (
        "import os, subprocess, sys, time\n"
        "env = {k: v for k, v in os.environ.items() if k != 'TARMAC_PLATFORM'}\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'], env=env)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    env = process.family_environment(tmp_path)
    leader = started((sys.executable, "-c", program), env=env, start_new_session=True, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    unmarked = int(leader.stdout.readline())
    stranger = started(SLEEP)
    assert process.marked(tmp_path) == {leader.pid, unmarked}
    process.kill(process.marked(tmp_path))
    wait_for(lambda: not process.marked(tmp_path), "none is left")
    assert stranger.poll() is None


def test_the_caller_is_never_among_those_found(tmp_path: Path) -> None:
    program = f"from tarmac import process; from pathlib import Path; print(process.marked(Path({str(tmp_path)!r})))"
    env = process.family_environment(tmp_path)
    assert subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True).stdout == "set()\n"


def test_the_portable_table_shows_the_same_processes(started: Callable[..., subprocess.Popen[bytes]]) -> None:
    child = started(SLEEP, start_new_session=True)
    for entries in (list(process.entries()), list(table._portable_table())):
        assert process.Entry(child.pid, os.getpid(), child.pid) in entries


@pytest.mark.parametrize("portably", [False, True])
def test_a_process_that_was_stopped_is_known(
    started: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, portably: bool
) -> None:
    if portably:
        monkeypatch.setattr(table, "PROC", tmp_path / "none")
    child = started(SLEEP)
    assert not process.stopped(child.pid)
    child.send_signal(signal.SIGSTOP)
    wait_for(lambda: process.stopped(child.pid), "it is stopped")
    child.send_signal(signal.SIGCONT)
    wait_for(lambda: not process.stopped(child.pid), "it goes on")
    child.kill()
    child.wait()
    assert not process.stopped(child.pid)


def test_a_relative_pythonpath_keeps_its_meaning_in_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join(["src", "/lib"])
    assert process.with_absolute_path({"PYTHONPATH": path})["PYTHONPATH"] == os.pathsep.join(
        [f"{tmp_path}/src", "/lib"]
    )
