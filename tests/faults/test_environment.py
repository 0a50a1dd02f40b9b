"""The machine misbehaves: no room, a locked database, processes that stop, messages that are too large."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.world import World, alive
from tests.platform_fixture import Platform, wait_for

SETTINGS = {"lease": "3"}


def test_a_stopped_worker_is_lost_after_its_lease_and_its_action_runs_again(world: World) -> None:
    opens = world.platform.work / "open-stopped"
    run = world.run("gate", opens=str(opens))
    _, pid, _ = world.noted("gate")
    os.kill(int(pid), signal.SIGSTOP)
    world.noted("gate", 2)
    opens.touch()
    assert world.outputs(run) == "open"
    assert world.state(run)["attempt"] == 2
    wait_for(lambda: not alive(int(pid)), "the stopped process is gone", 10)


def is_watched(world: World, part: str) -> bool:
    """Whether it has given a first heartbeat: from then on it is missed."""
    return world.told()[part]["silent"] is not None


@pytest.mark.parametrize("part", ["control", "agent", "gateway", "haproxy"])
def test_a_stopped_part_is_replaced_after_its_lease(world: World, part: str) -> None:
    wait_for(lambda: world.answers() and is_watched(world, part), "the platform answers")
    others = {name: pid for name, pid in world.pids().items() if name != part}
    hit = world.kill([part], signal.SIGSTOP)
    wait_for(lambda: world.is_back(hit), f"{part} is replaced", 20, world.platform.log_tails)
    assert world.told()[part]["last_end"] == "killed by SIGKILL: it sent no heartbeat for 3 s"
    assert {name: pid for name, pid in world.pids().items() if name != part} == others
    assert world.outputs(world.run("leaf", n=1)) == 1


def test_a_stopped_haproxy_worker_is_replaced_with_its_master(world: World) -> None:
    wait_for(lambda: is_watched(world, "haproxy"), "HAProxy has answered")
    master = psutil.Process(world.pids()["haproxy"])
    hit = {"haproxy": master.pid}
    for worker in master.children():
        worker.suspend()
    wait_for(lambda: world.is_back(hit), "HAProxy is replaced", 20, world.platform.log_tails)


def test_a_stopped_fork_server_is_replaced_and_no_part_notices(world: World) -> None:
    wait_for(lambda: is_watched(world, "fork-server"), "the fork server has answered")
    parts, fork_server = world.pids(), world.fork_server()
    os.kill(fork_server, signal.SIGSTOP)
    wait_for(
        lambda: world.fork_server() not in (0, fork_server), "the fork server is replaced", 20, world.platform.log_tails
    )
    assert world.pids() == parts


def test_what_a_stopped_fork_server_kept_is_tried_again_elsewhere(world: World) -> None:
    opens = world.platform.work / "open-fork-server"
    run = world.run("gate", opens=str(opens))
    _, pid, _ = world.noted("gate")
    (fork_server,) = [
        fork_server
        for fork_server in world.fork_servers()
        if int(pid) in [child.pid for child in fork_server.children()]
    ]
    fork_server.suspend()
    world.noted("gate", 2)
    opens.touch()
    assert world.outputs(run) == "open"
    wait_for(lambda: not alive(fork_server.pid) and not alive(int(pid)), "the stopped one and its workers are gone", 10)


def test_a_run_is_aborted_also_when_its_worker_is_stopped(world: World) -> None:
    run = world.run("gate", opens=str(world.platform.work / "never"))
    _, pid, _ = world.noted("gate")
    os.kill(int(pid), signal.SIGSTOP)
    aborted = world.call("POST", f"/v1/runs/{run}/abort", {"reason": "enough"})
    assert aborted["phase"] == "aborted"
    assert psutil.Process(int(pid)).status() == psutil.STATUS_STOPPED, "nobody waited for it"
    wait_for(lambda: not alive(int(pid)), "the stopped process is gone", 15)


def test_a_run_is_aborted_also_when_its_worker_listens_to_nothing(world: World) -> None:
    run = world.run("blocked", seconds=60)
    _, pid, _ = world.noted("blocked")
    assert world.call("POST", f"/v1/runs/{run}/abort", {"reason": "enough"})["phase"] == "aborted"
    wait_for(lambda: not alive(int(pid)), "the process is gone", 15)


def test_an_error_of_any_length_is_told_and_ends_nothing_else(world: World) -> None:
    done = world.result(world.run("shout", size=40_000_000, how="raise"))
    assert (done["phase"], done["error"]["code"]) == ("failed", "ValueError")
    assert "(cut; it had 40,000,000 characters)" in done["error"]["message"]
    assert world.outputs(world.run("leaf", n=1)) == 1


def test_a_value_that_is_too_large_fails_its_own_run_with_the_limit_in_words(world: World) -> None:
    done = world.result(world.run("shout", size=120_000_000, how="return"))
    assert (done["phase"], done["error"]["code"]) == ("failed", "TooLargeError")
    assert "the limit is" in done["error"]["message"]
    assert world.outputs(world.run("leaf", n=1)) == 1


def test_a_locked_database_is_waited_for_and_nothing_is_lost(world: World) -> None:
    """For seconds: the writer waits. For longer: the control plane ends, and the next one waits."""
    before = world.run("leaf", n=1)
    for seconds in (1, 6):
        locked = sqlite3.connect(world.platform.home / "tarmac.db", isolation_level=None, check_same_thread=False)
        locked.execute("begin immediate")
        letting_go = threading.Timer(seconds, locked.rollback)
        letting_go.start()
        after = world.run("leaf", n=2)  # asked again for as long as nobody answers
        letting_go.join()
        locked.close()
        assert [world.outputs(run) for run in (before, after)] == [1, 2]


def test_a_database_that_cannot_be_written_acknowledges_nothing_and_comes_back(world: World) -> None:
    """While another program holds it for good, a start is not acknowledged; later it is, once."""
    locked = sqlite3.connect(world.platform.home / "tarmac.db", isolation_level=None)
    locked.execute("begin immediate")
    name = f"locked-{os.getpid()}"
    request = {"task": "faulty.leaf", "name": name, "inputs": {"where": str(world.notes), "n": 5}}
    with pytest.raises(AssertionError, match="was not answered"):
        world.call("POST", "/v1/runs", request, patience=1)
    locked.execute("rollback")
    locked.close()
    assert world.call("POST", "/v1/runs", request)["name"] == name
    assert world.outputs(name) == 5
    assert world.count()["leaf-5"] == 1


@pytest.fixture
def small_disk(empty_place: Platform) -> Iterator[Platform]:
    """A platform's place on a file system of 48 MB."""
    home = empty_place.home
    home.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(home)], check=False)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root alone")
    try:
        empty_place.up()
        yield empty_place
        empty_place.down()
    finally:
        empty_place.kill_all()
        subprocess.run(["umount", "-l", str(home)], check=True)


