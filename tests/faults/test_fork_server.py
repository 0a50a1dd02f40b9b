"""The process that the parts are forked from: what depends on it, and what must not."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.world import PARTS, World, alive
from tests.platform_fixture import ROOT, Platform, place, wait_for


def supervisor(world: World) -> psutil.Process:
    return psutil.Process(world.platform.state["pid"])


def test_every_part_is_a_child_of_the_supervisor_under_its_own_name_and_the_fork_server_has_one_thread(
    world: World,
) -> None:
    pids = world.pids()
    children = {child.pid: child for child in supervisor(world).children()}
    assert set(children) == {*pids.values(), world.fork_server(), world.cleanup()}
    assert "tarmac.server" in children[pids["control"]].cmdline()
    assert "tarmac.agent" in children[pids["agent"]].cmdline()
    assert "tarmac.gateway" in children[pids["gateway"]].cmdline()
    assert children[world.fork_server()].num_threads() == 1


def test_when_the_fork_server_is_killed_no_part_notices_and_there_is_another(world: World) -> None:
    parts, fork_server = world.pids(), world.fork_server()
    run = world.run("leaf", n=1)
    os.kill(fork_server, signal.SIGKILL)
    wait_for(lambda: world.fork_server() not in (0, fork_server), "there is another fork server")
    assert world.outputs(run) == 1
    assert world.pids() == parts


def test_fork_server_and_parts_that_are_killed_at_once_are_all_back(world: World) -> None:
    fork_server = world.fork_server()
    os.kill(fork_server, signal.SIGKILL)
    world.restart(*PARTS)
    wait_for(lambda: world.fork_server() not in (0, fork_server), "there is another fork server")
    assert world.outputs(world.run("leaf", n=1)) == 1


def test_the_supervisor_says_how_a_forked_part_ended(world: World) -> None:
    for number, words in ((signal.SIGKILL, "killed by SIGKILL"), (signal.SIGSEGV, "killed by SIGSEGV")):
        hit = world.kill(["gateway"], number)
        wait_for(lambda hit=hit: world.is_back(hit), "the controller is back")  # type: ignore[misc]
        assert world.told()["gateway"]["last_end"] == words


def test_orphans_become_the_supervisors_and_are_reaped(world: World) -> None:
    """A killed agent leaves fork servers and workers, which end with it, as nobody's children."""
    world.run("gate", opens=str(world.platform.work / "never"))
    world.noted("gate")
    units = [process.pid for process in (*world.fork_servers(), *world.units())]
    assert len(units) >= 2
    world.restart("agent")
    wait_for(lambda: not any(alive(pid) for pid in units), "they ended")

    def nobody_is_left() -> bool:
        left = {child.pid for child in supervisor(world).children()}
        return left == {*world.pids().values(), world.fork_server(), world.cleanup()}

    wait_for(nobody_is_left, "no zombie is left", describe=lambda: str(supervisor(world).children()))


@pytest.fixture
def burdened(empty_place: Platform) -> World:
    """A platform with what its end alone would not end: programs that a task started, and a stopped HAProxy."""
    empty_place.up()
    world = World(empty_place)
    world.run("leaves_behind")
    world.noted("all-started")
    for worker in psutil.Process(world.pids()["haproxy"]).children():
        worker.suspend()
    world.http.close()
    return world


def programs_of_the_task(world: World) -> list[int]:
    return [int(words[0].removeprefix("started-")) for words in world.lines() if words[0].startswith("started-")]


def test_without_fork_server_and_supervisor_nothing_is_left(burdened: World) -> None:
    place, programs = burdened.platform, programs_of_the_task(burdened)
    assert len(programs) == 2
    assert all(map(alive, programs))
    victims = [burdened.fork_server(), place.state["pid"]]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    place.wait_until_gone()
    assert not any(map(alive, programs))
    assert not (place.home / "platform.json").exists()


def test_a_cleanup_process_that_is_killed_is_replaced_and_done_by_the_next(burdened: World) -> None:
    place, cleanup = burdened.platform, burdened.cleanup()
    os.kill(cleanup, signal.SIGKILL)
    wait_for(lambda: burdened.cleanup() not in (0, cleanup), "there is another one")
    os.kill(place.state["pid"], signal.SIGKILL)
    place.wait_until_gone()


def test_what_outlived_the_supervisor_and_its_cleanup_process_is_ended_by_the_next_platform(burdened: World) -> None:
    place, programs = burdened.platform, programs_of_the_task(burdened)
    cleanup, chief = burdened.cleanup(), supervisor(burdened)
    chief.suspend()  # so that it does not see its cleanup process end
    for pid in (cleanup, chief.pid):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(chief.pid), "the supervisor is gone")
    assert any(map(alive, programs))
    place.up()
    assert not any(map(alive, programs))
    place.down()


def test_where_python_has_no_pidfds_parts_are_forked_and_their_ends_noticed_all_the_same(
    empty_place: Platform, tmp_path: Path
) -> None:
    """As Conda's Python is, and kernels before 5.3."""
    (tmp_path / "sitecustomize.py").write_text("import os\nif hasattr(os, 'pidfd_open'):\n    del os.pidfd_open\n")
    path = os.pathsep.join((str(tmp_path), empty_place.env["PYTHONPATH"]))
    done = empty_place.cli("up", "--port", "0", timeout=90, PYTHONPATH=path)
    assert done.code == 0, done.both
    world = World(empty_place)
    for _ in range(3):
        world.restart(*PARTS)
    told = world.told()
    assert {told[part]["last_end"] for part in PARTS} == {"killed by SIGKILL"}
    assert told["fork-server"]["restarts"] == 0
    assert world.outputs(world.run("leaf", n=1)) == 1
    world.http.close()
    empty_place.down()


# --------------------------------------------------------------------------------------------------------- upgrading


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[tuple[Platform, Path]]:
    """A platform that runs from a copy of the code, and the copy."""
    copy = tmp_path / "site"
    shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
    with place() as platform:
        done = platform.cli("up", "--port", "0", timeout=90, PYTHONPATH=str(copy))
        assert done.code == 0, done.both
        yield platform, copy
        platform.down()


def test_a_part_that_is_asked_to_end_is_started_again_from_the_code_that_is_installed_now(
    installed: tuple[Platform, Path],
) -> None:
    platform, copy = installed
    world = World(platform)
    before = world.pids()

    def version() -> str:
        found: str = world.call("GET", "/v1/health")["version"]
        return found

    old = version()
    init = copy / "tarmac" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{old}"', '"9.9.9"'))
    world.restart("control")
    assert version() == old, "one that crashed is what it was"
    hit = world.kill(["control"], signal.SIGTERM)
    wait_for(lambda: world.is_back(hit), "the control plane is back", 20, platform.log_tails)
    assert version() == "9.9.9"
    assert world.told()["control"]["last_end"] == "exit code 0"
    after = world.pids()
    assert {part: after[part] for part in ("agent", "haproxy", "gateway")} == {
        part: before[part] for part in ("agent", "haproxy", "gateway")
    }
    world.restart("control")
    assert version() == "9.9.9", "also the new fork server is of the new code"
    assert world.outputs(world.run("leaf", n=1)) == 1
    world.http.close()


def test_code_that_cannot_be_imported_is_said_in_the_parts_own_log_and_mended_by_mending_it(
    installed: tuple[Platform, Path],
) -> None:
    platform, copy = installed
    world = World(platform)
    module = copy / "tarmac" / "server.py"
    whole = module.read_text()
    module.write_text("raise ImportError('half an upgrade')\n")
    hit = world.kill(["control"], signal.SIGTERM)
    log = platform.home / "logs" / "platform" / "control.log"
    wait_for(lambda: "half an upgrade" in log.read_text(), "the log says it", 20)
    module.write_text(whole)
    os.kill(world.fork_server(), signal.SIGKILL)
    wait_for(lambda: world.is_back(hit), "the control plane is back", 20, platform.log_tails)
    world.http.close()