@contextlib.contextmanager
def read_only(file: Path) -> Iterator[None]:
    """Whoever opens the file meanwhile cannot write it."""
    bound = subprocess.run(["mount", "--bind", str(file), str(file)], check=False)
    if bound.returncode:
        pytest.skip("a file can be mounted by root alone")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(file)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(file)], check=True)


def test_a_database_that_may_not_be_written_is_named_and_costs_nothing(fresh: World) -> None:
    before = fresh.run("leaf", n=1)
    assert fresh.outputs(before) == 1
    request = {"task": "faulty.leaf", "name": "later", "inputs": {"where": str(fresh.notes), "n": 2}}
    log = fresh.platform.home / "logs" / "platform" / "control.log"
    with read_only(fresh.platform.home / "tarmac.db"):
        fresh.kill(["control"])
        with pytest.raises(AssertionError, match="was not answered"):
            fresh.call("POST", "/v1/runs", request, patience=3)
        wait_for(lambda: "it is read-only; give its owner the right to write" in log.read_text(), "the log says so", 20)
    wait_for(fresh.answers, "the platform is back by itself", 20, fresh.platform.log_tails)
    assert fresh.call("POST", "/v1/runs", request)["name"] == "later"
    assert [fresh.outputs(run) for run in (before, "later")] == [1, 2]
    assert fresh.count()["leaf-2"] == 1


def test_an_output_that_does_not_fit_on_the_disk_leaves_it_as_free_as_before(small_disk: Platform) -> None:
    world = World(small_disk)
    try:
        assert world.outputs(world.run("leaf", n=1)) == 1
        before = shutil.disk_usage(small_disk.home).free
        done = world.result(world.run("shout", size=60_000_000, how="return"))
        assert (done["phase"], done["error"]["message"]) == ("failed", "[Errno 28] No space left on device")
        assert list((small_disk.home / "blobs").iterdir()) == []
        assert shutil.disk_usage(small_disk.home).free > before - 5_000_000
        assert world.outputs(world.run("leaf", n=2)) == 2
    finally:
        world.http.close()


def test_a_full_disk_costs_nothing_that_was_acknowledged(small_disk: Platform) -> None:
    """What is under way goes on, and loses what it prints; what is asked for meanwhile is refused, or waits."""
    world = World(small_disk)
    try:
        _fill_and_go_on(small_disk, world)
    finally:
        world.http.close()


def _fill_and_go_on(small_disk: Platform, world: World) -> None:
    opens = small_disk.work / "open"
    before, talking = world.run("leaf", n=1), world.run("chatter", opens=str(opens))
    parent = world.run("staged", opens=str(opens))
    assert world.outputs(before) == 1
    world.noted("said")
    world.noted("gate")
    _checkpoint(small_disk.home / "tarmac.db")
    filler = _fill(small_disk.home)
    started = {f"full-{n}": _is_acknowledged(world, f"full-{n}", n=10 + n) for n in range(3)}
    assert not all(started.values()), "there was no room for that many"
    said, log = world.count()["said"], small_disk.home / "logs" / "workers"
    lost = _written(log)
    world.noted("said", said + 10)
    assert _written(log) - lost < 10 * 10_000, "there was no room for what it printed"
    filler.unlink()
    wait_for(world.answers, "the platform is back by itself", 20, small_disk.log_tails)
    said = world.count()["said"]
    world.noted("said", said + 1)
    opens.touch()
    assert world.outputs(talking) == "open"
    assert world.outputs(parent) == [0, 1, 2]
    acknowledged = [name for name, is_so in started.items() if is_so]
    for run in [before, *acknowledged]:
        world.outputs(run)
    for number, name in enumerate(started):  # who was refused asks again
        assert world.outputs(world.run("leaf", name=name, n=10 + number)) == 10 + number
    counts = world.count()
    assert (counts["chatter"], counts["staged"], counts["gate"]) == (1, 1, 1)
    assert [counts[f"leaf-{10 + number}"] for number in range(3)] == [1, 1, 1]


def _written(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _is_acknowledged(world: World, name: str, **inputs: int) -> bool:
    request = {"task": "faulty.leaf", "name": name, "inputs": {"where": str(world.notes), **inputs}}
    try:
        return bool(world.call("POST", "/v1/runs", request, patience=2)["name"] == name)
    except AssertionError as refused:
        assert "was not answered" in str(refused)  # noqa: PT017 - either it is acknowledged, or it is not
        return False


def _checkpoint(database: Path) -> None:
    """All that was written is in the database itself, and the log that writes go to has no room of its own left."""
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        wait_for(lambda: connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0, "it is written back")


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 65_536)
                file.flush()
        except OSError:
            pass
    return filler
